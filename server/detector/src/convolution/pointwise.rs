//! Convolutions with kernels of 1 x 1: each pixel's channels times the weights.

use super::check_lengths;
use super::finish::Finish;
use super::kernel::{Packed, Rows, Store, multiply};
use super::threads::Threads;
use super::vector::{Level, Vector, Work};
use crate::architecture::Activation;

/// A convolution with kernels of 1 x 1, and its activation.
#[derive(Debug)]
pub struct Pointwise {
    weights: Packed,
    finish: Finish,
    inputs: usize,
    outputs: usize,
}

impl Pointwise {
    /// Prepares weights of `bias.len()` output channels x `inputs` input channels.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(
        level: Level,
        weights: &[f32],
        inputs: usize,
        bias: &[f32],
        activation: Activation,
    ) -> Self {
        let outputs = bias.len();
        assert_eq!(
            weights.len(),
            outputs * inputs,
            "weights of {outputs} x {inputs}"
        );
        let weights = Packed::new(level, (1, inputs, outputs), |input, output, number| {
            number[0] = weights[output * inputs + input];
        });
        Self {
            finish: Finish::new(bias, weights.columns(), activation),
            weights,
            inputs,
            outputs,
        }
    }

    /// Convolves `input` (pixels x input channels) to `output` (pixels x output channels), which has the activation
    /// and then the addition of `other` (as large as `output`).
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn convolve(
        &self,
        input: &[f32],
        output: &mut [f32],
        other: Option<&[f32]>,
        threads: Threads,
    ) {
        let pixels = output.len() / self.outputs;
        let lengths = [self.inputs, self.outputs].map(|channels| pixels * channels);
        check_lengths(lengths, input, output, other);
        let share = self.share(pixels, threads.count());
        threads.for_each(
            output.chunks_mut(share * self.outputs).enumerate(),
            |(index, output)| {
                let first = index * share;
                self.weights.level().run(Share {
                    layer: self,
                    input: &input[first * self.inputs..],
                    other: other.map(|other| &other[first * self.outputs..][..output.len()]),
                    output,
                });
            },
        );
    }

    /// Pixels that a thread convolves at one time: few enough for the second cache, and for equal work of all threads.
    fn share(&self, pixels: usize, threads: usize) -> usize {
        const NUMBERS: usize = 1 << 13;
        let shares =
            threads * pixels.div_ceil(threads * (NUMBERS / (self.inputs + self.outputs)).max(48));
        pixels.div_ceil(shares.max(1)).max(1)
    }
}

struct Share<'a> {
    layer: &'a Pointwise,
    input: &'a [f32],
    other: Option<&'a [f32]>,
    output: &'a mut [f32],
}

impl Work for Share<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(mut self) {
        let rows = Rows {
            numbers: self.input,
            count: self.output.len() / self.layer.outputs,
            stride: self.layer.inputs,
        };
        let weights = &self.layer.weights;
        multiply::<V, LANES, ROWS>(&[rows].into_iter(), weights, 0, &mut self);
    }
}

impl Store for Share<'_> {
    #[inline(always)]
    fn store<V: Vector<LANES>, const LANES: usize, const COUNT: usize>(
        &mut self,
        (first, column): (usize, usize),
        numbers: [[V; 2]; COUNT],
    ) {
        let outputs = self.layer.outputs;
        for half in 0..2 {
            let column = column + half * LANES;
            let (finish, count) = (self.layer.finish.of(column), outputs.saturating_sub(column));
            for row in 0..COUNT {
                let at = ((first + row) * outputs + column, count);
                finish.write(numbers[row][half], self.other, self.output, at);
            }
        }
    }
}
