//! Prepares batches of augmented pictures ahead of the training, on a separate thread.
//!
//! The batch of a step depends only on the seed and the number of the step, so that a resumed run gets the same batches
//! as an uninterrupted run.

use std::collections::HashMap;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Context as _;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{ImageFormat, RgbImage};
use ssd_detector::family::Family;
use ssd_detector::priors::Prior;
use tch::{Device, TchError, Tensor};

use super::Joined;
use super::augment::augment;
use super::random::Random;
use super::targets::assign;
use crate::data::{self, Labelled};

/// The number of batches that are prepared ahead.
const AHEAD: usize = 3;
/// Large pictures are augmented from a copy with this longest side, in pixels. It is about twice the side of the
/// network's input, for crops of half a picture.
const MAX_SIDE: u32 = 640;
/// The JPEG quality of the copies, 1 to 100.
const QUALITY: u8 = 95;
/// The maximum bytes of all cached copies, enough for a few thousand. Other large pictures are decoded again each time.
const CACHE_BYTES: usize = 256 << 20;
/// The first stream of random numbers for augmenting samples. Lower streams are for shuffling epochs.
const AUGMENTING: u64 = 1 << 40;

/// The training pictures, and how they are divided into batches.
#[derive(Debug, Clone)]
pub struct Samples {
    /// The training pictures, at least one.
    pub pictures: Arc<Vec<Labelled>>,
    /// The family of the network, which determines the input and the prior boxes.
    pub family: &'static Family,
    /// The number of pictures in a batch.
    pub batch: usize,
    /// The seed of shuffling and augmentation.
    pub seed: u64,
}

impl Samples {
    /// The number of steps of an epoch. Pictures from the start of the epoch fill up the last batch.
    #[must_use]
    pub fn steps_per_epoch(&self) -> usize {
        self.pictures.len().div_ceil(self.batch).max(1)
    }
}

/// A batch of pictures, and the targets of the network for them.
#[derive(Debug)]
pub struct Batch {
    /// The input: N x 3 x side x side, normalised for the family, f32.
    pub pictures: Tensor,
    /// The target class of each prior box: N x priors, i64. 0 is the background, -1 is ignored.
    pub classes: Tensor,
    /// The target offsets of each prior box: N x priors x 4, f32, in the order of the network's family.
    pub offsets: Tensor,
}

impl Batch {
    /// The number of matched prior boxes, at least 1.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn matched(&self) -> Result<f64, TchError> {
        let matched = self.classes.f_gt(0)?.f_sum(tch::Kind::Int64)?;
        Ok(matched.f_int64_value(&[])?.max(1) as f64)
    }

    /// Divides the batch into parts of `pictures` pictures, which must divide its size.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn split(&self, pictures: usize) -> Result<Vec<Self>, TchError> {
        let each = pictures as i64;
        let parts = self.classes.size()[0] / each;
        let part = |part: i64| {
            let cut = |tensor: &Tensor| tensor.f_narrow(0, part * each, each);
            Ok(Self {
                pictures: cut(&self.pictures)?,
                classes: cut(&self.classes)?,
                offsets: cut(&self.offsets)?,
            })
        };
        (0..parts).map(part).collect()
    }

    /// The batch on a device.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn on(&self, device: Device) -> Result<Self, TchError> {
        Ok(Self {
            pictures: self.pictures.f_to_device(device)?,
            classes: self.classes.f_to_device(device)?,
            offsets: self.offsets.f_to_device(device)?,
        })
    }
}

/// The batches of a run, in order.
#[derive(Debug)]
pub struct Batches {
    receiver: Receiver<anyhow::Result<Batch>>,
    // Dropped after the channel. The thread returns when the channel is closed.
    _thread: Joined,
}

impl Batches {
    /// Starts a thread that prepares the batches from step `first`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn from(samples: Samples, first: usize) -> anyhow::Result<Self> {
        let (sender, receiver) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new()
            .name("batches".to_owned())
            .spawn(move || {
                tch::set_num_threads(1);
                let mut loader = Loader::new(samples);
                for step in first.. {
                    if sender.send(loader.batch(step)).is_err() {
                        break;
                    }
                }
            })
            .context("cannot start the thread that prepares pictures")?;
        Ok(Self {
            receiver,
            _thread: Joined(Some(thread)),
        })
    }

    /// Waits for the next batch.
    ///
    /// # Errors
    /// If a picture cannot be decoded, or libtorch fails.
    pub fn take(&mut self) -> anyhow::Result<Batch> {
        self.receiver
            .recv()
            .context("the thread that prepares pictures ended unexpectedly")?
    }
}

