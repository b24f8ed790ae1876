//! The `ssd-train` command: teaches a detector new objects, and measures the accuracy of weights.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;
use ssd_server::engine::{keep_memory, share_memory};

fn main() -> ExitCode {
    // Before there are threads. Every step needs the same large blocks.
    share_memory();
    keep_memory();
    match commands::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ssd-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
