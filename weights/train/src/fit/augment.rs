//! A labelled picture seen differently: a part of it or more than it, mirrored, in another light.

use image::RgbImage;
use ssd_detector::boxes::Corners;

use super::random::Random;
use super::targets::Truth;

/// An object of which less than this is seen is neither asked for nor punished.
const KEPT: f32 = 0.5;
/// Windows that are tried until one shows the middle of an object.
const TRIES: usize = 20;
/// What is beyond the edge of a picture: the mean of pictures.
const BEYOND: [f32; 3] = [123.0, 117.0, 104.0];

/// The part of a picture that is seen, in fractions of its sides; may reach beyond it.
#[derive(Debug, Clone, Copy)]
struct Window {
    x: f32,
    y: f32,
    w: f32,
    h: f32,
    mirrored: bool,
}

impl Window {
    /// Whether the middle of an object is seen.
    fn shows(&self, truth: &Truth) -> bool {
        let seen = |from: f32, to: f32, begin: f32, span: f32| {
            let middle = (f32::midpoint(from, to) - begin) / span;
            (0.0..1.0).contains(&middle)
        };
        let Corners { x1, y1, x2, y2 } = truth.corners;
        seen(x1, x2, self.x, self.w) && seen(y1, y2, self.y, self.h)
    }
}

const WHOLE: Window = Window {
    x: 0.0,
    y: 0.0,
    w: 1.0,
    h: 1.0,
    mirrored: false,
};

/// An augmented picture, side x side, and the objects in it.
#[must_use]
pub fn augment(
    picture: &RgbImage,
    truths: &[Truth],
    side: usize,
    random: &mut Random,
) -> (RgbImage, Vec<Truth>) {
    let window = window(truths, random);
    let seen = truths.iter().filter_map(|truth| through(truth, window));
    let light = Light::new(random);
    (show(picture, window, side, &light), seen.collect())
}

/// Two pictures of five as they are, most others a part that shows the middle of an object, the rest from farther
/// away. A run has few epochs: more variety than this is not learnt in them.
fn window(truths: &[Truth], random: &mut Random) -> Window {
    let mirrored = random.chance(0.5);
    let kind = random.between(0.0, 1.0);
    if kind < 0.4 {
        return Window { mirrored, ..WHOLE };
    }
    for _ in 0..TRIES {
        let zoom = if kind < 0.85 {
            random.scale(0.5, 1.0)
        } else {
            random.scale(1.0, 1.3)
        };
        let shape = random.scale(0.8, 1.25);
        let (w, h) = (zoom * shape, zoom / shape);
        let window = Window {
            // Nearer: anywhere inside. Farther: the picture anywhere in the window.
            x: random.between(0.0, 1.0) * (1.0 - w),
            y: random.between(0.0, 1.0) * (1.0 - h),
            w,
            h,
            mirrored,
        };
        if truths.is_empty() || truths.iter().any(|truth| window.shows(truth)) {
            return window;
        }
    }
    Window { mirrored, ..WHOLE }
}

/// Where an object is in the window; `None` where nothing of it is.
fn through(truth: &Truth, window: Window) -> Option<Truth> {
    let c = &truth.corners;
    let (mut x1, mut x2) = ((c.x1 - window.x) / window.w, (c.x2 - window.x) / window.w);
    let (y1, y2) = ((c.y1 - window.y) / window.h, (c.y2 - window.y) / window.h);
    if window.mirrored {
        (x1, x2) = (1.0 - x2, 1.0 - x1);
    }
    let whole = (x2 - x1) * (y2 - y1);
    let corners = Corners { x1, y1, x2, y2 }.clip(1.0, 1.0);
    let left = (corners.x2 - corners.x1).max(0.0) * (corners.y2 - corners.y1).max(0.0);
    (left > 0.0).then_some(Truth {
        class: truth.class,
        corners,
        difficult: truth.difficult || left < KEPT * whole,
    })
}

/// Another light: brightness, contrast, and how much of the colours is left.
struct Light {
    gain: f32,
    lift: f32,
    colour: f32,
    tints: [f32; 3],
}

impl Light {
    fn new(random: &mut Random) -> Self {
        Self {
            gain: random.scale(0.82, 1.24),
            lift: random.between(-12.0, 12.0),
            colour: random.between(0.76, 1.24),
            tints: [(); 3].map(|()| random.between(0.96, 1.04)),
        }
    }

