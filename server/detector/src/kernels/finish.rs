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

    /// For neighbouring channels from `channel`.
    #[inline(always)]
    pub fn of<V: Vector<LANES>, const LANES: usize>(&self, channel: usize) -> FinishOf<V> {
        FinishOf {
            bias: load(&self.bias, channel),
            activation: self.activation,
        }
    }
}

/// The bias and the activation of some channels.
#[derive(Clone, Copy)]
pub(super) struct FinishOf<V> {
    bias: V,
    activation: Activation,
}

impl<V> FinishOf<V> {
    /// Writes the outputs of sums like [`write`].
    #[inline(always)]
    pub fn write<const LANES: usize>(self, sums: V, other: Option<&[f32]>, output: &mut [f32])
    where
        V: Vector<LANES>,
    {
        write(self.activate(sums), other, output);
    }

    /// Adds the bias and applies the activation.
    #[inline(always)]
    pub fn activate<const LANES: usize>(self, sums: V) -> V
    where
        V: Vector<LANES>,
    {
        activate(self.activation, sums.plus(self.bias))
    }
}

/// Writes up to `LANES` outputs, as many as fit. `other` is as long as `output`, and is added to it.
#[inline(always)]
pub(super) fn write<V: Vector<LANES>, const LANES: usize>(
    finished: V,
    other: Option<&[f32]>,
    output: &mut [f32],
) {
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

#[inline(always)]
fn activate<V: Vector<LANES>, const LANES: usize>(activation: Activation, x: V) -> V {
    match activation {
        Activation::Linear => x,
        Activation::Relu => x.limit(V::splat(0.0), V::splat(f32::INFINITY)),
        Activation::Relu6 => x.limit(V::splat(0.0), V::splat(6.0)),
        Activation::HardSigmoid => hard_sigmoid(x),
        Activation::HardSwish => x.multiply_add(hard_sigmoid(x), V::splat(0.0)),
    }
}

#[inline(always)]
fn hard_sigmoid<V: Vector<LANES>, const LANES: usize>(x: V) -> V {
    x.multiply_add(V::splat(1.0 / 6.0), V::splat(0.5))
        .limit(V::splat(0.0), V::splat(1.0))
}
