//! `ssd-train fit`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ssd_server::detector::network::Network;
use ssd_server::detector::precision::Wanted;
use ssd_server::weights::{Dtype, NewTensor, StateDict, write_safetensors};
use ssd_train::data::{self, Dataset};
use ssd_train::evaluation::{self, Accuracy, Detector, Set, Source};
use ssd_train::fit::batches::{Diet, Example};
use ssd_train::fit::checkpoint::Checkpoint;
use ssd_train::fit::course::{Best, Course, Run};
use ssd_train::fit::heads;
use ssd_train::measure;
use ssd_train::training::checkpoint::{numbers, shape};
use ssd_train::training::initial::halves;
use ssd_train::training::targets::Truth;

use super::{learning_rate, some};

/// Pictures in a batch.
const BATCH: usize = 16;
/// Epochs without a better accuracy after which a run ends.
const PATIENCE: usize = 6;
/// A run makes so many steps, as far as that is between the fewest and the most epochs.
const STEPS: usize = 1500;
const FEWEST_EPOCHS: usize = 5;
const MOST_EPOCHS: usize = 15;

/// Teach a detector your own objects, from pictures with labels
///
/// DATA is a folder with labels of PASCAL VOC (XML), COCO (JSON) or YOLO (text), as labelImg, CVAT, Label Studio and
/// Roboflow write them. A fifth of the pictures is held out to measure with, unless the labels say which.
#[derive(Args)]
pub struct Fit {
    /// The labelled pictures
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The file of weights to write, which the server loads
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
    /// How often each picture is seen; by default 5 to 15 times, the fewer the more pictures there are
    #[arg(long, value_parser = some)]
    epochs: Option<usize>,
    /// The highest learning rate
    #[arg(long, value_parser = learning_rate, default_value_t = 0.001)]
    learning_rate: f64,
    /// Leave so many of the first layers as they are
    #[arg(long, default_value_t = 0)]
    freeze: usize,
    /// Of everything that is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on where a run with the same arguments was stopped
    #[arg(long, conflicts_with = "check")]
    resume: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Fit {
    pub fn run(self) -> anyhow::Result<()> {
        let dataset = data::open(&self.data)?;
        print!("{}", dataset.summary());
        let (train, held_out) = data::split(&dataset, self.seed);
        println!(
            "{} pictures to learn from, {} held out",
            train.len(),
            held_out.len()
        );
        let Some(output) = self.output.as_deref().filter(|_| !self.check) else {
            return Ok(());
        };
        ensure!(
            !train.is_empty() && !held_out.is_empty(),
            "{} pictures are too few: some are needed to learn from, and some to measure with",
            dataset.pictures.len()
        );
        ensure!(
            self.force || self.resume || !output.exists(),
            "{} exists; give another name, or --force to replace it",
            output.display()
        );
        let weights = StateDict::open(&self.from)?;
        let start = heads::replace(&weights, dataset.classes.len(), self.seed)?;
        let family = Network::new(&start)?.family();
        let diet = Diet {
            examples: Arc::new(
                train
                    .iter()
                    .map(|&index| example(&dataset, index))
                    .collect(),
            ),
            family,
            batch: BATCH,
            seed: self.seed,
        };
        let validation = set(&dataset, &held_out);
        let epochs = (STEPS / diet.steps_per_epoch()).clamp(FEWEST_EPOCHS, MOST_EPOCHS);
        let course = Course {
            epochs: self.epochs.unwrap_or(epochs),
            learning_rate: self.learning_rate,
            freeze: self.freeze,
            replicas: replicas(),
            patience: PATIENCE,
        };
        let kept = output.with_extension("checkpoint.safetensors");
        let from = self.resume.then(|| Checkpoint::read(&kept)).transpose()?;
        let steps = diet.steps_per_epoch();
        let mut run = Run::new(&start, diet, &validation, course, from.as_ref())?;
        let stopped = learn(&mut run, course.epochs * steps, steps, &kept)?;
        let best = run
            .best()
            .context("stopped before the first epoch was over: nothing was learnt")?;
        write(output, &best, &dataset.classes, &self.from, &validation)?;
        if stopped {
            println!(
                "Stopped. {} holds the best so far, of epoch {}. To go on: the same command with --resume",
                output.display(),
                best.epoch
            );
        } else {
            // A run that is over has nothing to go on with.
            let _ = std::fs::remove_file(&kept);
            println!(
                "{}: WEIGHTS_PATH={} serves it",
                output.display(),
                output.display()
            );
        }
        Ok(())
    }
}

/// Threads that learn: as many as there are cores and as divide a batch.
fn replicas() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    // Of two pictures each at least, so that libtorch has something to share out.
    let fitting = (1..=BATCH / 2).filter(|count| BATCH.is_multiple_of(*count) && *count <= cores);
    fitting.max().unwrap_or(1)
}

