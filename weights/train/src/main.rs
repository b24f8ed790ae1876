//! The `ssd-train` command: teaches a detector new objects, and measures the accuracy of weights.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;
use ssd_detector::allocator;

fn main() -> ExitCode {
    // Before there are threads. Every step needs the same large blocks.
    allocator::share();
    allocator::keep();
    match commands::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ssd-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
