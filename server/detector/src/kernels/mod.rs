//! Operations on feature maps on the CPU whose channels lie side by side (NHWC): convolutions of maps in single precision,
//! and max-pools and norms in every precision.
//!
//! oneDNN computes long convolutions directly. Winograd's algorithm needs a quarter of the multiplications or fewer, for
//! kernels of 3 x 3. Which way is the fastest depends on the layer and the processor, so a caller measures it.
//!
//! ```text
//! winograd     convolutions with kernels of 3 x 3, tile by tile
//! direct       convolutions with other kernels, as products
//! depthwise    depthwise convolutions
//! bottleneck   three convolutions as one
//! finish       bias and activation
//! product      products of matrices
//! pool         max-pools
//! norm         L2 normalisation
//! quantise     numbers in single precision to u8
//! squeeze      means of channels, and channels times numbers
//! exponential  exponentials of many numbers
//! vector       vectors of numbers; the processor's instructions
//! numbers      the numbers of tensors
//! memory       aligned memory
//! threads      who shares the work of an operation
//! team         threads of this crate
//! place        which processors they run on
//! ```
//!
//! `unsafe` code is in `vector` (instructions that the processor must have), `threads` (libtorch's threads), `team` (work
//! that lives shorter than the threads) and `numbers`.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "loops by an index become vector instructions, of the function that they become a part of"
)]

mod bottleneck;
mod depthwise;
mod direct;
mod exponential;
mod finish;
mod memory;
mod norm;
mod numbers;
mod place;
mod pool;
mod product;
mod quantise;
mod squeeze;
mod team;
#[cfg(test)]
mod tests;
mod threads;
mod vector;
mod winograd;

use std::fmt;
use std::mem;
use std::sync::Arc;

use tch::{Device, TchError, Tensor};

use self::bottleneck::Bottleneck;
use self::depthwise::Depthwise;
use self::direct::Direct;
use self::numbers::Number;

pub(super) use self::exponential::exponentials;
pub(super) use self::norm::l2_norm;
pub(super) use self::numbers::{pixels_first, slice, slice_mut};
pub(super) use self::pool::max_pool;
pub(super) use self::quantise::to_bytes;
pub(super) use self::squeeze::{means, scale};
pub(super) use self::threads::Threads;
pub(super) use self::vector::Bf16Level;
use self::vector::Level;
use self::winograd::{MaxPool, Winograd};
pub(super) use self::winograd::{Tile, Transforms};
use super::architecture::{Activation, Geometry, Pool};
use super::inference;

/// A way to compute a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Winograd(Tile, Transforms),
    Direct,
    Depthwise,
}

impl Way {
    /// The way to compute a convolution of feature maps of `side` x `side` with weights of this shape (output channels,
    /// input channels of a group, rows, columns); `None` if it has no form here. `room`: bytes for transformed weights.
    pub(super) fn of(
        weight: &[i64],
        groups: i64,
        geometry: Geometry,
        side: i64,
        room: usize,
    ) -> Option<Self> {
        /// On larger feature maps, few outputs of a tile lie outside, and the weights are small. On smaller ones,
        /// F(6x6) is no faster than F(4x4), less exact, and its weights are almost twice as large.
        const LARGE: i64 = 40;
        /// With fewer channels, the transforms take longer than the products.
        const MANY: i64 = 64;
        let Geometry {
            kernel,
            stride,
            dilation,
            ..
        } = geometry;
        let &[outputs, inputs, ..] = weight else {
            return None;
        };
        if groups > 1 {
            let is_depthwise = groups == outputs && inputs == 1;
            return (is_depthwise && Depthwise::has_form(kernel, stride, dilation))
                .then_some(Self::Depthwise);
        }
        let winograd = (kernel, stride, dilation, geometry.padding(side)) == (3, 1, 1, (1, 1));
        if winograd && inputs.min(outputs) >= MANY && is_long(weight, geometry, side) {
            let tile = if side > LARGE { Tile::F6 } else { Tile::F4 };
            let once = Self::Winograd(tile, Transforms::Once);
            return Some(if once.transformed(weight) <= room {
                once
            } else {
                Self::Winograd(tile, Transforms::EachTime)
            });
        }
        Some(Self::Direct)
    }

    /// Bytes of transformed weights, for weights of this shape. Other ways keep the weights as large as they are.
    pub(super) fn transformed(self, weight: &[i64]) -> usize {
        match self {
            Self::Winograd(tile, Transforms::Once) => {
                4 * tile.points() * (weight[0] * weight[1]) as usize
            }
            _ => 0,
        }
    }
}

/// Whether a convolution has so many multiplications that it is worth measuring.
pub(super) fn is_long(weight: &[i64], geometry: Geometry, side: i64) -> bool {
    const LONG: i64 = 50_000_000;
    weight.iter().product::<i64>() * geometry.side_after(side).pow(2) >= LONG
}

