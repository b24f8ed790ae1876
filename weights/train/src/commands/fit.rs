//! `ssd-train fit`.

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
use ssd_detector::precision::{Requested, RequestedDevice};
use ssd_train::data::{self, Dataset};
use ssd_train::evaluation::{self, Detector, Set, report, sheet};
use ssd_train::fit::batches::{Example, Samples};
use ssd_train::fit::checkpoint::Checkpoint;
use ssd_train::fit::run::{Best, Run, Schedule, replicas};
use ssd_train::fit::targets::Truth;
use ssd_train::fit::{heads, stored};
use ssd_train::measure::voc;
use state_dict::{Dtype, StateDict, write_safetensors};

use super::{bar, check_writable, count, device, learning_rate};

/// Pictures in a batch.
const BATCH: usize = 8;
/// How often each picture is seen,
const EPOCHS: usize = 12;
/// more often in a run that would have fewer steps than this, and less often in one that would have more.
const STEPS: RangeInclusive<usize> = 240..=3000;
const FEWEST_EPOCHS: usize = 3;

/// Teach a detector your own objects, from pictures with labels
///
/// DATA is a folder with labels of PASCAL VOC (XML), COCO (JSON) or YOLO (text), as labelImg, CVAT, Label Studio and
/// Roboflow write them. A fifth of the pictures is held out to measure with, unless the labels say which.
#[derive(Args)]
pub struct Fit {
    /// The labelled pictures
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The file of weights to write, which the server loads. Beside it: a plot (.svg), a sheet of pictures (.sheet.jpg)
    #[arg(
        short,
        long,
        value_name = "OUT.safetensors",
        required_unless_present = "check"
    )]
    output: Option<PathBuf>,
    /// The weights to begin with, of any family that the server reads
    #[arg(
        long,
        value_name = "WEIGHTS",
        default_value = "weights/ssd_mobilenet_v2_oidv4.safetensors"
    )]
    from: PathBuf,
    /// Only read the labels, and tell what is wrong with them
    #[arg(long)]
    check: bool,
    /// How often each picture is seen; by default 12 times, more often if there are few pictures, less if very many
    #[arg(long, value_parser = count)]
    epochs: Option<usize>,
    /// The highest learning rate; by default 0.001, or 0.0001 for weights of the SSD300 (VGG16) families
    #[arg(long, value_parser = learning_rate)]
    learning_rate: Option<f64>,
    /// Leave so many of the first layers as they are
    #[arg(long, value_name = "LAYERS", default_value_t = 0)]
    freeze: usize,
    /// A run with the same seed, data and number of cores gives the same weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the network is trained: auto, cpu or cuda:N
    #[arg(long, value_parser = device, default_value = "auto")]
    device: RequestedDevice,
    /// Go on where a run with the same arguments was stopped
    #[arg(long, conflicts_with = "check")]
    resume: bool,
    /// Replace the files if they exist
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
            sheet: weights.with_extension(&data::SHEET[1..]),
            checkpoint: weights.with_extension("checkpoint.safetensors"),
        }
    }

    /// Refuses to replace what nobody asked to be replaced.
    fn check(&self, force: bool) -> anyhow::Result<()> {
        ensure!(
            self.weights
                .extension()
                .is_some_and(|is| is == "safetensors"),
            "{}: the weights are written as safetensors; give a name that ends in .safetensors",
            self.weights.display()
        );
        check_writable(&self.weights)?;
        ensure!(
            force || !self.checkpoint.exists(),
            "{} is of a run that was stopped; --resume goes on from it, --force starts anew",
            self.checkpoint.display()
        );
        for file in [&self.weights, &self.plot, &self.sheet] {
            ensure!(
                force || !file.exists(),
                "{} exists; give another name, or --force to replace it",
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
            "{} to learn from, {} held out",
            pictures(train.len()),
            held_out.len()
        );
        let Some(output) = self.output.as_deref().filter(|_| !self.check) else {
            return Ok(());
        };
        ensure!(
            !train.is_empty() && !held_out.is_empty(),
            "the data set has only {}: label more, some to learn from and some to measure with",
            pictures(dataset.pictures.len())
        );
        let files = Files::new(output);
        if !self.resume {
            files.check(self.force)?;
        }
        let weights = StateDict::open(&self.from)?;
        let start = heads::replace(&weights, dataset.classes.len(), self.seed)?;
        let family = Network::new(&start)?.family();
        let examples = train.iter().map(|&index| example(&dataset, index));
        let samples = Samples {
            examples: Arc::new(examples.collect()),
            family,
            batch: BATCH,
            seed: self.seed,
        };
        let validation = Set::of(&dataset, &held_out);
        let schedule = self.schedule(family, samples.steps_per_epoch())?;
        let from = self
            .resume
            .then(|| Checkpoint::read(&files.checkpoint))
            .transpose()?;
        let steps = samples.steps_per_epoch();
        let mut run = Run::new(
            &start,
            samples,
            &validation,
            schedule,
            self.device,
            from.as_ref(),
        )?;
        let stopped = train_until_stopped(&mut run, schedule.epochs * steps, steps, &files)?;
        let best = run
            .into_best()
            .context("stopped before the first epoch was over: nothing was learnt")?;
        let threshold = best_threshold(&validation, &best);
        write(&files.weights, &best, &validation, threshold, &self.from)?;
        sheet::draw(&validation, &best.found, threshold, &files.sheet)?;
        let test = Set::of(&dataset, &data::test_pictures(&dataset));
        if test.pictures.is_empty() {
            measure(&files.weights, &validation, threshold, "held out")?;
        } else {
            measure(&files.weights, &test, threshold, "of the test part")?;
        }
        let output = files.weights.display();
        println!(
            "Look at {}: what was found, missed and wrong. {} shows loss and mAP.",
            files.sheet.display(),
            files.plot.display()
        );
        if stopped {
            println!(
                "Stopped. {output} holds the best so far, of epoch {}. To go on: the same command with --resume",
                best.line.epoch
            );
        } else {
            // A run that is over has nothing to go on with.
            let _ = std::fs::remove_file(&files.checkpoint);
            println!("To serve it: WEIGHTS_PATH={output} make run");
        }
        Ok(())
    }

    fn schedule(&self, family: &Family, steps_per_epoch: usize) -> anyhow::Result<Schedule> {
        let epochs = EPOCHS.clamp(
            STEPS.start().div_ceil(steps_per_epoch),
            (STEPS.end() / steps_per_epoch).max(FEWEST_EPOCHS),
        );
        let epochs = self.epochs.unwrap_or(epochs);
        let learning_rate = match family.scores {
            Scores::Sigmoid => 1e-3,
            Scores::Softmax => 1e-4,
        };
        Ok(Schedule {
            epochs,
            learning_rate: self.learning_rate.unwrap_or(learning_rate),
            freeze: self.freeze,
            replicas: replicas(BATCH, self.device)?,
            patience: epochs.div_ceil(2),
        })
    }
}

