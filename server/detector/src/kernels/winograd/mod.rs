//! Winograd's algorithm for convolutions with kernels of 3 x 3 and stride 1 (Lavin & Gray 2015).
//!
//! ```text
//! block      some tiles: transformed inputs, products, outputs
//! transform  the transforms
//! ```

mod block;
mod transform;

use self::block::Block;
use self::transform::{POINTS_4, POINTS_6};
use super::finish::{Finish, add};
use super::product::Packed;
use super::threads::Threads;
use super::vector::Level;
use super::{Maps, Shape};
use crate::architecture::Activation;

/// Outputs that are computed together. Larger tiles need fewer multiplications, have larger errors, and fit small
/// feature maps less well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
        (self.side() + 2).pow(2)
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

/// A convolution with kernels of 3 x 3, stride 1 and padding 1, and its activation, by Winograd's algorithm.
#[derive(Debug)]
pub struct Winograd {
    weights: Packed,
    finish: Finish,
    inputs: usize,
    outputs: usize,
    tile: Tile,
}

/// How the tiles of a feature map are divided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Rows of tiles of a block.
    pub rows: usize,
    /// Columns of tiles of a block.
    pub columns: usize,
    /// Tiles that one thread transforms.
    pub group: usize,
    /// Whether all threads work on one block, so that the weights come from memory once for all. Otherwise each has
    /// its own block, which stays in its cache.
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
        tile: Tile,
        activation: Activation,
    ) -> Self {
        let outputs = bias.len();
        assert_eq!(
            weights.len(),
            outputs * inputs * 9,
            "weights of {outputs} x {inputs} x 3 x 3"
        );
        let kernels = weights.as_chunks::<9>().0;
        let size = (tile.points(), inputs, outputs);
        let packed = |transform: &(dyn Fn(&[f32; 9], &mut [f32]) + Sync)| {
            Packed::new(level, size, |input, output, points| {
                transform(&kernels[output * inputs + input], points);
            })
        };
        let weights = match tile {
            Tile::F4 => packed(&POINTS_4.kernels::<6>()),
            Tile::F6 => packed(&POINTS_6.kernels::<8>()),
        };
        Self {
            finish: Finish::new(bias, weights.columns(), activation),
            weights,
            inputs,
            outputs,
            tile,
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
        let plan = self.plan(maps.shape, threads.count());
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
        let band = plan.rows * row;
        let bands = output
            .chunks_mut(pixels_after * self.outputs)
            .enumerate()
            .flat_map(|(map, output)| {
                output
                    .chunks_mut(band)
                    .enumerate()
                    .map(move |(index, output)| (map, index, output))
            });
        let across = shape.width.div_ceil(self.tile.side());
        let convolve = |(map, index, output): (usize, usize, &mut [f32]), threads: Threads| {
            for column in (0..across).step_by(plan.columns) {
                let block = Block {
                    layer: self,
                    input: &input[map * pixels * self.inputs..][..pixels * self.inputs],
                    height: shape.height,
                    width: shape.width,
                    rows: output.len().div_ceil(row),
                    columns: plan.columns.min(across - column),
                    first: (index * plan.rows, column),
                    group: plan.group,
                    pool,
                };
                block.convolve(output, threads);
            }
            if let Some(other) = other {
                add(
                    output,
                    &other[map * pixels_after * self.outputs + index * band..],
                );
            }
        };
        if plan.together {
            bands.for_each(|band| convolve(band, threads));
        } else {
            threads.for_each(bands, |band| convolve(band, Threads::One));
        }
    }

    /// Numbers of a row of tiles of the outputs, pooled.
    fn row_of_tiles(&self, width: usize, pool: MaxPool) -> usize {
        self.tile.side() / pool.side() * width.div_ceil(pool.side()) * self.outputs
    }

    fn plan(&self, shape: Shape, threads: usize) -> Plan {
        /// Weights that stay in the third cache.
        const NEAR: usize = 6 << 20;
        /// A block that all threads work on.
        const BLOCK: usize = 64 << 20;
        /// Enough tiles that reading the weights from a cache takes less time than multiplying.
        const TILES: usize = 24;
        let side = self.tile.side();
        let (down, across) = (shape.height.div_ceil(side), shape.width.div_ceil(side));
        if self.weights.bytes() <= NEAR && shape.maps * down >= 2 * threads {
            let columns = across.div_ceil(across.div_ceil(TILES + 1));
            let rows = (TILES / across).min(down / (2 * threads)).max(1);
            Plan {
                rows,
                columns,
                group: rows * columns,
                together: false,
            }
        } else {
            let tile = 4 * self.tile.points() * (self.inputs + self.outputs);
            let blocks = down.div_ceil((BLOCK / tile / across).max(1));
            let rows = down.div_ceil(blocks);
            let groups = (rows * across).div_ceil(TILES).max(threads);
            Plan {
                rows,
                columns: across,
                group: (rows * across).div_ceil(groups),
                together: true,
            }
        }
    }
}
