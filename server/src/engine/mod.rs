//! The engine: bytes of a picture in, detections out.
//!
//! Decoding, preprocessing and postprocessing run on tokio's blocking threads, the forward pass on
//! long-lived model threads that share the weights: one by default, since libtorch parallelises
//! inside a pass, and every further thread costs memory for good. Whoever finds every place taken is
//! sent away at once. A picture that is requested back is kept meanwhile, among those that may be decoded
//! at one time. It knows no HTTP and no JSON.

mod admission;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use image::RgbImage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Settings;
use admission::{Admission, Held, Place};
pub use admission::{Full, Queue};
use ssd_detector::boxes::Criteria;
use ssd_detector::labels::{self, Labels};
use ssd_detector::picture::{self, Encoding, Header};
use ssd_detector::precision::{Choice, Requested};
use ssd_detector::preprocess::Input;
use ssd_detector::{Detection, Model, annotate, inference};
use state_dict::StateDict;
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
    /// The most pixels of a picture, those of more than four bytes counted by their bytes. All large ones
    /// that are decoded at one time hold four bytes for each of so many, or are one that holds more; the
    /// small ones together half as much.
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

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Self {
        Self {
            pixels: settings.pixel_limit,
            threads: settings.threads.get(),
            workers: settings.workers.get(),
            batch: settings.batch,
            queue: settings.queue_length,
        }
    }
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
    Weights(state_dict::Error),
    /// The weights cannot be used.
    #[error("weights {0}")]
    Model(ssd_detector::Error),
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
pub struct Detections {
    /// Best first.
    pub objects: Vec<Detection>,
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

/// Decoded pictures are what takes memory: it is counted, in two lanes, so that a picture of fifty
/// megapixels, or a bomb, holds up nobody but its like.
#[derive(Debug, Clone)]
struct Decoding {
    small: Lane,
    large: Lane,
    /// Who may wait for the large lane: not so many that no place in the engine is left for others.
    crowd: Admission,
}

/// Kilobytes that may be in use at one time.
#[derive(Debug, Clone)]
struct Lane {
    free: Arc<Semaphore>,
    kilobytes: u32,
}

impl Lane {
    fn new(kilobytes: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(kilobytes as usize)),
            kilobytes,
        }
    }

    /// Waits until there is room for so much. What needs more than there is gets all of it.
    async fn enter(&self, cost: u32) -> Option<OwnedSemaphorePermit> {
        let cost = cost.min(self.kilobytes);
        self.free.clone().acquire_many_owned(cost).await.ok()
    }
}

/// Leave to decode a picture.
#[derive(Debug)]
struct Leave {
    room: Option<OwnedSemaphorePermit>,
    _crowd: Option<Held>,
}

impl Decoding {
    /// Bytes of a pixel, as most decoders hold them.
    const PIXEL: u64 = 4;
    /// A small picture takes at most an eighth of what all the large ones may take together. All the
    /// small ones together get half as much as those.
    const SMALL: u32 = 8;
    /// What a large picture takes, before one has been seen.
    const FIRST: Duration = Duration::from_secs(1);

    fn new(pixels: u64, places: usize) -> Self {
        let most = kilobytes(pixels.saturating_mul(Self::PIXEL));
        Self {
            small: Lane::new((most / 2).max(1)),
            large: Lane::new(most),
            crowd: Admission::new(1, (places / 2).saturating_sub(1), Self::FIRST),
        }
    }

    fn is_small(&self, cost: u32) -> bool {
        cost <= self.large.kilobytes / Self::SMALL
    }

    /// Waits until a picture that takes so many bytes may be decoded.
    async fn enter(&self, memory: u64) -> Result<Leave, Full> {
        let cost = kilobytes(memory);
        if self.is_small(cost) {
            return Ok(Leave {
                room: self.small.enter(cost).await,
                _crowd: None,
            });
        }
        let place = self.crowd.enter()?;
        Ok(Leave {
            room: self.large.enter(cost).await,
            _crowd: Some(place.held()),
        })
    }

