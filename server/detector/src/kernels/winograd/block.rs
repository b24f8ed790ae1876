//! Winograd's convolution of some tiles, in three steps: transformed inputs, their products with the weights for each
//! point, and outputs. The last two steps take a panel of output channels at a time, whose numbers stay in a cache.

use std::ops::Range;

use super::super::finish::{Activate, Limit, write};
use super::super::memory::{LINE, with_scratch};
use super::super::product::{Rows, Store, multiply};
use super::super::vector::{Vector, Work};
use super::transform::{POINTS_4, POINTS_6, Points};
use super::{MaxPool, Tile, Transforms, Winograd};

/// Some rows and columns of the tiles of a feature map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub layer: &'a Winograd,
    /// The whole feature map.
    pub input: &'a [f32],
    pub height: usize,
    pub width: usize,
    pub rows: usize,
    pub columns: usize,
    /// The first tile's row and column of tiles.
    pub first: (usize, usize),
    /// Of the outputs.
    pub pool: MaxPool,
}

/// A block and its transformed inputs: of each point, the channels of each tile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transformed<'a> {
    pub block: Block<'a>,
    pub inputs: &'a [f32],
}

impl Block<'_> {
    pub fn tiles(&self) -> usize {
        self.rows * self.columns
    }

    /// Numbers of all points of the transformed inputs.
    pub fn length(&self) -> usize {
        self.layer.tile.points() * self.step()
    }

    /// Numbers from each point to the next.
    fn step(&self) -> usize {
        spread(self.tiles() * self.padded_inputs())
    }

    /// Input channels of whole vectors.
    fn padded_inputs(&self) -> usize {
        self.layer
            .inputs
            .next_multiple_of(self.layer.weights.level().lanes())
    }

    /// The first step.
    pub fn transform(self, into: &mut [f32]) {
        with_scratch(self.layer.tile.points() * self.padded_inputs(), |patch| {
            let level = self.layer.weights.level();
            level.run(Inputs {
                block: self,
                patch,
                into,
            });
        });
    }
}

/// The distance between points of so many numbers: a cache line more, because otherwise the points' numbers of one tile
/// would compete for the same few lines of the cache.
fn spread(numbers: usize) -> usize {
    numbers.next_multiple_of(LINE) + LINE
}

/// Where the products of the tiles of some blocks are. Their order: the rows of points, the panels, the points of a row, the
/// tiles of all blocks, and the columns of a panel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout<'a> {
    layer: &'a Winograd,
    panels: usize,
    /// Numbers of a point of a panel.
    point: usize,
}

impl<'a> Layout<'a> {
    pub fn new(blocks: &[Transformed<'a>], panels: usize) -> Self {
        let layer = blocks[0].block.layer;
        let tiles = blocks.iter().map(|part| part.block.tiles()).sum::<usize>();
        Self {
            layer,
            panels,
            point: spread(tiles * layer.weights.panel()),
        }
    }

    /// Numbers of a row of points.
    pub fn row(self) -> usize {
        self.panels * self.panel()
    }

    /// Numbers of a panel in a row of points.
    pub fn panel(self) -> usize {
        self.layer.tile.points_of_a_row() * self.point
    }

    /// The second step, for some panels in a row of points.
    pub fn multiply(
        self,
        blocks: &[Transformed],
        row: usize,
        panels: Range<usize>,
        into: &mut [f32],
    ) {
        let Winograd {
            ref weights,
            inputs,
            tile,
            transforms,
            ..
        } = *self.layer;
        let (level, side) = (weights.level(), tile.points_of_a_row());
        // Of transformed weights, from each point to the next.
        let step = spread(inputs * weights.panel());
        let room = match transforms {
            Transforms::Once => 0,
            Transforms::EachTime => panels.len() * side * step,
        };
        with_scratch(room, |transformed| {
            for (panel, into) in panels.clone().zip(transformed.chunks_mut(side * step)) {
                level.run(Kernels {
                    layer: self.layer,
                    panel,
                    row,
                    into,
                    step,
                });
            }
            for column in 0..side {
                let point = row * side + column;
                for (index, panel) in panels.clone().enumerate() {
                    let place = index * side + column;
                    let width = weights.width(panel);
                    let numbers = match transforms {
                        Transforms::Once => weights.part(panel, point),
                        Transforms::EachTime => &transformed[place * step..][..inputs * width],
                    };
                    level.run(Product {
                        blocks,
                        point,
                        weights: (numbers, width),
                        into: &mut into[place * self.point..][..self.point],
                    });
                }
            }
        });
    }

    /// The third step, for some panels of a block, whose first tile is number `tile`.
    pub fn write(
        self,
        block: Block,
        tile: usize,
        panels: Range<usize>,
        products: &[f32],
        output: &mut [f32],
    ) {
        let weights = &self.layer.weights;
        for (index, panel) in panels.enumerate() {
            let from = index * self.panel() + tile * weights.width(panel);
            weights.level().run(Outputs {
                block,
                panel,
                products: &products[from..],
                strides: (self.row(), self.point),
                output,
            });
        }
    }
}

impl Block<'_> {
    /// All steps. `output` is all pixels of the block's rows, pooled.
    pub fn convolve(self, output: &mut [f32]) {
        with_scratch(self.length(), |inputs| {
            self.transform(inputs);
            let blocks = [Transformed {
                block: self,
                inputs,
            }];
            // A panel after the other: its products stay in the second cache.
            let layout = Layout::new(&blocks, 1);
            let side = self.layer.tile.points_of_a_row();
            with_scratch(side * layout.row(), |products| {
                for panel in 0..self.layer.weights.panels() {
                    for (row, into) in products.chunks_mut(layout.row()).enumerate() {
                        layout.multiply(&blocks, row, panel..panel + 1, into);
                    }
                    layout.write(self, 0, panel..panel + 1, products, output);
                }
            });
        });
    }
}

