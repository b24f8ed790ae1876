//! The commands and their arguments.

mod fit;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use clap::{ArgGroup, Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ssd_server::detector::precision::{Place, Precision, Wanted};
use ssd_server::files;
use ssd_train::evaluation::{self, Accuracy, Detector, Set, coco_file, report, voc_folder};
use ssd_train::scenes::{self, CLASSES, Style};
use ssd_train::training::batches::Diet;
use ssd_train::training::checkpoint::{Checkpoint, Settings};
use ssd_train::training::course::{self, Files};
use ssd_train::training::doubt::{self, Doubts};

/// Draw scenes, train the demo model on them, and measure the accuracy of SSD300 weights.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Fit(fit::Fit),
    /// Draw scenes into a folder in PASCAL VOC's layout
    Scenes(Scenes),
    /// Train the demo model on drawn scenes, or go on from the checkpoint
    Train(Train),
    /// Write a checkpoint's weights as a model that the server loads, with its measured accuracy
    Export(Export),
    /// Measure the accuracy of weights of any supported family
    Evaluate(Evaluate),
    /// Draw the log of a training run as SVG
    Plot(Plot),
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Fit(command) => command.run(),
            Command::Scenes(command) => command.run(),
            Command::Train(command) => command.run(),
            Command::Export(command) => command.run(),
            Command::Evaluate(command) => command.run(),
            Command::Plot(command) => command.run(),
        }
    }
}

fn bar(length: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_message(what.to_owned());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}  {eta_precise} left")
    {
        bar.set_style(style);
    }
    bar
}

/// A size in pixels, as in 640x480.
fn size(text: &str) -> Result<(u32, u32), String> {
    const SIDES: std::ops::RangeInclusive<u32> = 64..=4096;
    let sides = text
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match sides {
        Some((w, h)) if SIDES.contains(&w) && SIDES.contains(&h) => Ok((w, h)),
        _ => Err("a size is WIDTHxHEIGHT, each from 64 to 4096".to_owned()),
    }
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

/// A probability, as a threshold is one.
fn probability(text: &str) -> Result<f64, String> {
    within(text, 0.0..=1.0)
}

fn learning_rate(text: &str) -> Result<f64, String> {
    within(text, 0.000_001..=1.0)
}

/// One at least, and no more than memory might hold of anything.
fn some(text: &str) -> Result<usize, String> {
    within(text, 1..=10_000_000)
}

/// Channels of the first layer, of which the other layers have up to sixteen times as many.
fn channels(text: &str) -> Result<usize, String> {
    within(text, 2..=256)
}

fn precision(text: &str) -> Result<Precision, String> {
    Precision::named(text).ok_or_else(|| "it accepts f32, bf16 and int8".to_owned())
}

fn place(text: &str) -> Result<Place, String> {
    Place::named(text).ok_or_else(|| "it accepts auto, cpu and cuda:N".to_owned())
}

#[derive(Args)]
struct Scenes {
    /// Where the data set is made
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Of everything that is left to chance: the same seed draws the same scenes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first scene's number
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// One size for all, such as 640x480; otherwise they differ
    #[arg(long, value_parser = size, value_name = "WIDTHxHEIGHT")]
    size: Option<(u32, u32)>,
    /// Only what belongs to no class
    #[arg(long)]
    distractors_only: bool,
    /// The name of the list in ImageSets/Main
    #[arg(long, default_value = "test")]
    set: String,
}

impl Scenes {
    fn run(self) -> anyhow::Result<()> {
        let style = Style {
            size: self.size,
            distractors_only: self.distractors_only,
        };
        let end = self
            .first
            .checked_add(self.count)
            .context("--first and --count make too large a number")?;
        voc_folder::create(&self.folder)?;
        let name = |index: u64| format!("{}_{index:06}", self.seed);
        let names: Vec<String> = (self.first..end).map(name).collect();
        voc_folder::write_set(&self.folder, &self.set, &names)?;
        let bar = bar(self.count as usize, "scenes");
        for (index, name) in (self.first..end).zip(&names) {
            let scene = scenes::draw(self.seed, index, &style)?;
            voc_folder::write_scene(&self.folder, name, &scene)?;
            bar.inc(1);
        }
        bar.finish();
        Ok(())
    }
}

#[derive(Args)]
struct Train {
    /// Written as the run goes; where it exists, the run goes on from it
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/demo-checkpoint.safetensors"
    )]
    checkpoint: PathBuf,
    /// The log, as CSV; by default beside the checkpoint. A run from its first step replaces it
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Of everything that is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Steps in all
    #[arg(long, default_value_t = 7000, value_parser = some)]
    steps: usize,
    /// Pictures in a step, at least two for each replica
    #[arg(long, default_value_t = 16, value_parser = some)]
    batch: usize,
    /// Different scenes; each is drawn once and varied afterwards
    #[arg(long, default_value_t = 15000, value_parser = some)]
    pool: usize,
    /// One scene in so many shows no object, only what a model must not raise
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    empty: u64,
    /// The highest learning rate
    #[arg(long, default_value_t = 0.003, value_parser = learning_rate)]
    learning_rate: f64,
    /// Channels of the first layer, an even number; the published network has 64, and the other
    /// layers follow in proportion
    #[arg(long, default_value_t = 14, value_parser = channels)]
    channels: usize,
    /// Compute in bfloat16: twice as fast on processors that have it, far slower on others
    #[arg(long)]
    bfloat16: bool,
    /// Threads that each learn from their part of every batch
    #[arg(long, default_value_t = 2, value_parser = some)]
    replicas: usize,
    /// Stop at this step, with a checkpoint to go on from later
    #[arg(long, value_name = "STEP")]
    until: Option<usize>,
    /// Steps between two checkpoints; 0 for one at the end only
    #[arg(long, default_value_t = 250)]
    checkpoint_every: usize,
    /// Steps between two measurements of mAP on validation scenes; 0 for none
    #[arg(long, default_value_t = 500)]
    validate_every: usize,
    /// Validation scenes
    #[arg(long, default_value_t = 100)]
    validation_scenes: usize,
}

