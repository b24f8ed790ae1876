//! Winograd's convolution of a block of tiles, in three steps: transformed inputs, their products with the weights for
//! each point, and outputs. The numbers between the steps stay in a cache.

use super::super::finish::{Activate, Limit, write};
use super::super::memory::{LINE, with_scratch};
use super::super::product::{Rows, Store, multiply};
use super::super::threads::Threads;
use super::super::vector::{Vector, Work};
use super::transform::{POINTS_4, POINTS_6, Points};
use super::{MaxPool, Tile, Winograd};

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
    /// Tiles of a group. A thread transforms the inputs of a group.
    pub group: usize,
    /// Of the outputs.
    pub pool: MaxPool,
}

/// Numbers of each point, `step` apart from point to point.
#[derive(Debug, Clone, Copy)]
struct Transformed<'a> {
    numbers: &'a [f32],
    step: usize,
}

impl Block<'_> {
    /// `output` is all pixels of the block's rows, pooled.
    pub fn convolve(self, output: &mut [f32], threads: Threads) {
        let Winograd {
            ref weights, tile, ..
        } = *self.layer;
        let (level, points) = (weights.level(), tile.points());
        let step = spread(self.group * self.padded_inputs());
        let products_step = spread(self.tiles() * weights.columns());
        let inputs_length = self.tiles().div_ceil(self.group) * points * step;
        with_scratch(inputs_length + points * products_step, |scratch| {
            let (inputs, products) = scratch.split_at_mut(inputs_length);
            threads.for_each(
                inputs.chunks_mut(points * step).enumerate(),
                |(group, into)| {
                    with_scratch(points * self.padded_inputs(), |patch| {
                        level.run(Inputs {
                            block: self,
                            first: group * self.group,
                            patch,
                            into,
                            step,
                        });
                    });
                },
            );
            let inputs = Transformed {
                numbers: inputs,
                step,
            };
            threads.for_each(
                products.chunks_mut(products_step).enumerate(),
                |(point, into)| {
                    level.run(Products {
                        block: self,
                        inputs,
                        point,
                        into,
                    });
                },
            );
            let products = Transformed {
                numbers: products,
                step: products_step,
            };
            let band = self.layer.row_of_tiles(self.width, self.pool);
            threads.for_each(output.chunks_mut(band).enumerate(), |(row, output)| {
                level.run(Outputs {
                    block: self,
                    products,
                    row,
                    output,
                });
            });
        });
    }

    fn tiles(&self) -> usize {
        self.rows * self.columns
    }

    /// Input channels of whole vectors.
    fn padded_inputs(&self) -> usize {
        self.layer
            .inputs
            .next_multiple_of(self.layer.weights.level().lanes())
    }
}

/// The distance between points of so many numbers: a cache line more, because otherwise the points' numbers of one tile
/// would compete for the same few lines of the cache.
fn spread(numbers: usize) -> usize {
    numbers.next_multiple_of(LINE) + LINE
}

/// The first step, for the tiles of a group.
struct Inputs<'a> {
    block: Block<'a>,
    /// The group's first tile.
    first: usize,
    /// Memory for the pixels of a tile.
    patch: &'a mut [f32],
    into: &'a mut [f32],
    step: usize,
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
        for tile in self.first..self.block.tiles().min(self.first + self.block.group) {
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
            let into = &mut self.into[(tile - self.first) * padded..];
            for channel in (0..padded).step_by(LANES) {
                let (pixels, into) = (&pixels[channel..], &mut into[channel..]);
                points.tile_inputs(pixels, strides, &mut between, into, self.step);
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

/// The second step, for a point.
struct Products<'a> {
    block: Block<'a>,
    inputs: Transformed<'a>,
    point: usize,
    into: &'a mut [f32],
}

impl Work for Products<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(mut self) {
        let Self {
            block,
            inputs,
            point,
            ..
        } = self;
        let groups = (0..block.tiles().div_ceil(block.group)).map(|group| {
            let first = (group * block.layer.tile.points() + point) * inputs.step;
            let count = block.group.min(block.tiles() - group * block.group);
            Rows::whole(&inputs.numbers[first..], count, block.padded_inputs())
        });
        let weights = &block.layer.weights;
        multiply::<V, LANES, ROWS>(&groups, weights, point, 0..weights.panels(), &mut self);
    }
}

impl Store for Products<'_> {
    #[inline(always)]
    fn store<V: Vector<LANES>, const LANES: usize, const COUNT: usize, const WIDE: usize>(
        &mut self,
        (first, column): (usize, usize),
        numbers: [[V; WIDE]; COUNT],
    ) {
        let columns = self.block.layer.weights.columns();
        for row in 0..COUNT {
            let into = &mut self.into[(first + row) * columns + column..][..WIDE * LANES];
            for part in 0..WIDE {
                into[part * LANES..][..LANES].copy_from_slice(&numbers[row][part].to_array());
            }
        }
    }
}

/// The third step, for a row of tiles.
struct Outputs<'a> {
    block: Block<'a>,
    products: Transformed<'a>,
    row: usize,
    /// All pixels of the row of tiles, pooled.
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
        let (outputs, padded) = (layer.outputs, layer.weights.columns());
        let bottom = M.min(height - (first.0 + self.row) * M);
        let (mut between, mut sums) = ([[V::splat(0.0); N]; M], [[V::splat(0.0); M]; M]);
        for column in 0..columns {
            let left = (first.1 + column) * M;
            let right = M.min(width - left);
            let products = &self.products.numbers[(self.row * columns + column) * padded..];
            for channel in (0..outputs).step_by(LANES) {
                let step = self.products.step;
                points.tile_outputs(&products[channel..], step, &mut between, &mut sums);
                let bias = layer.finish.bias(channel);
                for y in (0..bottom).step_by(POOL) {
                    for x in (0..right).step_by(POOL) {
                        let mut largest = activate.of(sums[y][x].plus(bias));
                        for place in 1..POOL * POOL {
                            let (y, x) = (y + place / POOL, x + place % POOL);
                            if y < bottom && x < right {
                                largest = largest.larger(activate.of(sums[y][x].plus(bias)));
                            }
                        }
                        let pixel = y / POOL * width.div_ceil(POOL) + (left + x) / POOL;
                        let at = pixel * outputs + channel..(pixel + 1) * outputs;
                        write(largest, &mut self.output[at]);
                    }
                }
            }
        }
    }
}
