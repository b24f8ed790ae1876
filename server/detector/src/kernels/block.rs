//! A convolution, a depthwise one and a convolution with kernels of 1 x 1, row by row (Sandler et al. 2018, "inverted
//! residuals"). The feature maps between them are several times as large as those before and after. Of these, only the
//! rows under the depthwise kernel exist at one time, in the cache.

use std::sync::Arc;

use super::depthwise::Depthwise;
use super::direct::Direct;
use super::memory::with_scratch;
use super::threads::Threads;
use super::{Layer, Shape, check_lengths};

/// Three convolutions, ready to run.
#[derive(Debug)]
pub struct Block([Arc<Layer>; 3]);

impl Block {
    /// `None` if the layers are not a direct convolution, a depthwise one, and one with kernels of 1 x 1.
    pub fn new(layers: [Arc<Layer>; 3]) -> Option<Self> {
        match layers.each_ref().map(|layer| &**layer) {
            [Layer::Direct(_), Layer::Depthwise(_), Layer::Direct(last)]
                if last.window().is_a_pixel() =>
            {
                Some(Self(layers))
            }
            _ => None,
        }
    }

    fn parts(&self) -> (&Direct, &Depthwise, &Direct) {
        match self.0.each_ref().map(|layer| &**layer) {
            [
                Layer::Direct(first),
                Layer::Depthwise(second),
                Layer::Direct(last),
            ] => (first, second, last),
            _ => unreachable!("checked by `new`"),
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
        let (first, depthwise, last) = self.parts();
        let between = first.window().after(shape);
        let after = depthwise.window().after(between);
        let row = after.width * last.outputs();
        let lengths = [
            shape.pixels() * first.inputs(),
            after.maps * after.height * row,
        ];
        check_lengths(lengths, input, output, other);
        // Three for each thread: one that is late leaves some. The rows between two bands are computed twice.
        let band = after.height.div_ceil(3 * threads.count());
        let bands = output
            .chunks_mut(after.height * row)
            .enumerate()
            .flat_map(|(map, output)| {
                let bands = output.chunks_mut(band * row).enumerate();
                bands.map(move |(index, output)| (map, index * band, output))
            });
        threads.for_each(bands, |(map, top, output)| {
            let line = between.width * first.outputs();
            with_scratch(3 * line + after.width * first.outputs(), |scratch| {
                let (lines, convolved) = scratch.split_at_mut(3 * line);
                // Row number `y` is in line number `y % 3`.
                let mut known = 0;
                for (y, output) in (top..).zip(output.chunks_exact_mut(row)) {
                    let rows = depthwise.window().rows::<3>(y);
                    for y in rows.iter().filter_map(|y| between.inside(*y)) {
                        if y >= known {
                            let pixel = (map * between.height + y) * between.width;
                            let into = &mut lines[y % 3 * line..][..line];
                            first.convolve_some(input, shape, pixel, into, None);
                            known = y + 1;
                        }
                    }
                    let under = rows.map(|y| match between.inside(y) {
                        Some(y) => &lines[y % 3 * line..][..line],
                        None => &[],
                    });
                    depthwise.convolve_row(under, convolved, None);
                    let pixel = (map * after.height + y) * after.width;
                    let from = pixel * last.outputs();
                    let other = other.map(|other| &other[from..][..row]);
                    let one = Shape {
                        maps: 1,
                        height: 1,
                        width: after.width,
                    };
                    last.convolve_some(convolved, one, 0, output, other);
                }
            });
        });
    }
}