/// How a kernel moves over a feature map, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// Side of the kernel.
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// Rows of zeros above a feature map, and columns left of it.
    before: usize,
    /// Rows of zeros below a feature map, and columns right of it.
    after: usize,
}

impl Window {
    fn new(geometry: Geometry, side: i64) -> Self {
        let (before, after) = geometry.padding(side);
        Self {
            kernel: geometry.kernel as usize,
            stride: geometry.stride as usize,
            dilation: geometry.dilation as usize,
            before: before as usize,
            after: after as usize,
        }
    }

    /// The size of outputs. The kernel is not larger than a feature map with its zeros.
    fn after(self, shape: Shape) -> Shape {
        let extent = self.dilation * (self.kernel - 1) + 1;
        let outputs = |side| (side + self.before + self.after - extent) / self.stride + 1;
        Shape {
            maps: shape.maps,
            height: outputs(shape.height),
            width: outputs(shape.width),
        }
    }

    /// The row of a feature map of this height that is number `line` with the zeros above; `None` if that is zeros.
    fn inside(self, line: usize, height: usize) -> Option<usize> {
        line.checked_sub(self.before).filter(|row| *row < height)
    }

    /// Whether each output is of the one pixel at its place.
    fn is_a_pixel(self) -> bool {
        (self.kernel, self.stride, self.before, self.after) == (1, 1, 0, 0)
    }
}

/// A convolution, or several, ready to run. Clones share the weights.
#[derive(Debug, Clone)]
pub(super) struct Own(Layer);

#[derive(Debug, Clone)]
enum Layer {
    Winograd(Arc<Winograd>, MaxPool),
    Direct(Arc<Direct>),
    Depthwise(Arc<Depthwise>),
    Bottleneck(Bottleneck),
}

/// How it computes, for the log.
impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Layer::Winograd(layer, _) => match layer.tile() {
                Tile::F4 => "Winograd F(4x4,3x3)",
                Tile::F6 => "Winograd F(6x6,3x3)",
            },
            Layer::Direct(_) => "direct",
            Layer::Depthwise(_) => "depthwise",
            Layer::Bottleneck(_) => "bottleneck",
        })
    }
}

impl Own {
    /// Prepares weights and a bias for the [way](Way::of) of the convolution of feature maps of `side` x `side`. `bf16`: the
    /// level of direct convolutions in bfloat16; all others are in single precision.
    ///
    /// # Errors
    /// If libtorch fails.
    pub(super) fn new(
        way: Way,
        weight: &Tensor,
        bias: &Tensor,
        (geometry, activation): (Geometry, Activation),
        side: i64,
        bf16: Option<Bf16Level>,
    ) -> Result<Self, TchError> {
        let inputs = weight.size()[1] as usize;
        let (weight, bias) = (inference::numbers(weight)?, inference::numbers(bias)?);
        let (level, window) = (Level::of_this_machine(), Window::new(geometry, side));
        Ok(Self(match way {
            Way::Winograd(tile, transforms) => {
                let how = (tile, transforms);
                let layer = Winograd::new(level, &weight, inputs, &bias, how, activation);
                Layer::Winograd(Arc::new(layer), MaxPool::Of1)
            }
            Way::Direct => Layer::Direct(Arc::new(Direct::new(
                (level, bf16),
                &weight,
                inputs,
                &bias,
                window,
                activation,
            ))),
            Way::Depthwise => Layer::Depthwise(Arc::new(Depthwise::new(
                level, &weight, &bias, window, activation,
            ))),
        }))
    }

    /// Three convolutions as one; `None` if they have no such form, or if it would be no faster. The first one reads feature
    /// maps of `side` x `side`.
    pub(super) fn bottleneck(parts: [&Self; 3], side: i64) -> Option<Self> {
        /// Numbers of a feature map that stays in the second cache.
        const NEAR: usize = 1 << 17;
        let [
            Layer::Direct(first),
            Layer::Depthwise(depthwise),
            Layer::Direct(last),
        ] = parts.map(|part| &part.0)
        else {
            return None;
        };
        let maps = Shape {
            maps: 1,
            height: side as usize,
            width: side as usize,
        };
        let between = first.window().after(maps).pixels() * first.outputs();
        let has_form = first.window().dilation == 1
            && depthwise.window().kernel == 3
            && last.window().is_a_pixel();
        (has_form && between > NEAR).then(|| {
            Self(Layer::Bottleneck(Bottleneck {
                first: Arc::clone(first),
                depthwise: Arc::clone(depthwise),
                last: Arc::clone(last),
            }))
        })
    }

    /// A convolution of feature maps of `side` x `side` and the max-pool after it as one; `None` if they have no such form.
    pub(super) fn with_max_pool(&self, pool: Pool, side: i64) -> Option<Self> {
        let Layer::Winograd(layer, MaxPool::Of1) = &self.0 else {
            return None;
        };
        let has_form =
            (pool.window, pool.stride, pool.padding) == (2, 2, 0) && (pool.ceil || side % 2 == 0);
        has_form.then(|| Self(Layer::Winograd(Arc::clone(layer), MaxPool::Of2)))
    }

