//! The model threads: they share the network's weights and a queue, and each runs one forward pass
//! after the other.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::{Error, Limits, StartError};
use crate::detector::Model;
use crate::detector::boxes::RawOutput;
use crate::detector::labels::Labels;
use crate::detector::network::Network;
use crate::detector::preprocess::Input;
use crate::weights::StateDict;

/// A handle to the model threads.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    /// Bounded by the places in the engine: inputs take 1 MB each.
    jobs: mpsc::UnboundedSender<Job>,
}

/// Whoever of the model threads holds it takes the next job.
type Queue = Arc<Mutex<mpsc::UnboundedReceiver<Job>>>;

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
}

impl Worker {
    /// Starts the threads, and waits until each one's first forward pass is over; tells how long the
    /// last of those took. Weights are read on the first of them: whichever thread first calls
    /// libtorch's parallel parts gets a pool of threads of its own.
    pub(super) fn start(
        state: StateDict,
        labels: Labels,
        limits: Limits,
    ) -> Result<(Model, Self, Duration), StartError> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let queue: Queue = Arc::new(Mutex::new(queue));
        let (loaded, loading) = std::sync::mpsc::channel();
        let share = queue.clone();
        let first = spawn(limits.threads, move |ready| {
            let (model, network) = Model::new(&state, &labels).map_err(StartError::Model)?;
            drop(state);
            warm_up(&network, ready)?;
            let _ = loaded.send((model, network.shallow_clone()));
            serve(&network, &share);
            Ok(())
        });
        let mut pass = first?;
        let (model, network) = loading.recv().map_err(|_| panicked())?;
        for _ in 1..limits.workers {
            let (network, share) = (network.shallow_clone(), queue.clone());
            pass = spawn(limits.threads, move |ready| {
                warm_up(&network, ready)?;
                serve(&network, &share);
                Ok(())
            })?;
        }
        Ok((model, Self { jobs }, pass))
    }

    /// Waits in the queue, then runs the network. Dropping the future leaves the queue.
    pub(super) async fn forward(&self, input: Input) -> Result<Pass, Error> {
        let (reply, pass) = oneshot::channel();
        let gone = || Error::Internal("the model threads have ended".to_owned());
        let job = Job { input, reply };
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
    let (ready, started) = std::sync::mpsc::channel();
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
    network: &Network,
    ready: &Sender<Result<Duration, StartError>>,
) -> Result<(), StartError> {
    let begun = Instant::now();
    run(network, &Input::blank()).map_err(StartError::WarmUp)?;
    let _ = ready.send(Ok(begun.elapsed()));
    Ok(())
}

fn serve(network: &Network, queue: &Queue) {
    loop {
        // Only while it waits: a pass poisons nothing.
        let job = queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        let Some(job) = job else { return };
        // Nobody waits for it any more.
        if job.reply.is_closed() {
            continue;
        }
        let begun = Instant::now();
        let pass = run(network, &job.input).map(|output| Pass {
            output,
            forward: begun.elapsed(),
        });
        let _ = job.reply.send(pass.map_err(Error::Internal));
    }
}

/// tch panics where libtorch throws in a call that cannot fail; the thread must outlive that.
fn run(network: &Network, input: &Input) -> Result<RawOutput, String> {
    match std::panic::catch_unwind(AssertUnwindSafe(|| network.forward(input))) {
        Ok(output) => output.map_err(|error| error.to_string()),
        Err(_) => Err("the forward pass panicked".to_owned()),
    }
}
