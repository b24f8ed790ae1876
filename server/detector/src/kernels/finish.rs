//! What turns sums into outputs: bias, activation, and the addition of another feature map.

use super::vector::{Vector, load};
use crate::architecture::Activation;

/// The bias and the activation of a layer.
#[derive(Debug)]
pub(super) struct Finish {
    /// One for each output channel, padded with zeros.
    bias: Vec<f32>,
    activation: Activation,
}

impl Finish {
    /// For `padded` output channels.
    pub fn new(bias: &[f32], padded: usize, activation: Activation) -> Self {
        let mut bias = bias.to_vec();
        bias.resize(padded, 0.0);
        Self { bias, activation }
    }

    /// The bias of neighbouring channels from `channel`.
    #[inline(always)]
    pub fn bias<V: Vector<LANES>, const LANES: usize>(&self, channel: usize) -> V {
        load(&self.bias, channel)
    }

    pub fn activation(&self) -> Activation {
        self.activation
    }
}

/// An activation of vectors. Code is compiled for each type, so that no vector waits to learn which one is meant.
pub(super) trait Activate: Copy {
    fn of<V: Vector<LANES>, const LANES: usize>(self, x: V) -> V;
}

/// The least number and the greatest one.
#[derive(Clone, Copy)]
pub(super) struct Limit(f32, f32);

impl Limit {
    /// An activation that is no more than limits.
    pub fn of(activation: Activation) -> Option<Self> {
        match activation {
            Activation::Linear => Some(Self(f32::NEG_INFINITY, f32::INFINITY)),
            Activation::Relu => Some(Self(0.0, f32::INFINITY)),
            Activation::Relu6 => Some(Self(0.0, 6.0)),
            Activation::HardSigmoid | Activation::HardSwish => None,
        }
    }
}

impl Activate for Limit {
    #[inline(always)]
    fn of<V: Vector<LANES>, const LANES: usize>(self, x: V) -> V {
        x.limit(V::splat(self.0), V::splat(self.1))
    }
}

/// Any.
impl Activate for Activation {
    #[inline(always)]
    fn of<V: Vector<LANES>, const LANES: usize>(self, x: V) -> V {
        match self {
            Self::HardSigmoid => hard_sigmoid(x),
            Self::HardSwish => x.multiply_add(hard_sigmoid(x), V::splat(0.0)),
            limit => Limit::of(limit).map_or(x, |limit| limit.of(x)),
        }
    }
}

#[inline(always)]
fn hard_sigmoid<V: Vector<LANES>, const LANES: usize>(x: V) -> V {
    x.multiply_add(V::splat(1.0 / 6.0), V::splat(0.5))
        .limit(V::splat(0.0), V::splat(1.0))
}

/// Adds another feature map, which is as long.
#[inline(always)]
pub(super) fn add(output: &mut [f32], other: &[f32]) {
    for (output, other) in output.iter_mut().zip(other) {
        *output += other;
    }
}

/// Writes up to `LANES` numbers, as many as fit.
#[inline(always)]
pub(super) fn write<V: Vector<LANES>, const LANES: usize>(numbers: V, output: &mut [f32]) {
    let numbers = numbers.to_array();
    if let Some(output) = output.first_chunk_mut() {
        *output = numbers;
    } else {
        output.copy_from_slice(&numbers[..output.len()]);
    }
}
