//! Prior boxes (default boxes): the 8,732 reference shapes that SSD300's offsets are relative to.
//!
//! Liu et al. 2016, section 2.2; the sizes are those of the original implementation.

use std::ops::Range;

/// Side of the square input picture, in pixels.
pub const INPUT_SIZE: usize = 300;

/// Side of each of the six source feature maps, in cells.
const MAPS: [usize; 6] = [38, 19, 10, 5, 3, 1];
/// Distance between two cells of each map, in input pixels.
const STRIDES: [f64; 6] = [8.0, 16.0, 32.0, 64.0, 100.0, 300.0];
/// Aspect ratios beside 1; each also stands for its inverse.
const RATIOS: [&[f64]; 6] = [
    &[2.0],
    &[2.0, 3.0],
    &[2.0, 3.0],
    &[2.0, 3.0],
    &[2.0],
    &[2.0],
];

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

/// The box sizes a network was trained with: the side of the small square of each map, and the
/// side whose geometric mean with it gives the larger square, in input pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    min: [f64; 6],
    max: [f64; 6],
    /// Whether centres are clamped to the picture as sizes are. Those of the last cells of the third
    /// map lie four pixels beyond it.
    clamps_centres: bool,
}

impl Sizes {
    /// The sizes of the VOC configuration.
    pub const VOC: Self = Self {
        min: [30.0, 60.0, 111.0, 162.0, 213.0, 264.0],
        max: [60.0, 111.0, 162.0, 213.0, 264.0, 315.0],
        clamps_centres: true,
    };
    /// The sizes of the COCO configuration.
    pub const COCO: Self = Self {
        min: [21.0, 45.0, 99.0, 153.0, 207.0, 261.0],
        max: [45.0, 99.0, 153.0, 207.0, 261.0, 315.0],
        clamps_centres: true,
    };
    /// torchvision's: those of the COCO configuration (scales 0.07, 0.15, 0.33, 0.51, 0.69, 0.87 and
    /// 1.05 of the input's side), with centres where the cells have them.
    pub const TORCHVISION: Self = Self {
        clamps_centres: false,
        ..Self::COCO
    };
}

/// Boxes at each cell of each map: 4, 6, 6, 6, 4, 4.
#[must_use]
pub fn boxes_per_cell() -> [usize; 6] {
    RATIOS.map(|ratios| 2 + 2 * ratios.len())
}

/// Which of the priors are each map's, the finest map's first.
#[must_use]
pub fn by_map() -> [Range<usize>; 6] {
    let (boxes, mut end) = (boxes_per_cell(), 0);
    std::array::from_fn(|map| {
        let begin = end;
        end += MAPS[map] * MAPS[map] * boxes[map];
        begin..end
    })
}

/// The number of priors: 8,732.
#[must_use]
pub fn count() -> usize {
    by_map()[5].end
}

/// All priors, in the order of the network's outputs: map by map, row by row, and in each cell
/// the small square, the larger square, then each ratio and its inverse; clamped to the picture, but
/// for the centres of torchvision's.
#[must_use]
pub fn priors(sizes: &Sizes) -> Vec<Prior> {
    let side = INPUT_SIZE as f64;
    let mut all = Vec::with_capacity(count());
    for map in 0..MAPS.len() {
        let small = sizes.min[map] / side;
        let large = (small * sizes.max[map] / side).sqrt();
        let mut shapes = vec![(small, small), (large, large)];
        for ratio in RATIOS[map] {
            let root = ratio.sqrt();
            shapes.extend([(small * root, small / root), (small / root, small * root)]);
        }
        let cells = side / STRIDES[map];
        for row in 0..MAPS[map] {
            for column in 0..MAPS[map] {
                let cx = (column as f64 + 0.5) / cells;
                let cy = (row as f64 + 0.5) / cells;
                all.extend(shapes.iter().map(|&(w, h)| {
                    let clamp = |value: f64| value.clamp(0.0, 1.0) as f32;
                    let centre = |value: f64| match sizes.clamps_centres {
                        true => clamp(value),
                        false => value as f32,
                    };
                    Prior {
                        cx: centre(cx),
                        cy: centre(cy),
                        w: clamp(w),
                        h: clamp(h),
                    }
                }));
            }
        }
    }
    all
}