impl Train {
    fn run(self) -> anyhow::Result<()> {
        let settings = Settings {
            diet: Diet {
                seed: self.seed,
                batch: self.batch,
                pool: self.pool,
                empty: self.empty,
            },
            steps: self.steps,
            learning_rate: self.learning_rate,
            channels: self.channels,
            bfloat16: self.bfloat16,
            replicas: self.replicas,
        };
        let files = Files {
            checkpoint: self.checkpoint.clone(),
            log: self
                .log
                .unwrap_or_else(|| self.checkpoint.with_extension("csv")),
            checkpoint_every: self.checkpoint_every,
            validate_every: self.validate_every,
            validation_scenes: self.validation_scenes,
            until: self.until,
        };
        course::train(settings, &files)
    }
}

#[derive(Args)]
struct Export {
    /// The checkpoint
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/demo-checkpoint.safetensors"
    )]
    checkpoint: PathBuf,
    /// The model
    #[arg(value_name = "FILE", default_value = "weights/demo.safetensors")]
    model: PathBuf,
    /// Seed of the scenes that the accuracy is measured on
    #[arg(long, default_value_t = 2)]
    seed: u64,
    /// How many scenes; a fifth as many without objects
    #[arg(long, default_value_t = 1000)]
    scenes: usize,
}

impl Export {
    fn run(self) -> anyhow::Result<()> {
        let checkpoint = Checkpoint::read(&self.checkpoint)?;
        // What is measured is the file itself, in half precision; it takes its place when all is known.
        let draft = draft(&self.model)?;
        let write =
            |doubts: &Doubts| course::export(&checkpoint, doubts, "not measured yet", &draft);
        let doubting = |doubts: &Doubts| {
            write(doubts)?;
            let classes: Vec<String> = CLASSES.iter().map(|class| class.name.to_owned()).collect();
            let (detector, _) = Detector::open(&draft, &classes, Wanted::REFERENCE)?;
            anyhow::Ok(detector)
        };
        let mut doubts = Doubts::none();
        let sure = doubting(&doubts)?;
        let full = doubt::scenes(course::VALIDATION_SEED)?;
        doubts.maps = doubt::of_maps(&sure, &full)?;
        let less_sure = doubting(&doubts)?;
        doubts.classes = doubt::of_classes(&less_sure, &full, course::VALIDATION_SEED)?;
        drop(full);
        write(&doubts)?;
        let scenes = measured(&draft, &evaluation::drawn(self.seed, self.scenes, false)?)?;
        let empty = measured(
            &draft,
            &evaluation::drawn(self.seed, self.scenes.div_ceil(5), true)?,
        )?;
        println!("{}", report::table(&scenes));
        let accuracy = course::sentence(&scenes, &empty, self.seed);
        println!("{accuracy}");
        course::export(&checkpoint, &doubts, &accuracy, &self.model)
    }
}

/// A file beside another, gone at the end.
fn draft(of: &Path) -> anyhow::Result<tempfile::TempPath> {
    let folder = files::folder(of);
    let draft = tempfile::Builder::new()
        .prefix(".draft-")
        .tempfile_in(folder);
    let draft = draft.with_context(|| format!("write a file in {}", folder.display()))?;
    Ok(draft.into_temp_path())
}

