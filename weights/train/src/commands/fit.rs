//! `ssd-train fit`: checks a data set, trains on it, and writes the weights, a plot and a contact sheet.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use ssd_detector::family::{Family, Scores};
use ssd_detector::network::Network;
use ssd_detector::notes;
use ssd_detector::precision::{Requested, RequestedDevice};
use ssd_train::data::{self, Labelled};
use ssd_train::evaluation::{self, Detector, Set, report, sheet};
use ssd_train::fit::batches::Samples;
use ssd_train::fit::checkpoint::Checkpoint;
use ssd_train::fit::run::{Best, Run, Schedule, replicas};
use ssd_train::fit::{heads, stored};
use ssd_train::measure::voc;
use state_dict::{Dtype, StateDict, write_safetensors};

use super::{bar, check_writable, count, device, learning_rate};

/// The number of pictures in a batch.
const BATCH_SIZE: usize = 8;
/// The default number of epochs, if the number of steps is then in [`DEFAULT_STEPS`].
const DEFAULT_EPOCHS: usize = 12;
const DEFAULT_STEPS: RangeInclusive<usize> = 240..=3000;
/// The minimum number of epochs by default.
const MIN_EPOCHS: usize = 3;

/// Train a detector on your own labelled pictures
///
/// DATA is a folder, or the COCO JSON file or data.yaml in it. The labels are in PASCAL VOC (XML), COCO (JSON) or YOLO
/// (text) format; labelImg, CVAT, Label Studio and Roboflow export these. A fifth of the pictures is held out for
/// validation, unless the data set has its own parts.
#[derive(Args)]
pub struct Fit {
    /// The labelled pictures
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The weights file to write, for the server. A plot (.svg) and a contact sheet (.sheet.jpg) are written beside it
    #[arg(
        short,
        long,
        value_name = "OUT.safetensors",
        required_unless_present = "check"
    )]
    output: Option<PathBuf>,
    /// The weights to start from, of any family that the server loads. #NAME after the file selects an entry
    #[arg(
        long,
        value_name = "WEIGHTS",
        default_value = "weights/ssd_mobilenet_v2_oidv4.safetensors"
    )]
    from: PathBuf,
    /// Only read the labels, and report their problems
    #[arg(long)]
    check: bool,
    /// The number of epochs: how often each picture is used [default: 12; more for few pictures, fewer for very many]
    #[arg(long, value_parser = count)]
    epochs: Option<usize>,
    /// The highest learning rate [default: 0.001; 0.0001 for weights of the SSD300 (VGG16) families]
    #[arg(long, value_parser = learning_rate)]
    learning_rate: Option<f64>,
    /// Do not train the first LAYERS layers
    #[arg(long, value_name = "LAYERS", default_value_t = 0)]
    freeze: usize,
    /// The random seed. Runs with the same seed, data and number of cores give the same weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The device to train on: auto, cpu or cuda:N
    #[arg(long, value_parser = device, default_value = "auto")]
    device: RequestedDevice,
    /// Continue a stopped run. The other arguments must be the same
    #[arg(long, conflicts_with = "check")]
    resume: bool,
    /// Replace the output files if they exist
    #[arg(long)]
    force: bool,
}

/// The files that a run writes.
struct Files {
    weights: PathBuf,
    plot: PathBuf,
    sheet: PathBuf,
    checkpoint: PathBuf,
}

impl Files {
    fn new(weights: &Path) -> Self {
        Self {
            weights: weights.to_owned(),
            plot: weights.with_extension("svg"),
            sheet: weights.with_extension(&data::SHEET_SUFFIX[1..]),
            checkpoint: weights.with_extension("checkpoint.safetensors"),
        }
    }

    /// Checks that the files can be written, and that none exists unless `force` is set.
    fn check(&self, force: bool) -> anyhow::Result<()> {
        let extension = self.weights.extension();
        ensure!(
            extension.is_some_and(|extension| extension == "safetensors"),
            "{}: the weights are written in safetensors format; give a name that ends in .safetensors",
            self.weights.display()
        );
        check_writable(&self.weights)?;
        ensure!(
            force || !self.checkpoint.exists(),
            "{} belongs to a stopped run; use --resume to continue that run, or --force to start again",
            self.checkpoint.display()
        );
        for file in [&self.weights, &self.plot, &self.sheet] {
            ensure!(
                force || !file.exists(),
                "{} exists; give another name, or use --force to replace it",
                file.display()
            );
        }
        Ok(())
    }
}

