//! Convolutions with kernels of any size, as products: the pixels under the kernel times the weights.

use std::ops::Range;

use super::finish::{Activate, Finish, Limit, add, write};
use super::memory::with_scratch;
use super::product::{Packed, Rows, Store, multiply};
use super::threads::Threads;
use super::vector::{Bf16Level, Level, Vector, Work, pair};
use super::{Maps, Shape, Window};
use crate::architecture::Activation;

/// A convolution, and its activation.
#[derive(Debug)]
pub struct Direct {
    weights: Packed,
    /// The weights are in pairs, and inputs become pairs.
    bf16: Option<Bf16Level>,
    finish: Finish,
    window: Window,
    inputs: usize,
    outputs: usize,
}

impl Direct {
    /// Prepares weights of `bias.len()` output channels x `inputs` input channels x the window's rows and columns. With a
    /// level for bfloat16, inputs and weights are rounded to it if `inputs` is even.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(
        (level, bf16): (Level, Option<Bf16Level>),
        weights: &[f32],
        inputs: usize,
        bias: &[f32],
        window: Window,
        activation: Activation,
    ) -> Self {
        let bf16 = bf16.filter(|_| inputs.is_multiple_of(2));
        let (outputs, taps) = (bias.len(), window.kernel * window.kernel);
        assert_eq!(
            weights.len(),
            outputs * inputs * taps,
            "weights of {outputs} x {inputs} x {taps}"
        );
        let weight = |row: usize, output: usize| {
            let (tap, input) = (row / inputs, row % inputs);
            weights[(output * inputs + input) * taps + tap]
        };
        let rows = taps * inputs / if bf16.is_some() { 2 } else { 1 };
        let weights = Packed::new(level, (1, rows, outputs), |row, output, number| {
            number[0] = match bf16 {
                None => weight(row, output),
                Some(_) => pair([2 * row, 2 * row + 1].map(|row| weight(row, output))),
            };
        });
        Self {
            finish: Finish::new(bias, weights.columns(), activation),
            weights,
            bf16,
            window,
            inputs,
            outputs,
        }
    }

    /// Convolves feature maps.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(super) fn convolve(&self, maps: Maps, threads: Threads) {
        let pixels = self.window.after(maps.shape).pixels();
        maps.check([maps.shape.pixels() * self.inputs, pixels * self.outputs]);
        if self.shares_weights(pixels, Threads::count()) {
            return self.share_weights(maps, threads);
        }
        let Maps {
            input,
            shape,
            output,
            other,
        } = maps;
        let each = self.share(pixels, Threads::count());
        threads.for_each(
            output.chunks_mut(each * self.outputs).enumerate(),
            |(index, output)| {
                let first = index * each;
                let other = other.map(|other| &other[first * self.outputs..][..output.len()]);
                self.convolve_some(input, shape, first, output, other);
            },
        );
    }

    /// Convolves some outputs, from the pixel number `first`.
    pub fn convolve_some(
        &self,
        input: &[f32],
        shape: Shape,
        first: usize,
        output: &mut [f32],
        other: Option<&[f32]>,
    ) {
        let pixels = first..first + output.len() / self.outputs;
        self.with_rows(input, shape, pixels, |rows| {
            self.run(Share {
                layer: self,
                rows,
                panels: 0..self.weights.panels(),
                other,
                output: Pixels {
                    numbers: output,
                    width: self.outputs,
                },
            });
        });
    }

    /// Convolves some pixels, as [`with_lines`](Self::with_lines) lends them, for the outputs of a panel.
    pub fn convolve_panel(&self, rows: Rows, panel: usize, output: &mut [f32]) {
        self.run(Share {
            layer: self,
            rows,
            panels: panel..panel + 1,
            other: None,
            output: Pixels {
                numbers: output,
                width: self.weights.panel(),
            },
        });
    }

    fn run(&self, share: impl Work) {
        match self.bf16 {
            Some(level) => level.run(share),
            None => self.weights.level().run(share),
        }
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn window(&self) -> Window {
        self.window
    }

    /// Pixels that a thread convolves at one time: few enough for the second cache, for equal work of all threads, and
    /// for registers that are filled.
    fn share(&self, pixels: usize, threads: usize) -> usize {
        const NUMBERS: usize = 1 << 13;
        let numbers = self.weights.rows() + self.outputs;
        let each = threads * (NUMBERS / numbers).max(48);
        let sizes = [pixels / each, pixels / each + 1].map(|shares| {
            let shares = threads * shares.max(1);
            pixels.div_ceil(shares)
        });
        let [large, small] = sizes;
        if self.filled(small) > self.filled(large) {
            small
        } else {
            large
        }
    }

    /// The share of the registers that products of so many rows fill.
    fn filled(&self, rows: usize) -> f64 {
        rows as f64 / rows.next_multiple_of(self.weights.level().rows()) as f64
    }

    /// Whether the threads share the weights rather than the pixels, since fewer registers and threads are idle then.
    fn shares_weights(&self, pixels: usize, threads: usize) -> bool {
        /// Weights come from memory once for all threads; but of more pixels, some would too.
        const FEW: usize = 128;
        let panels = self.weights.panels();
        let busy = panels as f64 / panels.next_multiple_of(threads) as f64;
        let filled = [pixels, pixels.div_ceil(threads)].map(|rows| self.filled(rows));
        threads > 1 && pixels <= FEW && filled[0] * busy > 0.9 * filled[1]
    }

    /// Lends the pixels under the kernel, a row for each of some outputs.
    fn with_rows(
        &self,
        input: &[f32],
        shape: Shape,
        pixels: Range<usize>,
        work: impl FnOnce(Rows),
    ) {
        let (first, count) = (pixels.start, pixels.len());
        let work = |rows: &[f32]| {
            self.with_numbers(rows, |numbers| {
                work(Rows::whole(numbers, count, self.weights.rows()));
            });
        };
        if self.window.is_a_pixel() {
            return work(&input[first * self.inputs..][..count * self.inputs]);
        }
        with_scratch(count * self.patch(), |patches| {
            self.copy(input, shape, first, patches);
            work(patches);
        });
    }

    /// Lends numbers as they are multiplied: in bfloat16, in pairs.
    fn with_numbers(&self, numbers: &[f32], work: impl FnOnce(&[f32])) {
        match self.bf16 {
            None => work(numbers),
            Some(level) => with_scratch(numbers.len() / 2, |pairs| {
                level.round(numbers, pairs);
                work(pairs);
            }),
        }
    }

    /// Numbers of a patch: the pixels under the kernel.
    fn patch(&self) -> usize {
        self.window.kernel * self.window.kernel * self.inputs
    }

    /// Lends the pixels under the kernel, which has no dilation, for some rows of outputs of a feature map.
    pub fn with_lines(
        &self,
        map: &[f32],
        shape: Shape,
        outputs: Range<usize>,
        work: impl FnOnce(Under),
    ) {
        let Window {
            kernel,
            stride,
            before,
            after,
            ..
        } = self.window;
        // As they are multiplied.
        let pixel = self.weights.rows() / (kernel * kernel);
        let line = shape.width * self.inputs;
        if self.window.is_a_pixel() {
            let lines = &map[outputs.start * line..outputs.end * line];
            return self.with_numbers(lines, |lines| {
                work(Under {
                    first: outputs.start,
                    step: shape.width * pixel,
                    rows: Rows::whole(lines, shape.width, pixel),
                });
            });
        }
        let length = line + (before + after) * self.inputs;
        let first = outputs.start * stride;
        let more = outputs.len().checked_sub(1);
        let count = more.map_or(0, |more| more * stride + kernel);
        with_scratch(count * length, |lines| {
            for (number, into) in (first..).zip(lines.chunks_exact_mut(length)) {
                into.fill(0.0);
                if let Some(row) = self.window.inside(number, shape.height) {
                    let row = &map[row * line..][..line];
                    into[before * self.inputs..][..line].copy_from_slice(row);
                }
            }
            self.with_numbers(lines, |lines| {
                let length = (before + shape.width + after) * pixel;
                work(Under {
                    first: outputs.start,
                    step: stride * length,
                    rows: Rows {
                        numbers: lines,
                        count: self.window.after(shape).width,
                        stride: stride * pixel,
                        piece: kernel * pixel,
                        jump: length,
                    },
                });
            });
        });
    }

    /// Copies the pixels under the kernel, for as many outputs as `patches` has room for, from the output number `first`.
    fn copy(&self, input: &[f32], shape: Shape, first: usize, patches: &mut [f32]) {
        let Window {
            kernel,
            stride,
            dilation,
            before,
            ..
        } = self.window;
        let after = self.window.after(shape);
        let line = shape.width * self.inputs;
        // The output's column, its row, and its feature map.
        let mut x = first % after.width;
        let mut y = first / after.width % after.height;
        let mut map = first / after.width / after.height;
        for patch in patches.chunks_exact_mut(self.patch()) {
            for (row, into) in patch.chunks_exact_mut(kernel * self.inputs).enumerate() {
                let inside = self
                    .window
                    .inside(y * stride + row * dilation, shape.height);
                let Some(top) = inside else {
                    into.fill(0.0);
                    continue;
                };
                // Before the feature map, this wraps to a large number.
                let left = (x * stride).wrapping_sub(before);
                let line = &input[(map * shape.height + top) * line..][..line];
                if dilation == 1 && left < shape.width && left + kernel <= shape.width {
                    let pixels = &line[left * self.inputs..][..into.len()];
                    // A loop, since most kernels' rows are too short for a call of `memcpy`.
                    for (to, from) in into.iter_mut().zip(pixels) {
                        *to = *from;
                    }
                    continue;
                }
                for (column, pixel) in into.chunks_exact_mut(self.inputs).enumerate() {
                    let place = left.wrapping_add(column * dilation);
                    if place < shape.width {
                        pixel.copy_from_slice(&line[place * self.inputs..][..self.inputs]);
                    } else {
                        pixel.fill(0.0);
                    }
                }
            }
            x += 1;
            if x == after.width {
                (x, y) = (0, y + 1);
            }
            if y == after.height {
                (y, map) = (0, map + 1);
            }
        }
    }

    /// Like [`convolve`](Self::convolve). Each thread multiplies all pixels with its part of the weights.
    fn share_weights(&self, maps: Maps, threads: Threads) {
        /// Of each thread. One that is late leaves some.
        const PARTS: usize = 4;
        let Maps {
            input,
            shape,
            output,
            other,
        } = maps;
        let (pixels, panels) = (output.len() / self.outputs, self.weights.panels());
        let each = panels.div_ceil(PARTS * Threads::count());
        let width = each * self.weights.panel();
        // Each part's columns of all rows.
        let mut parts: Vec<Vec<&mut [f32]>> = Vec::new();
        parts.resize_with(panels.div_ceil(each), || Vec::with_capacity(pixels));
        for row in output.chunks_exact_mut(self.outputs) {
            for (part, columns) in parts.iter_mut().zip(row.chunks_mut(width)) {
                part.push(columns);
            }
        }
        self.with_rows(input, shape, 0..pixels, |rows| {
            threads.for_each(parts.into_iter().enumerate(), |(index, output)| {
                self.run(Share {
                    layer: self,
                    rows,
                    panels: index * each..panels.min((index + 1) * each),
                    other,
                    output,
                });
            });
        });
    }
}

