//! Turns a picture of any size into the network's input: a square of RGB pixels.
//!
//! The original weights were trained and published with `OpenCV`'s 8-bit bilinear resize: no anti-aliasing,
//! half-pixel centres, 11-bit fixed-point weights. Other resizers average more pixels, or round between the
//! horizontal and the vertical pass. Their outputs differ from the training inputs. No crate reproduces `OpenCV`'s
//! rounding. torchvision resizes in floating point, with the same centres. Both read four pixels for each pixel of
//! the input, so the time does not depend on the size of the picture.

use image::RgbImage;

/// Fixed-point one: `OpenCV`'s `INTER_RESIZE_COEF_SCALE`.
const ONE: i32 = 1 << 11;

/// The network's input for one picture: side x side x 3 numbers, normalised for the family's weights. Row by row,
/// with red, green and blue of each pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    values: Vec<f32>,
    side: usize,
}

impl Input {
    /// The numbers: row, column, channel.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Rows of pixels, and pixels in a row.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }
}

/// How a picture becomes the network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preprocessing {
    /// Side of the square input, in pixels.
    pub side: usize,
    /// How the picture is resized, and the range of its samples afterwards.
    pub samples: Samples,
    /// Subtracted from the samples: red, green, blue.
    pub mean: [f32; 3],
    /// Divides the difference: red, green, blue.
    pub deviation: [f32; 3],
}

/// How a picture is resized, and the range of its samples afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Samples {
    /// Resized in 8 bits: levels from 0 to 255.
    Levels,
    /// Resized in floating point: fractions from 0 to 1.
    Fractions,
}

impl Preprocessing {
    /// The least and the largest number in an input.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        let most = match self.samples {
            Samples::Levels => 255.0,
            Samples::Fractions => 1.0,
        };
        let over = |sample: f32| (0..3).map(move |channel| self.normalise(channel, sample));
        (
            over(0.0).fold(f32::INFINITY, f32::min),
            over(most).fold(f32::NEG_INFINITY, f32::max),
        )
    }

    fn normalise(&self, channel: usize, sample: f32) -> f32 {
        (sample - self.mean[channel]) / self.deviation[channel]
    }

    /// Resizes to a square, ignoring the aspect ratio as in the networks' training, and normalises. The picture
    /// must not be empty.
    #[must_use]
    pub fn input(&self, picture: &RgbImage) -> Input {
        let mut values = Vec::with_capacity(self.side * self.side * 3);
        match self.samples {
            Samples::Levels => {
                let resized = resize(picture, self.side);
                let (pixels, _) = resized.as_chunks::<3>();
                for pixel in pixels {
                    values.extend((0..3).map(|c| self.normalise(c, f32::from(pixel[c]))));
                }
            }
            Samples::Fractions => sample(picture, self.side, |c, level| {
                values.push(self.normalise(c, level / 255.0));
            }),
        }
        Input {
            values,
            side: self.side,
        }
    }

    /// The mean picture of the training data, for a forward pass that warms up libtorch.
    #[must_use]
    pub fn blank(&self) -> Input {
        Input {
            values: vec![0.0; self.side * self.side * 3],
            side: self.side,
        }
    }
}

/// The two source samples of an output sample along an axis, and the weight of the far sample.
struct Tap {
    near: usize,
    far: usize,
    fraction: f32,
}

impl Tap {
    /// The fixed-point weights of the near and the far sample.
    fn weights(&self) -> (i32, i32) {
        let weight = |part: f32| (part * ONE as f32).round_ties_even() as i32;
        (weight(1.0 - self.fraction), weight(self.fraction))
    }
}

fn taps(source: usize, side: usize) -> Vec<Tap> {
    let scale = source as f64 / side as f64;
    (0..side)
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
            Tap {
                near: near as usize,
                far: (near + 1).min(last) as usize,
                fraction,
            }
        })
        .collect()
}

/// Resizes to side x side in 8 bits, like `OpenCV`. Row by row, with red, green and blue of each pixel. The picture
/// must not be empty.
#[must_use]
pub fn resize(picture: &RgbImage, side: usize) -> Vec<u8> {
    let stride = picture.width() as usize * 3;
    let samples = picture.as_raw();
    let weighted = |taps: Vec<Tap>| -> Vec<(Tap, (i32, i32))> {
        taps.into_iter()
            .map(|tap| {
                let weights = tap.weights();
                (tap, weights)
            })
            .collect()
    };
    let columns = weighted(taps(picture.width() as usize, side));
    let rows = weighted(taps(picture.height() as usize, side));
    let mut resized = Vec::with_capacity(side * side * 3);
    for (row, (top, bottom)) in &rows {
        let (upper, lower) = (row.near * stride, row.far * stride);
        for (column, (left, right)) in &columns {
            for channel in 0..3 {
                let horizontal = |line: usize| {
                    let sample = |at: usize| i32::from(samples[line + at * 3 + channel]);
                    sample(column.near) * left + sample(column.far) * right
                };
                // Two truncations and one rounding, in OpenCV's order (VResizeLinear, 8 bits).
                let sum = (((horizontal(upper) >> 4) * top) >> 16)
                    + (((horizontal(lower) >> 4) * bottom) >> 16);
                resized.push(((sum + 2) >> 2) as u8);
            }
        }
    }
    resized
}

/// Resizes to side x side in floating point, like torch's bilinear `interpolate` without aligned corners. Calls
/// `each` with each sample and its channel, in the order of [`resize`].
fn sample(picture: &RgbImage, side: usize, mut each: impl FnMut(usize, f32)) {
    let stride = picture.width() as usize * 3;
    let samples = picture.as_raw();
    let columns = taps(picture.width() as usize, side);
    for row in taps(picture.height() as usize, side) {
        let (upper, lower) = (row.near * stride, row.far * stride);
        for column in &columns {
            for channel in 0..3 {
                let horizontal = |line: usize| {
                    let sample = |at: usize| f32::from(samples[line + at * 3 + channel]);
                    sample(column.near) * (1.0 - column.fraction)
                        + sample(column.far) * column.fraction
                };
                let value =
                    horizontal(upper) * (1.0 - row.fraction) + horizontal(lower) * row.fraction;
                each(channel, value);
            }
        }
    }
}
