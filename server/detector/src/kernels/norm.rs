//! L2 normalisation over the channels, with a learned factor for each channel (Liu et al. 2015, `ParseNet`).

use tch::{Kind, TchError, Tensor};

use super::by_row;
use super::numbers::{Bf16, Number, slice};
use super::threads::Threads;
use super::vector::{Level, Vector, Work};

/// Divides each pixel by the norm of its channels, and multiplies each channel by its factor. The output is in
/// `channels_last` order and of the input's kind; or, with a scale, the absolute values in u8.
///
/// # Errors
/// If libtorch fails.
pub(crate) fn l2_norm(
    x: &Tensor,
    factors: &Tensor,
    scale: Option<f64>,
    threads: Threads,
) -> Result<Tensor, TchError> {
    let factors: Vec<f32> = match scale {
        Some(scale) => slice::<f32>(factors)
            .iter()
            .map(|factor| (f64::from(factor.abs()) / scale) as f32)
            .collect(),
        None => slice(factors).to_vec(),
    };
    match (x.kind(), scale) {
        // A scale of the input would cancel out.
        (Kind::Uint8, _) => norm_of::<u8, u8>(x, &factors, threads),
        (Kind::BFloat16, _) => norm_of::<Bf16, Bf16>(x, &factors, threads),
        (_, Some(_)) => norm_of::<f32, u8>(x, &factors, threads),
        (_, None) => norm_of::<f32, f32>(x, &factors, threads),
    }
}

fn norm_of<T: Number, O: Number>(
    x: &Tensor,
    factors: &[f32],
    threads: Threads,
) -> Result<Tensor, TchError> {
    let level = Level::of_this_machine();
    by_row::<T, O>(x, threads, |_, input, output| {
        level.run(Row {
            input,
            output,
            factors,
        });
    })
}

struct Row<'a, T, O> {
    input: &'a [T],
    output: &'a mut [O],
    factors: &'a [f32],
}

impl<T: Number, O: Number> Work for Row<'_, T, O> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self) {
        let channels = self.factors.len();
        let pixels = self.input.chunks_exact(channels);
        for (input, output) in pixels.zip(self.output.chunks_exact_mut(channels)) {
            // Several sums, since one would wait for each of its additions.
            let mut sums = [0.0; 32];
            let (whole, rest) = input.as_chunks::<32>();
            for numbers in whole {
                for lane in 0..32 {
                    sums[lane] += numbers[lane].to_f32() * numbers[lane].to_f32();
                }
            }
            for (sum, number) in sums.iter_mut().zip(rest) {
                *sum += number.to_f32() * number.to_f32();
            }
            let norm = sums.iter().sum::<f32>().sqrt() + 1e-10;
            let numbers = input.iter().zip(self.factors);
            for (output, (number, factor)) in output.iter_mut().zip(numbers) {
                *output = O::from_f32(number.to_f32() / norm * factor);
            }
        }
    }
}
