//! `ssd-train evaluate`: measures the accuracy of weights on a data set. Writes a table, JSON and SVG.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{ArgGroup, Args, ValueEnum};
use ssd_detector::precision::{Precision, Requested, RequestedDevice};
use ssd_train::data::{self, Part};
use ssd_train::evaluation::{self, Detector, Set, report};

use super::{bar, check_writable, count, device, probability};

/// Measure the accuracy of weights of any family
///
/// DATA is a labelled data set in PASCAL VOC, COCO or YOLO format, as for `fit`.
#[derive(Args)]
#[command(
    group = ArgGroup::new("pictures").required(true).args(["data", "background"]),
    // clap would print the group before the weights.
    override_usage = "ssd-train evaluate [OPTIONS] <WEIGHTS> <DATA>\n       \
                      ssd-train evaluate [OPTIONS] <WEIGHTS> --background <FOLDER>"
)]
pub struct Evaluate {
    /// The weights: .safetensors or .pth. #NAME after the file selects an entry
    #[arg(value_name = "WEIGHTS")]
    weights: PathBuf,
    /// The labelled pictures: a folder, or the COCO JSON file or data.yaml in it
    #[arg(value_name = "DATA")]
    data: Option<PathBuf>,
    /// Measure only on this part of the data set [default: all pictures]
    #[arg(long, requires = "data")]
    part: Option<PartName>,
    /// A folder of pictures without any object of the model's classes; every detection in them is a false positive
    #[arg(long, value_name = "FOLDER")]
    background: Option<PathBuf>,
    /// Use only the first COUNT pictures
    #[arg(long, value_name = "COUNT", value_parser = count)]
    limit: Option<usize>,
    /// The minimum score of detections for precision and recall, 0 to 1 [default: the threshold of the weights]
    #[arg(long, value_parser = probability)]
    threshold: Option<f64>,
    /// The precision of the arithmetic: f32, bf16 or int8 [default: as the server would select]
    #[arg(long, value_parser = precision)]
    precision: Option<Precision>,
    /// The device to run on: auto, cpu or cuda:N
    #[arg(long, value_parser = device, default_value = "auto")]
    device: RequestedDevice,
    /// Write the accuracy as JSON
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
        // Before reading the pictures, which takes long.
        for path in self.json.iter().chain(&self.plot) {
            check_writable(path)?;
        }
        let metadata = evaluation::metadata(&self.weights)?;
        for note in &metadata.notes {
            eprintln!("{note}");
        }
        let mut set = self.set(&metadata.classes)?;
        if let Some(limit) = self.limit {
            set.limit(limit);
        }
        ensure!(
            !set.pictures.is_empty(),
            "there are no pictures to measure on"
        );
        let requested = Requested {
            precision: self.precision,
            device: self.device,
        };
        let (detector, selection) = Detector::open(&self.weights, &set.classes, requested)?;
        eprintln!("precision {}: {}", selection.precision, selection.reason);
        if let Some(warning) = selection.warning {
            eprintln!("{warning}");
        }
        let dropped = detector.dropped(&metadata.classes);
        if !dropped.is_empty() {
            eprintln!(
                "detections of these classes are not counted, because the data set has no labels of them: {}",
                dropped.join(", ")
            );
        }
        let bar = bar(
            set.pictures.len(),
            "{bar:30} {pos}/{len} pictures  {eta_precise} left",
        );
        let detections = evaluation::detect(&detector, &set, Some(&bar))?;
        bar.finish_and_clear();
        let threshold = self.threshold.unwrap_or(metadata.threshold);
        let accuracy = evaluation::summarise(&set, &detections, threshold);
        print!("{}", report::table(&accuracy));
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&accuracy)? + "\n";
            std::fs::write(path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(path) = &self.plot {
            report::plot_curves(&accuracy, path)?;
        }
        Ok(())
    }

    /// The pictures to measure on. `classes` are the classes of the weights.
    fn set(&self, classes: &[String]) -> anyhow::Result<Set> {
        if let Some(folder) = &self.background {
            return Set::background(folder, classes.to_vec());
        }
        let path = self.data.as_deref().unwrap_or(Path::new("."));
        let dataset = data::open(path)?;
        eprint!("{}", dataset.summary());
        let part = self.part.map(|part| match part {
            PartName::Train => Part::Train,
            PartName::Validation => Part::Validation,
            PartName::Test => Part::Test,
        });
        let indexes: Vec<usize> = (0..dataset.pictures.len())
            .filter(|&index| part.is_none() || dataset.pictures[index].part == part)
            .collect();
        Ok(Set::of(&dataset, &indexes).merged())
    }
}
