//! The heads: the convolutions that compute the offsets and the logits of the prior boxes, from each source feature map.

use tch::{Device, Kind, TchError, Tensor};

use super::boxes::RawOutput;
use super::family::Scores;
use super::kernels::{Threads, exponentials, pixels_first, slice};

/// The outputs of the two heads of a source feature map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub offsets: Part,
    pub logits: Part,
}

/// Some channels of an output of the graph.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub output: usize,
    pub first: usize,
    pub channels: usize,
}

impl Part {
    /// Appends the numbers of a picture, in the order of the prior boxes: by row, column and box.
    fn append(self, maps: &[Tensor], picture: usize, to: &mut Vec<f32>) {
        let map = maps[self.output].get(picture as i64);
        for pixel in slice::<f32>(&map).chunks_exact(map.size()[2] as usize) {
            to.extend_from_slice(&pixel[self.first..][..self.channels]);
        }
    }
}

/// The network's output for each picture of a batch, from the outputs of its graph (N x C x H x W).
///
/// # Errors
/// If libtorch fails.
pub(super) fn read(
    heads: &[Heads],
    outputs: &[Tensor],
    classes: usize,
    scores: Scores,
    threads: Threads,
) -> Result<Vec<RawOutput>, TchError> {
    let on_cpu = |map: &Tensor| {
        let map = map.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        Ok(pixels_first(&map)?.0)
    };
    let maps: Vec<Tensor> = outputs
        .iter()
        .map(on_cpu)
        .collect::<Result<_, TchError>>()?;
    let pictures = maps.first().map_or(0, |map| map.size()[0] as usize);
    let of_picture = |picture| {
        let numbers = maps.iter().map(Tensor::numel).sum::<usize>() / pictures;
        let priors = numbers / (4 + classes);
        let mut offsets = Vec::with_capacity(4 * priors);
        let mut logits = Vec::with_capacity(classes * priors);
        for head in heads {
            head.offsets.append(&maps, picture, &mut offsets);
            head.logits.append(&maps, picture, &mut logits);
        }
        activate(scores, &mut logits, classes, threads);
        RawOutput {
            offsets,
            scores: logits,
            classes,
        }
    };
    Ok((0..pictures).map(of_picture).collect())
}

/// Turns the logits of each prior box into scores.
fn activate(scores: Scores, logits: &mut [f32], classes: usize, threads: Threads) {
    /// Prior boxes of a thread's share.
    const SHARE: usize = 128;
    threads.for_each(logits.chunks_mut(SHARE * classes), |logits| match scores {
        Scores::Softmax => softmax(logits, classes),
        Scores::Sigmoid => sigmoid(logits),
    });
}

/// 1 / (1 + e^-x) for each logit x.
fn sigmoid(logits: &mut [f32]) {
    for logit in &mut *logits {
        *logit = -*logit;
    }
    exponentials(logits);
    for power in logits {
        *power = 1.0 / (1.0 + *power);
    }
}

/// For each box, the exponential of each logit, divided by the sum of all. The largest logit is subtracted first: no
/// exponential overflows, and the sum is not 0.
fn softmax(logits: &mut [f32], classes: usize) {
    for logits in logits.chunks_exact_mut(classes) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for logit in logits {
            *logit -= largest;
        }
    }
    exponentials(logits);
    for powers in logits.chunks_exact_mut(classes) {
        let sum: f32 = powers.iter().sum();
        for power in powers {
            *power /= sum;
        }
    }
}