fn pictures(number: usize) -> String {
    data::count(number, "picture", "pictures")
}

/// Trains until the run is over, or somebody presses Ctrl-C: tells whether that was so.
fn train_until_stopped(
    run: &mut Run,
    steps: usize,
    per_epoch: usize,
    files: &Files,
) -> anyhow::Result<bool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        // Pressed twice, it ends at once.
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("wait for Ctrl-C")?;
    let bar = bar(steps, "{bar:30} step {pos}/{len}  {msg}  {eta} left");
    bar.set_position((run.history().len() * per_epoch) as u64);
    // The time left is of this run's own steps.
    bar.reset_eta();
    let (mut map, mut smooth) = (String::new(), None);
    let (mut took, mut waited) = (Duration::ZERO, Duration::ZERO);
    while !run.is_over() {
        let told = run.advance(&STOP, |step, loss| {
            let before = smooth.unwrap_or(loss);
            let now = before + (loss - before) * 0.1;
            smooth = Some(now);
            bar.set_position(step as u64 + 1);
            bar.set_message(format!("loss {now:.3}{map}"));
        })?;
        let Some(epoch) = told else {
            bar.abandon();
            return Ok(true);
        };
        took += epoch.took;
        waited += epoch.waited;
        let line = epoch.line;
        let star = if epoch.best { "  best so far" } else { "" };
        // On lines of their own, since the bar is hidden where there is no terminal.
        let text = format!(
            "epoch {}: loss {:.3}, mAP@0.5 {:.3}, mAP@0.5:0.95 {:.3}{star}",
            line.epoch, line.loss, line.map, line.map_strict
        );
        bar.suspend(|| println!("{text}"));
        map = format!("  mAP {:.3}", line.map);
        if let Some(checkpoint) = run.checkpoint() {
            checkpoint.write(&files.checkpoint)?;
        }
        report::plot_run(run.history(), &files.plot)?;
    }
    bar.finish_and_clear();
    println!(
        "Trained for {:.0} s; {:.1} % of that was spent waiting for pictures.",
        took.as_secs_f64(),
        100.0 * waited.as_secs_f64() / took.as_secs_f64().max(1e-9)
    );
    Ok(false)
}

