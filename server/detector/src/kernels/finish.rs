//! What turns sums into outputs: bias, activation, and the addition of another feature map.

use super::vector::{Vector, load};
use crate::architecture::Activation;

/// The bias and the activation of a layer.
#[derive(Debug)]
pub(super) struct Finish {
    /// One for each output channel, padded with zeros.
    bias: Vec<f32>,
    least: f32,
    greatest: f32,
}

impl Finish {
    /// For `padded` output channels.
    pub fn new(bias: &[f32], padded: usize, activation: Activation) -> Self {
        let mut bias = bias.to_vec();
        bias.resize(padded, 0.0);
        let (least, greatest) = match activation {
            Activation::Linear => (f32::NEG_INFINITY, f32::INFINITY),
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Relu6 => (0.0, 6.0),
        };
        Self {
            bias,
            least,
            greatest,
        }
    }

    /// For neighbouring channels from `channel`.
    #[inline(always)]
    pub fn of<V: Vector<LANES>, const LANES: usize>(&self, channel: usize) -> FinishOf<V> {
        FinishOf {
            bias: load(&self.bias, channel),
            least: V::splat(self.least),
            greatest: V::splat(self.greatest),
        }
    }
}

/// The bias and the activation of some channels.
#[derive(Clone, Copy)]
pub(super) struct FinishOf<V> {
    bias: V,
    least: V,
    greatest: V,
}

impl<V> FinishOf<V> {
    /// Writes up to `LANES` outputs, as many as fit. `other` is as long as `output`.
    #[inline(always)]
    pub fn write<const LANES: usize>(self, sums: V, other: Option<&[f32]>, output: &mut [f32])
    where
        V: Vector<LANES>,
    {
        let finished = sums.plus(self.bias).limit(self.least, self.greatest);
        if let Some(output) = output.first_chunk_mut() {
            *output = match other {
                Some(other) => finished.plus(load(other, 0)).to_array(),
                None => finished.to_array(),
            };
        } else {
            let finished = finished.to_array();
            for lane in 0..output.len() {
                output[lane] = finished[lane] + other.map_or(0.0, |other| other[lane]);
            }
        }
    }
}
