//! The engine: bytes of a picture in, detections out.
//!
//! Decoding, preprocessing and postprocessing run on tokio's blocking threads, the forward pass on
//! long-lived model threads that share the weights: one by default, since libtorch parallelises
//! inside a pass, and every further thread costs memory for good. Whoever finds every place taken is
//! sent away at once. A picture that is wanted back is kept meanwhile, among those that may be decoded
//! at one time. It knows no HTTP and no JSON.

mod admission;
mod memory;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use image::RgbImage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::detector::boxes::Criteria;
use crate::detector::labels::{self, Labels};
use crate::detector::picture::{self, Encoding, Header};
use crate::detector::precision::{Choice, Wanted};
use crate::detector::preprocess::Input;
use crate::detector::{self, Detection, Model, annotate, inference};
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
    /// The most pixels of a picture, and of all large ones that are decoded at one time; the small ones
    /// together get half as many. Those of more than four bytes count by their bytes.
    pub pixels: u64,
    /// Threads of a forward pass.
    pub threads: usize,
    /// Forward passes at one time; 1 or more.
    pub workers: usize,
    /// The most pictures of one forward pass, of those that wait; `None` for what suits the device.
    pub batch: Option<usize>,
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
    /// The network cannot run as it was asked to.
    #[error(transparent)]
    Arithmetic(#[from] inference::Error),
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
    /// Drawing into the picture and encoding it, where that was asked for.
    pub annotate: Option<Duration>,
}

impl Stages {
    /// Every stage that there was with its name, in the order of the work.
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

/// A handle to a running engine; clones share it. The model threads end with the last of them.
#[derive(Debug, Clone)]
pub struct Engine {
    model: Arc<Model>,
    arithmetic: Arc<Choice>,
    worker: Worker,
    admission: Admission,
    decoding: Decoding,
    limits: Limits,
}

/// Decoded pictures are what takes memory: their pixels are counted, in two lanes, so that a picture
/// of fifty megapixels, or a bomb, holds up nobody but its like.
#[derive(Debug, Clone)]
struct Decoding {
    small: Lane,
    large: Lane,
}

/// Kilopixels that may be decoded at one time.
#[derive(Debug, Clone)]
struct Lane {
    free: Arc<Semaphore>,
    kilopixels: u32,
}

impl Decoding {
    /// A small picture is at most an eighth of the largest. All the small ones together get half of
    /// what that gets.
    const SMALL: u32 = 8;

    fn new(most: u64) -> Self {
        let lane = |kilopixels: u32| Lane {
            free: Arc::new(Semaphore::new(kilopixels as usize)),
            kilopixels,
        };
        let most = kilopixels(most);
        Self {
            small: lane((most / 2).max(1)),
            large: lane(most),
        }
    }

    /// Waits until a picture that costs so many pixels may be decoded.
    async fn enter(&self, pixels: u64) -> Option<OwnedSemaphorePermit> {
        let cost = kilopixels(pixels);
        let lane = match cost <= self.large.kilopixels / Self::SMALL {
            true => &self.small,
            false => &self.large,
        };
        // Pixels of more than four bytes may cost more than the lane has: such a picture has it alone.
        let cost = cost.min(lane.kilopixels);
        lane.free.clone().acquire_many_owned(cost).await.ok()
    }
}

impl Engine {
    /// Reads labels and weights, starts the model threads and runs a first forward pass on each, which
    /// makes libtorch allocate what it keeps. Takes as long as that takes: not for an async thread.
    ///
    /// # Errors
    /// Where a file cannot be read or used, or the forward pass fails.
    pub fn start(files: &Files, wanted: Wanted, limits: Limits) -> Result<Self, StartError> {
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
        let (loaded, worker, first) =
            Worker::start(state, labels, wanted, limits).map_err(|error| match error {
                StartError::Model(detector::Error::Labels(cause)) => StartError::Labels {
                    path: path(),
                    cause,
                },
                other => other,
            })?;
        Ok(Self {
            model: Arc::new(loaded.model),
            arithmetic: Arc::new(loaded.arithmetic),
            worker,
            admission: Admission::new(limits.workers, limits.queue, first),
            decoding: Decoding::new(limits.pixels),
            limits,
        })
    }

    /// The model that it runs.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// In which precision it runs, where, and why.
    #[must_use]
    pub fn arithmetic(&self) -> &Choice {
        &self.arithmetic
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
        let (prepared, picture) = self.prepare(bytes, None).await?;
        drop(picture);
        self.find(arrived, prepared, criteria).await
    }

