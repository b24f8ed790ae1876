//! The whole of a fine-tuning run: steps, validation after each epoch, and the best weights so far.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use ssd_server::detector::family::Scores;
use ssd_server::detector::network::Network;
use ssd_server::weights::StateDict;
use tch::TchError;

use super::batches::{Batches, Diet};
use super::checkpoint::{Checkpoint, Settings};
use super::loss::loss;
use crate::evaluation::{self, Accuracy, Detector, Set};
use crate::training::batches::Batch;
use crate::training::optimiser::AdamW;

/// Gradients longer than this are shortened to it.
const MOST_NORM: f64 = 10.0;
/// The share of the steps in which the learning rate rises.
const WARM_UP: f64 = 0.15;
/// The first and the last learning rate over the highest.
const LEAST: f64 = 0.02;

/// How a network is taught.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// How often every picture is seen.
    pub epochs: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How many of the first convolutions stay as they are.
    pub freeze: usize,
    /// Threads that learn, each from its share of every batch, which they must divide.
    pub replicas: usize,
    /// Epochs without a better accuracy after which the run ends.
    pub patience: usize,
}

/// What is told after each epoch.
#[derive(Debug, Clone)]
pub struct Epoch {
    /// Counted from 1.
    pub number: usize,
    /// The mean over its steps.
    pub loss: f64,
    /// On the pictures that were held out.
    pub accuracy: Accuracy,
    /// Whether it is the best so far.
    pub best: bool,
}

/// A thread with a network, whose gradients lie in the network's parameters, for the optimiser.
///
/// libtorch's own threads share out every layer and wait at the end of each; replicas meet once a step.
#[derive(Debug)]
struct Replica {
    parts: SyncSender<Batch>,
    losses: Receiver<Result<f64, TchError>>,
}

impl Replica {
    fn start(network: Network) -> anyhow::Result<Self> {
        let (parts, incoming) = sync_channel::<Batch>(1);
        let (outgoing, losses) = sync_channel(1);
        let scores = network.family().scores;
        std::thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || {
                tch::set_num_threads(1);
                for part in incoming {
                    if outgoing.send(learn(&network, scores, &part)).is_err() {
                        break;
                    }
                }
            })
            .context("start a thread that learns")?;
        Ok(Self { parts, losses })
    }
}

/// Adds to the gradients of the network's parameters.
fn learn(network: &Network, scores: Scores, part: &Batch) -> Result<f64, TchError> {
    let (offsets, logits) = network.outputs(&part.pictures)?;
    let loss = loss(scores, (&offsets, &logits), (&part.offsets, &part.classes))?;
    loss.f_backward()?;
    loss.f_double_value(&[])
}

/// A run, between two epochs.
#[derive(Debug)]
pub struct Run<'a> {
    start: &'a StateDict,
    diet: Diet,
    validation: &'a Set,
    course: Course,
    replicas: Vec<Replica>,
    /// Shares its parameters with the first replica.
    watched: Network,
    optimiser: AdamW,
    batches: Batches,
    epoch: usize,
    best: Option<Best>,
}

/// The best weights of a run so far.
#[derive(Debug)]
pub struct Best {
    /// The network, in single precision.
    pub network: Network,
    /// Of which epoch.
    pub epoch: usize,
    /// On the pictures that were held out.
    pub accuracy: Accuracy,
}

impl<'a> Run<'a> {
    /// A run that teaches the network of `start`, whose heads have the classes of `validation`; where
    /// `checkpoint` left it, if there is one.
    ///
    /// # Errors
    /// Where the weights cannot be used, or the checkpoint is of another run.
    pub fn new(
        start: &'a StateDict,
        diet: Diet,
        validation: &'a Set,
        course: Course,
        checkpoint: Option<&Checkpoint>,
    ) -> anyhow::Result<Self> {
        let networks: Vec<Network> = (0..course.replicas)
            .map(|_| Network::new(start))
            .collect::<Result<_, _>>()?;
        let frozen = frozen(&networks[0], course.freeze);
        let learnt = |network: &Network| {
            let parameters = network.parameters().into_iter();
            let learnt = parameters.filter(|(name, _)| !frozen.contains(name));
            learnt.collect::<Vec<_>>()
        };
        let watched = networks[0].shallow_clone();
        let mut run = Self {
            start,
            validation,
            course,
            optimiser: AdamW::new(networks.iter().map(learnt).collect(), MOST_NORM),
            watched,
            replicas: networks
                .into_iter()
                .map(Replica::start)
                .collect::<Result<_, _>>()?,
            epoch: checkpoint.map_or(0, |checkpoint| checkpoint.epoch),
            batches: Batches::from(
                diet.clone(),
                checkpoint.map_or(0, |from| from.epoch * diet.steps_per_epoch()),
            )?,
            diet,
            best: None,
        };
        if let Some(checkpoint) = checkpoint {
            checkpoint.check(&run.settings())?;
            let steps = run.epoch * run.diet.steps_per_epoch();
            run.optimiser.restore(&checkpoint.state, steps as i32)?;
            let network = Network::new(start)?;
            checkpoint.put_best(&network)?;
            run.best = Some(Best {
                accuracy: run.measured(&network)?,
                network,
                epoch: checkpoint.best_epoch,
            });
        }
        Ok(run)
    }

