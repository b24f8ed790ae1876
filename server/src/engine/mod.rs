//! The engine finds the objects in a picture. It knows no HTTP, no JSON and no settings.
//!
//! ```text
//! admission   permits to wait for the model
//! decoding    limits on memory and threads for decoding
//! worker      the model threads and their queue
//! health      the health of the model: it works, fails or hangs
//! ```
//!
//! Decoding, preprocessing and postprocessing run on tokio's blocking threads. Forward passes run on permanent
//! model threads that share the weights. There is one by default, since libtorch parallelises inside a pass
//! and each further thread permanently takes memory. If all permits are taken, a picture is refused at once.

mod admission;
mod decoding;
mod health;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use image::RgbImage;
use ssd_detector::boxes::Criteria;
use ssd_detector::labels::{self, Labels};
use ssd_detector::picture::{self, Decoded, Encoding, Header};
use ssd_detector::precision::{Requested, Selection};
use ssd_detector::preprocess::Input;
use ssd_detector::{Detection, Model, annotate, inference};
use state_dict::StateDict;

use admission::Admission;
pub use admission::{Full, QUEUE_FULL, Queue};
use decoding::{DecodePermit, Decoding};
pub use health::{Health, Passes};
use worker::Worker;
pub use worker::{Network, Wrap};

/// The files that an engine reads.
#[derive(Debug, Clone)]
pub struct Files {
    /// The weights.
    pub weights: PathBuf,
    /// The labels.
    pub labels: PathBuf,
}

/// Limits of an engine's work.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum pixels per picture. A pixel of more than 4 bytes counts as bytes / 4 pixels. All decoded
    /// pictures together take at most 6 bytes times this limit, unless a single picture needs more.
    pub pixels: u64,
    /// Threads of a forward pass.
    pub threads: usize,
    /// Forward passes at once; 1 or more.
    pub workers: usize,
    /// Maximum pictures in one forward pass; `None` for a default by the device and the time of a pass.
    pub batch: Option<usize>,
    /// Maximum pictures in the engine beyond the number of workers.
    pub queue: usize,
    /// How long a forward pass may take; a longer one hangs.
    pub forward_timeout: Duration,
}

impl Limits {
    /// Blocking threads that an engine needs, so that no stage of a small picture waits for a thread while
    /// large pictures are decoded.
    #[must_use]
    pub fn blocking_threads(&self) -> usize {
        // The two lanes of decoding use one and a half per core; the rest reads headers and postprocesses.
        3 * self.cores() + 2
    }

    fn cores(&self) -> usize {
        self.workers * self.threads
    }
}

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The labels cannot be read.
    #[error("labels {}: cannot read the file: {cause}", path.display())]
    LabelsFile {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
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
    Weights(state_dict::Error),
    /// The weights cannot be used.
    #[error("weights {0}")]
    Model(ssd_detector::Error),
    /// The network cannot run in the requested precision or on the requested device.
    #[error(transparent)]
    Arithmetic(#[from] inference::Error),
    /// A model thread cannot be started.
    #[error("cannot start a model thread: {0}")]
    Thread(std::io::Error),
    /// A model thread panicked.
    #[error("a model thread panicked")]
    Panic,
    /// The first forward pass failed.
    #[error("the first forward pass failed: {0}")]
    WarmUp(String),
}

/// Why a picture has no detections.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The picture cannot be used.
    #[error(transparent)]
    Picture(#[from] picture::Error),
    /// A limit is reached.
    #[error(transparent)]
    Full(#[from] Full),
    /// The forward pass failed, or a thread panicked: a fault of this program.
    #[error("{0}")]
    Internal(String),
}

/// The objects in a picture, and how long the work took.
#[derive(Debug, Clone, PartialEq)]
pub struct Detections {
    /// Highest score first.
    pub objects: Vec<Detection>,
    /// Pixels in a row of the upright picture.
    pub width: u32,
    /// Rows of the upright picture.
    pub height: u32,
    /// Whether the picture's file has its end marker ([`picture::Decoded`]).
    pub has_end: bool,
    /// How long each stage took.
    pub stages: Stages,
}

/// How long each stage took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stages {
    /// Decoding the picture.
    pub decode: Duration,
    /// Resizing and normalising.
    pub preprocess: Duration,
    /// Waiting for memory and threads to decode, and for a model thread.
    pub wait: Duration,
    /// The forward pass.
    pub forward: Duration,
    /// Decoding boxes and NMS.
    pub postprocess: Duration,
    /// Drawing into the picture and encoding it, if requested.
    pub annotate: Option<Duration>,
}

impl Stages {
    /// The stages that ran, with their names, in order.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Duration)> + use<> {
        let stages = [
            ("decode", Some(self.decode)),
            ("preprocess", Some(self.preprocess)),
            ("wait", Some(self.wait)),
            ("forward", Some(self.forward)),
            ("postprocess", Some(self.postprocess)),
            ("annotate", self.annotate),
        ];
        stages
            .into_iter()
            .filter_map(|(name, time)| Some((name, time?)))
    }
}

