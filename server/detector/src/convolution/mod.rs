//! Convolutions in single precision on the CPU, for feature maps whose channels lie side by side (NHWC).
//!
//! oneDNN computes convolutions directly. Winograd's algorithm needs a quarter of the multiplications or fewer, for
//! kernels of 3 x 3. Which way is the fastest depends on the layer and the processor, so a caller measures it.
//!
//! ```text
//! winograd   convolutions with kernels of 3 x 3, tile by tile
//! pointwise  convolutions with kernels of 1 x 1
//! depthwise  depthwise convolutions with kernels of 3 x 3
//! finish     bias and activation
//! kernel     products of matrices
//! vector     vectors of numbers; the processor's instructions
//! memory     aligned memory
//! threads    threads that share work
//! ```
//!
//! `unsafe` code is in `vector` (instructions that the processor must have), `threads` (libtorch's threads) and here
//! (the numbers of tensors).

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "loops by an index become vector instructions, of the function that they become a part of"
)]

mod depthwise;
mod finish;
mod kernel;
mod memory;
mod pointwise;
#[cfg(test)]
mod tests;
mod threads;
mod vector;
mod winograd;

use std::fmt;
use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use self::depthwise::Depthwise;
use self::pointwise::Pointwise;
use self::threads::Threads;
use self::vector::Level;
use self::winograd::{Tile, Winograd};
use super::architecture::Activation;
use super::inference::numbers;
use super::onednn::Moves;

/// A way to compute a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    Winograd(Tile),
    Pointwise,
    Depthwise,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Winograd(Tile::F4) => "Winograd F(4x4,3x3)",
            Self::Winograd(Tile::F6) => "Winograd F(6x6,3x3)",
            Self::Pointwise => "1x1 product",
            Self::Depthwise => "depthwise",
        })
    }
}

impl Way {
    /// The way to compute a convolution of feature maps of `side` x `side` with weights of this shape (output channels,
    /// input channels of a group, rows, columns); `None` if it has no form here.
    pub(super) fn of(weight: &[i64], moves: Moves, side: i64) -> Option<Self> {
        /// On larger feature maps, few outputs of a tile lie outside, and the weights are small. On smaller ones,
        /// F(6x6) is no faster than F(4x4), less exact, and its weights are almost twice as large.
        const LARGE: i64 = 40;
        /// Layers of fewer channels gain too little to measure, and so do those of fewer multiplications at a point
        /// of the kernel.
        const MANY: i64 = 64;
        const LONG: i64 = 5_000_000;
        let Moves {
            stride: [stride, _],
            padding: [padding, _],
            dilation: [dilation, _],
            groups,
        } = moves;
        match (weight, stride, padding, dilation) {
            (&[outputs, inputs, 3, 3], 1, 1, 1)
                if groups == 1
                    && inputs.min(outputs) >= MANY
                    && inputs * outputs * side * side >= LONG =>
            {
                let tile = if side > LARGE { Tile::F6 } else { Tile::F4 };
                Some(Self::Winograd(tile))
            }
            (&[outputs, inputs, 1, 1], 1, 0, _) if groups == 1 && inputs.min(outputs) > MANY => {
                Some(Self::Pointwise)
            }
            (&[channels, 1, 3, 3], 1 | 2, 1, 1) if groups == channels && channels > MANY => {
                Some(Self::Depthwise)
            }
            _ => None,
        }
    }

    /// The memory of weights of this shape, without what fills up vectors.
    pub(super) fn bytes(self, weight: &[i64]) -> usize {
        let points = match self {
            Self::Winograd(tile) => tile.points(),
            Self::Pointwise => 1,
            Self::Depthwise => 9,
        };
        4 * points * (weight[0] * weight[1]) as usize
    }
}

/// A convolution that is ready to run. Clones share the weights.
#[derive(Debug, Clone)]
pub(super) struct Own {
    layer: Arc<Layer>,
    way: Way,
    outputs: usize,
    stride: usize,
}

#[derive(Debug)]
enum Layer {
    Winograd(Winograd),
    Pointwise(Pointwise),
    Depthwise(Depthwise),
}

