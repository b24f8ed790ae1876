//! A convolution, a depthwise one and a convolution with kernels of 1 x 1, row by row (Sandler et al. 2018, "inverted
//! residuals"). The feature maps between them are several times as large as those before and after. Of these, only the
//! rows under the depthwise kernel exist at one time, in the cache.

use std::sync::Arc;

use super::depthwise::{Depthwise, Lines};
use super::direct::Direct;
use super::memory::with_scratch;
use super::threads::Threads;
use super::{Maps, Shape, bands};

/// Side of the depthwise kernel.
const KERNEL: usize = 3;

/// Three convolutions, ready to run.
#[derive(Debug, Clone)]
pub struct Bottleneck {
    /// Without dilation.
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
        let bands = bands(output, after.height, row);
        threads.share(bands, |bands| {
            Lines::with(depthwise, between.width, |mut lines| {
                with_scratch(after.width * depthwise.channels(), |convolved| {
                    for (map, top, output) in bands {
                        lines.begin(map, top, output.len() / row);
                        let input = &input[map * shape.height * shape.width * first.inputs()..];
                        for (y, output) in (top..).zip(output.chunks_exact_mut(row)) {
                            self.convolve_row(input, shape, y, &mut lines, convolved);
                            let from = (map * after.height + y) * row;
                            let one = Shape {
                                maps: 1,
                                height: 1,
                                width: after.width,
                            };
                            let other = other.map(|other| &other[from..][..row]);
                            last.convolve_some(convolved, one, 0, output, other);
                        }
                    }
                });
            });
        });
    }

    /// The first two convolutions, for a row of outputs of a feature map.
    fn convolve_row(
        &self,
        map: &[f32],
        shape: Shape,
        y: usize,
        lines: &mut Lines,
        output: &mut [f32],
    ) {
        let (window, height) = (
            self.depthwise.window(),
            self.first.window().after(shape).height,
        );
        let first = y * window.stride;
        let new = lines.move_to(first);
        let inside = |line: usize| line.saturating_sub(window.before).min(height);
        let rows = inside(new.start)..inside(new.end);
        self.first.with_lines(map, shape, rows, |pixels| {
            for panel in 0..lines.panels() {
                for number in new.clone() {
                    let into = lines.part(panel, number);
                    match window.inside(number, height) {
                        Some(row) => self.first.convolve_panel(pixels.row(row), panel, into),
                        None => into.fill(0.0),
                    }
                }
                lines.convolve::<KERNEL>(panel, first, output);
            }
        });
    }
}
