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
use state_dict::split_entry;

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
    /// Serve the API over HTTP (the default command).
    #[command(after_help = config::help())]
    Serve(serve::Serve),
    /// Find objects in picture files, without a server.
    Predict(predict::Predict),
    /// Show the tensors and metadata of a weights file: any state dict, .pth or .safetensors.
    Inspect(inspect::Inspect),
    /// Convert a weights file to safetensors.
    Convert(convert::Convert),
    /// Measure the activation scales for int8 on pictures, and write them into a copy of the weights.
    Calibrate(calibrate::Calibrate),
    /// Print the completion script for a shell.
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
    // Not in the library, so that a commit recompiles only the program.
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

/// The settings file; the other source is the environment.
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
            let (file, _) = split_entry(path);
            let exists = file
                .try_exists()
                .with_context(|| format!("WEIGHTS_PATH is {}", path.display()))?;
            ensure!(exists, "WEIGHTS_PATH is {}: no such file", path.display());
            path.clone()
        }
        Weights::Default => {
            // If a path cannot be checked, opening it reports the reason.
            let exists = |path: &&str| Path::new(path).try_exists().unwrap_or(true);
            let path = [PUBLISHED, SHIPPED].into_iter().find(exists);
            path.with_context(|| {
                format!(
                    "neither {PUBLISHED} nor {SHIPPED} exists in this folder; set WEIGHTS_PATH, or run \
                     ssd in the folder that contains one of them"
                )
            })?
            .into()
        }
    };
    let labels = settings.labels_path.clone();
    Ok(Files { weights, labels })
}

/// Maximum bytes of an input: a pipe or a device might never end.
const INPUT_LIMIT: u64 = 1 << 30;

/// The path that means standard input.
const STANDARD_INPUT: &str = "-";

/// The bytes of a file, or of standard input.
fn contents(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new(STANDARD_INPUT) {
        io::stdin().take(INPUT_LIMIT + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(INPUT_LIMIT + 1).read_to_end(&mut bytes))
    };
    read.context("cannot read the file")?;
    ensure!(
        bytes.len() as u64 <= INPUT_LIMIT,
        "the file is larger than {INPUT_LIMIT} bytes"
    );
    Ok(bytes)
}

/// Prints an error to standard error. If that is closed, the exit code still shows the failure.
pub fn print_error(error: &dyn Display) {
    let _ = writeln!(io::stderr(), "ssd: {error:#}");
}

/// Replaces control characters, which could change the state of a terminal.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Prints to standard output. A closed pipe (`ssd openapi | head -1`) is not an error.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    write(text).map(|_| ExitCode::SUCCESS)
}

/// Writes to standard output; false if it is a pipe that its reader has closed.
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