impl Own {
    /// Prepares weights and a bias for the [way](Way::of) of the convolution.
    ///
    /// # Errors
    /// If libtorch fails.
    pub(super) fn new(
        way: Way,
        weight: &Tensor,
        bias: &Tensor,
        moves: Moves,
        activation: Activation,
    ) -> Result<Self, TchError> {
        let (inputs, stride) = (weight.size()[1] as usize, moves.stride[0] as usize);
        let (weight, bias) = (numbers(weight)?, numbers(bias)?);
        let level = Level::of_this_machine();
        let layer = match way {
            Way::Winograd(tile) => Layer::Winograd(Winograd::new(
                level, &weight, inputs, &bias, tile, activation,
            )),
            Way::Pointwise => {
                Layer::Pointwise(Pointwise::new(level, &weight, inputs, &bias, activation))
            }
            Way::Depthwise => {
                Layer::Depthwise(Depthwise::new(level, &weight, &bias, stride, activation))
            }
        };
        Ok(Self {
            layer: Arc::new(layer),
            way,
            outputs: bias.len(),
            stride,
        })
    }

    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// Convolves `x` (N x C x H x W), applies the activation, and adds `other`, which has the size of the output. The
    /// output is in `channels_last` order.
    ///
    /// # Errors
    /// If libtorch fails.
    pub(super) fn convolve(&self, x: &Tensor, other: Option<&Tensor>) -> Result<Tensor, TchError> {
        let pixels_first = |map: &Tensor| map.f_permute([0, 2, 3, 1])?.f_contiguous();
        let x = pixels_first(x)?;
        let other = other.map(pixels_first).transpose()?;
        let &[maps, height, width, _] = &x.size()[..] else {
            return Err(TchError::Shape(format!("{:?} is no feature map", x.size())));
        };
        let after = |side: i64| (side as usize).div_ceil(self.stride) as i64;
        let size = [maps, after(height), after(width), self.outputs as i64];
        let mut output = Tensor::f_empty(size, (Kind::Float, x.device()))?;
        let shape = Shape {
            maps: maps as usize,
            height: height as usize,
            width: width as usize,
        };
        let (input, added) = (values(&x), other.as_ref().map(values));
        let sums = values_mut(&mut output);
        match &*self.layer {
            Layer::Winograd(layer) => layer.convolve(input, shape, sums, added, Threads::All),
            Layer::Pointwise(layer) => layer.convolve(input, sums, added, Threads::All),
            Layer::Depthwise(layer) => layer.convolve(input, shape, sums, added, Threads::All),
        }
        output.f_permute([0, 3, 1, 2])
    }
}

/// The numbers of a contiguous tensor.
fn values(tensor: &Tensor) -> &[f32] {
    check(tensor);
    // SAFETY: the tensor has this many floats at this address, on the CPU, and they live as long as the tensor.
    #[expect(unsafe_code, reason = "tch returns a pointer")]
    unsafe {
        std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel())
    }
}

/// The numbers of a new tensor, which nothing else refers to.
fn values_mut(tensor: &mut Tensor) -> &mut [f32] {
    check(tensor);
    // SAFETY: as in `values`; and the caller has just made the tensor, so no other slice refers to its numbers.
    #[expect(unsafe_code, reason = "tch returns a pointer")]
    unsafe {
        std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel())
    }
}

fn check(tensor: &Tensor) {
    assert!(
        tensor.is_contiguous()
            && tensor.kind() == Kind::Float
            && tensor.device() == tch::Device::Cpu,
        "a contiguous tensor of floats on the CPU"
    );
}

/// The size of feature maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// How many there are, one after the other.
    maps: usize,
    /// Rows of pixels.
    height: usize,
    /// Columns of pixels.
    width: usize,
}

/// Checks that an input and an output have these lengths, and that what is added to the output is as long.
fn check_lengths(lengths: [usize; 2], input: &[f32], output: &[f32], other: Option<&[f32]>) {
    assert_eq!([input.len(), output.len()], lengths, "input and output");
    assert!(
        other.is_none_or(|other| other.len() == output.len()),
        "another map of the same size"
    );
}
