//! A fine-tuning run: steps, validation after each epoch, and the best weights so far.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use ssd_detector::network::Network;
use ssd_detector::precision::RequestedDevice;
use state_dict::StateDict;
use tch::{Device, TchError, Tensor};

use super::Joined;
use super::batches::{Batch, Batches, Samples};
use super::checkpoint::{Checkpoint, Settings};
use super::loss::loss;
use super::optimiser::AdamW;
use crate::evaluation::report::{self, EpochLine};
use crate::evaluation::{self, Detector, Set};
use crate::measure::Found;

/// Gradients longer than this are shortened to it.
const MOST_NORM: f64 = 10.0;
/// The share of the steps in which the learning rate rises.
const WARM_UP: f64 = 0.15;
/// The first and the last learning rate over the highest.
const LEAST: f64 = 0.02;

/// How a network is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// How often every picture is seen.
    pub epochs: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How many of the first convolutions stay as they are.
    pub freeze: usize,
    /// Replicas of the network, each on a thread, which must divide a batch.
    pub replicas: usize,
    /// Epochs without a better accuracy after which the run ends.
    pub patience: usize,
}

/// A thread with a network, whose gradients lie in the network's parameters, for the optimiser.
///
/// libtorch's own threads share out every layer and wait at the end of each; replicas meet once a step.
#[derive(Debug)]
struct Replica {
    shares: SyncSender<(Batch, f64)>,
    losses: Receiver<Result<f64, TchError>>,
    // After the channels, whose end ends it.
    _thread: Joined,
}

impl Replica {
    fn start(network: Network, device: Device, threads: i32) -> anyhow::Result<Self> {
        let (shares, incoming) = sync_channel::<(Batch, f64)>(1);
        let (outgoing, losses) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || {
                tch::set_num_threads(threads);
                for (share, matched) in incoming {
                    let loss = add_gradients(&network, device, &share, matched);
                    if outgoing.send(loss).is_err() {
                        break;
                    }
                }
            })
            .context("start a thread for training")?;
        Ok(Self {
            shares,
            losses,
            _thread: Joined(Some(thread)),
        })
    }
}

/// Adds the gradients of a share of a batch to those of the network's parameters, picture by picture: that takes less
/// memory than all at one time, and no longer. Gives the share's loss.
fn add_gradients(
    network: &Network,
    device: Device,
    share: &Batch,
    matched: f64,
) -> Result<f64, TchError> {
    let scores = network.family().scores;
    let mut sum = 0.0;
    for picture in share.split(1)? {
        let picture = picture.on(device)?;
        let (offsets, logits) = network.outputs(&picture.pictures)?;
        let targets = (&picture.offsets, &picture.classes);
        let loss = loss(scores, (&offsets, &logits), targets, matched)?;
        loss.f_backward()?;
        sum += loss.f_double_value(&[])?;
    }
    Ok(sum)
}

/// What is told after each epoch.
#[derive(Debug, Clone)]
pub struct Epoch {
    /// Its number, loss and accuracy.
    pub line: EpochLine,
    /// Whether it is the best so far.
    pub best: bool,
    /// How long its steps took.
    pub took: Duration,
    /// How much of that was spent waiting for pictures to be decoded and augmented.
    pub waited: Duration,
}

/// The best weights of a run so far.
#[derive(Debug)]
pub struct Best {
    /// The network.
    pub network: Network,
    /// The epoch after which it was so.
    pub line: EpochLine,
    /// What it finds in the validation pictures.
    pub found: Vec<Found>,
}

/// A run, between two epochs.
#[derive(Debug)]
pub struct Run<'a> {
    start: &'a StateDict,
    samples: Samples,
    validation: &'a Set,
    schedule: Schedule,
    device: RequestedDevice,
    replicas: Vec<Replica>,
    /// Shares its parameters with the first replica.
    watched: Network,
    optimiser: AdamW,
    batches: Batches,
    history: Vec<EpochLine>,
    best: Option<Best>,
}

