//! Prior boxes (default boxes): the reference shapes that a network's offsets are relative to (Liu et
//! al. 2016, section 2.2). Each family gives the shapes of its maps; here they are laid out.

use std::ops::Range;

/// A box by its centre, in fractions of the picture's sides, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    /// Centre, from the left.
    pub cx: f32,
    /// Centre, from the top.
    pub cy: f32,
    /// Width.
    pub w: f32,
    /// Height.
    pub h: f32,
}

/// The prior boxes of one source feature map: the same shapes at every cell.
#[derive(Debug, Clone, PartialEq)]
pub struct PriorMap {
    /// Cells in a row and rows of the map.
    pub side: usize,
    /// Cells to a side of the picture, which some families do not take from the map: the centres are at
    /// `(index + 0.5) / cells`.
    pub cells: f64,
    /// Width and height of each box, in fractions of the picture's sides.
    pub shapes: Vec<(f64, f64)>,
}

/// What is cut off at the picture's edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clamp {
    /// Nothing.
    Nothing,
    /// Widths and heights above 1.
    Sizes,
    /// Those, and centres beyond the picture.
    SizesAndCentres,
}

impl PriorMap {
    /// Its boxes, row by row, at each cell in the order of the shapes.
    fn boxes(&self, clamp: Clamp) -> impl Iterator<Item = Prior> {
        let clamped = |value: f64| value.clamp(0.0, 1.0) as f32;
        let centre = move |index: usize| {
            let value = (index as f64 + 0.5) / self.cells;
            match clamp {
                Clamp::SizesAndCentres => clamped(value),
                Clamp::Nothing | Clamp::Sizes => value as f32,
            }
        };
        let size = move |value: f64| match clamp {
            Clamp::Nothing => value as f32,
            Clamp::Sizes | Clamp::SizesAndCentres => clamped(value),
        };
        let cells = (0..self.side).flat_map(|row| (0..self.side).map(move |column| (column, row)));
        cells.flat_map(move |(column, row)| {
            self.shapes.iter().map(move |&(w, h)| Prior {
                cx: centre(column),
                cy: centre(row),
                w: size(w),
                h: size(h),
            })
        })
    }
}

/// All boxes of some maps, in the order of the network's outputs.
#[must_use]
pub fn lay_out(maps: &[PriorMap], clamp: Clamp) -> Vec<Prior> {
    maps.iter().flat_map(|map| map.boxes(clamp)).collect()
}

/// Which of all boxes are each map's.
#[must_use]
pub fn by_map(maps: &[PriorMap]) -> Vec<Range<usize>> {
    let mut end = 0;
    let ranges = maps.iter().map(|map| {
        let begin = end;
        end += map.side * map.side * map.shapes.len();
        begin..end
    });
    ranges.collect()
}
