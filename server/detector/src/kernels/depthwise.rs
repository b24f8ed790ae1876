//! Depthwise convolutions with kernels of 3 x 3 or 5 x 5: each channel has a kernel of its own.
//!
//! Rows are copied to lines that have the zeros around the feature map, so that no output is at a border.

use std::array;
use std::ops::Range;

use super::finish::{Activate, Finish, Limit, add};
use super::memory::with_scratch;
use super::threads::Threads;
use super::vector::{Level, Vector, Work};
use super::{Maps, Window, bands, nearly_equal};
use crate::architecture::Activation;

/// A depthwise convolution, and its activation.
#[derive(Debug)]
pub struct Depthwise {
    /// Of each panel, for each pixel under the kernel, the weights of its channels.
    weights: Vec<f32>,
    finish: Finish,
    channels: usize,
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
        let panel = level.panel();
        let padded = channels.next_multiple_of(panel);
        let mut packed = vec![0.0; taps * padded];
        for (channel, kernel) in weights.chunks_exact(taps).enumerate() {
            let part = &mut packed[channel / panel * taps * panel..];
            for (tap, weight) in kernel.iter().enumerate() {
                part[tap * panel + channel % panel] = *weight;
            }
        }
        Self {
            weights: packed,
            finish: Finish::new(bias, padded, activation),
            channels,
            window,
            level,
        }
    }

    /// Convolves feature maps.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(super) fn convolve(&self, maps: Maps, threads: Threads) {
        if self.window.kernel == 3 {
            self.convolve_maps::<3>(maps, threads);
        } else {
            self.convolve_maps::<5>(maps, threads);
        }
    }

    fn convolve_maps<const KERNEL: usize>(&self, maps: Maps, threads: Threads) {
        let after = self.window.after(maps.shape);
        maps.check([maps.shape, after].map(|shape| shape.pixels() * self.channels));
        let Maps {
            input,
            shape,
            output,
            other,
        } = maps;
        let (line, row) = (shape.width * self.channels, after.width * self.channels);
        let bands = bands(output, after.height, row);
        threads.share(bands, |bands| {
            Lines::with(self, shape.width, |mut lines| {
                for (map, top, output) in bands {
                    lines.begin(map, top, output.len() / row);
                    for (y, output) in (top..).zip(output.chunks_exact_mut(row)) {
                        let first = y * self.window.stride;
                        for number in lines.move_to(first) {
                            match self.window.inside(number, shape.height) {
                                Some(y) => {
                                    let from = (map * shape.height + y) * line;
                                    lines.copy(number, &input[from..][..line]);
                                }
                                None => lines.clear(number),
                            }
                        }
                        for panel in 0..lines.panels() {
                            lines.convolve::<KERNEL>(panel, first, output);
                        }
                        if let Some(other) = other {
                            let from = (map * after.height + y) * row;
                            add(output, &other[from..][..row]);
                        }
                    }
                }
            });
        });
    }

    pub fn channels(&self) -> usize {
        self.channels
    }

    pub fn window(&self) -> Window {
        self.window
    }
}

/// The rows of a feature map under a kernel, with the zeros around the map: line number 0 is the first one above it. The
/// channels are in panels, two vectors wide. A panel's part of the lines is in the first cache while it is convolved.
pub(super) struct Lines<'a> {
    layer: &'a Depthwise,
    /// Of each panel, as many lines as the kernel has rows. Number `n` has the place `n % kernel`.
    numbers: &'a mut [f32],
    /// Numbers of a line of a panel.
    length: usize,
    /// The first line that is not known.
    unknown: usize,
    /// The feature map, and its row after the last band.
    next: (usize, usize),
}

impl Lines<'_> {
    /// Lends lines of feature maps of this width.
    pub fn with(layer: &Depthwise, width: usize, work: impl FnOnce(Lines)) {
        let panel = layer.level.panel();
        let Window {
            kernel,
            before,
            after,
            ..
        } = layer.window;
        let length = (before + width + after) * panel;
        let panels = layer.channels.div_ceil(panel);
        with_scratch(panels * kernel * length, |numbers| {
            for line in numbers.chunks_exact_mut(length) {
                line[..before * panel].fill(0.0);
                line[length - after * panel..].fill(0.0);
            }
            work(Lines {
                layer,
                numbers,
                length,
                unknown: 0,
                next: (0, 0),
            });
        });
    }

    /// Moves the kernel down to line number `first`. Returns the lines under it that are not known; the caller must give
    /// their numbers.
    pub fn move_to(&mut self, first: usize) -> Range<usize> {
        let after = first + self.layer.window.kernel;
        let unknown = self.unknown.max(first)..after;
        self.unknown = after;
        unknown
    }

    /// Begins a band of outputs. Where it goes on after the last one, its first lines are known.
    pub fn begin(&mut self, map: usize, top: usize, rows: usize) {
        if self.next != (map, top) {
            self.unknown = 0;
        }
        self.next = (map, top + rows);
    }

    pub fn panels(&self) -> usize {
        self.numbers.len() / (self.layer.window.kernel * self.length)
    }

    /// A panel's part of a line, without the zeros before it.
    pub fn part(&mut self, panel: usize, number: usize) -> &mut [f32] {
        let kernel = self.layer.window.kernel;
        let first = (panel * kernel + number % kernel) * self.length;
        let zeros = self.layer.window.before * self.layer.level.panel();
        &mut self.numbers[first..][..self.length][zeros..]
    }

    /// Makes a line zeros.
    fn clear(&mut self, number: usize) {
        for panel in 0..self.panels() {
            self.part(panel, number).fill(0.0);
        }
    }

    /// Copies the pixels of a row.
    fn copy(&mut self, number: usize, pixels: &[f32]) {
        let level = self.layer.level;
        level.run(NewLine {
            lines: self,
            number,
            pixels,
        });
    }

    /// Convolves a panel of a row of outputs. The kernel begins at line number `first`.
    pub fn convolve<const KERNEL: usize>(&self, panel: usize, first: usize, output: &mut [f32]) {
        let line = |row| {
            let place = panel * KERNEL + (first + row) % KERNEL;
            &self.numbers[place * self.length..][..self.length]
        };
        self.layer.level.run(Row::<KERNEL> {
            layer: self.layer,
            panel,
            lines: array::from_fn(line),
            output,
        });
    }
}

