//! Runs the training: steps, validation after each epoch, and the best weights so far.

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
use crate::evaluation::report::{self, EpochMetrics};
use crate::evaluation::{self, Detector, Set};
use crate::measure::Detection;

/// Gradients with a higher norm are scaled down to this norm.
const MAX_GRADIENT_NORM: f64 = 10.0;
/// The share of the steps in which the learning rate rises.
const WARM_UP: f64 = 0.15;
/// The first and the last learning rate, as a share of the highest.
const MIN_RATE: f64 = 0.02;

/// How a network is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The maximum number of epochs, at least 1.
    pub epochs: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The number of first layers whose parameters do not change.
    pub freeze: usize,
    /// The number of replicas of the network, each on a thread. It must divide the batch size.
    pub replicas: usize,
    /// The run ends after this many epochs in a row without a better accuracy.
    pub patience: usize,
}

/// A thread with a replica of the network. It leaves the gradients in the parameters, where the optimiser reads them.
///
/// libtorch's own threads divide every layer, and wait for each other after each layer. Replicas wait once per step.
#[derive(Debug)]
struct Replica {
    parts: SyncSender<(Batch, f64)>,
    losses: Receiver<Result<f64, TchError>>,
    // Dropped after the channels. The thread returns when they are closed.
    _thread: Joined,
}

impl Replica {
    fn start(network: Network, device: Device, threads: i32) -> anyhow::Result<Self> {
        let (parts, incoming) = sync_channel::<(Batch, f64)>(1);
        let (outgoing, losses) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || {
                tch::set_num_threads(threads);
                for (part, matched) in incoming {
                    let loss = add_gradients(&network, device, &part, matched);
                    if outgoing.send(loss).is_err() {
                        break;
                    }
                }
            })
            .context("cannot start a training thread")?;
        Ok(Self {
            parts,
            losses,
            _thread: Joined(Some(thread)),
        })
    }
}

/// Adds the gradients of a part of a batch to the gradients of the network's parameters, and returns the loss of the
/// part. Pictures are processed one by one, which takes less memory than all together, and no more time.
fn add_gradients(
    network: &Network,
    device: Device,
    part: &Batch,
    matched: f64,
) -> Result<f64, TchError> {
    let scores = network.family().scores;
    let mut sum = 0.0;
    for single in part.split(1)? {
        let on_device = single.on(device)?;
        let (offsets, logits) = network.outputs(&on_device.pictures)?;
        let targets = (&on_device.offsets, &on_device.classes);
        let loss = loss(scores, (&offsets, &logits), targets, matched)?;
        loss.f_backward()?;
        sum += loss.f_double_value(&[])?;
    }
    Ok(sum)
}

/// A completed epoch.
#[derive(Debug, Clone)]
pub struct Epoch {
    /// Its number, loss and accuracy.
    pub metrics: EpochMetrics,
    /// Whether it is the best so far.
    pub is_best: bool,
    /// The duration of its steps, validation not included.
    pub duration: Duration,
    /// The part of `duration` in which the training waited for batches.
    pub waiting: Duration,
}

/// The best weights of a run so far.
#[derive(Debug)]
pub struct Best {
    /// The network with these weights.
    pub network: Network,
    /// The epoch after which the network had these weights.
    pub metrics: EpochMetrics,
    /// Its detections in the validation pictures.
    pub detections: Vec<Detection>,
}

/// A run between two epochs.
#[derive(Debug)]
pub struct Run<'a> {
    start: &'a StateDict,
    samples: Samples,
    validation: &'a Set,
    schedule: Schedule,
    device: RequestedDevice,
    replicas: Vec<Replica>,
    /// Shares its parameters with the first replica.
    network: Network,
    optimiser: AdamW,
    batches: Batches,
    history: Vec<EpochMetrics>,
    best: Option<Best>,
}

