//! The `ssd-train` command: draws scenes, trains the demo model, measures any SSD300's accuracy.

mod commands;

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    commands::Cli::parse().run()
}
