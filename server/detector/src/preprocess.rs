//! Turns a picture of any size into the network's input: a square of RGB pixels.
//!
//! The original weights were trained and published with `OpenCV`'s 8-bit bilinear resize: no anti-aliasing,
//! half-pixel centres, 11-bit fixed-point weights. Other resizers average more pixels, or round between the
//! horizontal and the vertical pass. Their outputs differ from the training inputs. No crate reproduces `OpenCV`'s
//! rounding. torchvision resizes in floating point, with the same centres. Both read four pixels for each pixel of
//! the input, so the time does not depend on the size of the picture.

use image::RgbImage;

/// Fixed-point one: `OpenCV`'s `INTER_RESIZE_COEF_SCALE`.
const ONE: i16 = 1 << 11;

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
        let over = |sample: f32| {
            self.channels()
                .map(|channel| normalise(sample, channel))
                .into_iter()
        };
        (
            over(0.0).fold(f32::INFINITY, f32::min),
            over(most).fold(f32::NEG_INFINITY, f32::max),
        )
    }

    /// The mean and the deviation of each channel.
    fn channels(&self) -> [(f32, f32); 3] {
        [0, 1, 2].map(|channel| (self.mean[channel], self.deviation[channel]))
    }

    /// Resizes to a square, ignoring the aspect ratio as in the networks' training, and normalises. The picture
    /// must not be empty.
    #[must_use]
    pub fn input(&self, picture: &RgbImage) -> Input {
        let channels = self.channels();
        let values = match self.samples {
            Samples::Levels => {
                normalise_all(&resize(picture, self.side), self.side, channels, f32::from)
            }
            Samples::Fractions => {
                let fraction = |sample| sample / 255.0;
                normalise_all(&sample(picture, self.side), self.side, channels, fraction)
            }
        };
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

fn normalise(sample: f32, (mean, deviation): (f32, f32)) -> f32 {
    (sample - mean) / deviation
}

/// Normalises samples in rows of `side` pixels, as `number` reads them. `channels`: their means and deviations.
fn normalise_all<T: Copy>(
    samples: &[T],
    side: usize,
    channels: [(f32, f32); 3],
    number: impl Fn(T) -> f32,
) -> Vec<f32> {
    // For each sample of a row, so that several are computed at once.
    let channels = channels.repeat(side);
    let mut values = Vec::with_capacity(samples.len());
    for row in samples.chunks_exact(channels.len()) {
        let pairs = row.iter().zip(&channels);
        values.extend(pairs.map(|(sample, channel)| normalise(number(*sample), *channel)));
    }
    values
}

/// The two source samples of an output sample along an axis, and the weight of the far sample.
#[derive(Clone, Copy)]
struct Tap {
    near: usize,
    far: usize,
    fraction: f32,
}

impl Tap {
    /// The fixed-point weights of the near and the far sample.
    fn weights(&self) -> (i16, i16) {
        let weight = |part: f32| (part * f32::from(ONE)).round_ties_even() as i16;
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
    let mut resized = Vec::with_capacity(side * side * 3);
    // Two truncations and one rounding, in OpenCV's order (VResizeLinear, 8 bits). All numbers fit in 16 bits.
    let horizontal = |near: u8, far: u8, left: i16, right: i16| {
        ((i32::from(near) * i32::from(left) + i32::from(far) * i32::from(right)) >> 4) as i16
    };
    let part = |number: i16, weight: i16| ((i32::from(number) * i32::from(weight)) >> 16) as i16;
    resize_by(
        picture,
        side,
        Tap::weights,
        horizontal,
        |upper, lower, (top, bottom)| {
            let numbers = upper.iter().zip(lower);
            resized.extend(
                numbers.map(|(upper, lower)| {
                    ((part(*upper, top) + part(*lower, bottom) + 2) >> 2) as u8
                }),
            );
        },
    );
    resized
}

/// Resizes to side x side in floating point, like torch's bilinear `interpolate` without aligned corners. The samples
/// have the order of [`resize`].
fn sample(picture: &RgbImage, side: usize) -> Vec<f32> {
    let mut samples = Vec::with_capacity(side * side * 3);
    let weights = |tap: &Tap| (1.0 - tap.fraction, tap.fraction);
    let horizontal =
        |near: u8, far: u8, left: f32, right: f32| f32::from(near) * left + f32::from(far) * right;
    resize_by(
        picture,
        side,
        weights,
        horizontal,
        |upper, lower, (top, bottom)| {
            let numbers = upper.iter().zip(lower);
            samples.extend(numbers.map(|(upper, lower)| upper * top + lower * bottom));
        },
    );
    samples
}

/// Calls `vertical` for each row of side x side pixels, with the two rows of the picture that are nearest to it, both
/// resized by `horizontal`, and with their weights. `horizontal` gets a near and a far sample, and their weights.
fn resize_by<N: Copy + Default, W: Copy>(
    picture: &RgbImage,
    side: usize,
    weights: impl Fn(&Tap) -> (W, W),
    horizontal: impl Fn(u8, u8, W, W) -> N,
    mut vertical: impl FnMut(&[N], &[N], (W, W)),
) {
    let stride = picture.width() as usize * 3;
    let columns = taps(picture.width() as usize, side);
    // For each sample of a row, so that several are computed at once.
    let (left, right): (Vec<W>, Vec<W>) = columns.iter().flat_map(|tap| [weights(tap); 3]).unzip();
    let [mut near, mut far] = [0, 1].map(|_| vec![0; side * 3]);
    let mut lines = [0, 1].map(|_| vec![N::default(); side * 3]);
    for tap in taps(picture.height() as usize, side) {
        for (row, line) in [tap.near, tap.far].into_iter().zip(&mut lines) {
            let pixels = picture.as_raw()[row * stride..][..stride]
                .as_chunks::<3>()
                .0;
            let samples = near.as_chunks_mut::<3>().0.iter_mut();
            for ((near, far), column) in samples.zip(far.as_chunks_mut::<3>().0).zip(&columns) {
                (*near, *far) = (pixels[column.near], pixels[column.far]);
            }
            let samples = near.iter().zip(&far).zip(left.iter().zip(&right));
            for (into, ((near, far), (left, right))) in line.iter_mut().zip(samples) {
                *into = horizontal(*near, *far, *left, *right);
            }
        }
        let [upper, lower] = &lines;
        vertical(upper, lower, weights(&tap));
    }
}
