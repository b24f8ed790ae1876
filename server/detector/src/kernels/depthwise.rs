//! Depthwise convolutions with kernels of 3 x 3 or 5 x 5: each channel has a kernel of its own.

use super::finish::Finish;
use super::threads::Threads;
use super::vector::{Level, Vector, Work, load};
use super::{Maps, Window};
use crate::architecture::Activation;

/// A depthwise convolution, and its activation.
#[derive(Debug)]
pub struct Depthwise {
    /// Of each channel, padded with zeros, for each pixel under the kernel.
    weights: Vec<f32>,
    finish: Finish,
    channels: usize,
    padded: usize,
    /// A pixel of padding.
    zeros: Vec<f32>,
    window: Window,
    level: Level,
}

impl Depthwise {
    /// Whether there is a form for kernels of `kernel` x `kernel` that move by `stride` pixels.
    pub fn has_form(kernel: i64, stride: i64, dilation: i64) -> bool {
        matches!(kernel, 3 | 5) && stride <= 2 && dilation == 1
    }

    /// Prepares weights of `bias.len()` channels x the window's rows and columns.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(
        level: Level,
        weights: &[f32],
        bias: &[f32],
        window: Window,
        activation: Activation,
    ) -> Self {
        let channels = bias.len();
        let [kernel, stride, dilation] =
            [window.kernel, window.stride, window.dilation].map(|pixels| pixels as i64);
        assert!(Self::has_form(kernel, stride, dilation), "{window:?}");
        let taps = window.kernel * window.kernel;
        assert_eq!(
            weights.len(),
            channels * taps,
            "weights of {channels} x {taps}"
        );
        let padded = channels.next_multiple_of(level.lanes());
        let mut packed = vec![0.0; taps * padded];
        for (channel, kernel) in weights.chunks_exact(taps).enumerate() {
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
            window,
            level,
        }
    }

    /// Convolves feature maps.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(super) fn convolve(&self, maps: Maps, threads: Threads) {
        let after = self.window.after(maps.shape);
        maps.check([maps.shape, after].map(|shape| shape.pixels() * self.channels));
        let Maps {
            input,
            shape,
            output,
            other,
        } = maps;
        let (line, row) = (shape.width * self.channels, after.width * self.channels);
        threads.for_each(output.chunks_mut(row).enumerate(), |(index, output)| {
            let map = &input[index / after.height * shape.height * line..][..shape.height * line];
            let inside = |y| match shape.inside(y) {
                Some(y) => &map[y * line..][..line],
                None => &[],
            };
            let y = index % after.height;
            let other = other.map(|other| &other[index * row..][..output.len()]);
            if self.window.kernel == 3 {
                self.convolve_row(self.window.rows::<3>(y).map(inside), output, other);
            } else {
                self.convolve_row(self.window.rows::<5>(y).map(inside), output, other);
            }
        });
    }

    pub fn channels(&self) -> usize {
        self.channels
    }

    pub fn window(&self) -> Window {
        self.window
    }

    /// Convolves a row of outputs. `lines` are the rows under the kernel; those outside the feature map are empty, the
    /// others are as long as each other.
    pub fn convolve_row<const KERNEL: usize>(
        &self,
        lines: [&[f32]; KERNEL],
        output: &mut [f32],
        other: Option<&[f32]>,
    ) {
        self.level.run(Row {
            layer: self,
            lines,
            output,
            other,
        });
    }
}

/// A row of outputs.
struct Row<'a, const KERNEL: usize> {
    layer: &'a Depthwise,
    /// The rows under the kernel; empty outside the feature map.
    lines: [&'a [f32]; KERNEL],
    output: &'a mut [f32],
    other: Option<&'a [f32]>,
}

impl<const KERNEL: usize> Work for Row<'_, KERNEL> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(mut self) {
        const MANY: usize = 4;
        let outputs = self.output.len() / self.layer.channels;
        // Of nearly equal sizes, as the rows of a product.
        let parts = outputs.div_ceil(MANY);
        for part in 0..parts {
            let (first, end) = (outputs * part / parts, outputs * (part + 1) / parts);
            match (self.layer.window.stride, end - first) {
                (1, 1) => self.convolve::<V, LANES, 1, 1>(first),
                (1, 2) => self.convolve::<V, LANES, 1, 2>(first),
                (1, 3) => self.convolve::<V, LANES, 1, 3>(first),
                (1, _) => self.convolve::<V, LANES, 1, 4>(first),
                (_, 1) => self.convolve::<V, LANES, 2, 1>(first),
                (_, 2) => self.convolve::<V, LANES, 2, 2>(first),
                (_, 3) => self.convolve::<V, LANES, 2, 3>(first),
                (_, _) => self.convolve::<V, LANES, 2, 4>(first),
            }
        }
    }
}

impl<const KERNEL: usize> Row<'_, KERNEL> {
    /// Convolves `COUNT` outputs from `first`.
    #[inline(always)]
    fn convolve<V: Vector<LANES>, const LANES: usize, const STRIDE: usize, const COUNT: usize>(
        &mut self,
        first: usize,
    ) {
        /// Columns of four outputs that are two pixels apart, under kernels of 5 x 5.
        const MOST: usize = 11;
        let Depthwise {
            ref weights,
            channels,
            padded,
            ref zeros,
            window: Window { before, .. },
            ..
        } = *self.layer;
        let columns = (COUNT - 1) * STRIDE + KERNEL;
        let mut pixels = [[&zeros[..channels]; MOST]; KERNEL];
        for row in 0..KERNEL {
            for column in 0..columns {
                // Wraps to a large number before the feature map.
                let x = (first * STRIDE + column).wrapping_sub(before);
                if x < self.lines[row].len() / channels {
                    pixels[row][column] = &self.lines[row][x * channels..][..channels];
                }
            }
        }
        for channel in (0..channels).step_by(LANES) {
            let count = channels - channel;
            let mut sums = [V::splat(0.0); COUNT];
            for row in 0..KERNEL {
                let mut taps = [V::splat(0.0); KERNEL];
                for column in 0..KERNEL {
                    taps[column] = load(weights, (KERNEL * row + column) * padded + channel);
                }
                for column in 0..columns {
                    let pixel = pixels[row][column];
                    let number = if count >= LANES {
                        load(pixel, channel)
                    } else {
                        let mut some = [0.0; LANES];
                        some[..count].copy_from_slice(&pixel[channel..]);
                        V::load(&some)
                    };
                    for output in 0..COUNT {
                        if (output * STRIDE..output * STRIDE + KERNEL).contains(&column) {
                            let tap = taps[column - output * STRIDE];
                            sums[output] = number.multiply_add(tap, sums[output]);
                        }
                    }
                }
            }
            let finish = self.layer.finish.of(channel);
            for output in 0..COUNT {
                let at = (first + output) * channels;
                let at = at + channel..at + channels;
                let other = self.other.map(|other| &other[at.clone()]);
                finish.write(sums[output], other, &mut self.output[at]);
            }
        }
    }
}
