//! Convolutions with kernels of any size, as products: the pixels under the kernel times the weights.

use std::ops::Range;

use super::finish::Finish;
use super::memory::with_scratch;
use super::product::{Packed, Rows, Store, multiply};
use super::threads::Threads;
use super::vector::{Level, Vector, Work, load};
use super::{Shape, Window, check_lengths};
use crate::architecture::Activation;

/// With fewer pixels, threads share the weights, which are larger then, rather than the pixels.
const FEW: usize = 128;

/// A convolution, and its activation.
#[derive(Debug)]
pub struct Direct {
    weights: Packed,
    finish: Finish,
    window: Window,
    inputs: usize,
    outputs: usize,
}

impl Direct {
    /// Prepares weights of `bias.len()` output channels x `inputs` input channels x the window's rows and columns.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(
        level: Level,
        weights: &[f32],
        inputs: usize,
        bias: &[f32],
        window: Window,
        activation: Activation,
    ) -> Self {
        let (outputs, taps) = (bias.len(), window.kernel * window.kernel);
        assert_eq!(
            weights.len(),
            outputs * inputs * taps,
            "weights of {outputs} x {inputs} x {taps}"
        );
        let size = (1, taps * inputs, outputs);
        let weights = Packed::new(level, size, |row, output, number| {
            let (tap, input) = (row / inputs, row % inputs);
            number[0] = weights[(output * inputs + input) * taps + tap];
        });
        Self {
            finish: Finish::new(bias, weights.columns(), activation),
            weights,
            window,
            inputs,
            outputs,
        }
    }

    /// Convolves `input`, of size `shape`, to `output`, which has the activation and then the addition of `other` (as
    /// large as `output`).
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
        let pixels = self.window.after(shape).pixels();
        let lengths = [shape.pixels() * self.inputs, pixels * self.outputs];
        check_lengths(lengths, input, output, other);
        if pixels <= FEW {
            return self.share_weights(input, shape, output, other, threads);
        }
        let share = self.share(pixels, threads.count());
        threads.for_each(
            output.chunks_mut(share * self.outputs).enumerate(),
            |(index, output)| {
                let first = index * share;
                let count = output.len() / self.outputs;
                self.with_rows(input, shape, first..first + count, |rows| {
                    self.weights.level().run(Share {
                        layer: self,
                        rows,
                        other: other.map(|other| &other[first * self.outputs..][..output.len()]),
                        output,
                    });
                });
            },
        );
    }

    /// Pixels that a thread convolves at one time: few enough for the second cache, and for equal work of all threads.
    fn share(&self, pixels: usize, threads: usize) -> usize {
        const NUMBERS: usize = 1 << 13;
        let numbers = self.weights.rows() + self.outputs;
        let shares = threads * pixels.div_ceil(threads * (NUMBERS / numbers).max(48));
        pixels.div_ceil(shares)
    }

    /// Lends the pixels under the kernel, a row for each of some outputs.
    fn with_rows(
        &self,
        input: &[f32],
        shape: Shape,
        pixels: Range<usize>,
        work: impl FnOnce(Rows),
    ) {
        let (stride, count) = (self.weights.rows(), pixels.len());
        if self.window.is_a_pixel() {
            return work(Rows {
                numbers: &input[pixels.start * stride..],
                count,
                stride,
            });
        }
        with_scratch(count * stride, |patches| {
            for (pixel, patch) in pixels.zip(patches.chunks_exact_mut(stride)) {
                self.copy(input, shape, pixel, patch);
            }
            work(Rows {
                numbers: patches,
                count,
                stride,
            });
        });
    }

    /// Copies the pixels under the kernel for the output number `index`.
    fn copy(&self, input: &[f32], shape: Shape, index: usize, patch: &mut [f32]) {
        let Window {
            kernel,
            stride,
            dilation,
            before,
            ..
        } = self.window;
        let after = self.window.after(shape);
        let (map, inside) = (
            index / (after.height * after.width),
            index % (after.height * after.width),
        );
        // In the feature map with its padding.
        let (top, left) = (inside / after.width * stride, inside % after.width * stride);
        let columns = before..before + shape.width;
        for (row, patch) in patch.chunks_exact_mut(kernel * self.inputs).enumerate() {
            let y = top + row * dilation;
            if !(before..before + shape.height).contains(&y) {
                patch.fill(0.0);
                continue;
            }
            let line = &input[(map * shape.height + y - before) * shape.width * self.inputs..];
            if dilation == 1 && left >= before && left + kernel <= columns.end {
                patch.copy_from_slice(&line[(left - before) * self.inputs..][..patch.len()]);
                continue;
            }
            for (column, pixel) in patch.chunks_exact_mut(self.inputs).enumerate() {
                let x = left + column * dilation;
                if columns.contains(&x) {
                    pixel.copy_from_slice(&line[(x - before) * self.inputs..][..self.inputs]);
                } else {
                    pixel.fill(0.0);
                }
            }
        }
    }

    /// Like [`convolve`](Self::convolve). Each thread multiplies all pixels with some of the weights.
    fn share_weights(
        &self,
        input: &[f32],
        shape: Shape,
        output: &mut [f32],
        other: Option<&[f32]>,
        threads: Threads,
    ) {
        let (level, pixels) = (self.weights.level(), output.len() / self.outputs);
        let panel = pixels * self.weights.panel();
        self.with_rows(input, shape, 0..pixels, |rows| {
            with_scratch(self.weights.panels() * panel, |sums| {
                threads.for_each(sums.chunks_mut(panel).enumerate(), |(index, sums)| {
                    level.run(Panel {
                        layer: self,
                        rows,
                        index,
                        sums,
                    });
                });
                level.run(Gather {
                    layer: self,
                    sums,
                    output,
                    other,
                });
            });
        });
    }
}