/// The state of the thread that prepares batches.
struct Loader {
    samples: Samples,
    priors: Vec<Prior>,
    /// Reduced copies of large pictures, as JPEG, by the index of the picture.
    cache: HashMap<usize, Vec<u8>>,
    cached_bytes: usize,
    /// An epoch, and the order of its pictures.
    order: (usize, Vec<usize>),
}

impl Loader {
    fn new(samples: Samples) -> Self {
        Self {
            priors: samples.family.priors(),
            cache: HashMap::new(),
            cached_bytes: 0,
            order: (usize::MAX, Vec::new()),
            samples,
        }
    }

    fn batch(&mut self, step: usize) -> anyhow::Result<Batch> {
        let (count, family) = (self.samples.batch, self.samples.family);
        let side = family.preprocessing.side;
        let per_epoch = self.samples.steps_per_epoch();
        self.shuffle(step / per_epoch);
        let (mut values, mut classes, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
        for nth in 0..count {
            let stream = AUGMENTING + (step * count + nth) as u64;
            let index = self.order.1[(step % per_epoch * count + nth) % self.order.1.len()];
            let picture = self.picture(index)?;
            let (augmented, objects) = augment(
                &picture,
                &self.samples.pictures[index].objects,
                side,
                &mut Random::new(self.samples.seed, stream),
            );
            values.extend_from_slice(family.preprocessing.input(&augmented).values());
            let targets = assign(&objects, &self.priors);
            classes.extend(targets.classes);
            for of_prior in targets.offsets {
                let mut ordered = [0.0; 4];
                for (value, at) in of_prior.into_iter().zip(family.coder.order) {
                    ordered[at] = value;
                }
                offsets.extend(ordered);
            }
        }
        let n = count as i64;
        Ok(Batch {
            pictures: Tensor::f_from_slice(&values)?
                .f_view([n, side as i64, side as i64, 3])?
                .f_permute([0, 3, 1, 2])?,
            classes: Tensor::f_from_slice(&classes)?.f_view([n, -1])?,
            offsets: Tensor::f_from_slice(&offsets)?.f_view([n, -1, 4])?,
        })
    }

    /// Shuffles the pictures for an epoch (Fisher and Yates).
    fn shuffle(&mut self, epoch: usize) {
        if self.order.0 == epoch {
            return;
        }
        let random = &mut Random::new(self.samples.seed, epoch as u64);
        let mut order: Vec<usize> = (0..self.samples.pictures.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1));
        }
        self.order = (epoch, order);
    }

    /// A picture, reduced to a longest side of 640 pixels if it is larger.
    ///
    /// A reduced picture always goes through JPEG, even if it is not cached, so that a resumed run gets the same pixels.
    fn picture(&mut self, index: usize) -> anyhow::Result<RgbImage> {
        if let Some(jpeg) = self.cache.get(&index) {
            return decode(jpeg);
        }
        let picture = data::pixels(&self.samples.pictures[index].path)?;
        let longest = picture.width().max(picture.height());
        if longest <= MAX_SIDE {
            return Ok(picture);
        }
        let reduce = |side: u32| u64::from(side) * u64::from(MAX_SIDE) / u64::from(longest);
        let [width, height] = [picture.width(), picture.height()].map(|side| reduce(side).max(1));
        let reduced = resize(&picture, width as u32, height as u32, FilterType::Triangle);
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&reduced)?;
        let copy = decode(&jpeg)?;
        if self.cached_bytes + jpeg.len() <= CACHE_BYTES {
            self.cached_bytes += jpeg.len();
            self.cache.insert(index, jpeg);
        }
        Ok(copy)
    }
}

fn decode(jpeg: &[u8]) -> anyhow::Result<RgbImage> {
    Ok(image::load_from_memory_with_format(jpeg, ImageFormat::Jpeg)?.into_rgb8())
}