impl<'a> Run<'a> {
    /// Starts a run at its first step, or after the last epoch of `checkpoint`. `start` has the initial weights.
    ///
    /// # Errors
    /// If `start` is not a known network, the device does not exist, a thread cannot be started, or the checkpoint
    /// belongs to another run.
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
            parameters
                .filter(|(name, _)| !frozen.contains(name))
                .collect::<Vec<_>>()
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
            optimiser: AdamW::new(networks.iter().map(trained).collect(), MAX_GRADIENT_NORM),
            network: networks[0].shallow_clone(),
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
            let metrics = report::best(&run.history).context("the checkpoint has no epoch")?;
            run.best = Some(Best {
                detections: run.validate(&network)?,
                network,
                metrics: metrics.clone(),
            });
        }
        Ok(run)
    }

    /// The completed epochs.
    #[must_use]
    pub fn history(&self) -> &[EpochMetrics] {
        &self.history
    }

    /// The best weights so far; `None` before the end of the first epoch.
    #[must_use]
    pub fn into_best(self) -> Option<Best> {
        self.best
    }

    /// Whether all epochs are completed, or the accuracy has not improved for too many epochs.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let best = self.best.as_ref().map_or(0, |best| best.metrics.epoch);
        let epochs = self.history.len();
        epochs >= self.schedule.epochs || epochs - best >= self.schedule.patience
    }

    /// Trains for an epoch, and computes the accuracy on the validation pictures. Calls `on_step` with the number and
    /// the loss of each step. Returns `None` if `stop` is set meanwhile; the steps of this epoch are lost.
    ///
    /// # Errors
    /// If a picture cannot be decoded, libtorch fails, or the loss is not finite.
    pub fn advance(
        &mut self,
        stop: &AtomicBool,
        mut on_step: impl FnMut(usize, f64),
    ) -> anyhow::Result<Option<Epoch>> {
        // The optimiser's operators are too small for several threads.
        tch::set_num_threads(1);
        let per_epoch = self.samples.steps_per_epoch();
        let (mut sum, mut waiting, epoch_start) = (0.0, Duration::ZERO, Instant::now());
        let done = self.history.len();
        for step in done * per_epoch..(done + 1) * per_epoch {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let wait_start = Instant::now();
            let batch = self.batches.take()?;
            waiting += wait_start.elapsed();
            let loss = self.step(step, &batch)?;
            sum += loss;
            on_step(step, loss);
        }
        let duration = epoch_start.elapsed();
        let network = network_with(self.start, &self.network.parameters().into_iter().collect())?;
        let detections = self.validate(&network)?;
        let [map, map_strict] = evaluation::mean_average_precisions(self.validation, &detections);
        let metrics = EpochMetrics {
            epoch: done + 1,
            loss: sum / per_epoch as f64,
            map,
            map_strict,
        };
        let best = self.best.as_ref();
        let is_best = best.is_none_or(|best| best.metrics.quality() < metrics.quality());
        if is_best {
            self.best = Some(Best {
                network,
                metrics: metrics.clone(),
                detections,
            });
        }
        self.history.push(metrics.clone());
        Ok(Some(Epoch {
            metrics,
            is_best,
            duration,
            waiting,
        }))
    }

    /// Takes a step along the gradients of a batch. Returns the loss of the batch.
    fn step(&mut self, step: usize, batch: &Batch) -> anyhow::Result<f64> {
        let loss = self.gradients(batch)?;
        ensure!(
            loss.is_finite(),
            "the loss of step {step} is not finite; choose a lower --learning-rate"
        );
        let steps = self.samples.steps_per_epoch() * self.schedule.epochs;
        self.optimiser
            .step(learning_rate(&self.schedule, step, steps))?;
        Ok(loss)
    }

    /// Lets the replicas compute the gradients of a batch. Returns the loss of the batch.
    fn gradients(&self, batch: &Batch) -> anyhow::Result<f64> {
        const ENDED: &str = "a training thread ended unexpectedly";
        let matched = batch.matched()?;
        let pictures = batch.classes.size()[0] as usize / self.replicas.len();
        for (replica, part) in self.replicas.iter().zip(batch.split(pictures)?) {
            replica.parts.send((part, matched)).ok().context(ENDED)?;
        }
        let mut sum = 0.0;
        for replica in &self.replicas {
            sum += replica.losses.recv().context(ENDED)??;
        }
        Ok(sum)
    }

    /// The detections of a network in the validation pictures.
    fn validate(&self, network: &Network) -> anyhow::Result<Vec<Detection>> {
        let detector = Detector::from_network(network.shallow_clone(), self.device)?;
        evaluation::detect(&detector, self.validation, None)
    }

    /// Everything that is needed to resume the run; `None` before the end of the first epoch.
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
            pictures: self.samples.pictures.len(),
            classes: self.validation.classes.clone(),
        }
    }
}

/// The number of replicas for batches of `batch` pictures: on the CPU, the highest number that divides `batch` and does
/// not exceed the number of cores; on a GPU, 1.
///
/// # Errors
/// If the device does not exist.
pub fn replicas(batch: usize, requested: RequestedDevice) -> anyhow::Result<usize> {
    if requested.device().map_err(anyhow::Error::msg)? != Device::Cpu {
        return Ok(1);
    }
    let cores = evaluation::cores();
    let divisors = (1..=batch).filter(|count| batch.is_multiple_of(*count) && *count <= cores);
    Ok(divisors.max().unwrap_or(1))
}

/// The network of a state dict, on a device.
fn network_on(start: &StateDict, device: Device) -> anyhow::Result<Network> {
    let network = Network::new(start)?;
    for (_, mut parameter) in network.parameters() {
        parameter.set_data(&parameter.f_to_device(device)?);
    }
    Ok(network)
}

/// The network of a state dict on the CPU, with the values of `parameters`, given by name.
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

/// The names of the parameters of the first `layers` layers, each with a weight and a bias.
fn first_parameters(network: &Network, layers: usize) -> Vec<String> {
    let parameters = network.parameters().into_iter();
    parameters.map(|(name, _)| name).take(2 * layers).collect()
}

/// The learning rate of a step: it rises linearly, then falls along half a cosine (Loshchilov and Hutter 2017, "SGDR").
fn learning_rate(schedule: &Schedule, step: usize, steps: usize) -> f64 {
    let done = step as f64 / steps as f64;
    let share = if done < WARM_UP {
        done / WARM_UP
    } else {
        let fall = (done - WARM_UP) / (1.0 - WARM_UP);
        0.5 * (1.0 + (std::f64::consts::PI * fall).cos())
    };
    schedule.learning_rate * (MIN_RATE + (1.0 - MIN_RATE) * share)
}