/// The pixels under a kernel, for some rows of outputs.
pub(super) struct Under<'a> {
    /// The first row of outputs.
    first: usize,
    /// Numbers from each row to the next.
    step: usize,
    /// Of the first row.
    rows: Rows<'a>,
}

impl<'a> Under<'a> {
    /// For a row of outputs.
    pub fn row(&self, number: usize) -> Rows<'a> {
        Rows {
            numbers: &self.rows.numbers[(number - self.first) * self.step..],
            ..self.rows
        }
    }
}

/// Some panels of the outputs of some pixels.
struct Share<'a, O> {
    layer: &'a Direct,
    rows: Rows<'a>,
    panels: Range<usize>,
    /// All channels of the pixels.
    other: Option<&'a [f32]>,
    output: O,
}

/// Where the outputs of some pixels are.
trait Output {
    /// A pixel's outputs of the panels.
    fn pixel(&mut self, index: usize) -> &mut [f32];
}

/// Pixels that lie one after the other.
struct Pixels<'a> {
    numbers: &'a mut [f32],
    /// Numbers of a pixel.
    width: usize,
}

impl Output for Pixels<'_> {
    #[inline(always)]
    fn pixel(&mut self, index: usize) -> &mut [f32] {
        &mut self.numbers[index * self.width..][..self.width]
    }
}

