//! The `ssd-train` command: draws scenes, trains the demo model, measures any SSD300's accuracy.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match commands::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ssd-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
