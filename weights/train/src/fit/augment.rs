//! Augments a labelled picture: crops it or zooms out, mirrors it, and changes its colours (Liu et al. 2016, section
//! 2.2, with different probabilities and ranges: see `window` and `ColourJitter`).

use image::RgbImage;
use ssd_detector::boxes::Corners;

use super::random::Random;
use crate::data::Object;

/// An object with less than this share of its area inside the crop becomes difficult.
const MIN_VISIBLE: f32 = 0.5;
/// The maximum number of windows that are tried until one shows the centre of an object.
const TRIES: usize = 20;
/// The colour beyond the edge of a picture: the mean of natural pictures.
const MEAN_COLOUR: [f32; 3] = [123.0, 117.0, 104.0];

/// The visible part of a picture, in fractions of its sides. It may reach beyond the picture.
#[derive(Debug, Clone, Copy)]
struct Window {
    x: f32,
    y: f32,
    w: f32,
    h: f32,
    mirrored: bool,
}

impl Window {
    /// Whether the centre of an object is visible.
    fn shows(&self, object: &Object) -> bool {
        let is_inside = |from: f32, to: f32, start: f32, length: f32| {
            let centre = (f32::midpoint(from, to) - start) / length;
            (0.0..1.0).contains(&centre)
        };
        let Corners { x1, y1, x2, y2 } = object.corners;
        is_inside(x1, x2, self.x, self.w) && is_inside(y1, y2, self.y, self.h)
    }
}

const WHOLE: Window = Window {
    x: 0.0,
    y: 0.0,
    w: 1.0,
    h: 1.0,
    mirrored: false,
};

/// An augmented picture of `side` x `side` pixels, and the objects that are visible in it.
#[must_use]
pub fn augment(
    picture: &RgbImage,
    objects: &[Object],
    side: usize,
    random: &mut Random,
) -> (RgbImage, Vec<Object>) {
    let window = window(objects, random);
    let visible = objects.iter().filter_map(|object| visible(object, window));
    let jitter = ColourJitter::new(random);
    (resample(picture, window, side, &jitter), visible.collect())
}

/// The whole picture with a probability of 0.4; a crop to 0.5 to 1 times its sides that shows the centre of an object
/// with 0.45; a zoom out to 1 to 1.3 times its sides with 0.15. The aspect ratio changes by a factor of up to 1.56. A run
/// has too few epochs to learn more variety.
fn window(objects: &[Object], random: &mut Random) -> Window {
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
        let aspect = random.scale(0.8, 1.25);
        let (w, h) = (zoom * aspect, zoom / aspect);
        let window = Window {
            // A crop lies anywhere in the picture. When zooming out, the picture lies anywhere in the window.
            x: random.between(0.0, 1.0) * (1.0 - w),
            y: random.between(0.0, 1.0) * (1.0 - h),
            w,
            h,
            mirrored,
        };
        if objects.is_empty() || objects.iter().any(|object| window.shows(object)) {
            return window;
        }
    }
    Window { mirrored, ..WHOLE }
}

/// An object in coordinates of the window; `None` if it is outside.
fn visible(object: &Object, window: Window) -> Option<Object> {
    let c = &object.corners;
    let (mut x1, mut x2) = ((c.x1 - window.x) / window.w, (c.x2 - window.x) / window.w);
    let (y1, y2) = ((c.y1 - window.y) / window.h, (c.y2 - window.y) / window.h);
    if window.mirrored {
        (x1, x2) = (1.0 - x2, 1.0 - x1);
    }
    let whole_area = (x2 - x1) * (y2 - y1);
    let corners = Corners { x1, y1, x2, y2 }.clip(1.0, 1.0);
    let area = (corners.x2 - corners.x1).max(0.0) * (corners.y2 - corners.y1).max(0.0);
    (area > 0.0).then_some(Object {
        class: object.class,
        corners,
        difficult: object.difficult || area < MIN_VISIBLE * whole_area,
    })
}

/// A random change of colours.
struct ColourJitter {
    contrast: f32,
    brightness: f32,
    saturation: f32,
    /// The gain of each channel.
    balance: [f32; 3],
}