/// A picture to learn from.
fn example(dataset: &Dataset, index: usize) -> Example {
    let picture = &dataset.pictures[index];
    let truths = picture.objects.iter().map(|object| Truth {
        class: object.class + 1,
        corners: object.corners,
        difficult: object.difficult,
    });
    Example {
        path: picture.path.clone(),
        truths: truths.collect(),
    }
}

/// The threshold, a multiple of 0.05, with the best F1 on the validation pictures.
fn best_threshold(validation: &Set, best: &Best) -> f64 {
    let f1 = |threshold: f64| {
        let size = (validation.classes.len(), validation.pictures.len());
        let at = voc::at_threshold(&validation.truths, &best.found, size, threshold);
        let (precision, recall) = (at.precision.unwrap_or(0.0), at.recall.unwrap_or(0.0));
        2.0 * precision * recall / (precision + recall).max(1e-9)
    };
    let thresholds = (2..=19).map(|twentieth| f64::from(twentieth) / 20.0);
    let measured = thresholds.map(|threshold| (f1(threshold), threshold));
    let best = measured.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.map_or(0.5, |(_, threshold)| threshold)
}

/// Writes the best weights in half precision, with what they say of themselves.
fn write(
    output: &Path,
    best: &Best,
    validation: &Set,
    threshold: f64,
    from: &Path,
) -> anyhow::Result<()> {
    let parameters = best.network.parameters().into_iter();
    let tensors = parameters.map(|(name, tensor)| stored(name, &tensor, Dtype::F16));
    let tensors = tensors.collect::<anyhow::Result<Vec<_>>>()?;
    let accuracy = format!(
        "mAP@0.5 {:.3} on {} that were held out",
        best.line.map,
        pictures(validation.pictures.len())
    );
    let from = from.file_name().unwrap_or_default().to_string_lossy();
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
            format!("fine-tuned from {from} by ssd-train fit"),
        ),
    ]);
    Ok(write_safetensors(output, tensors, &metadata)?)
}

/// Measures the file as it is served, in half precision and in the fastest arithmetic of this machine.
fn measure(weights: &Path, set: &Set, threshold: f64, which: &str) -> anyhow::Result<()> {
    let (detector, choice) = Detector::open(weights, &set.classes, Requested::default())?;
    let begun = Instant::now();
    let found = evaluation::find(&detector, set, None)?;
    let per_second = set.pictures.len() as f64 / begun.elapsed().as_secs_f64();
    let accuracy = evaluation::summarise(set, &found, threshold);
    println!("\nOn the {} {which}:", pictures(set.pictures.len()));
    print!("{}", report::fitted(&accuracy));
    println!(
        "This machine serves {per_second:.0} pictures a second, in {}.",
        choice.precision
    );
    Ok(())
}