impl Fit {
    pub fn run(self) -> anyhow::Result<()> {
        let dataset = data::open(&self.data)?;
        print!("{}", dataset.summary());
        let (train, held_out) = data::split(&dataset, self.seed);
        println!(
            "{} for training, {} held out for validation",
            pictures(train.len()),
            held_out.len()
        );
        let Some(output) = self.output.as_deref().filter(|_| !self.check) else {
            return Ok(());
        };
        ensure!(
            !train.is_empty() && !held_out.is_empty(),
            "the data set has only {}, too few for training and validation; label more pictures",
            pictures(dataset.pictures.len())
        );
        let files = Files::new(output);
        if !self.resume {
            files.check(self.force)?;
        }
        let training = train.iter().map(|&index| dataset.pictures[index].clone());
        let validation = Set::of(&dataset, &held_out);
        let (best, is_stopped) = self.train(training.collect(), &validation, &files)?;
        let threshold = best_threshold(&validation, &best);
        write(&files.weights, &best, &validation, threshold, &self.from)?;
        sheet::draw(&validation, &best.detections, threshold, &files.sheet)?;
        let test = Set::of(&dataset, &data::test_pictures(&dataset));
        if test.pictures.is_empty() {
            measure(&files.weights, &validation, threshold, "held out")?;
        } else {
            measure(&files.weights, &test, threshold, "of the test part")?;
        }
        println!(
            "See {} for found, missed and wrong objects, and {} for loss and mAP.",
            files.sheet.display(),
            files.plot.display()
        );
        if is_stopped {
            println!(
                "Stopped. {} contains the best weights so far, of epoch {}. To continue, run the same command with \
                 --resume.",
                files.weights.display(),
                best.metrics.epoch
            );
        } else {
            // A completed run cannot continue.
            let _ = std::fs::remove_file(&files.checkpoint);
            println!(
                "To serve it, run: WEIGHTS_PATH={} make run",
                files.weights.display()
            );
        }
        Ok(())
    }

    /// Trains until the run is over or Ctrl-C is pressed. Returns the best weights, and whether it was stopped.
    fn train(
        &self,
        pictures: Vec<Labelled>,
        validation: &Set,
        files: &Files,
    ) -> anyhow::Result<(Best, bool)> {
        let weights = StateDict::open(&self.from)?;
        for note in notes(&weights) {
            eprintln!("{note}");
        }
        let start = heads::replace(&weights, validation.classes.len(), self.seed)?;
        let samples = Samples {
            pictures: Arc::new(pictures),
            family: Network::new(&start)?.family(),
            batch: BATCH_SIZE,
            seed: self.seed,
        };
        let per_epoch = samples.steps_per_epoch();
        let schedule = self.schedule(samples.family, per_epoch)?;
        let checkpoint = self
            .resume
            .then(|| Checkpoint::read(&files.checkpoint))
            .transpose()?;
        let mut run = Run::new(
            &start,
            samples,
            validation,
            schedule,
            self.device,
            checkpoint.as_ref(),
        )?;
        let is_stopped =
            train_until_stopped(&mut run, schedule.epochs * per_epoch, per_epoch, files)?;
        let best = run.into_best().context(
            "stopped before the end of the first epoch, so there are no weights to write",
        )?;
        Ok((best, is_stopped))
    }

    fn schedule(&self, family: &Family, steps_per_epoch: usize) -> anyhow::Result<Schedule> {
        let default_epochs = DEFAULT_EPOCHS.clamp(
            DEFAULT_STEPS.start().div_ceil(steps_per_epoch),
            (DEFAULT_STEPS.end() / steps_per_epoch).max(MIN_EPOCHS),
        );
        let epochs = self.epochs.unwrap_or(default_epochs);
        let default_rate = match family.scores {
            Scores::Sigmoid => 1e-3,
            Scores::Softmax => 1e-4,
        };
        Ok(Schedule {
            epochs,
            learning_rate: self.learning_rate.unwrap_or(default_rate),
            freeze: self.freeze,
            replicas: replicas(BATCH_SIZE, self.device)?,
            patience: epochs.div_ceil(2),
        })
    }
}

fn pictures(number: usize) -> String {
    data::count(number, "picture", "pictures")
}

