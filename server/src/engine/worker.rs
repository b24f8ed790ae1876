//! The model threads. They share the network's weights and a queue; each runs one forward pass at a time.

use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ssd_detector::allocator;
use ssd_detector::boxes::RawOutput;
use ssd_detector::inference::{self, Inference};
use ssd_detector::labels::Labels;
use ssd_detector::precision::{Requested, Selection};
use ssd_detector::preprocess::Input;
use ssd_detector::{self, Model};
use state_dict::StateDict;
use tch::Device;
use tokio::sync::oneshot;

use super::health::Monitor;
use super::{Error, Limits, StartError};

/// The default batch on a GPU, which computes several pictures in parallel.
const BATCH_ON_GPU: usize = 8;
/// The default batch on a CPU if a pass is short. Threads wait for each other for a good part of a short pass, less
/// often with two pictures in it: the model that ships finds objects in a sixth more pictures per second.
const BATCH_OF_SHORT_PASSES: usize = 2;
/// A pass on a CPU is short if it takes less than this. Arithmetic limits longer ones: a batch of two takes twice as
/// long, so the first picture would only wait for the last.
const SHORT: Duration = Duration::from_millis(50);

/// After this time without work, a thread returns the memory that it keeps for the next pass. Under steady
/// traffic it keeps that memory, which avoids page faults.
const REST: Duration = Duration::from_secs(5);

/// Runs forward passes. [`Inference`] does; tests use networks that fail or hang.
pub trait Network: Send {
    /// Runs one pass. Returns an output for each input, in the same order.
    ///
    /// # Errors
    /// If the pass fails.
    fn forward(&self, inputs: &[&Input]) -> Result<Vec<RawOutput>, String>;
}

impl Network for Inference {
    fn forward(&self, inputs: &[&Input]) -> Result<Vec<RawOutput>, String> {
        Self::forward(self, inputs).map_err(|error| error.to_string())
    }
}

/// Wraps the network of each model thread; by default, changes nothing.
#[derive(Clone)]
pub struct Wrap(Arc<WrapFn>);

type WrapFn = dyn Fn(Box<dyn Network>) -> Box<dyn Network> + Send + Sync;

impl Wrap {
    /// A wrapper that a test writes.
    pub fn new(
        wrap: impl Fn(Box<dyn Network>) -> Box<dyn Network> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(wrap))
    }
}

impl Default for Wrap {
    fn default() -> Self {
        Self::new(|network| network)
    }
}

impl fmt::Debug for Wrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wrap")
    }
}

/// What the first thread returns after it has read the network.
#[derive(Debug)]
pub(super) struct Loaded {
    pub model: Model,
    pub selection: Selection,
    /// An input without a picture, for probes.
    pub blank: Input,
}

/// A handle to the model threads, which end when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    open: Arc<Open>,
    monitor: Monitor,
}

/// Closes the queue when it is dropped.
#[derive(Debug)]
struct Open(Arc<Queue>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

/// Jobs that wait for a model thread. The permits of their callers bound its length: an input takes 1 MB.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    input: Input,
    reply: oneshot::Sender<Result<Pass, Error>>,
}

/// One forward pass.
#[derive(Debug)]
pub(super) struct Pass {
    pub output: RawOutput,
    pub forward: Duration,
    /// `forward` divided by the number of pictures in the batch.
    pub share: Duration,
}

