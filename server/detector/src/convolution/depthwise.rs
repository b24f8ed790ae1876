//! Depthwise convolutions with kernels of 3 x 3 and padding 1: each channel has a kernel of its own.

use super::finish::Finish;
use super::threads::Threads;
use super::vector::{Level, Vector, Work, load};
use super::{Shape, check_lengths};
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
    pub fn new(
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

    /// Convolves `input`, of size `shape`, to `output`, whose height and width are those of `input` divided by the
    /// stride and rounded up. `output` has the activation and then the addition of `other` (as large as `output`).
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn convolve(
        &self,
        input: &[f32],
        shape: Shape,
        output: &mut [f32],
        other: Option<&[f32]>,
        threads: Threads,
    ) {
        let (height, width) = (
            shape.height.div_ceil(self.stride),
            shape.width.div_ceil(self.stride),
        );
        let (map, row) = (
            shape.height * shape.width * self.channels,
            width * self.channels,
        );
        let lengths = [map, height * row].map(|numbers| shape.maps * numbers);
        check_lengths(lengths, input, output, other);
        if output.is_empty() {
            return;
        }
        threads.for_each(output.chunks_mut(row).enumerate(), |(index, output)| {
            self.level.run(Row {
                layer: self,
                input: &input[index / height * map..][..map],
                shape,
                y: index % height * self.stride,
                other: other.map(|other| &other[index * row..][..output.len()]),
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
    other: Option<&'a [f32]>,
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
                    .write(sum, self.other, self.output, at);
            }
        }
    }
}
