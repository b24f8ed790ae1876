//! The model threads: they share the network's weights and a queue, and each runs one forward pass
//! after the other.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tch::Device;
use tokio::sync::oneshot;

use super::admission::Held;
use super::{Error, Limits, StartError};
use ssd_detector::Model;
use ssd_detector::allocator;
use ssd_detector::boxes::RawOutput;
use ssd_detector::inference::{self, Inference};
use ssd_detector::labels::Labels;
use ssd_detector::precision::{Choice, Requested};
use ssd_detector::preprocess::Input;
use state_dict::StateDict;

/// Pictures of one pass where nobody says. On a processor a pass is bound by arithmetic, and a batch
/// of four takes four times as long: whoever is first would wait for the last.
const BATCH_ON_CPU: usize = 1;
/// A GPU has room for more at once.
const BATCH_ON_GPU: usize = 8;

/// A thread that has had nothing to do for so long gives back the memory that it keeps for the next pass:
/// long enough that no steady traffic pays for it with page faults.
const REST: Duration = Duration::from_secs(5);

/// What the first thread tells of the network that it read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub model: Model,
    pub arithmetic: Choice,
}

/// A handle to the model threads.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    /// Bounded by the places in the engine, which jobs hold: inputs take 1 MB each.
    jobs: Sender<Job>,
}

/// Whoever of the model threads holds it takes the next job.
type Queue = Arc<Mutex<mpsc::Receiver<Job>>>;

#[derive(Debug)]
struct Job {
    input: Input,
    /// Until it is answered, or a thread finds that nobody waits for it.
    place: Held,
    reply: oneshot::Sender<Result<Pass, Error>>,
}

impl Job {
    /// Gives the place back first: whoever is answered may come again at once.
    fn answer(self, pass: Result<Pass, Error>) {
        drop(self.place);
        let _ = self.reply.send(pass);
    }
}

/// One forward pass.
#[derive(Debug)]
pub(super) struct Pass {
    pub output: RawOutput,
    pub forward: Duration,
    /// Of that, what one picture of the batch took.
    pub share: Duration,
}

impl Worker {
    /// Starts the threads, and waits until each one's first forward pass is over; tells how long the
    /// last of those took. Weights are read on the first of them: whichever thread first calls
    /// libtorch's parallel parts gets a pool of threads of its own.
    pub(super) fn start(
        state: StateDict,
        labels: Labels,
        requested: Requested,
        limits: Limits,
    ) -> Result<(Loaded, Self, Duration), StartError> {
        let (jobs, queue) = mpsc::channel();
        let queue: Queue = Arc::new(Mutex::new(queue));
        let (loaded, loading) = mpsc::channel();
        let share = queue.clone();
        let first = spawn(limits.threads, move |ready| {
            allocator::loading();
            let (model, network) = Model::new(&state, &labels).map_err(StartError::Model)?;
            let scales = ssd_detector::scales(&state).map_err(StartError::Model)?;
            drop(state);
            let (network, arithmetic) = inference::prepare(network, scales, requested)?;
            allocator::keep();
            warm_up(&network, ready)?;
            let batch = limits.batch.unwrap_or(match arithmetic.device {
                Device::Cpu => BATCH_ON_CPU,
                _ => BATCH_ON_GPU,
            });
            let copy = network.shallow_clone();
            let _ = loaded.send((Loaded { model, arithmetic }, copy, batch));
            serve(&network, &share, batch);
            Ok(())
        });
        let mut pass = first?;
        let (loaded, network, batch) = loading.recv().map_err(|_| panicked())?;
        for _ in 1..limits.workers {
            let (network, share) = (network.shallow_clone(), queue.clone());
            pass = spawn(limits.threads, move |ready| {
                warm_up(&network, ready)?;
                serve(&network, &share, batch);
                Ok(())
            })?;
        }
        Ok((loaded, Self { jobs }, pass))
    }

    /// Waits in the queue, then runs the network. Of a future that is dropped, the job still waits for a
    /// thread, which throws it away.
    pub(super) async fn forward(&self, input: Input, place: Held) -> Result<Pass, Error> {
        let (reply, pass) = oneshot::channel();
        let gone = || Error::Internal("the model threads have ended".to_owned());
        let job = Job {
            input,
            place,
            reply,
        };
        self.jobs.send(job).map_err(|_| gone())?;
        pass.await.map_err(|_| gone())?
    }
}

/// Starts a model thread with so many threads of libtorch's, and waits until it says how long its
/// first pass took.
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
        .map_err(|error| StartError::WarmUp(format!("no thread for the model: {error}")))?;
    started.recv().unwrap_or_else(|_| Err(panicked()))
}

fn panicked() -> StartError {
    StartError::WarmUp("the model thread panicked".to_owned())
}

fn warm_up(
    network: &Inference,
    ready: &Sender<Result<Duration, StartError>>,
) -> Result<(), StartError> {
    let begun = Instant::now();
    run(network, &[&network.blank()]).map_err(StartError::WarmUp)?;
    let _ = ready.send(Ok(begun.elapsed()));
    Ok(())
}

/// Takes what waits, up to `batch` jobs, and does not wait for more.
fn serve(network: &Inference, queue: &Queue, batch: usize) {
    loop {
        let jobs = take(queue, batch);
        if jobs.is_empty() {
            return;
        }
        // Nobody waits for the others any more.
        let jobs: Vec<Job> = jobs
            .into_iter()
            .filter(|job| !job.reply.is_closed())
            .collect();
        if jobs.is_empty() {
            continue;
        }
        let begun = Instant::now();
        let inputs: Vec<&Input> = jobs.iter().map(|job| &job.input).collect();
        let outputs = run(network, &inputs);
        let forward = begun.elapsed();
        match outputs {
            Ok(outputs) => {
                let share = forward / u32::try_from(outputs.len().max(1)).unwrap_or(u32::MAX);
                for (job, output) in jobs.into_iter().zip(outputs) {
                    let pass = Pass {
                        output,
                        forward,
                        share,
                    };
                    job.answer(Ok(pass));
                }
            }
            Err(error) => {
                for job in jobs {
                    job.answer(Err(Error::Internal(error.clone())));
                }
            }
        }
    }
}

/// The next job and those that wait behind it; none once the engine is gone.
fn take(queue: &Queue, batch: usize) -> Vec<Job> {
    // Only while it waits: a pass poisons nothing.
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let first = queue.recv_timeout(REST).or_else(|ended| match ended {
        RecvTimeoutError::Timeout => {
            allocator::release();
            queue.recv()
        }
        RecvTimeoutError::Disconnected => Err(mpsc::RecvError),
    });
    let mut jobs: Vec<Job> = first.into_iter().collect();
    while !jobs.is_empty() && jobs.len() < batch {
        match queue.try_recv() {
            Ok(job) => jobs.push(job),
            Err(_) => break,
        }
    }
    jobs
}

/// tch panics where libtorch throws in a call that cannot fail; the thread must outlive that.
fn run(network: &Inference, inputs: &[&Input]) -> Result<Vec<RawOutput>, String> {
    match std::panic::catch_unwind(AssertUnwindSafe(|| network.forward(inputs))) {
        Ok(outputs) => outputs.map_err(|error| error.to_string()),
        Err(_) => Err("the forward pass panicked".to_owned()),
    }
}