impl<'a> Run<'a> {
    /// A run from its first step, or from a checkpoint of it. `start` is the network to begin with.
    ///
    /// # Errors
    /// Where the network is none, the device is not there, a thread cannot be started, or the checkpoint is of
    /// another run.
    pub fn new(
        start: &'a StateDict,
        samples: Samples,
        validation: &'a Set,
        schedule: Schedule,
        requested: RequestedDevice,
        checkpoint: Option<&Checkpoint>,
    ) -> anyhow::Result<Self> {
        let device = requested.device().map_err(anyhow::Error::msg)?;
        let networks: Vec<Network> = (0..schedule.replicas)
            .map(|_| network_on(start, device))
            .collect::<Result<_, _>>()?;
        let frozen = first_parameters(&networks[0], schedule.freeze);
        let trained = |network: &Network| {
            let parameters = network.parameters().into_iter();
            let trained = parameters.filter(|(name, _)| !frozen.contains(name));
            trained.collect::<Vec<_>>()
        };
        let threads = (evaluation::cores() / schedule.replicas).max(1) as i32;
        let start_replica = |network| Replica::start(network, device, threads);
        let history = checkpoint.map_or(Vec::new(), |from| from.history.clone());
        let steps = history.len() * samples.steps_per_epoch();
        let mut run = Self {
            start,
            validation,
            schedule,
            device: requested,
            optimiser: AdamW::new(networks.iter().map(trained).collect(), MOST_NORM),
            watched: networks[0].shallow_clone(),
            replicas: networks
                .into_iter()
                .map(start_replica)
                .collect::<Result<_, _>>()?,
            batches: Batches::from(samples.clone(), steps)?,
            samples,
            history,
            best: None,
        };
        if let Some(checkpoint) = checkpoint {
            checkpoint.check(&run.settings())?;
            run.optimiser.restore(&checkpoint.state, steps as i32)?;
            let network = network_with(start, &checkpoint.best)?;
            let line = report::best(&run.history).context("the checkpoint has no epoch")?;
            run.best = Some(Best {
                found: run.found_by(&network)?,
                network,
                line: line.clone(),
            });
        }
        Ok(run)
    }

    /// The epochs that are over.
    #[must_use]
    pub fn history(&self) -> &[EpochLine] {
        &self.history
    }

    /// The best weights so far; `None` before the first epoch is over.
    #[must_use]
    pub fn into_best(self) -> Option<Best> {
        self.best
    }