/// The first step.
struct Inputs<'a> {
    block: Block<'a>,
    /// Memory for the pixels of a tile.
    patch: &'a mut [f32],
    into: &'a mut [f32],
}

impl Work for Inputs<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self) {
        match self.block.layer.tile {
            Tile::F4 => self.transform::<V, LANES, 2, 6>(&POINTS_4),
            Tile::F6 => self.transform::<V, LANES, 3, 8>(&POINTS_6),
        }
    }
}

impl Inputs<'_> {
    #[inline(always)]
    fn transform<V: Vector<LANES>, const LANES: usize, const P: usize, const N: usize>(
        self,
        points: &Points<P>,
    ) {
        let Block {
            layer,
            input,
            height,
            width,
            columns,
            ..
        } = self.block;
        let (inputs, padded) = (layer.inputs, self.block.padded_inputs());
        let mut between = [[V::splat(0.0); N]; N];
        for tile in 0..self.block.tiles() {
            // Of the tile's first pixel, with a row and a column of padding.
            let y = (self.block.first.0 + tile / columns) * (N - 2);
            let x = (self.block.first.1 + tile % columns) * (N - 2);
            let inside =
                y > 0 && x > 0 && y + N < height + 2 && x + N < width + 2 && inputs == padded;
            let (pixels, strides) = if inside {
                (
                    &input[((y - 1) * width + x - 1) * inputs..],
                    (width * inputs, inputs),
                )
            } else {
                self.block.copy::<N>((y, x), self.patch);
                (&*self.patch, (N * padded, padded))
            };
            let into = &mut self.into[tile * padded..];
            for channel in (0..padded).step_by(LANES) {
                let (pixels, into) = (&pixels[channel..], &mut into[channel..]);
                points.tile_inputs(pixels, strides, &mut between, into, self.block.step());
            }
        }
    }
}

impl Block<'_> {
    /// Copies the `N x N` pixels from row `y` and column `x` with their padding: of the feature map, and of channels.
    #[inline(always)]
    fn copy<const N: usize>(self, (y, x): (usize, usize), patch: &mut [f32]) {
        let (inputs, padded) = (self.layer.inputs, self.padded_inputs());
        for (index, pixel) in patch.chunks_exact_mut(padded).enumerate() {
            let (y, x) = (y + index / N, x + index % N);
            let mut filled = 0;
            if y > 0 && y <= self.height && x > 0 && x <= self.width {
                let from = ((y - 1) * self.width + x - 1) * inputs;
                pixel[..inputs].copy_from_slice(&self.input[from..][..inputs]);
                filled = inputs;
            }
            pixel[filled..].fill(0.0);
        }
    }
}

/// Transforms the weights of a panel for a row of points.
struct Kernels<'a> {
    layer: &'a Winograd,
    panel: usize,
    row: usize,
    into: &'a mut [f32],
    /// Numbers from each point to the next.
    step: usize,
}

impl Work for Kernels<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self) {
        let weights = &self.layer.weights;
        let kernels = weights.part(self.panel, 0);
        let (which, step) = ((self.row, weights.width(self.panel)), self.step);
        match self.layer.tile {
            Tile::F4 => POINTS_4.row_of_kernels::<V, LANES, 6>(kernels, which, self.into, step),
            Tile::F6 => POINTS_6.row_of_kernels::<V, LANES, 8>(kernels, which, self.into, step),
        }
    }
}