    /// Convolves `x` (N x C x H x W), applies the activation, and adds `other`, which has the size of the output. The
    /// output is in `channels_last` order.
    ///
    /// # Errors
    /// If libtorch fails.
    pub(super) fn convolve(
        &self,
        x: &Tensor,
        other: Option<&Tensor>,
        threads: Threads,
    ) -> Result<Tensor, TchError> {
        let (x, shape) = pixels_first(x)?;
        let other = other.map(pixels_first).transpose()?;
        let (after, outputs) = match &self.0 {
            Layer::Winograd(layer, pool) => (pool.after(shape), layer.outputs()),
            Layer::Direct(layer) => (layer.window().after(shape), layer.outputs()),
            Layer::Depthwise(layer) => (layer.window().after(shape), layer.channels()),
            Layer::Bottleneck(layer) => (layer.after(shape), layer.last.outputs()),
        };
        let mut output = after.empty::<f32>(outputs)?;
        let maps = Maps {
            input: slice(&x),
            shape,
            output: slice_mut(&mut output),
            other: other.as_ref().map(|(other, _)| slice(other)),
        };
        match &self.0 {
            Layer::Winograd(layer, pool) => layer.convolve(maps, *pool, threads),
            Layer::Direct(layer) => layer.convolve(maps, threads),
            Layer::Depthwise(layer) => layer.convolve(maps, threads),
            Layer::Bottleneck(layer) => layer.convolve(maps, threads),
        }
        output.f_permute([0, 3, 1, 2])
    }
}

/// The feature maps of a convolution.
#[derive(Debug)]
struct Maps<'a> {
    input: &'a [f32],
    /// The input's.
    shape: Shape,
    output: &'a mut [f32],
    /// Added to the output after the activation.
    other: Option<&'a [f32]>,
}

impl Maps<'_> {
    /// Checks that the input and the output have these lengths, and that what is added to the output is as long.
    fn check(&self, lengths: [usize; 2]) {
        assert_eq!(
            [self.input.len(), self.output.len()],
            lengths,
            "input and output"
        );
        assert!(
            self.other
                .is_none_or(|other| other.len() == self.output.len()),
            "another map of the same size"
        );
    }
}

/// The size of feature maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many there are, one after the other.
    maps: usize,
    /// Rows of pixels.
    height: usize,
    /// Columns of pixels.
    width: usize,
}

impl Shape {
    fn pixels(self) -> usize {
        self.maps * self.height * self.width
    }

    /// A tensor for feature maps of this size.
    fn empty<T: Number>(self, channels: usize) -> Result<Tensor, TchError> {
        let size = [self.maps, self.height, self.width, channels].map(|side| side as i64);
        Tensor::f_empty(size, (T::KIND, Device::Cpu))
    }
}

/// Bands of rows of feature maps: the number of the map, of the first row, and the rows. Each thread's bands of a map have
/// nearly as many rows as those of another one.
fn bands(
    output: &mut [f32],
    height: usize,
    row: usize,
) -> impl Iterator<Item = (usize, usize, &mut [f32])> {
    let bands = Threads::items().min(height);
    let maps = output.chunks_mut(height * row).enumerate();
    maps.flat_map(move |(map, mut rest)| {
        (0..bands).map(move |band| {
            let [first, end] = [band, band + 1].map(|band| height * band / bands);
            let rows;
            (rows, rest) = mem::take(&mut rest).split_at_mut((end - first) * row);
            (map, first, rows)
        })
    })
}

/// The fewest parts of `count` items, none of more than `most`: how many there are, the size of each, and how many of them
/// have one item more.
#[inline(always)]
fn nearly_equal(count: usize, most: usize) -> (usize, usize, usize) {
    let parts = count.div_ceil(most);
    let each = count.checked_div(parts).unwrap_or(0);
    (parts, each, count - each * parts)
}

/// Computes each row of pixels of a new tensor from that of `x`, which has as many channels. `compute` also gets the number
/// of the feature map. The output is in `channels_last` order.
///
/// # Errors
/// If libtorch fails.
fn by_row<T: Number, O: Number>(
    x: &Tensor,
    threads: Threads,
    compute: impl Fn(usize, &[T], &mut [O]) + Sync,
) -> Result<Tensor, TchError> {
    let (x, shape) = pixels_first(x)?;
    let channels = x.size()[3] as usize;
    let mut output = shape.empty::<O>(channels)?;
    let row = (shape.width * channels).max(1);
    let rows = slice(&x)
        .chunks(row)
        .zip(slice_mut(&mut output).chunks_mut(row));
    threads.for_each(rows.enumerate(), |(index, (input, output))| {
        compute(index / shape.height, input, output);
    });
    output.f_permute([0, 3, 1, 2])
}
