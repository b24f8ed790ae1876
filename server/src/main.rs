//! The `ssd` command: arguments in, exit code out.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;

use commands::Arguments;

fn main() -> ExitCode {
    ssd_detector::allocator::use_one_arena();
    match Arguments::parse().run() {
        Ok(code) => code,
        Err(error) => {
            commands::print_error(&error);
            ExitCode::FAILURE
        }
    }
}
