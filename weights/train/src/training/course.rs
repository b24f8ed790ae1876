//! The whole of a training run.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use ssd_server::detector::network::Network;
use ssd_server::files;
use ssd_server::weights::{Dtype, NewTensor, write_safetensors};
use tch::{Kind, Tensor};

use super::batches::Batches;
use super::checkpoint::{self, Checkpoint, Settings};
use super::doubt::Doubts;
use super::norms::{self, Norms};
use super::optimiser::AdamW;
use super::replica::{Replica, halve};
use super::{classes, initial};
use crate::evaluation::{self, Accuracy, Detector};
use crate::scenes::CLASSES;

/// Gradients longer than this are shortened to it.
const MOST_NORM: f64 = 10.0;
/// The share of the steps in which the learning rate rises.
const WARM_UP: f64 = 0.05;
/// The last learning rate over the highest.
const FLOOR: f64 = 0.01;
/// Validation scenes are of this seed; tests and the published figures use others.
pub const VALIDATION_SEED: u64 = 1_000_003;

/// Where a run writes, and how often.
#[derive(Debug, Clone)]
pub struct Files {
    /// The checkpoint, from which the run goes on if it is there.
    pub checkpoint: PathBuf,
    /// The log, one line of CSV for every fiftieth step.
    pub log: PathBuf,
    /// Steps between two checkpoints; 0 for one at the end only.
    pub checkpoint_every: usize,
    /// Steps between two measurements on validation scenes; 0 for none.
    pub validate_every: usize,
    /// Validation scenes.
    pub validation_scenes: usize,
    /// Where to stop before the last step, to go on later.
    pub until: Option<usize>,
}

/// A run in memory.
#[derive(Debug)]
pub struct Run {
    settings: Settings,
    replicas: Vec<Replica>,
    /// The replicas' own, which rest between two steps.
    norms: Vec<Norms>,
    optimiser: AdamW,
    batches: Batches,
    step: usize,
}

/// The losses of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// Of the offsets.
    pub localisation: f64,
    /// Of the classes.
    pub classification: f64,
    /// The gradient's norm.
    pub norm: f64,
}

/// The learning rate of a step: a straight rise, then half a cosine (Loshchilov and Hutter 2017).
#[must_use]
pub fn learning_rate(settings: &Settings, step: usize) -> f64 {
    let done = step as f64 / settings.steps as f64;
    let share = if done < WARM_UP {
        (done / WARM_UP).max(0.01)
    } else {
        let fall = (done - WARM_UP) / (1.0 - WARM_UP);
        FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + (std::f64::consts::PI * fall.min(1.0)).cos())
    };
    settings.learning_rate * share
}

impl Run {
    /// A run at its first step.
    ///
    /// # Errors
    /// Where the network cannot be made.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        Self::at(settings, None)
    }

    /// A run as a checkpoint left it.
    ///
    /// # Errors
    /// Where the checkpoint does not fit the settings.
    pub fn resume(settings: Settings, from: &Checkpoint) -> anyhow::Result<Self> {
        from.check(&settings)?;
        Self::at(settings, Some(from))
    }

    fn at(settings: Settings, from: Option<&Checkpoint>) -> anyhow::Result<Self> {
        let (batch, replicas) = (settings.diet.batch, settings.replicas);
        // On the last map a picture has one place, and of one number there is no variance.
        ensure!(
            replicas > 0 && batch.is_multiple_of(replicas) && batch / replicas >= 2,
            "{batch} pictures a step cannot be shared out among {replicas} replicas: each needs the same \
             number, and two at least"
        );
        let state = initial::state(settings.diet.seed, classes(), settings.channels)?;
        let mut replicas = Vec::new();
        let mut parameters = Vec::new();
        let mut norms = Vec::new();
        for _ in 0..settings.replicas {
            let network = Network::new(&state)?;
            if settings.bfloat16 {
                halve(&network);
            }
            let own = Norms::new(&network);
            let mut all = network.parameters();
            all.extend(own.parameters());
            parameters.push(all);
            norms.push(own.shared());
            replicas.push(Replica::start(network, own, settings.bfloat16)?);
        }
        let mut optimiser = AdamW::new(parameters, MOST_NORM);
        let step = from.map_or(0, |from| from.step);
        if let Some(from) = from {
            optimiser.restore(&from.state, step as i32)?;
            for (replica, norms) in norms.iter().enumerate() {
                norms.restore(&from.state, replica)?;
            }
        }
        Ok(Self {
            settings,
            replicas,
            norms,
            optimiser,
            batches: Batches::from(settings.diet, step)?,
            step,
        })
    }

    /// Steps made.
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// A copy of the network as it is, in single precision.
    ///
    /// # Errors
    /// Where libtorch fails.
    pub fn snapshot(&self) -> anyhow::Result<Network> {
        let state = initial::state(self.settings.diet.seed, classes(), self.settings.channels)?;
        let network = Network::new(&state)?;
        let values = norms::fold(&self.state())?;
        for (name, tensor) in network.parameters() {
            let value = values.get(&name).context("the same names")?;
            tensor.shallow_clone().f_copy_(value)?;
        }
        Ok(network)
    }

    /// Makes a step.
    ///
    /// # Errors
    /// Where a scene cannot be drawn or libtorch fails.
    pub fn advance(&mut self) -> anyhow::Result<Losses> {
        let parts = self.batches.take()?.split(self.replicas.len())?;
        for (replica, part) in self.replicas.iter().zip(parts) {
            replica.learn(part)?;
        }
        let (mut localisation, mut classification) = (0.0, 0.0);
        for replica in &self.replicas {
            let (boxes, classes) = replica.losses()?;
            localisation += boxes / self.replicas.len() as f64;
            classification += classes / self.replicas.len() as f64;
        }
        let rate = learning_rate(&self.settings, self.step);
        let norm = self.optimiser.step(rate)?;
        self.step += 1;
        Ok(Losses {
            localisation,
            classification,
            norm,
        })
    }

    /// All that is needed to go on from here.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let copied = self.state().into_iter();
        Checkpoint {
            settings: self.settings,
            step: self.step,
            state: copied
                .map(|(name, tensor)| (name, tensor.detach().copy()))
                .collect(),
        }
    }

    /// Parameters, moments and running statistics by name.
    fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = self.optimiser.state();
        for (replica, norms) in self.norms.iter().enumerate() {
            state.extend(norms.state(replica));
        }
        state
    }
}

