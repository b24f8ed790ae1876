//! The model thread: it owns the network, and runs one forward pass after the other.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::{Error, StartError};
use crate::detector::Model;
use crate::detector::boxes::RawOutput;
use crate::detector::labels::Labels;
use crate::detector::network::Network;
use crate::detector::preprocess::Input;
use crate::weights::StateDict;

/// Inputs in the queue, of 1 MB each. Whoever comes later waits to get into it.
const QUEUE: usize = 64;

/// A handle to the model thread.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
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
}

impl Worker {
    /// Starts the thread, and waits until its first forward pass is over. Weights are read on it:
    /// whichever thread first calls libtorch's parallel parts gets a pool of threads of its own.
    pub(super) fn start(
        state: StateDict,
        labels: Labels,
        threads: usize,
    ) -> Result<(Model, Self), StartError> {
        let (ready, started) = std::sync::mpsc::channel();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let body = move || {
            tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
            let loaded = load(&state, &labels);
            drop(state);
            match loaded {
                Ok((model, network)) => {
                    let _ = ready.send(Ok(model));
                    serve(&network, queue);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        };
        std::thread::Builder::new()
            .name("model".to_owned())
            .spawn(body)
            .map_err(|error| StartError::WarmUp(format!("no thread for the model: {error}")))?;
        let model = started
            .recv()
            .unwrap_or_else(|_| Err(StartError::WarmUp("the model thread panicked".to_owned())))?;
        Ok((model, Self { jobs }))
    }

    /// Waits in the queue, then runs the network. Dropping the future leaves the queue.
    pub(super) async fn forward(&self, input: Input) -> Result<Pass, Error> {
        let (reply, pass) = oneshot::channel();
        let gone = || Error::Internal("the model thread has ended".to_owned());
        let job = Job { input, reply };
        self.jobs.send(job).await.map_err(|_| gone())?;
        pass.await.map_err(|_| gone())?
    }
}

fn load(state: &StateDict, labels: &Labels) -> Result<(Model, Network), StartError> {
    let (model, network) = Model::new(state, labels).map_err(StartError::Model)?;
    run(&network, &Input::blank()).map_err(StartError::WarmUp)?;
    Ok((model, network))
}

fn serve(network: &Network, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
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
