//! The commands, and the checks of arguments that they share.

mod evaluate;
mod fit;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ssd_detector::precision::RequestedDevice;
use state_dict::files;

/// The command line.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Fit(fit::Fit),
    Evaluate(evaluate::Evaluate),
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Fit(command) => command.run(),
            Command::Evaluate(command) => command.run(),
        }
    }
}

/// A progress bar in indicatif's `template`.
fn bar(length: usize, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn within<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        format!(
            "it accepts a number from {} to {}",
            range.start(),
            range.end()
        )
    })
}

fn probability(text: &str) -> Result<f64, String> {
    within(text, 0.0..=1.0)
}

fn learning_rate(text: &str) -> Result<f64, String> {
    within(text, 0.000_001..=1.0)
}

fn count(text: &str) -> Result<usize, String> {
    within(text, 1..=10_000_000)
}

fn device(text: &str) -> Result<RequestedDevice, String> {
    RequestedDevice::named(text).ok_or_else(|| "it accepts auto, cpu and cuda:N".to_owned())
}

/// Checks that a file can be written in the folder of `file`, so that no work is lost later.
fn check_writable(file: &Path) -> anyhow::Result<()> {
    let folder = files::folder(file);
    tempfile::tempfile_in(folder)
        .with_context(|| format!("cannot write a file in {}", folder.display()))?;
    Ok(())
}
