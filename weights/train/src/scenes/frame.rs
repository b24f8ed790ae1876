//! The picture being drawn: pixels as numbers, and which object each pixel shows.

use super::canvas::Canvas;
use super::colour::Rgb;

/// What is not an object.
pub const NOTHING: u8 = u8::MAX;

/// What a canvas covers: its solid pixels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Covered {
    /// All of them.
    pub solid: usize,
    /// Those inside the frame.
    pub inside: usize,
}

/// A picture of `f32` levels, 0 to 255, and for each pixel the object seen there.
#[derive(Debug, Clone)]
pub struct Frame {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
    owners: Vec<u8>,
}

impl Frame {
    /// A black frame of `width` by `height` pixels, showing no object.
    #[must_use]
    pub fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![[0.0; 3]; width * height],
            owners: vec![NOTHING; width * height],
        }
    }

    /// Width and height, in pixels.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The pixels, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[Rgb] {
        &self.pixels
    }

    /// The object seen at each pixel, or [`NOTHING`].
    #[must_use]
    pub fn owners(&self) -> &[u8] {
        &self.owners
    }

    /// Sets the rows from `top` to before `bottom`.
    pub fn each(&mut self, top: usize, bottom: usize, colour: impl Fn(usize, usize) -> Rgb) {
        self.touch(top, bottom, |x, y, _| colour(x, y));
    }

    /// Changes the rows from `top` to before `bottom`, given what they show.
    pub fn touch(&mut self, top: usize, bottom: usize, colour: impl Fn(usize, usize, Rgb) -> Rgb) {
        for y in top..bottom.min(self.height) {
            let row = &mut self.pixels[y * self.width..][..self.width];
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel = colour(x, y, *pixel);
            }
        }
    }

    /// Sets a rectangle, as far as it lies inside; `colour` is asked by the distance from its
    /// upper left corner.
    pub fn block(
        &mut self,
        (left, top): (usize, usize),
        (width, height): (usize, usize),
        colour: impl Fn(usize, usize) -> Rgb,
    ) {
        for y in top..(top + height).min(self.height) {
            for x in left..(left + width).min(self.width) {
                self.pixels[y * self.width + x] = colour(x - left, y - top);
            }
        }
    }

    /// Adds a disc of light with a soft edge.
    pub fn glow(&mut self, (cx, cy): (f32, f32), radius: f32, colour: Rgb, opacity: f32) {
        let (rows, columns) = (span(cy, radius, self.height), span(cx, radius, self.width));
        for y in rows {
            for x in columns.clone() {
                let (dx, dy) = (x as f32 - cx, y as f32 - cy);
                let edge = (radius - (dx * dx + dy * dy).sqrt()).clamp(0.0, 1.5) / 1.5;
                let pixel = &mut self.pixels[y * self.width + x];
                for (level, more) in pixel.iter_mut().zip(colour) {
                    *level += (more - *level) * opacity * edge;
                }
            }
        }
    }

    /// Darkens an ellipse with a soft edge: the shadow where something stands.
    pub fn shadow(&mut self, (cx, cy): (f32, f32), (rx, ry): (f32, f32), depth: f32) {
        for y in span(cy, ry, self.height) {
            for x in span(cx, rx, self.width) {
                let (dx, dy) = ((x as f32 - cx) / rx, (y as f32 - cy) / ry);
                let inside = (1.0 - dx * dx - dy * dy).max(0.0);
                let gain = 1.0 - depth * inside;
                for level in &mut self.pixels[y * self.width + x] {
                    *level *= gain;
                }
            }
        }
    }

    /// Lays a canvas over the frame, its middle at (`cx`, `cy`), as object `owner`. The tint
    /// multiplies its colours.
    pub fn lay(&mut self, canvas: &Canvas, (cx, cy): (f32, f32), owner: u8, tint: Rgb) -> Covered {
        let side = canvas.side();
        let (left, top) = (
            (cx - side as f32 / 2.0).round() as i64,
            (cy - side as f32 / 2.0).round() as i64,
        );
        let mut covered = Covered::default();
        for (index, sample) in canvas.samples().chunks_exact(4).enumerate() {
            let opacity = sample[3];
            if opacity == 0 {
                continue;
            }
            covered.solid += usize::from(opacity > SOLID);
            let (x, y) = (left + (index % side) as i64, top + (index / side) as i64);
            if x < 0 || y < 0 || x >= self.width as i64 || y >= self.height as i64 {
                continue;
            }
            let at = y as usize * self.width + x as usize;
            let keep = 1.0 - f32::from(opacity) / 255.0;
            for ((level, more), tint) in self.pixels[at].iter_mut().zip(sample).zip(tint) {
                *level = *level * keep + f32::from(*more) * tint;
            }
            if opacity > SOLID {
                self.owners[at] = owner;
                covered.inside += 1;
            }
        }
        covered
    }

    /// Blurs by two passes of a box each way, which is near a Gaussian of this deviation.
    pub fn soften(&mut self, deviation: f32) {
        let radius = (deviation * 1.2).round() as usize;
        if radius == 0 {
            return;
        }
        for _ in 0..2 {
            self.box_blur(radius, 1, self.width, self.width, self.height);
            self.box_blur(radius, self.width, self.height, 1, self.width);
        }
    }

    /// Smears along a row (motion of the camera) by this many pixels.
    pub fn smear(&mut self, radius: usize, upright: bool) {
        if upright {
            self.box_blur(radius, self.width, self.height, 1, self.width);
        } else {
            self.box_blur(radius, 1, self.width, self.width, self.height);
        }
    }

    /// A moving mean over `count` pixels `step` apart, along each of `lines` lines `pitch` apart.
    fn box_blur(&mut self, radius: usize, step: usize, count: usize, pitch: usize, lines: usize) {
        let mut line = vec![[0.0; 3]; count];
        for start in (0..lines).map(|i| i * pitch) {
            for (i, pixel) in line.iter_mut().enumerate() {
                *pixel = self.pixels[start + i * step];
            }
            let mut sum = [0.0f32; 3];
            let at = |i: i64| line[i.clamp(0, count as i64 - 1) as usize];
            let reach = radius as i64;
            for i in -reach..=reach {
                sum = std::array::from_fn(|c| sum[c] + at(i)[c]);
            }
            let share = 1.0 / (2 * radius + 1) as f32;
            for i in 0..count as i64 {
                self.pixels[start + i as usize * step] = sum.map(|s| s * share);
                let (enters, leaves) = (at(i + reach + 1), at(i - reach));
                sum = std::array::from_fn(|c| sum[c] + enters[c] - leaves[c]);
            }
        }
    }
}

/// Opacity above which a pixel counts as the object's.
const SOLID: u8 = 100;

fn span(centre: f32, radius: f32, limit: usize) -> std::ops::Range<usize> {
    let from = (centre - radius).floor().max(0.0) as usize;
    let to = ((centre + radius).ceil().max(0.0) as usize).min(limit);
    from.min(to)..to
}