/// The outputs of some panels.
impl Output for Vec<&mut [f32]> {
    #[inline(always)]
    fn pixel(&mut self, index: usize) -> &mut [f32] {
        self[index]
    }
}

impl<O: Output> Work for Share<'_, O> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(mut self) {
        let activation = self.layer.finish.activation();
        match Limit::of(activation) {
            Some(limit) => self.multiply::<V, LANES, ROWS>(limit),
            None => self.multiply::<V, LANES, ROWS>(activation),
        }
        let (outputs, before) = (self.layer.outputs, self.panels.start * 2 * LANES);
        if let Some(other) = self.other {
            for row in 0..self.rows.count {
                add(self.output.pixel(row), &other[row * outputs + before..]);
            }
        }
    }
}

impl<O: Output> Share<'_, O> {
    #[inline(always)]
    fn multiply<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(
        &mut self,
        activate: impl Activate,
    ) {
        let (rows, panels) = (self.rows, self.panels.clone());
        let weights = &self.layer.weights;
        let mut into = Active {
            layer: self.layer,
            before: panels.start * 2 * LANES,
            output: &mut self.output,
            activate,
        };
        for panel in panels {
            let (numbers, column) = (weights.part(panel, 0), panel * weights.panel());
            let part = (numbers, weights.width(panel));
            multiply::<V, LANES, ROWS>(&[rows].into_iter(), part, column, &mut into);
        }
    }
}

