//! Batches of augmented pictures, prepared on a thread of their own while the network learns.
//!
//! Everything in batch `step` follows from the seed and `step`: a run that is resumed there sees the same
//! pictures as one that never stopped.

use std::collections::HashMap;
use std::path::PathBuf;
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
use super::targets::{Truth, assign};
use crate::data;

/// Batches prepared ahead.
const AHEAD: usize = 3;
/// A picture is augmented from a copy whose longest side has so many pixels at most: twice what the network sees, as
/// crops need.
const LONGEST_SIDE: u32 = 640;
/// The quality of the copies, 1 to 100.
const QUALITY: u8 = 95;
/// The copies are kept up to so many bytes in all: some thousands. Other large pictures are read again each time.
const KEPT_BYTES: usize = 256 << 20;
/// Streams of random numbers: from here on one augments each sample; below, one orders each epoch.
const AUGMENTING: u64 = 1 << 40;

/// A picture to learn from.
#[derive(Debug, Clone)]
pub struct Example {
    /// The file.
    pub path: PathBuf,
    /// What is in it, classes from 1.
    pub truths: Vec<Truth>,
}

/// What the batches of a run are made of.
#[derive(Debug, Clone)]
pub struct Samples {
    /// All pictures; one at least.
    pub examples: Arc<Vec<Example>>,
    /// Whose input and priors they are for.
    pub family: &'static Family,
    /// Pictures in a batch.
    pub batch: usize,
    /// Of everything that is left to chance.
    pub seed: u64,
}

impl Samples {
    /// Steps in which every picture is seen once, but for the last ones that a batch is filled up with.
    #[must_use]
    pub fn steps_per_epoch(&self) -> usize {
        self.examples.len().div_ceil(self.batch).max(1)
    }
}

/// A batch of pictures, with what the network should say of them.
#[derive(Debug)]
pub struct Batch {
    /// N x 3 x side x side, normalised.
    pub pictures: Tensor,
    /// The class of each prior box, N x priors, i64: 0 is background, -1 is left out.
    pub classes: Tensor,
    /// The offsets of each prior box, N x priors x 4, in the order of the network's family.
    pub offsets: Tensor,
}

impl Batch {
    /// Matched prior boxes, at least 1.
    ///
    /// # Errors
    /// Where libtorch fails.
    pub fn matched(&self) -> Result<f64, TchError> {
        let matched = self.classes.f_gt(0)?.f_sum(tch::Kind::Int64)?;
        Ok(matched.f_int64_value(&[])?.max(1) as f64)
    }

    /// The batch in parts of so many pictures, which must divide it.
    ///
    /// # Errors
    /// Where libtorch fails.
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
    /// Where libtorch fails.
    pub fn on(&self, device: Device) -> Result<Self, TchError> {
        Ok(Self {
            pictures: self.pictures.f_to_device(device)?,
            classes: self.classes.f_to_device(device)?,
            offsets: self.offsets.f_to_device(device)?,
        })
    }
}

/// The batches of a run from some step on.
#[derive(Debug)]
pub struct Batches {
    receiver: Receiver<anyhow::Result<Batch>>,
    // After the channel, whose end ends it.
    _thread: Joined,
}

impl Batches {
    /// Starts preparing the batches from `step` on.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn from(samples: Samples, step: usize) -> anyhow::Result<Self> {
        let (sender, receiver) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new()
            .name("batches".to_owned())
            .spawn(move || {
                tch::set_num_threads(1);
                let mut loader = Loader::new(samples);
                for step in step.. {
                    if sender.send(loader.batch(step)).is_err() {
                        break;
                    }
                }
            })
            .context("start the thread that prepares pictures")?;
        Ok(Self {
            receiver,
            _thread: Joined(Some(thread)),
        })
    }

    /// The next batch.
    ///
    /// # Errors
    /// Where a picture cannot be read.
    pub fn take(&mut self) -> anyhow::Result<Batch> {
        self.receiver
            .recv()
            .context("the thread that prepares pictures has ended")?
    }
}