/// The second step, for a panel and a point.
struct Product<'a> {
    blocks: &'a [Transformed<'a>],
    point: usize,
    /// The panel's, and its width.
    weights: (&'a [f32], usize),
    into: &'a mut [f32],
}

impl Work for Product<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(mut self) {
        let point = self.point;
        let inputs = self.blocks.iter().map(|part| {
            let (count, stride) = (part.block.tiles(), part.block.padded_inputs());
            Rows::whole(&part.inputs[point * part.block.step()..], count, stride)
        });
        multiply::<V, LANES, ROWS>(&inputs, self.weights, 0, &mut self);
    }
}

impl Store for Product<'_> {
    #[inline(always)]
    fn store<V: Vector<LANES>, const LANES: usize, const COUNT: usize, const WIDE: usize>(
        &mut self,
        (first, column): (usize, usize),
        numbers: [[V; WIDE]; COUNT],
    ) {
        for row in 0..COUNT {
            let from = (first + row) * self.weights.1 + column;
            let into = &mut self.into[from..][..WIDE * LANES];
            for part in 0..WIDE {
                into[part * LANES..][..LANES].copy_from_slice(&numbers[row][part].to_array());
            }
        }
    }
}

/// The third step, for a panel of a block.
struct Outputs<'a> {
    block: Block<'a>,
    panel: usize,
    /// From the block's first tile.
    products: &'a [f32],
    /// Numbers from each row of points to the next, and from each point to the next.
    strides: (usize, usize),
    /// All pixels of the block's rows, pooled.
    output: &'a mut [f32],
}

impl Work for Outputs<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self) {
        let activation = self.block.layer.finish.activation();
        match Limit::of(activation) {
            Some(limit) => self.transform::<V, LANES>(limit),
            None => self.transform::<V, LANES>(activation),
        }
    }
}

impl Outputs<'_> {
    #[inline(always)]
    fn transform<V: Vector<LANES>, const LANES: usize>(mut self, activate: impl Activate) {
        match (self.block.layer.tile, self.block.pool) {
            (Tile::F4, MaxPool::Of1) => self.tiles::<V, LANES, 2, 6, 4, 1>(&POINTS_4, activate),
            (Tile::F4, MaxPool::Of2) => self.tiles::<V, LANES, 2, 6, 4, 2>(&POINTS_4, activate),
            (Tile::F6, MaxPool::Of1) => self.tiles::<V, LANES, 3, 8, 6, 1>(&POINTS_6, activate),
            (Tile::F6, MaxPool::Of2) => self.tiles::<V, LANES, 3, 8, 6, 2>(&POINTS_6, activate),
        }
    }

    #[inline(always)]
    fn tiles<
        V: Vector<LANES>,
        const LANES: usize,
        const P: usize,
        const N: usize,
        const M: usize,
        const POOL: usize,
    >(
        &mut self,
        points: &Points<P>,
        activate: impl Activate,
    ) {
        let Block {
            layer,
            height,
            width,
            columns,
            first,
            ..
        } = self.block;
        let (before, wide) = (
            self.panel * layer.weights.panel(),
            layer.weights.width(self.panel),
        );
        let channels = wide.min(layer.outputs - before);
        let (mut between, mut sums) = ([[V::splat(0.0); N]; M], [[V::splat(0.0); M]; M]);
        for tile in 0..self.block.tiles() {
            let (row, column) = (first.0 + tile / columns, first.1 + tile % columns);
            let (bottom, right) = (M.min(height - row * M), M.min(width - column * M));
            let top = tile / columns * (M / POOL);
            let left = column * (M / POOL);
            for channel in (0..channels).step_by(LANES) {
                let products = &self.products[tile * wide + channel..];
                points.tile_outputs(products, self.strides, &mut between, &mut sums);
                let bias = layer.finish.bias(before + channel);
                for y in (0..bottom).step_by(POOL) {
                    for x in (0..right).step_by(POOL) {
                        let mut largest = activate.of(sums[y][x].plus(bias));
                        for place in 1..POOL * POOL {
                            let (y, x) = (y + place / POOL, x + place % POOL);
                            if y < bottom && x < right {
                                largest = largest.larger(activate.of(sums[y][x].plus(bias)));
                            }
                        }
                        let pixel = (top + y / POOL) * width.div_ceil(POOL) + left + x / POOL;
                        let at = pixel * layer.outputs + before;
                        write(largest, &mut self.output[at..][..channels][channel..]);
                    }
                }
            }
        }
    }
}