    /// Whether every epoch is over, or the accuracy has not improved for too many.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let best = self.best.as_ref().map_or(0, |best| best.line.epoch);
        let epochs = self.history.len();
        epochs >= self.schedule.epochs || epochs - best >= self.schedule.patience
    }

    /// Trains for an epoch, and measures. `told` hears of every step and its loss. `None` where `stop` was set
    /// meanwhile: the steps since the last epoch are lost then.
    ///
    /// # Errors
    /// Where a picture cannot be read, libtorch fails, or the loss is not finite.
    pub fn advance(
        &mut self,
        stop: &AtomicBool,
        mut told: impl FnMut(usize, f64),
    ) -> anyhow::Result<Option<Epoch>> {
        // The optimiser's operators are too small to be shared out.
        tch::set_num_threads(1);
        let per_epoch = self.samples.steps_per_epoch();
        let (mut sum, mut waited, begun) = (0.0, Duration::ZERO, Instant::now());
        let done = self.history.len();
        for step in done * per_epoch..(done + 1) * per_epoch {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let asked = Instant::now();
            let batch = self.batches.take()?;
            waited += asked.elapsed();
            let loss = self.gradients(&batch)?;
            ensure!(
                loss.is_finite(),
                "the loss of step {step} is not finite: choose a lower --learning-rate"
            );
            let steps = per_epoch * self.schedule.epochs;
            self.optimiser
                .step(learning_rate(&self.schedule, step, steps))?;
            sum += loss;
            told(step, loss);
        }
        let took = begun.elapsed();
        let network = network_with(self.start, &self.watched.parameters().into_iter().collect())?;
        let found = self.found_by(&network)?;
        let [map, map_strict] = evaluation::mean_average_precisions(self.validation, &found);
        let line = EpochLine {
            epoch: done + 1,
            loss: sum / per_epoch as f64,
            map,
            map_strict,
        };
        let before = report::best(&self.history);
        let best = before.is_none_or(|before| before.quality() < line.quality());
        if best {
            self.best = Some(Best {
                network,
                line: line.clone(),
                found,
            });
        }
        self.history.push(line.clone());
        Ok(Some(Epoch {
            line,
            best,
            took,
            waited,
        }))
    }

    /// Has the replicas compute the gradients of a batch. Gives its loss.
    fn gradients(&self, batch: &Batch) -> anyhow::Result<f64> {
        let matched = batch.matched()?;
        let share = batch.classes.size()[0] as usize / self.replicas.len();
        for (replica, share) in self.replicas.iter().zip(batch.split(share)?) {
            let sent = replica.shares.send((share, matched)).ok();
            sent.context("a thread for training has ended")?;
        }
        let mut sum = 0.0;
        for replica in &self.replicas {
            let loss = replica.losses.recv();
            sum += loss.context("a thread for training has ended")??;
        }
        Ok(sum)
    }

    /// What a network finds in the validation pictures.
    fn found_by(&self, network: &Network) -> anyhow::Result<Vec<Found>> {
        let detector = Detector::of(network.shallow_clone(), self.device)?;
        evaluation::find(&detector, self.validation, None)
    }

    /// Everything that is needed to go on from here; `None` before the first epoch is over.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let best = self.best.as_ref()?;
        Some(Checkpoint {
            settings: self.settings(),
            history: self.history.clone(),
            state: self.optimiser.state(),
            best: best.network.parameters().into_iter().collect(),
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            schedule: self.schedule,
            batch: self.samples.batch,
            seed: self.samples.seed,
            pictures: self.samples.examples.len(),
            classes: self.validation.classes.clone(),
        }
    }
}

/// How many replicas a batch of so many pictures is shared out to: one for each core, as far as that divides the batch;
/// a single one on a GPU.
///
/// # Errors
/// Where the device is not there.
pub fn replicas(batch: usize, requested: RequestedDevice) -> anyhow::Result<usize> {
    if requested.device().map_err(anyhow::Error::msg)? != Device::Cpu {
        return Ok(1);
    }
    let cores = evaluation::cores();
    let fitting = (1..=batch).filter(|count| batch.is_multiple_of(*count) && *count <= cores);
    Ok(fitting.max().unwrap_or(1))
}

/// The network that `start` describes, on a device.
fn network_on(start: &StateDict, device: Device) -> anyhow::Result<Network> {
    let network = Network::new(start)?;
    for (_, mut parameter) in network.parameters() {
        parameter.set_data(&parameter.f_to_device(device)?);
    }
    Ok(network)
}

/// The network that `start` describes, on the processor, with copies of these parameters, by name.
fn network_with(
    start: &StateDict,
    parameters: &BTreeMap<String, Tensor>,
) -> anyhow::Result<Network> {
    let network = Network::new(start)?;
    tch::no_grad(|| {
        for (name, mut own) in network.parameters() {
            let given = parameters
                .get(&name)
                .filter(|given| given.size() == own.size());
            own.f_copy_(given.with_context(|| format!("{name} is missing"))?)?;
        }
        Ok(network)
    })
}

/// The names of the parameters of the first so many layers.
fn first_parameters(network: &Network, layers: usize) -> Vec<String> {
    let names = network.parameters().into_iter().map(|(name, _)| name);
    names.take(2 * layers).collect()
}

/// The learning rate of a step: it rises, then falls along a half cosine.
fn learning_rate(schedule: &Schedule, step: usize, steps: usize) -> f64 {
    let done = step as f64 / steps as f64;
    let share = if done < WARM_UP {
        done / WARM_UP
    } else {
        let fall = (done - WARM_UP) / (1.0 - WARM_UP);
        0.5 * (1.0 + (std::f64::consts::PI * fall).cos())
    };
    schedule.learning_rate * (LEAST + (1.0 - LEAST) * share)
}
