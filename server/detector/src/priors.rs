//! Prior boxes (default boxes): the reference boxes to which a network's offsets are relative (Liu et al. 2016,
//! section 2.2). Each family states the shapes for its source feature maps; this module lays them out.

/// A prior box by its centre, in fractions of the picture's sides, 0 to 1.
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

/// The prior boxes of one source feature map: the same shapes in every cell.
#[derive(Debug, Clone, PartialEq)]
pub struct PriorMap {
    /// Rows of cells, and cells in a row.
    pub side: usize,
    /// Cells per side of the picture. Centres lie at `(index + 0.5) / cells`. Some families use a slightly
    /// different number from `side`.
    pub cells: f64,
    /// Width and height of each box in a cell, in fractions of the picture's sides.
    pub shapes: Vec<(f64, f64)>,
}

/// Which numbers of a prior box are clamped to the range 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clamp {
    /// None.
    Nothing,
    /// Width and height.
    Sizes,
    /// Width, height and centre.
    SizesAndCentres,
}

impl PriorMap {
    /// Its boxes, row by row, cell by cell, in the order of the shapes.
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

/// The prior boxes of all source feature maps, in the order of the network's outputs.
#[must_use]
pub fn lay_out(maps: &[PriorMap], clamp: Clamp) -> Vec<Prior> {
    maps.iter().flat_map(|map| map.boxes(clamp)).collect()
}
