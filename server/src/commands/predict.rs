//! `ssd predict`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use poem_openapi::types::ToJSON as _;
use serde_json::json;
use ssd_detector::Defaults;
use ssd_detector::boxes::Criteria;
use ssd_detector::picture::Encoding;
use ssd_detector::precision::Requested;
use ssd_server::api::Prediction;
use ssd_server::engine::{Detections, Engine, Limits};
use ssd_server::telemetry;
use tracing::warn;

use super::album::Album;
use super::{SettingsFile, contents, files, print_error, printable, write};

#[derive(Debug, Args)]
#[command(
    after_help = "The settings select the model, the labels and everything else: see ssd serve --help"
)]
pub struct Predict {
    /// Picture files: JPEG, PNG, WebP, BMP or GIF; - for standard input
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// Output format; by default a table on a terminal, else JSON
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Also write annotated copies to this folder: a JPEG as JPEG, other formats as PNG
    #[arg(long, value_name = "DIR")]
    annotate: Option<PathBuf>,
    /// Replace files in that folder, but never one of the given pictures
    #[arg(long, requires = "annotate")]
    force: bool,
    #[command(flatten)]
    settings: SettingsFile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One JSON object per line and picture: the API's response and the file name. A picture that cannot
    /// be used gets an error on standard error instead
    Json,
}

impl Predict {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let settings = self.settings.load()?;
        telemetry::start_logs(settings.log_format, "warn");
        let files = files(&settings)?;
        let mut album = self
            .annotate
            .as_deref()
            .map(|folder| Album::open(folder, self.force, &self.pictures))
            .transpose()?;
        let limits = Limits {
            // One picture at a time.
            workers: 1,
            batch: None,
            queue: 0,
            ..Limits::from(&settings)
        };
        let engine = Engine::start(&files, Requested::from(&settings), limits)?;
        for note in engine.model().notes() {
            warn!("{note}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let criteria = engine.model().criteria(Defaults::from(&settings));
        let format = self.format();
        let bar = progress(self.pictures.len());
        let (mut failed, mut is_read) = (false, true);
        for path in &self.pictures {
            let detecting = detect(&engine, path, criteria.clone(), album.as_mut());
            let shown = runtime
                .block_on(detecting)
                .and_then(|detections| show(format, engine.model().name(), path, &detections));
            bar.suspend(|| match shown {
                Ok(text) if is_read => write(&text).map(|read| is_read = read),
                Ok(_) => Ok(()),
                Err(error) => {
                    print_error(&format!(
                        "{}: {error:#}",
                        printable(&path.to_string_lossy())
                    ));
                    failed = true;
                    Ok(())
                }
            })?;
            // Annotated copies are written even if nothing reads standard output.
            if !is_read && album.is_none() {
                break;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn format(&self) -> Format {
        let default = if self.json || !std::io::stdout().is_terminal() {
            Format::Json
        } else {
            Format::Table
        };
        self.format.unwrap_or(default)
    }
}

/// Finds objects in a picture, and draws them if there is an album.
async fn detect(
    engine: &Engine,
    path: &Path,
    criteria: Criteria,
    album: Option<&mut Album>,
) -> anyhow::Result<Detections> {
    let bytes = contents(path)?;
    let Some(album) = album else {
        return Ok(engine.detect(bytes.into(), criteria).await?);
    };
    let encoding = Encoding::like(&bytes);
    // Before the work, since the path may be refused.
    let output = album.path(path, encoding)?;
    let (detections, annotated) = engine.annotate(bytes.into(), criteria, encoding).await?;
    album.write(path, output, &annotated)?;
    Ok(detections)
}

fn show(
    format: Format,
    model: &str,
    path: &Path,
    detections: &Detections,
) -> anyhow::Result<String> {
    let prediction = Prediction::new(model, detections);
    let name = path.to_string_lossy();
    match format {
        Format::Table => Ok(table(&name, &prediction)),
        Format::Json => {
            let mut line = json!({ "file": name });
            let members = prediction.to_json();
            let members = members.as_ref().and_then(|members| members.as_object());
            for (key, value) in members.into_iter().flatten() {
                line[key] = value.clone();
            }
            Ok(serde_json::to_string(&line)? + "\n")
        }
    }
}

fn table(name: &str, prediction: &Prediction) -> String {
    let size = &prediction.image;
    let mut text = format!("{} ({} x {})\n", printable(name), size.width, size.height);
    if prediction.predictions.is_empty() {
        return text + "  nothing\n";
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["  label", "probability", "x", "y", "width", "height"]);
    for found in &prediction.predictions {
        let bounds = &found.bounding_box;
        let pixels = [bounds.x, bounds.y, bounds.width, bounds.height];
        let mut row = vec![
            format!("  {}", printable(&found.label)),
            format!("{:.1} %", found.probability * 100.0),
        ];
        row.extend(pixels.map(|number| format!("{number:.0}")));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    text += &table.trim_fmt();
    text + "\n"
}

/// A progress bar for several pictures on a terminal.
fn progress(pictures: usize) -> ProgressBar {
    if pictures < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} pictures, {eta} left");
    ProgressBar::new(pictures as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