impl Queue {
    fn push(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// Waits for a job, and takes up to `batch` jobs; none once the queue is closed.
    fn take(&self, batch: usize) -> Vec<Job> {
        let idle = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let (mut state, rested) = self
            .changed
            .wait_timeout_while(self.lock(), REST, idle)
            .unwrap_or_else(PoisonError::into_inner);
        if rested.timed_out() {
            drop(state);
            allocator::trim();
            state = self
                .changed
                .wait_while(self.lock(), idle)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let count = batch.min(state.jobs.len());
        state.jobs.drain(..count).collect()
    }

    /// Removes the jobs of callers that no longer wait: a thread that hangs would never take them.
    fn remove_abandoned(&self) {
        self.lock().jobs.retain(|job| !job.reply.is_closed());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller that waits for its pass.
struct Waiting<'a> {
    queue: &'a Queue,
    pass: oneshot::Receiver<Result<Pass, Error>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pass.close();
        self.queue.remove_abandoned();
    }
}

impl Worker {
    /// Starts the threads, and waits for the first forward pass of each. Returns how long the last of these
    /// passes took. The first thread reads the weights, since libtorch gives a pool of threads to the thread
    /// that first calls its parallel parts.
    pub(super) fn start(
        state: StateDict,
        labels: Labels,
        requested: Requested,
        limits: Limits,
        wrap: &Wrap,
    ) -> Result<(Loaded, Self, Duration), StartError> {
        let queue = Arc::<Queue>::default();
        let monitor = Monitor::new(limits.workers, limits.forward_timeout);
        let (loaded, loading) = mpsc::channel();
        let mut thread = Thread {
            number: 0,
            queue: queue.clone(),
            monitor: monitor.clone(),
            batch: 1,
        };
        let worker = Self {
            open: Arc::new(Open(queue)),
            monitor,
        };
        let (first, wrap_first) = (thread.clone(), wrap.clone());
        let mut pass = spawn(limits.threads, move |ready| {
            allocator::return_freed();
            let (model, network) = Model::new(&state, &labels).map_err(StartError::Model)?;
            let scales = ssd_detector::scales(&state, &network).map_err(StartError::Model)?;
            drop(state);
            // Otherwise what is measured would be page faults.
            allocator::retain_freed();
            let (inference, selection) = inference::prepare(network, scales.as_ref(), requested)?;
            allocator::trim();
            let blank = inference.blank();
            let copy = inference.shallow_clone();
            let network = wrap_first.0(Box::new(inference));
            let pass = warm_up(&*network, &blank, ready)?;
            let batch = limits.batch.unwrap_or(match selection.device {
                Device::Cpu if pass < SHORT => BATCH_OF_SHORT_PASSES,
                Device::Cpu => 1,
                _ => BATCH_ON_GPU,
            });
            let loading = Loaded {
                model,
                selection,
                blank,
            };
            let _ = loaded.send((loading, copy, batch));
            Thread { batch, ..first }.serve(&*network);
            Ok(())
        })?;
        let (loaded, inference, batch) = loading.recv().map_err(|_| StartError::Panic)?;
        thread.batch = batch;
        for number in 1..limits.workers {
            let network = wrap.0(Box::new(inference.shallow_clone()));
            let (blank, next) = (loaded.blank.clone(), thread.clone());
            pass = spawn(limits.threads, move |ready| {
                warm_up(&*network, &blank, ready)?;
                Thread { number, ..next }.serve(&*network);
                Ok(())
            })?;
        }
        Ok((loaded, worker, pass))
    }

    pub(super) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Waits in the queue, then for the pass. If the future is dropped, the job leaves the queue.
    pub(super) async fn forward(&self, input: Input) -> Result<Pass, Error> {
        let (reply, pass) = oneshot::channel();
        let queue = &*self.open.0;
        queue.push(Job { input, reply });
        let mut waiting = Waiting { queue, pass };
        (&mut waiting.pass)
            .await
            .map_err(|_| Error::Internal("the model threads have ended".to_owned()))?
    }
}

/// Starts a model thread, on which libtorch uses `threads` threads. Waits for its first pass, and returns how
/// long that took.
fn spawn(
    threads: usize,
    body: impl FnOnce(&Sender<Result<Duration, StartError>>) -> Result<(), StartError> + Send + 'static,
) -> Result<Duration, StartError> {
    let (ready, started) = mpsc::channel();
    let run = move || {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        if let Err(error) = body(&ready) {
            let _ = ready.send(Err(error));
        }
    };
    std::thread::Builder::new()
        .name("model".to_owned())
        .spawn(run)
        .map_err(StartError::Thread)?;
    started.recv().unwrap_or(Err(StartError::Panic))
}

/// Runs the first pass, and returns how long it took.
fn warm_up(
    network: &dyn Network,
    blank: &Input,
    ready: &Sender<Result<Duration, StartError>>,
) -> Result<Duration, StartError> {
    let begun = Instant::now();
    run(network, &[blank]).map_err(StartError::WarmUp)?;
    let pass = begun.elapsed();
    let _ = ready.send(Ok(pass));
    Ok(pass)
}

/// A model thread.
#[derive(Clone)]
struct Thread {
    number: usize,
    queue: Arc<Queue>,
    monitor: Monitor,
    /// The maximum number of pictures of one pass.
    batch: usize,
}

impl Thread {
    /// Runs passes until the queue is closed. A pass takes the jobs that wait, and does not wait for more.
    fn serve(&self, network: &dyn Network) {
        loop {
            let jobs = self.queue.take(self.batch);
            if jobs.is_empty() {
                return;
            }
            let begun = Instant::now();
            let inputs: Vec<&Input> = jobs.iter().map(|job| &job.input).collect();
            let outputs = self.monitor.watch(self.number, || run(network, &inputs));
            let forward = begun.elapsed();
            let share = forward / u32::try_from(jobs.len()).unwrap_or(u32::MAX);
            match outputs {
                Ok(outputs) => {
                    for (job, output) in jobs.into_iter().zip(outputs) {
                        let _ = job.reply.send(Ok(Pass {
                            output,
                            forward,
                            share,
                        }));
                    }
                }
                Err(error) => {
                    for job in jobs {
                        let _ = job.reply.send(Err(Error::Internal(error.clone())));
                    }
                }
            }
        }
    }
}

/// tch panics if libtorch throws in a function that returns no `Result`. The thread must survive that.
fn run(network: &dyn Network, inputs: &[&Input]) -> Result<Vec<RawOutput>, String> {
    std::panic::catch_unwind(AssertUnwindSafe(|| network.forward(inputs)))
        .unwrap_or_else(|_| Err("the forward pass panicked".to_owned()))
}