    /// Notes how long a picture that took so many bytes was decoded.
    fn served(&self, memory: u64, took: Duration) {
        if !self.is_small(kilobytes(memory)) {
            self.crowd.served(took);
        }
    }
}

impl Engine {
    /// Reads labels and weights, starts the model threads and runs a first forward pass on each, which
    /// makes libtorch allocate what it keeps. Takes as long as that takes: not for an async thread.
    ///
    /// # Errors
    /// Where a file cannot be read or used, or the forward pass fails.
    pub fn start(files: &Files, requested: Requested, limits: Limits) -> Result<Self, StartError> {
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
            Worker::start(state, labels, requested, limits).map_err(|error| match error {
                StartError::Model(ssd_detector::Error::Labels(cause)) => StartError::Labels {
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
            decoding: Decoding::new(limits.pixels, limits.workers + limits.queue),
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
    pub async fn detect(&self, bytes: Bytes, criteria: Criteria) -> Result<Detections, Error> {
        let arrived = Instant::now();
        let place = self.admission.enter()?;
        let (prepared, picture) = self.prepare(&place, bytes, None).await?;
        drop(picture);
        self.find(&place, arrived, prepared, criteria).await
    }

    /// As [`detect`](Self::detect), and draws what was found into the picture, which is upright then.
    /// It counts as what is decoded until its bytes are dropped, then by their number.
    ///
    /// # Errors
    /// As `detect`; and where the picture is too long for the encoding.
    pub async fn annotate(
        &self,
        bytes: Bytes,
        criteria: Criteria,
        encoding: Encoding,
    ) -> Result<(Detections, Bytes), Error> {
        let arrived = Instant::now();
        let place = self.admission.enter()?;
        let (prepared, mut picture) = self.prepare(&place, bytes, Some(encoding)).await?;
        let mut detections = self.find(&place, arrived, prepared, criteria).await?;
        blocking(&place, move || {
            let begun = Instant::now();
            annotate::draw(&mut picture.pixels, &detections.objects);
            let bytes = encoding
                .encode(&picture.pixels)
                .map_err(|error| Error::Internal(error.to_string()))?;
            detections.stages.annotate = Some(begun.elapsed());
            Ok((detections, picture.replaced(bytes)))
        })
        .await
    }

    /// Decodes a picture, which shall fit the encoding, and makes the network's input of it.
    async fn prepare(
        &self,
        place: &Place,
        bytes: Bytes,
        encoding: Option<Encoding>,
    ) -> Result<(Prepared, Picture), Error> {
        let (limit, seen) = (self.limits.pixels, bytes.clone());
        let header = blocking(place, move || Ok(Header::read(&seen, limit)?)).await?;
        let mut memory = header.memory();
        if let Some(encoding) = encoding {
            header.fits(encoding)?;
            // The pixels and what is written of them, which of a PNG is there twice.
            let copies = match encoding {
                Encoding::Jpeg => 2,
                Encoding::Png => 3,
            };
            memory = memory.max(copies * header.decoded());
        }
        let leave = self.decoding.enter(memory).await?;
        let model = self.model.clone();
        let (prepared, picture) = blocking(place, move || {
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
            Ok((prepared, Picture { pixels, leave }))
        })
        .await?;
        self.decoding
            .served(memory, prepared.decode + prepared.preprocess);
        Ok((prepared, picture))
    }

    /// Runs the network, and reads its output.
    async fn find(
        &self,
        place: &Place,
        arrived: Instant,
        prepared: Prepared,
        criteria: Criteria,
    ) -> Result<Detections, Error> {
        let Prepared {
            input,
            size,
            decode,
            preprocess,
        } = prepared;
        let pass = self.worker.forward(input, place.held()).await?;
        self.admission.served(pass.share);
        let wait = arrived
            .elapsed()
            .saturating_sub(decode + preprocess + pass.forward);
        let model = self.model.clone();
        blocking(place, move || {
            let begun = Instant::now();
            let objects = model.detections(&pass.output, &criteria, size);
            let stages = Stages {
                decode,
                preprocess,
                wait,
                forward: pass.forward,
                postprocess: begun.elapsed(),
                annotate: None,
            };
            let (width, height) = size;
            Ok(Detections {
                objects,
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

/// A decoded picture, and its share of what there may be.
struct Picture {
    pixels: RgbImage,
    leave: Leave,
}

impl Picture {
    /// The bytes in its place, which keep as much of its share as they need.
    fn replaced(self, bytes: Vec<u8>) -> Bytes {
        let needed = kilobytes(bytes.len() as u64) as usize;
        let room = self.leave.room.and_then(|mut all| match all.num_permits() {
            most if most <= needed => Some(all),
            _ => all.split(needed),
        });
        Bytes::from_owner(Encoded { bytes, _room: room })
    }
}

struct Encoded {
    bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Semaphores count in `u32`; a thousand bytes are fine enough.
fn kilobytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Runs work that would hold an async thread up, unless nobody waits for it any more when its turn
/// comes. A panic in it, of a picture decoder say, costs this one answer.
async fn blocking<T: Send + 'static>(
    place: &Place,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let held = place.held();
    let work = move || match held.is_wanted() {
        true => work(),
        false => Err(Error::Internal("nobody waits for it".to_owned())),
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::Internal(format!("a stage did not end: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn enter(decoding: &Decoding, megabytes: u64) -> Option<Result<Leave, Full>> {
        decoding.enter(megabytes * 1_000_000).now_or_never()
    }

    #[test]
    fn a_huge_picture_holds_up_no_small_one() {
        let decoding = Decoding::new(50_000_000, 17);
        let huge = enter(&decoding, 200).unwrap().unwrap();
        assert!(enter(&decoding, 160).is_none());
        let small: Vec<_> = (0..4).map(|_| enter(&decoding, 24)).collect();
        assert!(small.iter().all(|leave| matches!(leave, Some(Ok(_)))));
        // All together they have an end too.
        assert!(enter(&decoding, 24).is_none());
        drop(huge);
        assert!(matches!(enter(&decoding, 160), Some(Ok(_))));
    }

    #[test]
    fn huge_pictures_leave_half_of_the_places_to_others() {
        let decoding = Decoding::new(50_000_000, 17);
        let _first = enter(&decoding, 200).unwrap().unwrap();
        let mut waiting: Vec<_> = (0..7)
            .map(|_| Box::pin(decoding.enter(200_000_000)))
            .collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        let full = enter(&decoding, 200).unwrap().unwrap_err();
        assert_eq!(full.retry_after, 8 * Decoding::FIRST);
        decoding.served(1000, Duration::ZERO);
        assert_eq!(enter(&decoding, 200).unwrap().unwrap_err(), full);
        waiting.pop();
        assert!(enter(&decoding, 200).is_none());
    }

    #[test]
    fn an_annotated_picture_counts_by_its_bytes_until_it_is_sent() {
        let decoding = Decoding::new(8_000_000, 4);
        let picture = Picture {
            pixels: RgbImage::new(1, 1),
            leave: enter(&decoding, 32).unwrap().unwrap(),
        };
        assert!(enter(&decoding, 8).is_none());
        let bytes = picture.replaced(vec![7; 16_000_000]);
        assert!(enter(&decoding, 32).is_none());
        assert!(matches!(enter(&decoding, 16), Some(Ok(_))));
        assert_eq!(bytes, vec![7; 16_000_000]);
        drop(bytes);
        assert!(matches!(enter(&decoding, 32), Some(Ok(_))));
    }

    #[test]
    fn what_takes_more_than_there_is_may_still_be_decoded() {
        let decoding = Decoding::new(1000, 1);
        for memory in [1, 4000, 9000, u64::MAX] {
            let leave = decoding.enter(memory).now_or_never();
            assert!(matches!(leave, Some(Ok(_))));
        }
    }
}
