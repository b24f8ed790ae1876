//! A convolution, a depthwise one and a convolution with kernels of 1 x 1, row by row (Sandler et al. 2018, "inverted
//! residuals"). The feature maps between them are several times as large as those before and after. Of these, only the
//! rows under the depthwise kernel exist at one time, in the cache.

use std::sync::Arc;

use super::depthwise::Depthwise;
use super::direct::Direct;
use super::memory::with_scratch;
use super::threads::Threads;
use super::{Maps, Shape};

/// Three convolutions, ready to run.
#[derive(Debug, Clone)]
pub struct Bottleneck {
    pub first: Arc<Direct>,
    /// With kernels of 3 x 3.
    pub depthwise: Arc<Depthwise>,
    /// With kernels of 1 x 1.
    pub last: Arc<Direct>,
}

impl Bottleneck {
    /// The size of outputs.
    pub(super) fn after(&self, shape: Shape) -> Shape {
        let between = self.first.window().after(shape);
        self.depthwise.window().after(between)
    }

    /// Convolves feature maps.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(super) fn convolve(&self, maps: Maps, threads: Threads) {
        let Self {
            first,
            depthwise,
            last,
        } = self;
        let between = first.window().after(maps.shape);
        let after = self.after(maps.shape);
        let row = after.width * last.outputs();
        maps.check([
            maps.shape.pixels() * first.inputs(),
            after.pixels() * last.outputs(),
        ]);
        let Maps {
            input,
            shape,
            output,
            other,
        } = maps;
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
