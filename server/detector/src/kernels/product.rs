//! Products of matrices in single precision, or in bfloat16 with sums in single precision. One matrix, the weights, is
//! packed once, in the order in which the kernel reads it.
//!
//! As in Goto & van de Geijn, "Anatomy of high-performance matrix multiplication" (2008), some rows and columns of the
//! product are in registers, and each step adds the product of a column and a row. The other matrix, pixels or tiles
//! with their channels side by side, is read as it is: each of its numbers is multiplied with a whole row of weights.

use super::memory::Aligned;
use super::nearly_equal;
use super::threads::Threads;
use super::vector::{Level, Vector};

/// Matrices of one size in the kernel's order: panels of neighbouring columns, padded with zeros. A panel has its part of
/// each matrix, row by row. It is two vectors wide; the last one is one vector wide if that is enough.
#[derive(Debug)]
pub(super) struct Packed {
    numbers: Aligned,
    matrices: usize,
    rows: usize,
    /// With the padding.
    columns: usize,
    level: Level,
}

impl Packed {
    /// Packs `matrices` matrices. `numbers(row, column, each)` writes that number of each matrix.
    pub fn new(
        level: Level,
        (matrices, rows, columns): (usize, usize, usize),
        numbers: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> Self {
        let full = level.panel();
        let padded = columns.next_multiple_of(level.lanes());
        let mut packed = Aligned::zeros(matrices * rows * padded);
        let panels = packed.as_mut_slice().chunks_mut(matrices * rows * full);
        Threads::Libtorch.for_each(panels.enumerate(), |(index, panel)| {
            let mut each = vec![0.0; matrices];
            let first = index * full;
            let width = full.min(padded - first);
            // The numbers of a row are written one after the other: they share cache lines.
            for row in 0..rows {
                for column in first..columns.min(first + width) {
                    numbers(row, column, &mut each);
                    let parts = panel.chunks_exact_mut(rows * width);
                    for (part, number) in parts.zip(&each) {
                        part[row * width + column - first] = *number;
                    }
                }
            }
        });
        Self {
            numbers: packed,
            matrices,
            rows,
            columns: padded,
            level,
        }
    }

    /// Rows of a matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn panels(&self) -> usize {
        self.columns.div_ceil(self.panel())
    }

    /// Columns of a panel, except the last one.
    pub fn panel(&self) -> usize {
        self.level.panel()
    }

    /// Columns of a panel, with the padding.
    pub fn width(&self, panel: usize) -> usize {
        self.panel().min(self.columns - panel * self.panel())
    }

    /// A panel's part of a matrix, row by row.
    pub fn part(&self, panel: usize, matrix: usize) -> &[f32] {
        let before = panel * self.panel() * self.matrices * self.rows;
        let each = self.width(panel) * self.rows;
        &self.numbers.as_slice()[before..][matrix * each..][..each]
    }

    /// Columns with the padding.
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn bytes(&self) -> usize {
        self.numbers.bytes()
    }

    pub fn level(&self) -> Level {
        self.level
    }
}

/// Rows of a matrix. A row may lie in pieces: the rows of a picture under a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub numbers: &'a [f32],
    pub count: usize,
    /// Numbers from each row to the next.
    pub stride: usize,
    /// Numbers of a piece.
    pub piece: usize,
    /// Numbers from each piece to the next.
    pub jump: usize,
}

impl<'a> Rows<'a> {
    /// Rows in one piece.
    pub fn whole(numbers: &'a [f32], count: usize, stride: usize) -> Self {
        Self {
            numbers,
            count,
            stride,
            piece: stride,
            jump: 0,
        }
    }
}

/// Takes the numbers of a product.
pub(super) trait Store {
    /// What is added to the products of some columns, from `column`.
    #[inline(always)]
    fn bias<V: Vector<LANES>, const LANES: usize>(&self, _column: usize) -> V {
        V::splat(0.0)
    }

    /// Takes the numbers of some rows and one or two vectors of columns, from row and column `at`.
    fn store<V: Vector<LANES>, const LANES: usize, const COUNT: usize, const WIDE: usize>(
        &mut self,
        at: (usize, usize),
        numbers: [[V; WIDE]; COUNT],
    );
}