    /// Epochs that are over.
    #[must_use]
    pub fn epochs(&self) -> usize {
        self.epoch
    }

    /// The best weights so far; `None` before the first epoch is over.
    #[must_use]
    pub fn best(self) -> Option<Best> {
        self.best
    }

    /// Whether every epoch is over, or nothing has got better for too many.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let best = self.best.as_ref().map_or(0, |best| best.epoch);
        self.epoch >= self.course.epochs || self.epoch - best >= self.course.patience
    }

    /// Learns for an epoch, and measures. `told` hears of every step and its loss. `None` where `stop`
    /// was set meanwhile: what was learnt since the last epoch is lost then.
    ///
    /// # Errors
    /// Where a picture cannot be read, libtorch fails, or the loss is not finite.
    pub fn advance(
        &mut self,
        stop: &AtomicBool,
        mut told: impl FnMut(usize, f64),
    ) -> anyhow::Result<Option<Epoch>> {
        let per_epoch = self.diet.steps_per_epoch();
        let mut sum = 0.0;
        for step in self.epoch * per_epoch..(self.epoch + 1) * per_epoch {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let loss = advance(&self.replicas, &self.batches.take()?)?;
            ensure!(
                loss.is_finite(),
                "the loss of step {step} is not finite: choose a lower --learning-rate"
            );
            let steps = per_epoch * self.course.epochs;
            self.optimiser.step(rate(&self.course, step, steps))?;
            sum += loss;
            told(step, loss);
        }
        self.epoch += 1;
        let accuracy = self.measured(&copied(self.start, &self.watched)?)?;
        let area = |accuracy: &Accuracy| accuracy.coco50.unwrap_or(0.0);
        let before = self.best.as_ref().map(|best| area(&best.accuracy));
        let best = before.is_none_or(|before| area(&accuracy) > before);
        if best {
            self.best = Some(Best {
                network: copied(self.start, &self.watched)?,
                epoch: self.epoch,
                accuracy: accuracy.clone(),
            });
        }
        Ok(Some(Epoch {
            number: self.epoch,
            loss: sum / per_epoch as f64,
            accuracy,
            best,
        }))
    }

    /// The accuracy of a network of this run's on the pictures that were held out.
    fn measured(&self, network: &Network) -> anyhow::Result<Accuracy> {
        let detector = Detector::of(network.shallow_clone(), self.validation.classes.len())?;
        let found = evaluation::find(&detector, self.validation, None)?;
        let threshold = evaluation::THRESHOLD;
        Ok(evaluation::summarise(self.validation, &found, threshold))
    }

    /// All that is needed to go on from here; `None` before the first epoch is over.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let best = self.best.as_ref()?;
        Some(Checkpoint {
            settings: self.settings(),
            epoch: self.epoch,
            best_epoch: best.epoch,
            state: self.optimiser.state(),
            best: best.network.parameters().into_iter().collect(),
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            course: self.course,
            batch: self.diet.batch,
            seed: self.diet.seed,
            pictures: self.diet.examples.len(),
            classes: self.validation.classes.clone(),
        }
    }
}

/// One step of all replicas: the mean of their losses.
fn advance(replicas: &[Replica], batch: &Batch) -> anyhow::Result<f64> {
    for (replica, part) in replicas.iter().zip(batch.split(replicas.len())?) {
        let sent = replica.parts.send(part).ok();
        sent.context("a thread that learns has ended")?;
    }
    let mut sum = 0.0;
    for replica in replicas {
        let loss = replica.losses.recv();
        sum += loss.context("a thread that learns has ended")??;
    }
    Ok(sum / replicas.len() as f64)
}

/// The names of the first layers' parameters.
fn frozen(network: &Network, layers: usize) -> Vec<String> {
    let names = network.parameters().into_iter().map(|(name, _)| name);
    names.take(2 * layers).collect()
}

/// The learning rate of a step: it rises, then falls along a half cosine.
fn rate(course: &Course, step: usize, steps: usize) -> f64 {
    let done = step as f64 / steps as f64;
    let share = if done < WARM_UP {
        done / WARM_UP
    } else {
        let fall = (done - WARM_UP) / (1.0 - WARM_UP);
        0.5 * (1.0 + (std::f64::consts::PI * fall).cos())
    };
    course.learning_rate * (LEAST + (1.0 - LEAST) * share)
}

/// A network like that of `start` with the parameters that another has now.
fn copied(start: &StateDict, network: &Network) -> anyhow::Result<Network> {
    let copy = Network::new(start)?;
    tch::no_grad(|| {
        for ((_, mut own), (_, now)) in copy.parameters().into_iter().zip(network.parameters()) {
            own.f_copy_(&now.f_detach()?)?;
        }
        Ok(copy)
    })
}
