//! Batches of varied scenes, prepared on a thread of their own while the network learns.
//!
//! Everything in batch `step` follows from the seed and `step`: a run that is resumed there sees
//! the same pictures as one that never stopped.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use image::RgbImage;
use ssd_server::detector::family;
use ssd_server::detector::preprocess::resize;
use ssd_server::detector::priors::Prior;
use tch::Tensor;

use super::targets::{Targets, Truth, assign};
use super::vary::vary;
use crate::scenes::{self, Dice, Scene, Style};

/// Streams of the dice from here on vary and choose scenes; those below draw them.
const VARYING: u64 = 1 << 40;
/// Batches prepared ahead.
const AHEAD: usize = 4;

/// Which pictures a run sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Diet {
    /// Of everything that is left to chance.
    pub seed: u64,
    /// Pictures in a batch.
    pub batch: usize,
    /// Different scenes, each drawn once and then varied.
    pub pool: usize,
    /// One scene in so many shows no object at all: what a model must not raise is learnt from those
    /// as much as what it must is from the others.
    pub empty: u64,
}

/// A batch of pictures, with what the network should say of them.
#[derive(Debug)]
pub struct Batch {
    /// N x 3 x 300 x 300, normalised.
    pub pictures: Tensor,
    /// N x 8732, i64.
    pub classes: Tensor,
    /// N x 8732 x 4.
    pub offsets: Tensor,
}

impl Batch {
    /// The batch in equal parts, which must divide it.
    ///
    /// # Errors
    /// Where libtorch fails.
    pub fn split(&self, parts: usize) -> Result<Vec<Self>, tch::TchError> {
        let each = self.classes.size()[0] / parts as i64;
        (0..parts as i64)
            .map(|part| {
                let cut = |tensor: &Tensor| tensor.f_narrow(0, part * each, each);
                Ok(Self {
                    pictures: cut(&self.pictures)?,
                    classes: cut(&self.classes)?,
                    offsets: cut(&self.offsets)?,
                })
            })
            .collect()
    }
}

/// A scene as the network sees it: 300x300, boxes in fractions.
fn squared(scene: &Scene) -> (RgbImage, Vec<Truth>) {
    let (w, h) = scene.picture.dimensions();
    let side = family::VOC.preprocessing.side as u32;
    let picture = if (w, h) == (side, side) {
        scene.picture.clone()
    } else {
        RgbImage::from_raw(side, side, resize(&scene.picture, side as usize))
            .expect("300 x 300 x 3")
    };
    let truths = scene.objects.iter().map(|object| Truth {
        class: object.class + 1,
        corners: object.corners.scale(1.0 / w as f32, 1.0 / h as f32),
        difficult: object.difficult,
    });
    (picture, truths.collect())
}

/// Scenes, drawn when first asked for and kept.
struct Pool {
    diet: Diet,
    scenes: Vec<Option<(RgbImage, Vec<Truth>)>>,
}

impl Pool {
    fn scene(&mut self, index: usize) -> anyhow::Result<&(RgbImage, Vec<Truth>)> {
        let slot = &mut self.scenes[index];
        if slot.is_none() {
            let style = Style {
                distractors_only: (index as u64).is_multiple_of(self.diet.empty),
                ..Style::default()
            };
            *slot = Some(squared(&scenes::draw(
                self.diet.seed,
                index as u64,
                &style,
            )?));
        }
        slot.as_ref().context("just drawn")
    }
}

/// The batches of a run from some step on.
#[derive(Debug)]
pub struct Batches {
    receiver: Receiver<anyhow::Result<Batch>>,
    // Ends by itself when the receiver is dropped.
    _thread: JoinHandle<()>,
}

impl Batches {
    /// Starts preparing the batches from `step` on.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn from(diet: Diet, step: usize) -> anyhow::Result<Self> {
        let (sender, receiver) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new()
            .name("scenes".to_owned())
            .spawn(move || {
                let mut kitchen = Kitchen::new(diet);
                for step in step.. {
                    if sender.send(kitchen.batch(step)).is_err() {
                        break;
                    }
                }
            })
            .context("start the thread that draws scenes")?;
        Ok(Self {
            receiver,
            _thread: thread,
        })
    }

    /// The next batch.
    ///
    /// # Errors
    /// Where a scene could not be drawn.
    pub fn take(&mut self) -> anyhow::Result<Batch> {
        self.receiver
            .recv()
            .context("the thread that draws scenes has ended")?
    }
}

/// What the preparing thread owns.
struct Kitchen {
    diet: Diet,
    pool: Pool,
    priors: Vec<Prior>,
}

impl Kitchen {
    fn new(diet: Diet) -> Self {
        let pool = Pool {
            diet,
            scenes: vec![None; diet.pool.max(1)],
        };
        Self {
            diet,
            pool,
            priors: family::VOC.priors(),
        }
    }

    fn batch(&mut self, step: usize) -> anyhow::Result<Batch> {
        let mut pictures = Vec::new();
        let mut targets = Vec::new();
        for nth in 0..self.diet.batch {
            let sample = step * self.diet.batch + nth;
            let dice = &mut Dice::new(self.diet.seed, VARYING + sample as u64);
            // The first time round in order, so that drawing keeps pace with learning.
            let count = self.pool.scenes.len();
            let index = if sample < count {
                sample
            } else {
                dice.below(count)
            };
            let (picture, truths) = self.pool.scene(index)?;
            let (picture, truths) = vary(picture, truths, dice);
            pictures.extend_from_slice(family::VOC.preprocessing.input(&picture).values());
            targets.push(assign(&truths, &self.priors));
        }
        batch(&pictures, &targets)
    }
}

fn batch(pictures: &[f32], targets: &[Targets]) -> anyhow::Result<Batch> {
    let (count, side) = (targets.len() as i64, family::VOC.preprocessing.side as i64);
    let classes: Vec<i64> = targets
        .iter()
        .flat_map(|t| t.classes.iter().copied())
        .collect();
    let offsets: Vec<f32> = targets
        .iter()
        .flat_map(|t| t.offsets.as_flattened())
        .copied()
        .collect();
    Ok(Batch {
        // Row, column, channel is channels_last already; the permutation only renames the axes.
        pictures: Tensor::f_from_slice(pictures)?
            .f_view([count, side, side, 3])?
            .f_permute([0, 3, 1, 2])?,
        classes: Tensor::f_from_slice(&classes)?.f_view([count, -1])?,
        offsets: Tensor::f_from_slice(&offsets)?.f_view([count, -1, 4])?,
    })
}
