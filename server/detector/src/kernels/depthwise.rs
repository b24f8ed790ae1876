//! Depthwise convolutions with kernels of 3 x 3 or 5 x 5: each channel has a kernel of its own.

use std::mem;

use super::finish::{Activate, Finish, Limit, add};
use super::memory::with_scratch;
use super::threads::Threads;
use super::vector::{Level, Pixels, Vector, Work};
use super::{Maps, Window, nearly_equal};
use crate::architecture::Activation;

/// A depthwise convolution, and its activation.
#[derive(Debug)]
pub struct Depthwise {
    /// Of each channel, padded with zeros, for each pixel under the kernel.
    weights: Vec<f32>,
    finish: Finish,
    channels: usize,
    padded: usize,
    /// Pixels of padding.
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
            zeros: vec![0.0; COLUMNS * channels],
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
        let longest = lines.map(<[f32]>::len).into_iter().max();
        let width = longest.unwrap_or(0) / self.channels;
        with_scratch(KERNEL * COLUMNS * self.channels, |patch| {
            self.level.run(Row {
                layer: self,
                lines,
                width,
                patch,
                output,
                other,
            });
        });
    }
}

/// A row of outputs.
struct Row<'a, const KERNEL: usize> {
    layer: &'a Depthwise,
    /// The rows under the kernel; empty outside the feature map.
    lines: [&'a [f32]; KERNEL],
    /// Columns of the feature map.
    width: usize,
    /// Memory for the pixels under some kernels.
    patch: &'a mut [f32],
    output: &'a mut [f32],
    other: Option<&'a [f32]>,
}

impl<const KERNEL: usize> Work for Row<'_, KERNEL> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(mut self) {
        let activation = self.layer.finish.activation();
        match (self.layer.window.stride, Limit::of(activation)) {
            (1, Some(limit)) => self.convolve::<V, LANES, 1>(limit),
            (1, None) => self.convolve::<V, LANES, 1>(activation),
            (_, Some(limit)) => self.convolve::<V, LANES, 2>(limit),
            (_, None) => self.convolve::<V, LANES, 2>(activation),
        }
        if let Some(other) = self.other {
            add(self.output, other);
        }
    }
}

/// Outputs that are computed together.
const TOGETHER: usize = 4;
/// Columns under their kernels, of 5 x 5 and two pixels apart.
const COLUMNS: usize = (TOGETHER - 1) * 2 + 5;

impl<const KERNEL: usize> Row<'_, KERNEL> {
    #[inline(always)]
    fn convolve<V: Vector<LANES>, const LANES: usize, const STRIDE: usize>(
        &mut self,
        activate: impl Activate,
    ) {
        let outputs = self.output.len() / self.layer.channels;
        // Of nearly equal sizes, as the rows of a product.
        let (parts, each, larger) = nearly_equal(outputs, TOGETHER);
        let mut first = 0;
        for part in 0..parts {
            let count = each + usize::from(part < larger);
            match count {
                1 => self.part::<V, LANES, STRIDE, 1>(first, activate),
                2 => self.part::<V, LANES, STRIDE, 2>(first, activate),
                3 => self.part::<V, LANES, STRIDE, 3>(first, activate),
                _ => self.part::<V, LANES, STRIDE, TOGETHER>(first, activate),
            }
            first += count;
        }
    }

    /// Convolves `COUNT` outputs from `first`.
    #[inline(always)]
    fn part<V: Vector<LANES>, const LANES: usize, const STRIDE: usize, const COUNT: usize>(
        &mut self,
        first: usize,
        activate: impl Activate,
    ) {
        let Depthwise {
            ref zeros,
            channels,
            window: Window { before, .. },
            ..
        } = *self.layer;
        let columns = (COUNT - 1) * STRIDE + KERNEL;
        let length = columns * channels;
        // The columns under the kernels that are inside the feature map.
        let begin = before.saturating_sub(first * STRIDE).min(columns);
        let end = (self.width + before).saturating_sub(first * STRIDE);
        let end = end.clamp(begin, columns);
        let from = (first * STRIDE + begin).saturating_sub(before) * channels;
        let inside = begin * channels..end * channels;
        let patch = mem::take(&mut self.patch);
        if inside.len() < length {
            for (row, into) in patch.chunks_exact_mut(length).take(KERNEL).enumerate() {
                into.fill(0.0);
                if !self.lines[row].is_empty() && !inside.is_empty() {
                    let into = &mut into[inside.clone()];
                    into.copy_from_slice(&self.lines[row][from..][..into.len()]);
                }
            }
        }
        let mut rows = [&zeros[..length]; KERNEL];
        for row in 0..KERNEL {
            if inside.len() < length {
                rows[row] = &patch[row * length..][..length];
            } else if !self.lines[row].is_empty() {
                rows[row] = &self.lines[row][from..][..length];
            }
        }
        self.sum::<V, LANES, STRIDE, COUNT>(first, rows, activate);
        self.patch = patch;
    }

    /// Convolves `COUNT` outputs from `first`. `rows` are the pixels under their kernels.
    #[inline(always)]
    fn sum<V: Vector<LANES>, const LANES: usize, const STRIDE: usize, const COUNT: usize>(
        &mut self,
        first: usize,
        rows: [&[f32]; KERNEL],
        activate: impl Activate,
    ) {
        if self.layer.channels >= LANES {
            self.sum_channels::<V, LANES, STRIDE, COUNT, true>(first, rows, activate);
        } else {
            self.sum_channels::<V, LANES, STRIDE, COUNT, false>(first, rows, activate);
        }
    }

    /// `MANY`: whether there is a vector of channels.
    #[inline(always)]
    fn sum_channels<
        V: Vector<LANES>,
        const LANES: usize,
        const STRIDE: usize,
        const COUNT: usize,
        const MANY: bool,
    >(
        &mut self,
        first: usize,
        rows: [&[f32]; KERNEL],
        activate: impl Activate,
    ) {
        let Depthwise {
            ref weights,
            ref finish,
            channels,
            padded,
            ..
        } = *self.layer;
        let columns = (COUNT - 1) * STRIDE + KERNEL;
        let mut pixels = [Pixels::new(rows[0], columns, channels); KERNEL];
        for row in 1..KERNEL {
            pixels[row] = Pixels::new(rows[row], columns, channels);
        }
        let all_taps = Pixels::new(weights, KERNEL * KERNEL, padded);
        // The last vector begins earlier, so that it is whole.
        let last = channels.saturating_sub(LANES);
        for index in 0..channels.div_ceil(LANES) {
            let channel = last.min(index * LANES);
            let bias: V = finish.bias(channel);
            let mut sums = [bias; COUNT];
            for row in 0..KERNEL {
                let mut taps = [V::splat(0.0); KERNEL];
                for column in 0..KERNEL {
                    taps[column] = all_taps.load(KERNEL * row + column, channel);
                }
                for column in 0..columns {
                    let number: V = if MANY {
                        pixels[row].load(column, channel)
                    } else {
                        pixels[row].load_few(column)
                    };
                    for output in 0..COUNT {
                        if (output * STRIDE..output * STRIDE + KERNEL).contains(&column) {
                            let tap = taps[column - output * STRIDE];
                            sums[output] = number.multiply_add(tap, sums[output]);
                        }
                    }
                }
            }
            for output in 0..COUNT {
                let active = activate.of(sums[output]).to_array();
                let pixel = &mut self.output[(first + output) * channels..][..channels];
                let count = if MANY { LANES } else { channels };
                pixel[channel..][..count].copy_from_slice(&active[..count]);
            }
        }
    }
}
