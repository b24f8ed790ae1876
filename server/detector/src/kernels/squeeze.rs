//! The parts of a squeeze-and-excitation (Hu et al. 2017, section 3) that are no convolutions.

use tch::{TchError, Tensor};

use super::numbers::{pixels_first, slice, slice_mut};
use super::threads::Threads;
use super::{Shape, by_row};

/// Neighbouring channels of a thread's share.
const SHARE: usize = 64;

/// The mean of each channel of feature maps in single precision, N x C x 1 x 1.
///
/// # Errors
/// If libtorch fails.
pub(crate) fn means(x: &Tensor, threads: Threads) -> Result<Tensor, TchError> {
    let (x, shape) = pixels_first(x)?;
    let channels = x.size()[3] as usize;
    let after = Shape {
        height: 1,
        width: 1,
        ..shape
    };
    let mut output = after.empty::<f32>(channels)?;
    let input = slice::<f32>(&x);
    let pixels = shape.height * shape.width;
    let shares = slice_mut::<f32>(&mut output)
        .chunks_mut(channels)
        .enumerate()
        .flat_map(|(map, means)| {
            let shares = means.chunks_mut(SHARE).enumerate();
            shares.map(move |(share, means)| (map, share * SHARE, means))
        });
    threads.for_each(shares, |(map, first, means)| {
        means.fill(0.0);
        for pixel in input[map * pixels * channels..]
            .chunks(channels)
            .take(pixels)
        {
            for (sum, number) in means.iter_mut().zip(&pixel[first..]) {
                *sum += number;
            }
        }
        for sum in means {
            *sum /= pixels as f32;
        }
    });
    output.f_permute([0, 3, 1, 2])
}

/// Feature maps in single precision, each channel times its number in `scales`, N x C x 1 x 1. The output is in
/// `channels_last` order.
///
/// # Errors
/// If libtorch fails.
pub(crate) fn scale(x: &Tensor, scales: &Tensor, threads: Threads) -> Result<Tensor, TchError> {
    let (scales, _) = pixels_first(scales)?;
    let channels = scales.size()[3] as usize;
    let scales = slice::<f32>(&scales);
    by_row(x, threads, |map, input: &[f32], output: &mut [f32]| {
        let scales = &scales[map * channels..][..channels];
        let pixels = input.chunks_exact(channels);
        for (input, output) in pixels.zip(output.chunks_exact_mut(channels)) {
            for ((output, input), scale) in output.iter_mut().zip(input).zip(scales) {
                *output = input * scale;
            }
        }
    })
}
