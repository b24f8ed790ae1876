//! `ssd predict`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use poem_openapi::types::ToJSON as _;
use ssd_server::api::Prediction;
use ssd_server::detector::boxes::Criteria;
use ssd_server::engine::{Answer, Engine, Limits};
use ssd_server::telemetry;

use super::{SettingsFile, files, picture, write};

/// The model, the labels and everything else are those of the settings (see `ssd serve --help`).
#[derive(Debug, Args)]
pub struct Predict {
    /// Picture files: JPEG, PNG, WebP, BMP or GIF
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// Print one JSON object a picture, as the API answers it; one that cannot be used has none, and
    /// is named on standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsFile,
}

impl Predict {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let settings = self.settings.load()?;
        telemetry::start_logs(settings.log_format, "warn");
        let (files, _) = files(&settings)?;
        let limits = Limits {
            pixels: settings.pixel_limit,
            threads: settings.threads.get(),
            // One picture after the other.
            workers: 1,
            batch: None,
            queue: 0,
        };
        let engine = Engine::start(&files, settings.arithmetic, limits)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let bar = progress(self.pictures.len());
        let mut failed = false;
        for path in &self.pictures {
            let answer = runtime.block_on(detect(&engine, path, settings.criteria));
            let shown = answer.and_then(|answer| self.show(&engine, path, &answer));
            let read = bar.suspend(|| match shown {
                Ok(text) => write(&text),
                Err(error) => {
                    eprintln!("ssd: {}: {error:#}", path.display());
                    failed = true;
                    Ok(true)
                }
            })?;
            if !read {
                break;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(match failed {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }

    fn show(&self, engine: &Engine, path: &Path, answer: &Answer) -> anyhow::Result<String> {
        let prediction = Prediction::new(engine.model().name(), answer);
        if self.json {
            let json = serde_json::to_string(&prediction.to_json())?;
            return Ok(json + "\n");
        }
        let size = &prediction.image;
        let mut text = format!("{} ({} x {})\n", path.display(), size.width, size.height);
        for found in &prediction.predictions {
            let place = &found.place;
            text += &format!(
                "  {:<16} {:>5.1} %  x {:.0}, y {:.0}, {:.0} x {:.0}\n",
                found.label,
                found.probability * 100.0,
                place.x,
                place.y,
                place.width,
                place.height,
            );
        }
        if prediction.predictions.is_empty() {
            text += "  nothing\n";
        }
        Ok(text)
    }
}

async fn detect(engine: &Engine, path: &Path, criteria: Criteria) -> anyhow::Result<Answer> {
    Ok(engine.detect(picture(path)?.into(), criteria).await?)
}

/// A bar for many pictures on a terminal; else nothing.
fn progress(pictures: usize) -> ProgressBar {
    if pictures < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} pictures, {eta} left");
    ProgressBar::new(pictures as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