/// A handle to a running engine; clones share it. The model threads end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Engine {
    model: Arc<Model>,
    selection: Arc<Selection>,
    worker: Worker,
    admission: Admission,
    decoding: Decoding,
    pixels: u64,
    probe: Arc<Probe>,
}

/// The input of a pass that only tests the model, and whether such a pass is running.
#[derive(Debug)]
struct Probe {
    blank: Input,
    running: AtomicBool,
}

impl Engine {
    /// Reads labels and weights, starts the model threads and runs a first forward pass on each, so that
    /// libtorch allocates its buffers. Blocks until then, so it must not run on an async thread.
    ///
    /// # Errors
    /// If a file cannot be read or used, a thread cannot be started, or a forward pass fails.
    pub fn start(files: &Files, requested: Requested, limits: Limits) -> Result<Self, StartError> {
        Self::start_with(files, requested, limits, &Wrap::default())
    }

    /// Like [`start`](Self::start), with a wrapper around the network of each model thread. Tests use the
    /// wrapper to make passes fail or hang.
    ///
    /// # Errors
    /// Like `start`.
    pub fn start_with(
        files: &Files,
        requested: Requested,
        limits: Limits,
        wrap: &Wrap,
    ) -> Result<Self, StartError> {
        let wrong_labels = |cause| StartError::Labels {
            path: files.labels.clone(),
            cause,
        };
        let text = std::fs::read(&files.labels).map_err(|cause| StartError::LabelsFile {
            path: files.labels.clone(),
            cause,
        })?;
        let labels = Labels::parse(&text).map_err(wrong_labels)?;
        let state = StateDict::open(&files.weights).map_err(StartError::Weights)?;
        let (loaded, worker, first) = Worker::start(state, labels, requested, limits, wrap)
            .map_err(|error| match error {
                StartError::Model(ssd_detector::Error::Labels(cause)) => wrong_labels(cause),
                other => other,
            })?;
        let permits = limits.workers + limits.queue;
        Ok(Self {
            model: Arc::new(loaded.model),
            selection: Arc::new(loaded.selection),
            worker,
            admission: Admission::new(limits.workers, limits.queue, QUEUE_FULL, first),
            decoding: Decoding::new(limits.pixels, permits, limits.cores()),
            pixels: limits.pixels,
            probe: Arc::new(Probe {
                blank: loaded.blank,
                running: AtomicBool::new(false),
            }),
        })
    }

    /// The model that it runs.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Its precision and device, and why they were selected.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Whether a permit is free now, so that a caller can refuse before it reads the picture.
    ///
    /// # Errors
    /// If no permit is free.
    pub fn has_room(&self) -> Result<(), Full> {
        self.admission.has_room()
    }

    /// How full the queue is.
    #[must_use]
    pub fn queue(&self) -> Queue {
        self.admission.queue()
    }

    /// The state of the model.
    #[must_use]
    pub fn health(&self) -> Health {
        self.worker.monitor().health()
    }

    /// How many forward passes have ended since the start; the first pass of each thread does not count.
    #[must_use]
    pub fn passes(&self) -> Passes {
        self.worker.monitor().passes()
    }

