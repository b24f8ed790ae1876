//! Depthwise convolutions with kernels of 3 x 3 and padding 1: each channel has a kernel of its own.

use super::Shape;
use super::finish::Finish;
use super::threads::Threads;
use super::vector::{Level, Vector, Work, load};
use crate::architecture::Activation;

/// A depthwise convolution with kernels of 3 x 3 and padding 1, and its activation.
#[derive(Debug)]
pub struct Depthwise {
    /// Of each channel, padded with zeros, for each of the 9 pixels.
    weights: Vec<f32>,
    finish: Finish,
    channels: usize,
    padded: usize,
    /// A pixel of padding.
    zeros: Vec<f32>,
    stride: usize,
    level: Level,
}

impl Depthwise {
    /// Prepares weights of `bias.len()` channels x 3 x 3. `stride` is 1 or more.
    ///
    /// # Panics
    /// If the lengths do not fit.
    #[must_use]
    pub fn new(weights: &[f32], bias: &[f32], stride: usize, activation: Activation) -> Self {
        Self::for_level(Level::of_this_machine(), weights, bias, stride, activation)
    }

    pub(super) fn for_level(
        level: Level,
        weights: &[f32],
        bias: &[f32],
        stride: usize,
        activation: Activation,
    ) -> Self {
        let channels = bias.len();
        assert_eq!(weights.len(), channels * 9, "weights of {channels} x 3 x 3");
        let padded = channels.next_multiple_of(level.lanes());
        let mut packed = vec![0.0; 9 * padded];
        for (channel, kernel) in weights.as_chunks::<9>().0.iter().enumerate() {
            for (tap, weight) in kernel.iter().enumerate() {
                packed[tap * padded + channel] = *weight;
            }
        }
        Self {
            weights: packed,
            finish: Finish::new(bias, padded, activation),
            channels,
            padded,
            zeros: vec![0.0; channels],
            stride,
            level,
        }
    }

    /// The memory of the weights.
    #[must_use]
    pub fn bytes(&self) -> usize {
        4 * self.weights.len()
    }

    /// Convolves `input`, of size `shape`, to `output`, whose height and width are those of `input` divided by the
    /// stride and rounded up.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn convolve(&self, input: &[f32], shape: Shape, output: &mut [f32], threads: Threads) {
        let (height, width) = (
            shape.height.div_ceil(self.stride),
            shape.width.div_ceil(self.stride),
        );
        let map = shape.height * shape.width * self.channels;
        assert_eq!(input.len(), shape.maps * map, "an input of {shape:?}");
        let row = width * self.channels;
        assert_eq!(
            output.len(),
            shape.maps * height * row,
            "an output of {shape:?}"
        );
        if output.is_empty() {
            return;
        }
        threads.for_each(output.chunks_mut(row).enumerate(), |(index, output)| {
            self.level.run(Row {
                layer: self,
                input: &input[index / height * map..][..map],
                shape,
                y: index % height * self.stride,
                output,
            });
        });
    }
}

/// A row of outputs.
struct Row<'a> {
    layer: &'a Depthwise,
    input: &'a [f32],
    shape: Shape,
    /// The row of the input at the kernels' centre.
    y: usize,
    output: &'a mut [f32],
}

impl Work for Row<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self) {
        let Depthwise {
            ref weights,
            channels,
            padded,
            stride,
            ..
        } = *self.layer;
        let Shape { height, width, .. } = self.shape;
        let mut taps = [&weights[..padded]; 9];
        for tap in 1..9 {
            taps[tap] = &weights[tap * padded..][..padded];
        }
        for output in 0..self.output.len() / channels {
            // The pixel of each tap, or zeros outside the feature map.
            let mut pixels = [&self.layer.zeros[..channels]; 9];
            for tap in 0..9 {
                let (y, x) = (self.y + tap / 3, output * stride + tap % 3);
                if y > 0 && y <= height && x > 0 && x <= width {
                    pixels[tap] = &self.input[((y - 1) * width + x - 1) * channels..][..channels];
                }
            }
            for channel in (0..channels).step_by(LANES) {
                let count = LANES.min(channels - channel);
                let mut sum = V::splat(0.0);
                for tap in 0..9 {
                    let pixel = if count == LANES {
                        load(pixels[tap], channel)
                    } else {
                        let mut some = [0.0; LANES];
                        some[..count].copy_from_slice(&pixels[tap][channel..]);
                        V::load(&some)
                    };
                    sum = pixel.multiply_add(load(taps[tap], channel), sum);
                }
                let at = (output * channels + channel, count);
                self.layer
                    .finish
                    .of(channel)
                    .write(sum, None, self.output, at);
            }
        }
    }
}
