//! Winograd's algorithm for convolutions with kernels of 3 x 3 and stride 1 (Lavin & Gray 2015).
//!
//! ```text
//! block      some tiles: transformed inputs, products, outputs
//! transform  the transforms
//! ```

mod block;
mod transform;

use self::block::{Block, Layout, Transformed};
use self::transform::{POINTS_4, POINTS_6};
use super::finish::{Finish, add};
use super::memory::with_scratch;
use super::product::Packed;
use super::threads::Threads;
use super::vector::Level;
use super::{Maps, Shape};
use crate::architecture::Activation;

/// Outputs that are computed together. Larger tiles need fewer multiplications, have larger errors, and fit small
/// feature maps less well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tile {
    /// 4 x 4 outputs with 36 multiplications rather than 144.
    F4,
    /// 6 x 6 outputs with 64 multiplications rather than 324.
    F6,
}

impl Tile {
    /// Rows and columns of outputs.
    fn side(self) -> usize {
        match self {
            Self::F4 => 4,
            Self::F6 => 6,
        }
    }

    /// Multiplications, of numbers for as many points.
    pub(super) fn points(self) -> usize {
        self.points_of_a_row().pow(2)
    }

    /// Points along an axis.
    fn points_of_a_row(self) -> usize {
        self.side() + 2
    }
}

/// The max-pool after a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxPool {
    /// None.
    Of1,
    /// Of 2 x 2 outputs, two outputs apart. The last row and column have fewer if there are no more.
    Of2,
}

impl MaxPool {
    /// Rows and columns of outputs.
    fn side(self) -> usize {
        match self {
            Self::Of1 => 1,
            Self::Of2 => 2,
        }
    }

    /// The size of the pooled feature maps.
    pub(super) fn after(self, shape: Shape) -> Shape {
        Shape {
            maps: shape.maps,
            height: shape.height.div_ceil(self.side()),
            width: shape.width.div_ceil(self.side()),
        }
    }
}

/// When weights are transformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transforms {
    /// Before the first pass. They then take four to seven times as much memory.
    Once,
    /// In each pass, part by part. Each part is in the second cache when it is multiplied.
    EachTime,
}

/// A convolution with kernels of 3 x 3, stride 1 and padding 1, and its activation, by Winograd's algorithm.
#[derive(Debug)]
pub struct Winograd {
    /// A matrix for each point, with a row for each input channel; or only one, with nine rows for each.
    weights: Packed,
    finish: Finish,
    inputs: usize,
    outputs: usize,
    tile: Tile,
    transforms: Transforms,
}

/// How the tiles of a feature map are divided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Rows of tiles of a block.
    pub rows: usize,
    /// Columns of tiles of a block.
    pub columns: usize,
    /// Whether all threads work on all blocks of a map, so that the weights come from memory once for all. A block then
    /// has all columns. Otherwise each thread has its own block, which stays in its cache.
    pub together: bool,
}