/// What the thread owns that prepares batches.
struct Loader {
    samples: Samples,
    priors: Vec<Prior>,
    /// Copies of large pictures, as JPEG.
    kept: HashMap<usize, Vec<u8>>,
    bytes: usize,
    /// An epoch, and the order of its pictures.
    order: (usize, Vec<usize>),
}

impl Loader {
    fn new(samples: Samples) -> Self {
        Self {
            priors: samples.family.priors(),
            kept: HashMap::new(),
            bytes: 0,
            order: (usize::MAX, Vec::new()),
            samples,
        }
    }

    fn batch(&mut self, step: usize) -> anyhow::Result<Batch> {
        let (each, side) = (self.samples.batch, self.samples.family.preprocessing.side);
        let (epoch, place) = (
            step / self.samples.steps_per_epoch(),
            step % self.samples.steps_per_epoch(),
        );
        self.shuffle(epoch);
        let (mut pictures, mut classes, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
        for nth in 0..each {
            let random =
                &mut Random::new(self.samples.seed, AUGMENTING + (step * each + nth) as u64);
            let index = self.order.1[(place * each + nth) % self.order.1.len()];
            let picture = self.picture(index)?;
            let truths = &self.samples.examples[index].truths;
            let (picture, truths) = augment(&picture, truths, side, random);
            pictures.extend_from_slice(self.samples.family.preprocessing.input(&picture).values());
            let targets = assign(&truths, &self.priors);
            classes.extend(targets.classes);
            for of_prior in targets.offsets {
                // In the order in which the network gives them.
                let mut ordered = [0.0; 4];
                for (value, at) in of_prior.into_iter().zip(self.samples.family.coder.order) {
                    ordered[at] = value;
                }
                offsets.extend(ordered);
            }
        }
        let (count, side) = (each as i64, side as i64);
        let pictures = Tensor::f_from_slice(&pictures)?.f_view([count, side, side, 3])?;
        Ok(Batch {
            pictures: pictures.f_permute([0, 3, 1, 2])?,
            classes: Tensor::f_from_slice(&classes)?.f_view([count, -1])?,
            offsets: Tensor::f_from_slice(&offsets)?.f_view([count, -1, 4])?,
        })
    }

    /// Another order for each epoch (Fisher and Yates).
    fn shuffle(&mut self, epoch: usize) {
        if self.order.0 == epoch {
            return;
        }
        let random = &mut Random::new(self.samples.seed, epoch as u64);
        let mut order: Vec<usize> = (0..self.samples.examples.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1));
        }
        self.order = (epoch, order);
    }

    /// A picture, no larger than is needed.
    ///
    /// A large one always goes through JPEG, kept or not: a resumed run must see the same pixels.
    fn picture(&mut self, index: usize) -> anyhow::Result<RgbImage> {
        if let Some(kept) = self.kept.get(&index) {
            return decoded(kept);
        }
        let picture = data::pixels(&self.samples.examples[index].path)?;
        let longest = picture.width().max(picture.height());
        if longest <= LONGEST_SIDE {
            return Ok(picture);
        }
        let reduce = |side: u32| u64::from(side) * u64::from(LONGEST_SIDE) / u64::from(longest);
        let [width, height] = [picture.width(), picture.height()].map(|side| reduce(side).max(1));
        let copy = resize(&picture, width as u32, height as u32, FilterType::Triangle);
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&copy)?;
        let copy = decoded(&bytes)?;
        if self.bytes + bytes.len() <= KEPT_BYTES {
            self.bytes += bytes.len();
            self.kept.insert(index, bytes);
        }
        Ok(copy)
    }
}

fn decoded(copy: &[u8]) -> anyhow::Result<RgbImage> {
    Ok(image::load_from_memory_with_format(copy, ImageFormat::Jpeg)?.into_rgb8())
}