/// Learns until the run is over, or somebody presses Ctrl-C: tells whether that was so.
fn learn(run: &mut Run, steps: usize, per_epoch: usize, kept: &Path) -> anyhow::Result<bool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        // Who presses it twice means it.
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("wait for Ctrl-C")?;
    let bar = ProgressBar::new(steps as u64).with_position((run.epochs() * per_epoch) as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} step {pos}/{len}  {msg}  {eta} left")
    {
        bar.set_style(style);
    }
    let (mut best, mut smooth) = (String::new(), None);
    while !run.is_over() {
        let told = run.advance(&STOP, |step, loss| {
            let before = smooth.unwrap_or(loss);
            let now = before + (loss - before) * 0.1;
            smooth = Some(now);
            bar.set_position(step as u64 + 1);
            bar.set_message(format!("loss {now:.3}{best}"));
        })?;
        let Some(epoch) = told else {
            bar.abandon();
            return Ok(true);
        };
        let map = epoch.accuracy.coco50.unwrap_or(0.0);
        let star = if epoch.best { "  best so far" } else { "" };
        // Also where the bar is hidden, since nobody looks at a terminal.
        let line = format!(
            "epoch {}: loss {:.3}, mAP@0.5 {map:.3}{star}",
            epoch.number, epoch.loss
        );
        bar.suspend(|| println!("{line}"));
        best = format!("  mAP {map:.3}");
        if let Some(checkpoint) = run.checkpoint() {
            checkpoint.write(kept)?;
        }
    }
    bar.finish_and_clear();
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

/// Pictures to measure with.
fn set(dataset: &Dataset, indexes: &[usize]) -> Set {
    let mut set = Set {
        classes: dataset.classes.clone(),
        pictures: Vec::new(),
        truths: Vec::new(),
    };
    for &index in indexes {
        let picture = &dataset.pictures[index];
        let number = set.pictures.len();
        set.pictures.push(Source::File(picture.path.clone()));
        set.truths.extend(picture.objects.iter().map(|object| {
            let c = object
                .corners
                .scale(picture.width as f32, picture.height as f32);
            measure::Truth {
                picture: number,
                class: object.class,
                corners: [c.x1, c.y1, c.x2, c.y2].map(f64::from),
                ignored: object.difficult,
            }
        }));
    }
    set
}

/// Writes the best weights with what they say of themselves, measures the file as it is, and prints that.
fn write(
    output: &Path,
    best: &Best,
    classes: &[String],
    from: &Path,
    validation: &Set,
) -> anyhow::Result<()> {
    let tensors = best.network.parameters().into_iter().map(|(name, tensor)| {
        Ok(NewTensor {
            name: name.into(),
            dtype: Dtype::F16,
            shape: shape(&tensor).into(),
            bytes: halves(&numbers(&tensor)?).into(),
        })
    });
    let tensors = tensors.collect::<anyhow::Result<Vec<_>>>()?;
    let (accuracy, threshold) = threshold(best, validation)?;
    let mut metadata = BTreeMap::from([
        ("family".to_owned(), best.network.family().name.to_owned()),
        ("classes".to_owned(), serde_json::to_string(classes)?),
        ("threshold".to_owned(), format!("{threshold:.2}")),
    ]);
    let map = accuracy.coco50.unwrap_or(0.0);
    metadata.insert(
        "accuracy".to_owned(),
        format!(
            "mAP@0.5 {map:.3} on {} pictures that were held out",
            accuracy.pictures
        ),
    );
    let from = from.file_name().unwrap_or_default().to_string_lossy();
    metadata.insert(
        "source".to_owned(),
        format!("fine-tuned from {from} by ssd-train fit"),
    );
    write_safetensors(output, tensors, &metadata)?;
    // What is served is in half precision, and in whatever arithmetic is the fastest here.
    let (detector, choice) = Detector::open(output, classes, Wanted::default())?;
    let begun = Instant::now();
    let found = evaluation::find(&detector, validation, None)?;
    let took = begun.elapsed().as_secs_f64();
    let accuracy = evaluation::summarise(validation, &found, threshold);
    print!("{}", evaluation::report::table(&accuracy));
    println!(
        "Threshold {threshold:.2} has the best F1. {:.0} pictures a second here, in {}.",
        validation.pictures.len() as f64 / took,
        choice.precision
    );
    Ok(())
}

/// The accuracy at the threshold with the best F1, and that threshold.
fn threshold(best: &Best, validation: &Set) -> anyhow::Result<(Accuracy, f64)> {
    let detector = Detector::of(best.network.shallow_clone(), validation.classes.len())?;
    let found = evaluation::find(&detector, validation, None)?;
    let f1 = |accuracy: &Accuracy| {
        let at = &accuracy.at_threshold;
        let (precision, recall) = (at.precision.unwrap_or(0.0), at.recall.unwrap_or(0.0));
        2.0 * precision * recall / (precision + recall).max(1e-9)
    };
    let all = (2..=19).map(|twentieth| f64::from(twentieth) / 20.0);
    let all = all.map(|at| (evaluation::summarise(validation, &found, at), at));
    all.max_by(|(a, _), (b, _)| f1(a).total_cmp(&f1(b)))
        .context("there are thresholds")
}