/// All outputs of some pixels.
struct Share<'a> {
    layer: &'a Direct,
    rows: Rows<'a>,
    other: Option<&'a [f32]>,
    output: &'a mut [f32],
}

impl Work for Share<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(mut self) {
        let (rows, weights) = (self.rows, &self.layer.weights);
        multiply::<V, LANES, ROWS>(
            &[rows].into_iter(),
            weights,
            0,
            0..weights.panels(),
            &mut self,
        );
    }
}

impl Store for Share<'_> {
    #[inline(always)]
    fn store<V: Vector<LANES>, const LANES: usize, const COUNT: usize, const WIDE: usize>(
        &mut self,
        (first, column): (usize, usize),
        numbers: [[V; WIDE]; COUNT],
    ) {
        let outputs = self.layer.outputs;
        for part in 0..WIDE {
            let column = column + part * LANES;
            let (finish, count) = (self.layer.finish.of(column), outputs.saturating_sub(column));
            for row in 0..COUNT {
                let at = ((first + row) * outputs + column, count);
                finish.write(numbers[row][part], self.other, self.output, at);
            }
        }
    }
}

/// Some outputs of all pixels.
struct Panel<'a> {
    layer: &'a Direct,
    rows: Rows<'a>,
    index: usize,
    sums: &'a mut [f32],
}

impl Work for Panel<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(mut self) {
        let (rows, panels) = (self.rows, self.index..self.index + 1);
        let weights = &self.layer.weights;
        multiply::<V, LANES, ROWS>(&[rows].into_iter(), weights, 0, panels, &mut self);
    }
}

impl Store for Panel<'_> {
    #[inline(always)]
    fn store<V: Vector<LANES>, const LANES: usize, const COUNT: usize, const WIDE: usize>(
        &mut self,
        (first, _): (usize, usize),
        numbers: [[V; WIDE]; COUNT],
    ) {
        for row in 0..COUNT {
            let into = &mut self.sums[(first + row) * 2 * LANES..][..WIDE * LANES];
            for part in 0..WIDE {
                into[part * LANES..][..LANES].copy_from_slice(&numbers[row][part].to_array());
            }
        }
    }
}

/// Turns the sums of all panels into outputs.
struct Gather<'a> {
    layer: &'a Direct,
    sums: &'a [f32],
    output: &'a mut [f32],
    other: Option<&'a [f32]>,
}

impl Work for Gather<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self) {
        let outputs = self.layer.outputs;
        let pixels = self.output.len() / outputs;
        for (panel, sums) in self.sums.chunks_exact(pixels * 2 * LANES).enumerate() {
            for part in 0..2 {
                let column = (2 * panel + part) * LANES;
                if column >= outputs {
                    break;
                }
                let finish = self.layer.finish.of(column);
                for pixel in 0..pixels {
                    let at = (pixel * outputs + column, outputs - column);
                    let numbers: V = load(sums, (2 * pixel + part) * LANES);
                    finish.write(numbers, self.other, self.output, at);
                }
            }
        }
    }
}
