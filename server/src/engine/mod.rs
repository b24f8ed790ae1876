//! The engine: bytes of a picture in, detections out.
//!
//! Decoding, preprocessing and postprocessing run on tokio's blocking threads, the forward pass on
//! long-lived model threads that share the weights: one by default, since libtorch parallelises
//! inside a pass, and every further thread costs memory for good. Whoever finds every place taken is
//! sent away at once. It knows no HTTP and no JSON.

mod admission;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::detector::boxes::Criteria;
use crate::detector::labels::{self, Labels};
use crate::detector::picture::{self, Header};
use crate::detector::{self, Detection, Model};
use crate::weights::{self, StateDict};
use admission::Admission;
pub use admission::{Full, Queue};
use worker::Worker;

/// What an engine is made from.
#[derive(Debug, Clone)]
pub struct Files {
    /// The weights.
    pub weights: PathBuf,
    /// The labels.
    pub labels: PathBuf,
}

/// Bounds on an engine's work.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most pixels of a picture, and of all pictures that are decoded at one time; those of more
    /// than four bytes count by their bytes.
    pub pixels: u64,
    /// Threads of a forward pass.
    pub threads: usize,
    /// Forward passes at one time; 1 or more.
    pub workers: usize,
    /// Pictures that may wait for a worker, or be on their way to one.
    pub queue: usize,
}

/// Why no engine can be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The labels cannot be read.
    #[error("labels {}: cannot read the file: {cause}", path.display())]
    LabelsFile {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        cause: std::io::Error,
    },
    /// The labels cannot be used.
    #[error("labels {}: {cause}", path.display())]
    Labels {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: labels::Error,
    },
    /// The weights cannot be read.
    #[error("weights {0}")]
    Weights(weights::Error),
    /// The weights cannot be used.
    #[error("weights {0}")]
    Model(detector::Error),
    /// The first forward pass failed.
    #[error("the first forward pass failed: {0}")]
    WarmUp(String),
}

/// Why a picture has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The picture cannot be used.
    #[error(transparent)]
    Picture(#[from] picture::Error),
    /// Too many others are before.
    #[error(transparent)]
    Full(#[from] Full),
    /// The forward pass failed, or something panicked: a fault of this program.
    #[error("{0}")]
    Internal(String),
}

/// What was found in a picture, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Best first.
    pub detections: Vec<Detection>,
    /// Pixels in a row of the upright picture.
    pub width: u32,
    /// Rows of the upright picture.
    pub height: u32,
    /// How long each stage took.
    pub stages: Stages,
}

/// How long each stage of an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stages {
    /// Decoding the picture.
    pub decode: Duration,
    /// Resizing and normalising.
    pub preprocess: Duration,
    /// Waiting: for others' pictures to be decoded, for a thread, for the model.
    pub wait: Duration,
    /// The forward pass.
    pub forward: Duration,
    /// Decoding boxes and NMS.
    pub postprocess: Duration,
}

impl Stages {
    /// Every stage with its name, in the order of the work.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Duration); 5] {
        [
            ("decode", self.decode),
            ("preprocess", self.preprocess),
            ("wait", self.wait),
            ("forward", self.forward),
            ("postprocess", self.postprocess),
        ]
    }
}

/// A handle to a running engine; clones share it. The model threads end with the last of them.
#[derive(Debug, Clone)]
pub struct Engine {
    model: Arc<Model>,
    worker: Worker,
    admission: Admission,
    /// Kilopixels that may still be decoded at this time.
    decoding: Arc<Semaphore>,
    kilopixels: u32,
    limits: Limits,
}

impl Engine {
    /// Reads labels and weights, starts the model threads and runs a first forward pass on each, which
    /// makes libtorch allocate what it keeps. Takes as long as that takes: not for an async thread.
    ///
    /// # Errors
    /// Where a file cannot be read or used, or the forward pass fails.
    pub fn start(files: &Files, limits: Limits) -> Result<Self, StartError> {
        let path = || files.labels.clone();
        let labels = std::fs::read(&files.labels).map_err(|cause| StartError::LabelsFile {
            path: path(),
            cause,
        })?;
        let labels = Labels::parse(&labels).map_err(|cause| StartError::Labels {
            path: path(),
            cause,
        })?;
        let state = StateDict::open(&files.weights).map_err(StartError::Weights)?;
        let (model, worker, first) =
            Worker::start(state, labels, limits).map_err(|error| match error {
                StartError::Model(detector::Error::Labels(cause)) => StartError::Labels {
                    path: path(),
                    cause,
                },
                other => other,
            })?;
        let kilopixels = kilopixels(limits.pixels);
        Ok(Self {
            model: Arc::new(model),
            worker,
            admission: Admission::new(limits.workers, limits.queue, first),
            decoding: Arc::new(Semaphore::new(kilopixels as usize)),
            kilopixels,
            limits,
        })
    }

    /// The model that it runs.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whether a picture would find a place now: for those who would rather not fetch it in vain.
    ///
    /// # Errors
    /// Where it would not.
    pub fn has_room(&self) -> Result<(), Full> {
        self.admission.has_room()
    }

    /// How full the queue is.
    #[must_use]
    pub fn queue(&self) -> Queue {
        self.admission.queue()
    }

    /// Finds objects in a picture. Dropping the future gives the work up: what has not begun is not
    /// done.
    ///
    /// # Errors
    /// Where every place is taken, the bytes are no picture that is read, or something fails here.
    pub async fn detect(&self, bytes: Bytes, criteria: Criteria) -> Result<Answer, Error> {
        let arrived = Instant::now();
        let _place = self.admission.enter()?;
        let (limit, seen) = (self.limits.pixels, bytes.clone());
        let header = blocking(move || Ok(Header::read(&seen, limit)?)).await?;
        // Decoded pictures are what takes memory: all of them together get as much as the largest.
        let cost = kilopixels(header.cost()).min(self.kilopixels);
        let permit = self.decoding.clone().acquire_many_owned(cost).await;
        let model = self.model.clone();
        let (input, size, decode, preprocess) = blocking(move || {
            let _permit = permit;
            let begun = Instant::now();
            let picture = header.decode(&bytes)?;
            let decode = begun.elapsed();
            let begun = Instant::now();
            let input = model.input(&picture);
            Ok((input, picture.dimensions(), decode, begun.elapsed()))
        })
        .await?;
        let pass = self.worker.forward(input).await?;
        self.admission.served(pass.forward);
        let wait = arrived
            .elapsed()
            .saturating_sub(decode + preprocess + pass.forward);
        let model = self.model.clone();
        blocking(move || {
            let begun = Instant::now();
            let detections = model.detections(&pass.output, &criteria, size);
            let stages = Stages {
                decode,
                preprocess,
                wait,
                forward: pass.forward,
                postprocess: begun.elapsed(),
            };
            let (width, height) = size;
            Ok(Answer {
                detections,
                width,
                height,
                stages,
            })
        })
        .await
    }
}

/// Semaphores count in `u32`; a thousand pixels of four bytes are fine enough.
fn kilopixels(pixels: u64) -> u32 {
    u32::try_from(pixels.div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Runs work that would hold an async thread up. A panic in it, of a picture decoder say, costs this
/// one answer.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::Internal(format!("a stage did not end: {error}"))))
}