/// Trains from the first step, or from the checkpoint where there is one, to the last.
///
/// # Errors
/// Where a file cannot be written or libtorch fails.
pub fn train(settings: Settings, files: &Files) -> anyhow::Result<()> {
    let mut run = if files.checkpoint.exists() {
        Run::resume(settings, &Checkpoint::read(&files.checkpoint)?)?
    } else {
        // Rather told now than when the first steps are lost.
        let folder = ssd_server::files::folder(&files.checkpoint);
        std::fs::create_dir_all(folder)
            .and_then(|()| tempfile::tempfile_in(folder))
            .with_context(|| format!("write a checkpoint in {}", folder.display()))?;
        Run::new(settings)?
    };
    let mut log = Log::open(&files.log, run.step())?;
    let bar = bar(settings.steps, run.step());
    let mut recent = Recent::default();
    let last = files.until.unwrap_or(settings.steps).min(settings.steps);
    while run.step() < last {
        let rate = learning_rate(&settings, run.step());
        let losses = run.advance()?;
        let step = run.step();
        ensure!(
            (losses.localisation + losses.classification).is_finite(),
            "the loss of step {step} is not finite: the learning rate may be too high. The checkpoint is of \
             before"
        );
        recent.add(losses);
        bar.set_position(step as u64);
        let due = |every: usize| every > 0 && step.is_multiple_of(every) || step == last;
        let validates = files.validate_every > 0
            && (step.is_multiple_of(files.validate_every) || step == settings.steps);
        if due(LOG_EVERY) || validates {
            let losses = recent.take();
            let total = losses.localisation + losses.classification;
            let accuracy = validates
                .then(|| validate(&run, files.validation_scenes))
                .transpose()?;
            bar.set_message(format!("loss {total:.3}"));
            log.line(step, rate, &losses, accuracy)?;
        }
        if due(files.checkpoint_every) {
            run.checkpoint().write(&files.checkpoint)?;
        }
    }
    bar.finish();
    Ok(())
}

/// Steps between two lines of the log.
const LOG_EVERY: usize = 50;

fn bar(steps: usize, done: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64).with_position(done as u64);
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:30} step {pos}/{len}  {msg}  {elapsed_precise}, {eta_precise} left",
    ) {
        bar.set_style(style);
    }
    bar
}

/// mAP (VOC 2010) on validation scenes.
fn validate(run: &Run, scenes: usize) -> anyhow::Result<f64> {
    let detector = Detector::of(run.snapshot()?, CLASSES.len())?;
    let set = evaluation::drawn(VALIDATION_SEED, scenes, false)?;
    let found = evaluation::find(&detector, &set, None)?;
    let accuracy = evaluation::summarise(&set, &found, evaluation::THRESHOLD);
    Ok(accuracy.voc10.unwrap_or(0.0))
}

/// The mean losses since the last line of the log.
#[derive(Default)]
struct Recent(Vec<Losses>);

impl Recent {
    fn add(&mut self, losses: Losses) {
        self.0.push(losses);
    }

    fn take(&mut self) -> Losses {
        let mean = |part: fn(&Losses) -> f64| {
            self.0.iter().map(part).sum::<f64>() / self.0.len().max(1) as f64
        };
        let losses = Losses {
            localisation: mean(|l| l.localisation),
            classification: mean(|l| l.classification),
            norm: mean(|l| l.norm),
        };
        self.0.clear();
        losses
    }
}