impl ColourJitter {
    fn new(random: &mut Random) -> Self {
        Self {
            contrast: random.scale(0.82, 1.24),
            brightness: random.between(-12.0, 12.0),
            saturation: random.between(0.76, 1.24),
            balance: [(); 3].map(|()| random.between(0.96, 1.04)),
        }
    }

    fn apply(&self, pixel: [f32; 3]) -> [u8; 3] {
        let grey = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
        std::array::from_fn(|c| {
            let saturated = grey + (pixel[c] - grey) * self.saturation;
            let balanced = saturated * self.balance[c];
            let level = (balanced - 128.0) * self.contrast + 128.0 + self.brightness;
            level.round().clamp(0.0, 255.0) as u8
        })
    }
}

/// The part of the picture in the window, resized by bilinear interpolation, like in the server.
fn resample(picture: &RgbImage, window: Window, side: usize, jitter: &ColourJitter) -> RgbImage {
    let (width, height) = picture.dimensions();
    let samples = picture.as_raw();
    // For each row or column, the two source rows or columns and the weight of the second.
    let taps = |size: u32, start: f32, length: f32| -> Vec<Option<(usize, usize, f32)>> {
        let last = size as f32 - 1.0;
        let tap = |at: usize| {
            let centre = (start + (at as f32 + 0.5) / side as f32 * length) * size as f32 - 0.5;
            (-0.5..=last + 0.5).contains(&centre).then(|| {
                let inside = centre.clamp(0.0, last);
                let near = inside.floor();
                let far = (near + 1.0).min(last);
                (near as usize, far as usize, inside - near)
            })
        };
        (0..side).map(tap).collect()
    };
    let mut columns = taps(width, window.x, window.w);
    if window.mirrored {
        columns.reverse();
    }
    let rows = taps(height, window.y, window.h);
    let stride = width as usize * 3;
    let mut resampled = Vec::with_capacity(side * side * 3);
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
                _ => MEAN_COLOUR,
            };
            resampled.extend(jitter.apply(pixel));
        }
    }
    RgbImage::from_raw(side as u32, side as u32, resampled).expect("side x side x 3")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(x1: f32, x2: f32) -> Object {
        Object {
            class: 0,
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
    fn boxes_stay_around_their_objects() {
        // A white square on black.
        let mut picture = RgbImage::new(200, 120);
        for (x, y) in (60..100).flat_map(|x| (40..80).map(move |y| (x, y))) {
            picture.put_pixel(x, y, image::Rgb([255; 3]));
        }
        let square = Object {
            class: 0,
            corners: Corners {
                x1: 0.3,
                y1: 40.0 / 120.0,
                x2: 0.5,
                y2: 80.0 / 120.0,
            },
            difficult: false,
        };
        for stream in 0..40 {
            let (augmented, objects) =
                augment(&picture, &[square], 100, &mut Random::new(7, stream));
            for object in objects.iter().filter(|object| !object.difficult) {
                let c = object.corners.scale(100.0, 100.0);
                let (cx, cy) = (f32::midpoint(c.x1, c.x2), f32::midpoint(c.y1, c.y2));
                let brightness = |x: f32, y: f32| {
                    let at = |v: f32| (v as u32).min(99);
                    u32::from(augmented.get_pixel(at(x), at(y)).0[1])
                };
                for (x, y) in [
                    (c.x1 - 4.0, cy),
                    (c.x2 + 4.0, cy),
                    (cx, c.y1 - 4.0),
                    (cx, c.y2 + 4.0),
                ] {
                    if (0.0..100.0).contains(&x) && (0.0..100.0).contains(&y) {
                        let outside = brightness(x, y);
                        assert!(
                            outside + 40 < brightness(cx, cy),
                            "stream {stream}: {x} {y}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn an_object_becomes_difficult_if_it_is_mostly_cut_off_and_is_dropped_if_it_is_outside() {
        let window = Window {
            x: 0.5,
            w: 0.5,
            ..WHOLE
        };
        assert!(!visible(&object(0.45, 0.75), window).unwrap().difficult);
        assert!(visible(&object(0.3, 0.6), window).unwrap().difficult);
        assert_eq!(visible(&object(0.1, 0.4), window), None);
    }
}
