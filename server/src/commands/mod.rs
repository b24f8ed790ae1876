//! The commands of `ssd`: one file each.

mod album;
mod calibrate;
mod completions;
mod convert;
mod inspect;
mod man;
mod output;
mod predict;
mod serve;

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use git_version::git_version;
use ssd_server::api;
use ssd_server::config::{self, Settings, Table, Variables, Weights};
use ssd_server::engine::Files;

/// Object detection: a picture in, labelled boxes out.
#[derive(Debug, Parser)]
#[command(
    name = "ssd",
    version,
    long_version = VERSION.as_str(),
    after_help = config::help(),
    args_conflicts_with_subcommands = true
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API over HTTP (what happens without a command).
    #[command(after_help = config::help())]
    Serve(serve::Serve),
    /// Find objects in picture files, without a server.
    Predict(predict::Predict),
    /// Tell what is in a file of weights: any state dict, .pth or .safetensors.
    Inspect(inspect::Inspect),
    /// Convert a file of weights to safetensors.
    Convert(convert::Convert),
    /// Measure on pictures how to run weights in eight bits, and keep it with them.
    Calibrate(calibrate::Calibrate),
    /// Print what makes a shell complete the arguments.
    Completions(completions::Completions),
    /// Print the manual page.
    Man(man::Man),
    /// Print the OpenAPI document.
    Openapi,
    /// Print the settings as a Markdown table.
    Settings,
}

impl Arguments {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command.unwrap_or(Command::Serve(self.serve)) {
            Command::Serve(arguments) => arguments.run(),
            Command::Predict(arguments) => arguments.run(),
            Command::Inspect(arguments) => arguments.run(),
            Command::Convert(arguments) => arguments.run(),
            Command::Calibrate(arguments) => arguments.run(),
            Command::Completions(arguments) => arguments.run(),
            Command::Man(arguments) => arguments.run(),
            Command::Openapi => print(&api::document(None)),
            Command::Settings => print(&Table.to_string()),
        }
    }
}

/// This program's version, its git revision, libtorch's version.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    // Here and not in the library: a commit compiles the program again, and nothing else.
    let of_checkout = git_version!(
        args = [
            "--always",
            "--exclude=*",
            "--abbrev=40",
            "--dirty=-modified"
        ],
        fallback = "unknown"
    );
    let revision = option_env!("REVISION").unwrap_or(of_checkout);
    let libtorch = ssd_server::LIBTORCH_VERSION;
    let version = env!("CARGO_PKG_VERSION");
    format!("{version}\nrevision {revision}\nlibtorch {libtorch}")
});

/// Where settings come from, beside the environment.
#[derive(Debug, Args)]
struct SettingsFile {
    /// A TOML file of settings; the environment wins over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SettingsFile {
    fn load(&self) -> Result<Settings, config::Error> {
        Settings::load(self.config.as_deref(), &Variables::of_this_process()?)
    }
}

/// The published VOC weights, and the model that ships.
const PUBLISHED: &str = "weights/ssd300_mAP_77.43_v2.pth";
const SHIPPED: &str = "weights/ssd_mobilenet_v2_oidv4.safetensors";

/// The files that the settings name.
fn files(settings: &Settings) -> anyhow::Result<Files> {
    let weights = match &settings.weights {
        Weights::File(path) => {
            let there = path.try_exists();
            let there = there.with_context(|| format!("WEIGHTS_PATH is {}", path.display()))?;
            ensure!(there, "WEIGHTS_PATH is {}: no such file", path.display());
            path.clone()
        }
        Weights::Default => {
            // One that may not even be looked for is opened, which says why.
            let there = |path: &&str| Path::new(path).try_exists().unwrap_or(true);
            let path = [PUBLISHED, SHIPPED].into_iter().find(there);
            let path = path.with_context(|| {
                format!(
                    "there is neither {PUBLISHED} nor {SHIPPED} here; set WEIGHTS_PATH, or run ssd \
                     where they are"
                )
            })?;
            path.into()
        }
    };
    let labels = settings.labels_path.clone();
    Ok(Files { weights, labels })
}

/// The most bytes that are read into memory; a pipe or a device might never end.
const LARGEST: u64 = 1 << 30;

/// The path that means standard input.
const STANDARD_INPUT: &str = "-";

/// The bytes of a file, or of standard input.
fn contents(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = match path == Path::new(STANDARD_INPUT) {
        true => io::stdin().take(LARGEST + 1).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)),
    };
    read.context("cannot read the file")?;
    ensure!(
        bytes.len() as u64 <= LARGEST,
        "the file is larger than {LARGEST} bytes"
    );
    Ok(bytes)
}

/// Says on standard error what is wrong. Nothing can be done where nobody reads that either.
pub fn complain(about: &dyn Display) {
    let _ = writeln!(io::stderr(), "ssd: {about:#}");
}

/// A text for a terminal, which control characters would set at will.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Prints to standard output. A reader that has gone (`ssd openapi | head -1`) is no failure.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    write(text).map(|_| ExitCode::SUCCESS)
}

/// Writes to standard output, and tells whether anybody still reads it.
fn write(text: &str) -> anyhow::Result<bool> {
    let mut output = io::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}