/// Takes sums, and writes their activations.
struct Active<'a, O, A> {
    layer: &'a Direct,
    /// Columns before the first panel.
    before: usize,
    output: &'a mut O,
    activate: A,
}

impl<O: Output, A: Activate> Store for Active<'_, O, A> {
    #[inline(always)]
    fn bias<V: Vector<LANES>, const LANES: usize>(&self, column: usize) -> V {
        self.layer.finish.bias(column)
    }

    #[inline(always)]
    fn store<V: Vector<LANES>, const LANES: usize, const COUNT: usize, const WIDE: usize>(
        &mut self,
        (first, column): (usize, usize),
        numbers: [[V; WIDE]; COUNT],
    ) {
        let outputs = self.layer.outputs;
        let (whole, from) = (column + WIDE * LANES <= outputs, column - self.before);
        for row in 0..COUNT {
            let output = &mut self.output.pixel(first + row)[from..];
            if whole {
                let output = &mut output[..WIDE * LANES];
                for part in 0..WIDE {
                    let active = self.activate.of(numbers[row][part]);
                    output[part * LANES..][..LANES].copy_from_slice(&active.to_array());
                }
            } else {
                for (part, output) in output.chunks_mut(LANES).enumerate().take(WIDE) {
                    write(self.activate.of(numbers[row][part]), output);
                }
            }
        }
    }
}