    fn on(&self, pixel: [f32; 3]) -> [u8; 3] {
        let grey = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
        std::array::from_fn(|c| {
            let coloured = grey + (pixel[c] - grey) * self.colour;
            let lit = (coloured * self.tints[c] - 128.0) * self.gain + 128.0 + self.lift;
            lit.round().clamp(0.0, 255.0) as u8
        })
    }
}

/// The window's picture, bilinear, as the server resizes.
fn show(picture: &RgbImage, window: Window, side: usize, light: &Light) -> RgbImage {
    let (width, height) = picture.dimensions();
    let samples = picture.as_raw();
    // Of each row or column: the two source rows or columns, and the second one's weight.
    let taps = |size: u32, from: f32, span: f32| -> Vec<Option<(usize, usize, f32)>> {
        let last = size as f32 - 1.0;
        let taps = (0..side).map(|at| {
            let centre = (from + (at as f32 + 0.5) / side as f32 * span) * size as f32 - 0.5;
            (-0.5..=last + 0.5).contains(&centre).then(|| {
                let centre = centre.clamp(0.0, last);
                let near = centre.floor();
                let far = (near + 1.0).min(last);
                (near as usize, far as usize, centre - near)
            })
        });
        taps.collect()
    };
    let mut columns = taps(width, window.x, window.w);
    if window.mirrored {
        columns.reverse();
    }
    let rows = taps(height, window.y, window.h);
    let stride = width as usize * 3;
    let mut shown = Vec::with_capacity(side * side * 3);
    for row in rows {
        for column in &columns {
            let pixel = match (row, column) {
                (Some((top, bottom, down)), Some((left, right, along))) => {
                    std::array::from_fn(|c| {
                        let at = |y: usize, x: usize| f32::from(samples[y * stride + x * 3 + c]);
                        let upper = at(top, *left) * (1.0 - along) + at(top, *right) * along;
                        let lower = at(bottom, *left) * (1.0 - along) + at(bottom, *right) * along;
                        upper * (1.0 - down) + lower * down
                    })
                }
                _ => BEYOND,
            };
            shown.extend(light.on(pixel));
        }
    }
    RgbImage::from_raw(side as u32, side as u32, shown).expect("side x side x 3")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(x1: f32, x2: f32) -> Truth {
        Truth {
            class: 1,
            corners: Corners {
                x1,
                y1: 0.2,
                x2,
                y2: 0.6,
            },
            difficult: false,
        }
    }

    #[test]
    fn boxes_follow_what_is_in_them() {
        // A white square on black: wherever the window puts it, its box is around it.
        let mut picture = RgbImage::new(200, 120);
        for (x, y) in (60..100).flat_map(|x| (40..80).map(move |y| (x, y))) {
            picture.put_pixel(x, y, image::Rgb([255; 3]));
        }
        let object = Truth {
            class: 1,
            corners: Corners {
                x1: 0.3,
                y1: 40.0 / 120.0,
                x2: 0.5,
                y2: 80.0 / 120.0,
            },
            difficult: false,
        };
        for stream in 0..40 {
            let (seen, truths) = augment(&picture, &[object], 100, &mut Random::new(7, stream));
            let whole: Vec<_> = truths.iter().filter(|truth| !truth.difficult).collect();
            for truth in whole {
                let c = truth.corners.scale(100.0, 100.0);
                let (x, y) = (f32::midpoint(c.x1, c.x2), f32::midpoint(c.y1, c.y2));
                let bright = |x: f32, y: f32| {
                    let at = |v: f32| (v as u32).min(99);
                    u32::from(seen.get_pixel(at(x), at(y)).0[1])
                };
                let middle = bright(x, y);
                for (x, y) in [
                    (c.x1 - 4.0, y),
                    (c.x2 + 4.0, y),
                    (x, c.y1 - 4.0),
                    (x, c.y2 + 4.0),
                ] {
                    if (0.0..100.0).contains(&x) && (0.0..100.0).contains(&y) {
                        assert!(bright(x, y) + 40 < middle, "stream {stream}: {x} {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_mostly_cut_off_is_difficult_and_what_is_outside_is_gone() {
        let window = Window {
            x: 0.5,
            w: 0.5,
            ..WHOLE
        };
        assert!(!through(&truth(0.45, 0.75), window).unwrap().difficult);
        assert!(through(&truth(0.3, 0.6), window).unwrap().difficult);
        assert_eq!(through(&truth(0.1, 0.4), window), None);
    }
}