    /// As [`detect`](Self::detect), and draws what was found into the picture, which is upright then.
    /// It counts among the pixels that may be decoded at one time until its bytes are dropped, then
    /// by their number.
    ///
    /// # Errors
    /// As `detect`; and where the picture is too long for the encoding.
    pub async fn annotate(
        &self,
        bytes: Bytes,
        criteria: Criteria,
        encoding: Encoding,
    ) -> Result<(Answer, Bytes), Error> {
        let arrived = Instant::now();
        let _place = self.admission.enter()?;
        let (prepared, mut picture) = self.prepare(bytes, Some(encoding)).await?;
        let mut answer = self.find(arrived, prepared, criteria).await?;
        blocking(move || {
            let begun = Instant::now();
            annotate::draw(&mut picture.pixels, &answer.detections);
            let bytes = encoding
                .encode(&picture.pixels)
                .map_err(|error| Error::Internal(error.to_string()))?;
            answer.stages.annotate = Some(begun.elapsed());
            Ok((answer, picture.replaced(bytes)))
        })
        .await
    }

    /// Decodes a picture, which shall fit the encoding, and makes the network's input of it.
    async fn prepare(
        &self,
        bytes: Bytes,
        encoding: Option<Encoding>,
    ) -> Result<(Prepared, Picture), Error> {
        let (limit, seen) = (self.limits.pixels, bytes.clone());
        let header = blocking(move || Ok(Header::read(&seen, limit)?)).await?;
        encoding.map_or(Ok(()), |encoding| header.fits(encoding))?;
        let permit = self.decoding.enter(header.cost()).await;
        let model = self.model.clone();
        blocking(move || {
            let begun = Instant::now();
            let pixels = header.decode(&bytes)?;
            let decode = begun.elapsed();
            let begun = Instant::now();
            let prepared = Prepared {
                input: model.input(&pixels),
                size: pixels.dimensions(),
                decode,
                preprocess: begun.elapsed(),
            };
            Ok((prepared, Picture { pixels, permit }))
        })
        .await
    }

    /// Runs the network, and reads its output.
    async fn find(
        &self,
        arrived: Instant,
        prepared: Prepared,
        criteria: Criteria,
    ) -> Result<Answer, Error> {
        let Prepared {
            input,
            size,
            decode,
            preprocess,
        } = prepared;
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
                annotate: None,
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

/// What waits for the model.
struct Prepared {
    input: Input,
    size: (u32, u32),
    decode: Duration,
    preprocess: Duration,
}

/// A decoded picture, and its share of the pixels that there may be.
struct Picture {
    pixels: RgbImage,
    permit: Option<OwnedSemaphorePermit>,
}

impl Picture {
    /// The bytes in its place, which keep as much of its share as they need.
    fn replaced(self, bytes: Vec<u8>) -> Bytes {
        let needed = kilopixels(bytes.len() as u64 / 4) as usize;
        let permit = self.permit.and_then(|mut all| match all.num_permits() {
            most if most <= needed => Some(all),
            _ => all.split(needed),
        });
        Bytes::from_owner(Encoded {
            bytes,
            _permit: permit,
        })
    }
}

struct Encoded {
    bytes: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn a_huge_picture_holds_up_no_small_one() {
        let decoding = Decoding::new(50_000_000);
        let huge = decoding.enter(50_000_000).now_or_never().flatten();
        assert!(huge.is_some());
        assert!(decoding.enter(40_000_000).now_or_never().is_none());
        let small: Vec<_> = (0..4)
            .map(|_| decoding.enter(6_000_000).now_or_never().flatten())
            .collect();
        assert!(small.iter().all(Option::is_some));
        // All together they have an end too.
        assert!(decoding.enter(6_000_000).now_or_never().is_none());
        drop(huge);
        assert!(
            decoding
                .enter(40_000_000)
                .now_or_never()
                .flatten()
                .is_some()
        );
    }

    #[test]
    fn an_annotated_picture_counts_by_its_bytes_until_it_is_sent() {
        let decoding = Decoding::new(8_000_000);
        let enter = |pixels| decoding.enter(pixels).now_or_never().flatten();
        let picture = Picture {
            pixels: RgbImage::new(1, 1),
            permit: enter(8_000_000),
        };
        assert!(enter(2_000_000).is_none());
        let bytes = picture.replaced(vec![7; 4_000_000]);
        assert!(enter(8_000_000).is_none());
        assert!(enter(7_000_000).is_some());
        assert_eq!(bytes, vec![7; 4_000_000]);
        drop(bytes);
        assert!(enter(8_000_000).is_some());
    }

    #[test]
    fn what_costs_more_than_there_is_may_still_be_decoded() {
        let decoding = Decoding::new(1000);
        for cost in [1, 1000, 2000, u64::MAX] {
            assert!(decoding.enter(cost).now_or_never().flatten().is_some());
        }
    }
}