struct Log {
    file: File,
    started: Instant,
}

impl Log {
    /// Opens the log; of an earlier part of the run, the lines up to `step` are kept.
    fn open(path: &Path, step: usize) -> anyhow::Result<Self> {
        const HEADER: &str =
            "step,learning_rate,localisation,classification,gradient,map,seconds\n";
        let context = || format!("write {}", path.display());
        let earlier = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        ensure!(
            earlier.is_empty() || earlier.starts_with(HEADER),
            "{} is no log of a training run: choose another file for it",
            path.display()
        );
        let mut kept = HEADER.to_owned();
        for line in earlier.lines().skip(1) {
            let at: Option<usize> = line.split(',').next().and_then(|field| field.parse().ok());
            if at.is_some_and(|at| at <= step) {
                kept += line;
                kept += "\n";
            }
        }
        // At once, so that what is there is not lost on a full disk.
        files::replace(path, |file| file.write_all(kept.as_bytes())).with_context(context)?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .with_context(context)?;
        Ok(Self {
            file,
            started: Instant::now(),
        })
    }

    fn line(
        &mut self,
        step: usize,
        rate: f64,
        losses: &Losses,
        accuracy: Option<f64>,
    ) -> anyhow::Result<()> {
        let accuracy = accuracy.map_or(String::new(), |map| format!("{map:.4}"));
        let seconds = self.started.elapsed().as_secs();
        let Losses {
            localisation,
            classification,
            norm,
        } = losses;
        writeln!(
            self.file,
            "{step},{rate:.6},{localisation:.4},{classification:.4},{norm:.3},{accuracy},{seconds}"
        )
        .context("write the log")
    }
}

/// What a model file says of its accuracy: on scenes, and on scenes without objects.
#[must_use]
pub fn sentence(scenes: &Accuracy, empty: &Accuracy, seed: u64) -> String {
    let at = &scenes.at_threshold;
    format!(
        "mAP@0.5 {:.3} (VOC 2010) on {} drawn scenes of seed {seed}; at {} precision {:.3}, recall \
         {:.3}; {:.1}% of {} scenes without objects raise something",
        scenes.voc10.unwrap_or(0.0),
        scenes.pictures,
        scenes.threshold,
        at.precision.unwrap_or(0.0),
        at.recall.unwrap_or(0.0),
        100.0 * empty.at_threshold.raised,
        empty.pictures
    )
}

/// Writes a checkpoint's parameters as a model that the server loads: half precision, the doubts taken
/// off the logits of the classes, with what people and programs need to know in its metadata.
///
/// # Errors
/// Where the file cannot be written.
pub fn export(
    from: &Checkpoint,
    doubts: &Doubts,
    accuracy: &str,
    path: &Path,
) -> anyhow::Result<()> {
    let settings = &from.settings;
    let list = |doubts: &[f64]| {
        let doubts: Vec<String> = doubts.iter().map(|doubt| format!("{doubt:.2}")).collect();
        doubts.join(", ")
    };
    let trained = format!(
        "{} steps of {} pictures from {} drawn scenes (seed {}, one in {} without objects) by ssd-train, on \
         a CPU; {} taken off the logits of the classes, and {} more at the boxes of the feature maps",
        from.step,
        settings.diet.batch,
        settings.diet.pool,
        settings.diet.seed,
        settings.diet.empty,
        list(&doubts.classes),
        list(&doubts.maps)
    );
    let names: Vec<&str> = CLASSES.iter().map(|class| class.name).collect();
    let metadata = BTreeMap::from([
        ("family".to_owned(), "ssd300-voc".to_owned()),
        ("classes".to_owned(), serde_json::to_string(&names)?),
        ("trained".to_owned(), trained),
        ("accuracy".to_owned(), accuracy.to_owned()),
        ("licence".to_owned(), "Apache-2.0".to_owned()),
    ]);
    let folded = norms::fold(&from.state)?;
    for (map, doubt) in doubts.maps.iter().enumerate() {
        // The background is the first of each box's classes.
        let off: Vec<f64> = std::iter::once(0.0)
            .chain(doubts.classes.iter().map(|of_class| of_class + doubt))
            .collect();
        let off = Tensor::f_from_slice(&off)?.f_to_kind(Kind::Float)?;
        let name = format!("conf.{map}.bias");
        let bias = folded
            .get(&name)
            .with_context(|| format!("the checkpoint has no tensor {name}"))?;
        let _ = bias.f_view([-1, classes() as i64])?.f_sub_(&off)?;
    }
    let tensors = folded
        .iter()
        .map(|(name, tensor)| {
            Ok(NewTensor {
                name: name.into(),
                dtype: Dtype::F16,
                shape: checkpoint::shape(tensor).into(),
                bytes: initial::halves(&checkpoint::numbers(tensor)?).into(),
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(write_safetensors(path, tensors, &metadata)?)
}