/// Trains until the run is over or Ctrl-C is pressed. Returns whether it was stopped by Ctrl-C.
fn train_until_stopped(
    run: &mut Run,
    steps: usize,
    per_epoch: usize,
    files: &Files,
) -> anyhow::Result<bool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        // A second Ctrl-C ends the program at once.
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot wait for Ctrl-C")?;
    let bar = bar(steps, "{bar:30} step {pos}/{len}  {msg}  {eta} left");
    bar.set_position((run.history().len() * per_epoch) as u64);
    // After a resume, the earlier steps must not count for the remaining time.
    bar.reset_eta();
    let (mut map, mut smooth_loss) = (String::new(), None);
    let (mut duration, mut waiting) = (Duration::ZERO, Duration::ZERO);
    while !run.is_over() {
        let completed = run.advance(&STOP, |step, loss| {
            let before = smooth_loss.unwrap_or(loss);
            let after = before + (loss - before) * 0.1;
            smooth_loss = Some(after);
            bar.set_position(step as u64 + 1);
            bar.set_message(format!("loss {after:.3}{map}"));
        })?;
        let Some(epoch) = completed else {
            bar.abandon();
            return Ok(true);
        };
        duration += epoch.duration;
        waiting += epoch.waiting;
        let metrics = epoch.metrics;
        let note = if epoch.is_best { "  best so far" } else { "" };
        // Each epoch has its own line, because the bar is hidden without a terminal.
        let line = format!(
            "epoch {}: loss {:.3}, mAP@0.5 {:.3}, mAP@0.5:0.95 {:.3}{note}",
            metrics.epoch, metrics.loss, metrics.map, metrics.map_strict
        );
        bar.suspend(|| println!("{line}"));
        map = format!("  mAP {:.3}", metrics.map);
        if let Some(checkpoint) = run.checkpoint() {
            checkpoint.write(&files.checkpoint)?;
        }
        report::plot_run(run.history(), &files.plot)?;
    }
    bar.finish_and_clear();
    println!(
        "Trained for {:.0} s; {:.1} % of that was spent waiting for pictures.",
        duration.as_secs_f64(),
        100.0 * waiting.as_secs_f64() / duration.as_secs_f64().max(1e-9)
    );
    Ok(false)
}

/// The threshold, a multiple of 0.05, with the best F1 on the validation pictures.
fn best_threshold(validation: &Set, best: &Best) -> f64 {
    let f1 = |threshold: f64| {
        let size = (validation.classes.len(), validation.pictures.len());
        let at = voc::at_threshold(&validation.ground_truths, &best.detections, size, threshold);
        let (precision, recall) = (at.precision.unwrap_or(0.0), at.recall.unwrap_or(0.0));
        2.0 * precision * recall / (precision + recall).max(1e-9)
    };
    (2..=19)
        .map(|twentieth| f64::from(twentieth) / 20.0)
        .map(|threshold| (f1(threshold), threshold))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map_or(0.5, |(_, threshold)| threshold)
}

/// Writes the best weights in half precision, with metadata.
fn write(
    output: &Path,
    best: &Best,
    validation: &Set,
    threshold: f64,
    from: &Path,
) -> anyhow::Result<()> {
    let parameters = best.network.parameters().into_iter();
    let tensors = parameters
        .map(|(name, tensor)| stored(name, &tensor, Dtype::F16))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let accuracy = format!(
        "mAP@0.5 {:.3} on {} held out for validation",
        best.metrics.map,
        pictures(validation.pictures.len())
    );
    let source = from.file_name().unwrap_or_default().to_string_lossy();
    let metadata = BTreeMap::from([
        ("family".to_owned(), best.network.family().name.to_owned()),
        (
            "classes".to_owned(),
            serde_json::to_string(&validation.classes)?,
        ),
        ("threshold".to_owned(), format!("{threshold:.2}")),
        ("accuracy".to_owned(), accuracy),
        (
            "source".to_owned(),
            format!("fine-tuned from {source} by ssd-train fit"),
        ),
    ]);
    Ok(write_safetensors(output, tensors, &metadata)?)
}

/// Measures the file as the server would run it: with weights in half precision, in the precision that the server
/// selects on this machine.
fn measure(weights: &Path, set: &Set, threshold: f64, which: &str) -> anyhow::Result<()> {
    let (detector, selection) = Detector::open(weights, &set.classes, Requested::default())?;
    let start = Instant::now();
    let detections = evaluation::detect(&detector, set, None)?;
    let per_second = set.pictures.len() as f64 / start.elapsed().as_secs_f64();
    let accuracy = evaluation::summarise(set, &detections, threshold);
    println!("\nOn the {} {which}:", pictures(set.pictures.len()));
    print!("{}", report::fitted(&accuracy));
    println!(
        "This machine detects objects in {per_second:.0} pictures per second, with precision {}.",
        selection.precision
    );
    Ok(())
}
