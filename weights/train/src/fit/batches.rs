//! Batches of varied pictures, prepared on a thread of their own while the network learns.
//!
//! Everything in batch `step` follows from the seed and `step`: a run that is resumed there sees the same
//! pictures as one that never stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Context as _;
use image::RgbImage;
use image::imageops::{FilterType, resize};
use ssd_server::detector::family::Family;
use ssd_server::detector::picture::Header;
use ssd_server::detector::priors::Prior;
use tch::Tensor;

use super::augment::vary;
use crate::scenes::Dice;
use crate::training::batches::Batch;
use crate::training::targets::{Truth, assign};

/// Batches prepared ahead.
const AHEAD: usize = 3;
/// A picture is kept no larger than this: four times what the network sees, as crops need.
const KEPT_SIDE: u32 = 640;
/// Bytes of all pictures that are kept; others are read anew each time.
const KEPT_BYTES: usize = 512 << 20;
/// The most pixels of a picture.
const MOST_PIXELS: u64 = 100_000_000;
/// Streams of the dice: from here on one varies each sample; below, one orders each epoch.
const VARYING: u64 = 1 << 40;

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
pub struct Diet {
    /// All pictures; one at least.
    pub examples: Arc<Vec<Example>>,
    /// Whose input and priors they are for.
    pub family: &'static Family,
    /// Pictures in a batch.
    pub batch: usize,
    /// Of everything that is left to chance.
    pub seed: u64,
}

impl Diet {
    /// Steps in which every picture is seen once, but for the last ones that a batch is filled up with.
    #[must_use]
    pub fn steps_per_epoch(&self) -> usize {
        self.examples.len().div_ceil(self.batch).max(1)
    }
}

/// The batches of a run from some step on.
#[derive(Debug)]
pub struct Batches {
    // The thread ends by itself when this is dropped.
    receiver: Receiver<anyhow::Result<Batch>>,
}

impl Batches {
    /// Starts preparing the batches from `step` on.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn from(diet: Diet, step: usize) -> anyhow::Result<Self> {
        let (sender, receiver) = sync_channel(AHEAD);
        std::thread::Builder::new()
            .name("batches".to_owned())
            .spawn(move || {
                tch::set_num_threads(1);
                let mut kitchen = Kitchen::new(diet);
                for step in step.. {
                    if sender.send(kitchen.batch(step)).is_err() {
                        break;
                    }
                }
            })
            .context("start the thread that prepares pictures")?;
        Ok(Self { receiver })
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

/// What the preparing thread owns.
struct Kitchen {
    diet: Diet,
    priors: Vec<Prior>,
    kept: Vec<Option<Arc<RgbImage>>>,
    bytes: usize,
    /// An epoch, and the order of its pictures.
    order: (usize, Vec<usize>),
}

impl Kitchen {
    fn new(diet: Diet) -> Self {
        Self {
            priors: diet.family.priors(),
            kept: vec![None; diet.examples.len()],
            bytes: 0,
            order: (usize::MAX, Vec::new()),
            diet,
        }
    }

    fn batch(&mut self, step: usize) -> anyhow::Result<Batch> {
        let (each, side) = (self.diet.batch, self.diet.family.preprocessing.side);
        let (epoch, place) = (
            step / self.diet.steps_per_epoch(),
            step % self.diet.steps_per_epoch(),
        );
        self.shuffle(epoch);
        let (mut pictures, mut classes, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
        for nth in 0..each {
            let dice = &mut Dice::new(self.diet.seed, VARYING + (step * each + nth) as u64);
            let index = self.order.1[(place * each + nth) % self.order.1.len()];
            let picture = self.picture(index)?;
            let truths = &self.diet.examples[index].truths;
            let (picture, truths) = vary(&picture, truths, side, dice);
            pictures.extend_from_slice(self.diet.family.preprocessing.input(&picture).values());
            let targets = assign(&truths, &self.priors);
            classes.extend(targets.classes);
            for of_prior in targets.offsets {
                // In the order in which the network gives them.
                let mut ordered = [0.0; 4];
                for (value, at) in of_prior.into_iter().zip(self.diet.family.coder.order) {
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
        let dice = &mut Dice::new(self.diet.seed, epoch as u64);
        let mut order: Vec<usize> = (0..self.diet.examples.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, dice.below(last + 1));
        }
        self.order = (epoch, order);
    }

    /// A picture, no larger than is needed.
    fn picture(&mut self, index: usize) -> anyhow::Result<Arc<RgbImage>> {
        if let Some(kept) = &self.kept[index] {
            return Ok(kept.clone());
        }
        let path = &self.diet.examples[index].path;
        let read = || {
            let bytes = std::fs::read(path)?;
            anyhow::Ok(Header::read(&bytes, MOST_PIXELS)?.decode(&bytes)?)
        };
        let picture = read().with_context(|| format!("read {}", path.display()))?;
        let picture = Arc::new(reduced(picture));
        let bytes = picture.as_raw().len();
        if self.bytes + bytes <= KEPT_BYTES {
            self.bytes += bytes;
            self.kept[index] = Some(picture.clone());
        }
        Ok(picture)
    }
}

fn reduced(picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= KEPT_SIDE {
        return picture;
    }
    let reduce = |side: u32| (u64::from(side) * u64::from(KEPT_SIDE) / u64::from(longest)).max(1);
    let (width, height) = (reduce(width) as u32, reduce(height) as u32);
    resize(&picture, width, height, FilterType::Triangle)
}