/// The pixels of a row, to be copied to a line.
struct NewLine<'a, 'b> {
    lines: &'a mut Lines<'b>,
    number: usize,
    pixels: &'a [f32],
}

impl Work for NewLine<'_, '_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self) {
        let channels = self.lines.layer.channels;
        for panel in 0..self.lines.panels() {
            let from = panel * 2 * LANES;
            let (into, _) = self.lines.part(panel, self.number).as_chunks_mut::<LANES>();
            let (into, _) = into.as_chunks_mut::<2>();
            for (pixel, into) in self.pixels.chunks_exact(channels).zip(into) {
                let pixel = &pixel[from..];
                let (vectors, rest) = pixel.as_chunks::<LANES>();
                for part in 0..2 {
                    if part < vectors.len() {
                        into[part] = vectors[part];
                    } else if part == vectors.len() {
                        into[part][..rest.len()].copy_from_slice(rest);
                    }
                }
            }
        }
    }
}

/// A panel of a row of outputs.
struct Row<'a, const KERNEL: usize> {
    layer: &'a Depthwise,
    panel: usize,
    /// The panel's part of the lines under the kernel.
    lines: [&'a [f32]; KERNEL],
    /// Of all channels.
    output: &'a mut [f32],
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
    }
}

/// Outputs that are computed together.
const TOGETHER: usize = 4;

impl<const KERNEL: usize> Row<'_, KERNEL> {
    #[inline(always)]
    fn convolve<V: Vector<LANES>, const LANES: usize, const STRIDE: usize>(
        &mut self,
        activate: impl Activate,
    ) {
        for vector in 0..2 {
            let channel = (2 * self.panel + vector) * LANES;
            if channel + LANES <= self.layer.channels {
                self.convolve_vector::<V, LANES, STRIDE, true>(vector, activate);
            } else if channel < self.layer.channels {
                self.convolve_vector::<V, LANES, STRIDE, false>(vector, activate);
            }
        }
    }

    /// Convolves a vector of channels of all outputs. `WHOLE`: all of these channels exist.
    #[inline(always)]
    fn convolve_vector<
        V: Vector<LANES>,
        const LANES: usize,
        const STRIDE: usize,
        const WHOLE: bool,
    >(
        &mut self,
        vector: usize,
        activate: impl Activate,
    ) {
        let outputs = self.output.len() / self.layer.channels;
        // Of nearly equal sizes, as the rows of a product.
        let (parts, each, larger) = nearly_equal(outputs, TOGETHER);
        let mut first = 0;
        for part in 0..parts {
            let count = each + usize::from(part < larger);
            match count {
                1 => self.sum::<V, LANES, STRIDE, 1, WHOLE>(vector, first, activate),
                2 => self.sum::<V, LANES, STRIDE, 2, WHOLE>(vector, first, activate),
                3 => self.sum::<V, LANES, STRIDE, 3, WHOLE>(vector, first, activate),
                _ => self.sum::<V, LANES, STRIDE, TOGETHER, WHOLE>(vector, first, activate),
            }
            first += count;
        }
    }

    /// Convolves `COUNT` outputs from `first`.
    #[inline(always)]
    fn sum<
        V: Vector<LANES>,
        const LANES: usize,
        const STRIDE: usize,
        const COUNT: usize,
        const WHOLE: bool,
    >(
        &mut self,
        vector: usize,
        first: usize,
        activate: impl Activate,
    ) {
        let Depthwise {
            ref weights,
            ref finish,
            channels,
            ..
        } = *self.layer;
        let channel = (2 * self.panel + vector) * LANES;
        let columns = (COUNT - 1) * STRIDE + KERNEL;
        let all_taps = pixels::<LANES>(weights, self.panel * KERNEL * KERNEL, KERNEL * KERNEL);
        let bias: V = finish.bias(channel);
        let mut sums = [bias; COUNT];
        for row in 0..KERNEL {
            let line = pixels::<LANES>(self.lines[row], first * STRIDE, columns);
            let mut taps = [V::splat(0.0); KERNEL];
            for column in 0..KERNEL {
                taps[column] = V::load(&all_taps[KERNEL * row + column][vector]);
            }
            for column in 0..columns {
                let number = V::load(&line[column][vector]);
                for output in 0..COUNT {
                    if (output * STRIDE..output * STRIDE + KERNEL).contains(&column) {
                        let tap = taps[column - output * STRIDE];
                        sums[output] = number.multiply_add(tap, sums[output]);
                    }
                }
            }
        }
        let count = if WHOLE { LANES } else { channels - channel };
        for output in 0..COUNT {
            let active = activate.of(sums[output]).to_array();
            let from = (first + output) * channels + channel;
            self.output[from..][..count].copy_from_slice(&active[..count]);
        }
    }
}

/// Some pixels of a panel, from `first`.
#[inline(always)]
fn pixels<const LANES: usize>(numbers: &[f32], first: usize, count: usize) -> &[[[f32; LANES]; 2]] {
    &numbers.as_chunks::<LANES>().0.as_chunks::<2>().0[first..][..count]
}
