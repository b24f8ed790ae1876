//! The program `ssd-train`: fine-tunes a detector on labelled pictures, and measures the accuracy of weights.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;
use ssd_detector::allocator;

fn main() -> ExitCode {
    // Before any thread starts. Every step allocates the same large blocks.
    allocator::use_one_arena();
    allocator::retain_freed();
    match commands::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ssd-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