#[derive(Args)]
#[command(group = ArgGroup::new("pictures").required(true).args(["voc", "coco", "scenes", "folder"]))]
struct Evaluate {
    /// The weights: .safetensors or .pth
    #[arg(value_name = "FILE")]
    weights: PathBuf,
    /// A folder in PASCAL VOC's layout
    #[arg(long, value_name = "FOLDER")]
    voc: Option<PathBuf>,
    /// With --voc: the list in ImageSets/Main, such as test; without, every annotation counts
    #[arg(long, requires = "voc")]
    set: Option<String>,
    /// COCO's instances JSON
    #[arg(long, value_name = "FILE", requires = "images")]
    coco: Option<PathBuf>,
    /// With --coco: where the pictures are
    #[arg(long, value_name = "FOLDER", requires = "coco")]
    images: Option<PathBuf>,
    /// So many freshly drawn scenes
    #[arg(long, value_name = "COUNT", value_parser = some)]
    scenes: Option<usize>,
    /// With --scenes: their seed
    #[arg(long, default_value_t = 2, requires = "scenes")]
    seed: u64,
    /// With --scenes: only what belongs to no class
    #[arg(long, requires = "scenes")]
    distractors_only: bool,
    /// Pictures without any object of the weights' classes: how many raise something
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Look at the first so many pictures only
    #[arg(long, value_name = "COUNT", value_parser = some)]
    limit: Option<usize>,
    /// What precision and recall are told for, 0 to 1
    #[arg(long, default_value_t = evaluation::THRESHOLD, value_parser = probability)]
    threshold: f64,
    /// The arithmetic: f32, bf16 or int8; without, the one that the server would choose
    #[arg(long, value_parser = precision)]
    precision: Option<Precision>,
    /// Where: auto, cpu or cuda:N
    #[arg(long, value_parser = place, default_value = "auto")]
    device: Place,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the precision-recall curves as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

impl Evaluate {
    fn run(self) -> anyhow::Result<()> {
        // All that can fail at once does so before the pictures take their time.
        for path in self.json.iter().chain(&self.plot) {
            drop(draft(path)?);
        }
        let own = evaluation::classes_of(&self.weights)?;
        let mut set = self.set()?;
        if let Some(limit) = self.limit {
            set.limit(limit);
        }
        ensure!(!set.pictures.is_empty(), "there are no pictures to look at");
        if set.classes.is_empty() {
            set.classes.clone_from(&own);
        }
        let wanted = Wanted {
            precision: self.precision,
            place: self.device,
        };
        let (detector, choice) = Detector::open(&self.weights, &set.classes, wanted)?;
        eprintln!("precision {}: {}", choice.precision, choice.why);
        if let Some(warning) = choice.warning {
            eprintln!("{warning}");
        }
        let not_counted = detector.not_counted(&own);
        if !not_counted.is_empty() {
            eprintln!(
                "not counted, since no annotation is of them: {}",
                not_counted.join(", ")
            );
        }
        let accuracy = accuracy(&detector, &set, self.threshold)?;
        print!("{}", report::table(&accuracy));
        self.write(&accuracy)
    }

    fn set(&self) -> anyhow::Result<Set> {
        if let Some(folder) = &self.voc {
            return voc_folder::read(folder, self.set.as_deref());
        }
        if let (Some(file), Some(images)) = (&self.coco, &self.images) {
            return coco_file::read(file, images);
        }
        if let Some(folder) = &self.folder {
            return evaluation::unannotated(folder);
        }
        let scenes = self.scenes.unwrap_or(0);
        let scenes = self.limit.map_or(scenes, |limit| limit.min(scenes));
        evaluation::drawn(self.seed, scenes, self.distractors_only)
    }

    fn write(&self, accuracy: &Accuracy) -> anyhow::Result<()> {
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(accuracy)? + "\n";
            std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        }
        if let Some(path) = &self.plot {
            report::plot_curves(accuracy, path)?;
        }
        Ok(())
    }
}

/// The accuracy of a model file on a set.
fn measured(model: &Path, set: &Set) -> anyhow::Result<Accuracy> {
    let (detector, _) = Detector::open(model, &set.classes, Wanted::REFERENCE)?;
    accuracy(&detector, set, evaluation::THRESHOLD)
}

/// The accuracy on a set, with a bar for the time that it takes.
fn accuracy(detector: &Detector, set: &Set, threshold: f64) -> anyhow::Result<Accuracy> {
    let bar = bar(set.pictures.len(), "pictures");
    let found = evaluation::find(detector, set, Some(&bar))?;
    bar.finish_and_clear();
    Ok(evaluation::summarise(set, &found, threshold))
}

#[derive(Args)]
struct Plot {
    /// The log
    #[arg(value_name = "CSV", default_value = "weights/training.csv")]
    log: PathBuf,
    /// The picture
    #[arg(value_name = "SVG", default_value = "weights/training.svg")]
    svg: PathBuf,
}

impl Plot {
    fn run(self) -> anyhow::Result<()> {
        let log = std::fs::read_to_string(&self.log)
            .with_context(|| format!("read {}", self.log.display()))?;
        report::plot_training(&log, &self.svg)
    }
}