    /// Runs a forward pass without a picture, so that [`health`](Self::health) shows whether the model
    /// works again. Does nothing while another probe runs.
    pub async fn probe(&self) {
        /// Resets the flag even if the future is dropped.
        struct Running<'a>(&'a AtomicBool);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        if !self.probe.running.swap(true, Ordering::Relaxed) {
            let _running = Running(&self.probe.running);
            // The monitor has recorded the outcome.
            let _ = self.worker.forward(self.probe.blank.clone()).await;
        }
    }

    /// Finds objects in a picture. If the future is dropped, stages that have not begun do not run.
    ///
    /// # Errors
    /// If a limit is reached, the bytes are not a picture in a supported format, or on an internal error.
    pub async fn detect(&self, bytes: Bytes, criteria: Criteria) -> Result<Detections, Error> {
        let arrived = Instant::now();
        let _permit = self.admission.admit()?;
        let (prepared, picture) = self.prepare(bytes, None).await?;
        drop(picture);
        self.find(arrived, prepared, criteria).await
    }

    /// Like [`detect`](Self::detect); also draws the objects into the upright picture. The encoded picture
    /// counts towards the limit for unread pictures until it is dropped.
    ///
    /// # Errors
    /// Like `detect`; and if a side of the picture is too long for the encoding.
    pub async fn annotate(
        &self,
        bytes: Bytes,
        criteria: Criteria,
        encoding: Encoding,
    ) -> Result<(Detections, Bytes), Error> {
        let arrived = Instant::now();
        let _permit = self.admission.admit()?;
        let (prepared, picture) = self.prepare(bytes, Some(encoding)).await?;
        let mut detections = self.find(arrived, prepared, criteria).await?;
        let Picture { mut pixels, permit } = picture;
        let work = move || {
            let begun = Instant::now();
            annotate::draw(&mut pixels, &detections.objects);
            let encoded = encoding
                .encode(&pixels)
                .map_err(|error| Error::Internal(error.to_string()))?;
            detections.stages.annotate = Some(begun.elapsed());
            Ok((detections, encoded))
        };
        let ((detections, encoded), permit) = permit.run(work).await?;
        drop(permit);
        Ok((detections, self.decoding.unread(encoded)?))
    }

    /// Decodes a picture and turns it into the network's input. Refuses it first if a side is too long for the
    /// encoding.
    async fn prepare(
        &self,
        bytes: Bytes,
        encoding: Option<Encoding>,
    ) -> Result<(Prepared, Picture), Error> {
        let (limit, file) = (self.pixels, bytes.clone());
        let header = blocking(move || Ok(Header::read(&file, limit)?)).await?;
        let mut memory = header.memory();
        if let Some(encoding) = encoding {
            header.fits(encoding)?;
            // The pixels and the encoded picture; the PNG encoder needs another copy.
            let copies = match encoding {
                Encoding::Jpeg => 2,
                Encoding::Png => 3,
            };
            memory = memory.max(copies * header.decoded());
        }
        let permit = self.decoding.enter(memory).await?;
        let model = self.model.clone();
        let work = move || {
            let begun = Instant::now();
            let Decoded { picture, has_end } = header.decode(&bytes)?;
            let decode = begun.elapsed();
            let prepared = Prepared {
                input: model.input(&picture),
                size: picture.dimensions(),
                has_end,
                decode,
                preprocess: begun.elapsed().saturating_sub(decode),
            };
            Ok((prepared, picture))
        };
        let ((prepared, pixels), permit) = permit.run(work).await?;
        self.decoding
            .record(memory, prepared.decode + prepared.preprocess);
        Ok((prepared, Picture { pixels, permit }))
    }

    /// Runs the network, and turns its output into detections.
    async fn find(
        &self,
        arrived: Instant,
        prepared: Prepared,
        criteria: Criteria,
    ) -> Result<Detections, Error> {
        let Prepared {
            input,
            size,
            has_end,
            decode,
            preprocess,
        } = prepared;
        let pass = self.worker.forward(input).await?;
        self.admission.record(pass.share);
        let wait = arrived
            .elapsed()
            .saturating_sub(decode + preprocess + pass.forward);
        let model = self.model.clone();
        blocking(move || {
            let begun = Instant::now();
            let objects = model.detections(&pass.output, &criteria, size);
            let (width, height) = size;
            Ok(Detections {
                objects,
                width,
                height,
                has_end,
                stages: Stages {
                    decode,
                    preprocess,
                    wait,
                    forward: pass.forward,
                    postprocess: begun.elapsed(),
                    annotate: None,
                },
            })
        })
        .await
    }
}

/// A picture that waits for the model.
struct Prepared {
    input: Input,
    size: (u32, u32),
    has_end: bool,
    decode: Duration,
    preprocess: Duration,
}

/// A decoded picture, and the permit for its memory.
struct Picture {
    pixels: RgbImage,
    permit: DecodePermit,
}

/// Runs work that would block an async thread. If it panics, for example in a picture decoder, only this
/// request fails.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            let cause = format!("a worker thread panicked or was cancelled: {error}");
            Err(Error::Internal(cause))
        })
}
