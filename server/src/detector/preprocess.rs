//! A picture of any size to the network's input: 300x300, RGB, 8 bits a sample.
//!
//! The original weights were trained and published with `OpenCV`'s 8-bit bilinear resize: no
//! anti-aliasing, half-pixel centres, 11-bit fixed-point weights. Resizers that average the
//! pixels in between, or round between the two passes, give inputs these weights never saw, and a
//! general one that also reproduces the rounding does not exist; hence these few lines. They read
//! four pixels for each of 90,000, so their cost does not grow with the picture.

use image::RgbImage;

use super::priors::INPUT_SIZE;

/// Fixed-point one: `OpenCV`'s `INTER_RESIZE_COEF_SCALE`.
const ONE: i32 = 1 << 11;

/// Where one output sample takes its two source samples along an axis, and the weight of each.
struct Tap {
    near: usize,
    far: usize,
    near_weight: i32,
    far_weight: i32,
}

fn taps(source: usize) -> Vec<Tap> {
    let scale = source as f64 / INPUT_SIZE as f64;
    (0..INPUT_SIZE)
        .map(|index| {
            let centre = ((index as f64 + 0.5) * scale - 0.5) as f32;
            let floor = centre.floor();
            let (mut near, mut fraction) = (floor as i64, centre - floor);
            let last = source as i64 - 1;
            if near < 0 {
                (near, fraction) = (0, 0.0);
            }
            if near >= last {
                (near, fraction) = (last, 0.0);
            }
            let weight = |part: f32| (part * ONE as f32).round_ties_even() as i32;
            Tap {
                near: near as usize,
                far: (near + 1).min(last) as usize,
                near_weight: weight(1.0 - fraction),
                far_weight: weight(fraction),
            }
        })
        .collect()
}

/// Resizes to 300x300, ignoring the aspect ratio, as the networks were trained. Row by row, red,
/// green and blue of each pixel: 270,000 bytes. The picture must not be empty.
#[must_use]
pub fn resize(picture: &RgbImage) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (columns, rows) = (taps(width), taps(height));
    let samples = picture.as_raw();
    let stride = width * 3;
    let horizontal = |row: usize, tap: &Tap, channel: usize| {
        let line = &samples[row * stride..(row + 1) * stride];
        i32::from(line[tap.near * 3 + channel]) * tap.near_weight
            + i32::from(line[tap.far * 3 + channel]) * tap.far_weight
    };
    let mut resized = Vec::with_capacity(INPUT_SIZE * INPUT_SIZE * 3);
    for row in &rows {
        for column in &columns {
            for channel in 0..3 {
                let upper = horizontal(row.near, column, channel);
                let lower = horizontal(row.far, column, channel);
                // Two truncations and one rounding, in OpenCV's order (VResizeLinear, 8 bits).
                let sum = (((upper >> 4) * row.near_weight) >> 16)
                    + (((lower >> 4) * row.far_weight) >> 16);
                resized.push(((sum + 2) >> 2) as u8);
            }
        }
    }
    resized
}
