//! Fractal noise, cheap: a pyramid of random grids, each added to the one above it enlarged.

use super::dice::Dice;

/// A `width` by `height` field of values from 0 to 1 about 0.5, with blotches from `cell` pixels
/// down to single ones, each octave half as strong as the one above.
#[must_use]
pub fn field(dice: &mut Dice, width: usize, height: usize, cell: f32) -> Vec<f32> {
    let octaves = cell.max(1.0).log2().round().clamp(0.0, 8.0) as u32;
    let size = |octave: u32| {
        let shrink = 1usize << octave;
        (width.div_ceil(shrink) + 1, height.div_ceil(shrink) + 1)
    };
    let (mut w, mut h) = size(octaves);
    let mut values = vec![0.5; w * h];
    let mut strength = 0.5;
    add(dice, &mut values, strength);
    for octave in (0..octaves).rev() {
        let (wider, higher) = size(octave);
        values = doubled(&values, w, h, wider, higher);
        (w, h) = (wider, higher);
        strength *= 0.55;
        add(dice, &mut values, strength);
    }
    let rows = values.chunks_exact(w).take(height);
    rows.flat_map(|row| &row[..width])
        .map(|value| value.clamp(0.0, 1.0))
        .collect()
}

/// Adds uniform noise of this amplitude. Four values come from each random word: the eye does not
/// see 8 bits, and the words are what costs.
fn add(dice: &mut Dice, values: &mut [f32], amplitude: f32) {
    for four in values.chunks_mut(4) {
        for (value, byte) in four.iter_mut().zip(dice.bits().to_le_bytes()) {
            *value += (f32::from(byte) / 255.0 - 0.5) * 2.0 * amplitude;
        }
    }
}

/// Twice as large, bilinear.
fn doubled(values: &[f32], w: usize, h: usize, wider: usize, higher: usize) -> Vec<f32> {
    let mut large = vec![0.0; wider * higher];
    for y in 0..higher {
        let (y0, y1) = ((y / 2).min(h - 1), y.div_ceil(2).min(h - 1));
        let (upper, lower) = (&values[y0 * w..][..w], &values[y1 * w..][..w]);
        let row = &mut large[y * wider..][..wider];
        for (x, value) in row.iter_mut().enumerate() {
            let (x0, x1) = ((x / 2).min(w - 1), x.div_ceil(2).min(w - 1));
            *value = (upper[x0] + upper[x1] + lower[x0] + lower[x1]) * 0.25;
        }
    }
    large
}