impl Winograd {
    /// Prepares weights of `bias.len()` output channels x `inputs` input channels x 3 x 3.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(
        level: Level,
        weights: &[f32],
        inputs: usize,
        bias: &[f32],
        (tile, transforms): (Tile, Transforms),
        activation: Activation,
    ) -> Self {
        let outputs = bias.len();
        assert_eq!(
            weights.len(),
            outputs * inputs * 9,
            "weights of {outputs} x {inputs} x 3 x 3"
        );
        let kernels = weights.as_chunks::<9>().0;
        let once = |transform: &(dyn Fn(&[f32; 9], &mut [f32]) + Sync)| {
            let size = (tile.points(), inputs, outputs);
            Packed::new(level, size, |input, output, points| {
                transform(&kernels[output * inputs + input], points);
            })
        };
        let weights = match (transforms, tile) {
            (Transforms::Once, Tile::F4) => once(&POINTS_4.kernels::<6>()),
            (Transforms::Once, Tile::F6) => once(&POINTS_6.kernels::<8>()),
            (Transforms::EachTime, _) => {
                Packed::new(level, (1, 9 * inputs, outputs), |row, output, number| {
                    number[0] = kernels[output * inputs + row / 9][row % 9];
                })
            }
        };
        Self {
            finish: Finish::new(bias, weights.columns(), activation),
            weights,
            inputs,
            outputs,
            tile,
            transforms,
        }
    }

    pub fn tile(&self) -> Tile {
        self.tile
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Convolves feature maps, and computes a max-pool of the outputs.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(super) fn convolve(&self, maps: Maps, pool: MaxPool, threads: Threads) {
        let plan = self.plan(maps.shape, Threads::count());
        self.convolve_by(plan, maps, pool, threads);
    }

    pub(super) fn convolve_by(&self, plan: Plan, maps: Maps, pool: MaxPool, threads: Threads) {
        let after = pool.after(maps.shape);
        maps.check([
            maps.shape.pixels() * self.inputs,
            after.pixels() * self.outputs,
        ]);
        let Maps {
            input,
            shape,
            output,
            other,
        } = maps;
        if output.is_empty() {
            return;
        }
        let (pixels, pixels_after) = (shape.height * shape.width, after.height * after.width);
        let row = self.row_of_tiles(shape.width, pool);
        let side = self.tile.side();
        let (down, across) = (shape.height.div_ceil(side), shape.width.div_ceil(side));
        let block = |map: usize, first: (usize, usize), columns| Block {
            layer: self,
            input: &input[map * pixels * self.inputs..][..pixels * self.inputs],
            height: shape.height,
            width: shape.width,
            rows: plan.rows.min(down - first.0),
            columns,
            first,
            pool,
        };
        let maps = output.chunks_mut(pixels_after * self.outputs).enumerate();
        if plan.together {
            for (map, output) in maps {
                let tops = (0..down).step_by(plan.rows);
                let blocks: Vec<_> = tops.map(|top| block(map, (top, 0), across)).collect();
                self.convolve_together(&blocks, output, plan.rows * row, threads);
            }
        } else {
            let bands = maps.flat_map(|(map, output)| {
                let bands = output.chunks_mut(plan.rows * row).enumerate();
                bands.map(move |(index, output)| (map, index * plan.rows, output))
            });
            threads.for_each(bands, |(map, top, output)| {
                for left in (0..across).step_by(plan.columns) {
                    let columns = plan.columns.min(across - left);
                    block(map, (top, left), columns).convolve(output);
                }
            });
        }
        if let Some(other) = other {
            add(output, other);
        }
    }

    /// Convolves the blocks of a feature map, each with `band` outputs.
    fn convolve_together(
        &self,
        blocks: &[Block],
        output: &mut [f32],
        band: usize,
        threads: Threads,
    ) {
        let (side, panels) = (self.tile.points_of_a_row(), self.weights.panels());
        let groups = Threads::items().div_ceil(side);
        let together = match self.transforms {
            Transforms::Once => panels.div_ceil(groups),
            // Their transformed weights stay in the second cache.
            Transforms::EachTime => 2,
        };
        let each = blocks[0].length();
        with_scratch(blocks.len() * each, |inputs| {
            let transforms = blocks.iter().zip(inputs.chunks_mut(each));
            threads.for_each(transforms, |(block, into)| block.transform(into));
            let parts = blocks.iter().zip(inputs.chunks(each));
            let blocks: Vec<_> = parts
                .map(|(&block, inputs)| Transformed { block, inputs })
                .collect();
            let layout = Layout::new(&blocks, panels);
            with_scratch(side * layout.row(), |products| {
                let rows = products.chunks_mut(layout.row()).enumerate();
                let items = rows.flat_map(|(row, products)| {
                    let groups = products.chunks_mut(together * layout.panel()).enumerate();
                    groups.map(move |(group, products)| (row, group * together, products))
                });
                threads.for_each(items, |(row, first, products)| {
                    let panels = first..panels.min(first + together);
                    layout.multiply(&blocks, row, panels, products);
                });
                let outputs = blocks.iter().zip(output.chunks_mut(band)).enumerate();
                threads.for_each(outputs, |(index, (part, output))| {
                    let tile = index * blocks[0].block.tiles();
                    layout.write(part.block, tile, 0..panels, products, output);
                });
            });
        });
    }

    /// Numbers of a row of tiles of the outputs, pooled.
    fn row_of_tiles(&self, width: usize, pool: MaxPool) -> usize {
        self.tile.side() / pool.side() * width.div_ceil(pool.side()) * self.outputs
    }

    fn plan(&self, shape: Shape, threads: usize) -> Plan {
        /// Weights that stay in the third cache.
        const NEAR: usize = 6 << 20;
        /// Enough tiles that reading the weights from a cache takes less time than multiplying.
        const TILES: usize = 24;
        let side = self.tile.side();
        let (down, across) = (shape.height.div_ceil(side), shape.width.div_ceil(side));
        let together = self.transforms == Transforms::EachTime
            || self.weights.bytes() > NEAR
            || shape.maps * down < 2 * threads;
        let rows = (TILES / across).max(1);
        if together {
            Plan {
                rows,
                columns: across,
                together,
            }
        } else {
            Plan {
                rows: rows.min(down / (2 * threads)).max(1),
                columns: across.div_ceil(across.div_ceil(TILES + 1)),
                together,
            }
        }
    }
}
