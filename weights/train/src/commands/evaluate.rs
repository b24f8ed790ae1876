//! `ssd-train evaluate`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{ArgGroup, Args, ValueEnum};
use ssd_detector::precision::{Precision, Requested, RequestedDevice};
use ssd_train::data::{self, Part};
use ssd_train::evaluation::{self, Detector, Set, report};

use super::{bar, check_writable, count, device, probability};

/// Measure the accuracy of weights of any family
///
/// DATA is a labelled data set as `fit` reads them: PASCAL VOC, COCO or YOLO.
#[derive(Args)]
#[command(group = ArgGroup::new("pictures").required(true).args(["data", "background"]))]
pub struct Evaluate {
    /// The weights: .safetensors or .pth
    #[arg(value_name = "WEIGHTS")]
    weights: PathBuf,
    /// The labelled pictures: a folder, or the COCO JSON or data.yaml in it
    #[arg(value_name = "DATA")]
    data: Option<PathBuf>,
    /// Only the pictures that the data set itself has for this; without, all of them
    #[arg(long, requires = "data")]
    part: Option<PartName>,
    /// Pictures without any object of the weights' classes: in how many something is detected
    #[arg(long, value_name = "FOLDER")]
    background: Option<PathBuf>,
    /// Only the first so many pictures
    #[arg(long, value_name = "COUNT", value_parser = count)]
    limit: Option<usize>,
    /// The score for which precision and recall are told, 0 to 1; by default the threshold of the weights
    #[arg(long, value_parser = probability)]
    threshold: Option<f64>,
    /// The arithmetic: f32, bf16 or int8; without, the one that the server would choose
    #[arg(long, value_parser = precision)]
    precision: Option<Precision>,
    /// Where the network runs: auto, cpu or cuda:N
    #[arg(long, value_parser = device, default_value = "auto")]
    device: RequestedDevice,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the precision-recall curves as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PartName {
    Train,
    Validation,
    Test,
}

fn precision(text: &str) -> Result<Precision, String> {
    Precision::named(text).ok_or_else(|| "it accepts f32, bf16 and int8".to_owned())
}

impl Evaluate {
    pub fn run(self) -> anyhow::Result<()> {
        // All that can fail at once does so before the pictures take their time.
        for path in self.json.iter().chain(&self.plot) {
            check_writable(path)?;
        }
        let own = evaluation::of_weights(&self.weights)?;
        let mut set = self.set()?;
        if let Some(limit) = self.limit {
            set.limit(limit);
        }
        ensure!(!set.pictures.is_empty(), "there are no pictures to look at");
        if set.classes.is_empty() {
            set.classes.clone_from(&own.classes);
        }
        let wanted = Requested {
            precision: self.precision,
            device: self.device,
        };
        let (detector, choice) = Detector::open(&self.weights, &set.classes, wanted)?;
        eprintln!("precision {}: {}", choice.precision, choice.why);
        if let Some(warning) = choice.warning {
            eprintln!("{warning}");
        }
        let not_counted = detector.not_counted(&own.classes);
        if !not_counted.is_empty() {
            eprintln!(
                "not counted, since no label is of them: {}",
                not_counted.join(", ")
            );
        }
        let bar = bar(
            set.pictures.len(),
            "{bar:30} {pos}/{len} pictures  {eta_precise} left",
        );
        let found = evaluation::find(&detector, &set, Some(&bar))?;
        bar.finish_and_clear();
        let threshold = self.threshold.unwrap_or(own.threshold);
        let accuracy = evaluation::summarise(&set, &found, threshold);
        print!("{}", report::table(&accuracy));
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&accuracy)? + "\n";
            std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        }
        if let Some(path) = &self.plot {
            report::plot_curves(&accuracy, path)?;
        }
        Ok(())
    }

    fn set(&self) -> anyhow::Result<Set> {
        if let Some(folder) = &self.background {
            return evaluation::background(folder);
        }
        let path = self.data.as_deref().unwrap_or(Path::new("."));
        let dataset = data::open(path)?;
        eprint!("{}", dataset.summary());
        let part = self.part.map(|part| match part {
            PartName::Train => Part::Train,
            PartName::Validation => Part::Validation,
            PartName::Test => Part::Test,
        });
        let all = 0..dataset.pictures.len();
        let wanted = all.filter(|&index| part.is_none() || dataset.pictures[index].part == part);
        Ok(Set::of(&dataset, &wanted.collect::<Vec<_>>()).merged())
    }
}