/// Multiplies rows, in blocks, with a panel's part of a matrix, which has so many columns. Columns are counted from
/// `column`.
#[inline(always)]
pub(super) fn multiply<'a, V: Vector<LANES>, const LANES: usize, const ROWS: usize>(
    blocks: &(impl Iterator<Item = Rows<'a>> + Clone),
    (numbers, columns): (&[f32], usize),
    column: usize,
    into: &mut impl Store,
) {
    let (vectors, _) = numbers.as_chunks::<LANES>();
    if columns > LANES {
        multiply_panel::<V, LANES, ROWS, 2>(blocks, vectors.as_chunks().0, column, into);
    } else {
        multiply_panel::<V, LANES, ROWS, 1>(blocks, vectors.as_chunks().0, column, into);
    }
}

/// Multiplies rows, in blocks, with a panel, whose first column is `column`.
#[inline(always)]
fn multiply_panel<
    'a,
    V: Vector<LANES>,
    const LANES: usize,
    const ROWS: usize,
    const WIDE: usize,
>(
    blocks: &(impl Iterator<Item = Rows<'a>> + Clone),
    panel: &[[[f32; LANES]; WIDE]],
    column: usize,
    into: &mut impl Store,
) {
    let mut bias = [V::splat(0.0); WIDE];
    for part in 0..WIDE {
        bias[part] = into.bias(column + part * LANES);
    }
    let mut first = 0;
    for block in blocks.clone() {
        // Of nearly equal sizes: products of few rows wait for each other.
        let (parts, each, larger) = nearly_equal(block.count, ROWS);
        let mut row = 0;
        for part in 0..parts {
            let rows = Rows {
                numbers: &block.numbers[row * block.stride..],
                count: each + usize::from(part < larger),
                ..block
            };
            multiply_part::<V, LANES, ROWS, WIDE>(rows, panel, bias, (first + row, column), into);
            row += rows.count;
        }
        first += block.count;
    }
}

/// Multiplies up to `ROWS` rows with a panel. The product begins at the row and the column `at`.
#[inline(always)]
fn multiply_part<V: Vector<LANES>, const LANES: usize, const ROWS: usize, const WIDE: usize>(
    rows: Rows,
    panel: &[[[f32; LANES]; WIDE]],
    bias: [V; WIDE],
    at: (usize, usize),
    into: &mut impl Store,
) {
    macro_rules! compiled_for {
        ($($count:literal)*) => {
            match rows.count {
                $($count if $count <= ROWS => {
                    into.store(at, sums::<V, $count, LANES, WIDE>(rows, panel, bias));
                })*
                _ => unreachable!("up to {ROWS} rows"),
            }
        };
    }
    compiled_for!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// Steps after which a step's weights arrive from the third cache.
const AHEAD: usize = 32;

/// `COUNT` rows times a panel, and the bias.
#[inline(always)]
fn sums<V: Vector<LANES>, const COUNT: usize, const LANES: usize, const WIDE: usize>(
    rows: Rows,
    panel: &[[[f32; LANES]; WIDE]],
    bias: [V; WIDE],
) -> [[V; WIDE]; COUNT] {
    let mut sums = [bias; COUNT];
    for (index, panel) in panel.chunks(rows.piece).enumerate() {
        let piece = &rows.numbers[index * rows.jump..];
        let mut numbers = [&piece[..panel.len()]; COUNT];
        for row in 1..COUNT {
            numbers[row] = &piece[row * rows.stride..][..panel.len()];
        }
        for step in 0..panel.len() {
            let mut weights = [V::splat(0.0); WIDE];
            for part in 0..WIDE {
                weights[part] = V::load(&panel[step][part]);
                V::prefetch(&panel[step][part], AHEAD * WIDE);
            }
            for row in 0..COUNT {
                let number = V::splat(numbers[row][step]);
                for part in 0..WIDE {
                    sums[row][part] = number.add_products(weights[part], sums[row][part]);
                }
            }
        }
    }
    sums
}
