//! A scene seen again, differently: nearer, farther, off centre, mirrored, in other light. Scenes
//! cost more to draw than to vary, and each is used several times.

use image::{Rgb, RgbImage};
use ssd_server::detector::boxes::Corners;

use super::targets::Truth;
use crate::scenes::{CLASSES, Dice};

/// An object of which less than this stays in the picture is difficult.
const KEPT: f32 = 0.5;
/// What is beyond the edge of a picture seen from farther away: the mean of pictures.
const BEYOND: [f32; 3] = [123.0, 117.0, 104.0];

/// The part of a picture that is shown, in fractions of its sides; may reach beyond it.
struct Window {
    x: f32,
    y: f32,
    w: f32,
    h: f32,
    mirrored: bool,
}

/// A variation of a square picture and of what is in it.
pub(super) fn vary(
    picture: &RgbImage,
    truths: &[Truth],
    dice: &mut Dice,
) -> (RgbImage, Vec<Truth>) {
    let writing = truths
        .iter()
        .any(|truth| !CLASSES[truth.class - 1].mirrors());
    let window = window(dice, writing);
    let seen = truths
        .iter()
        .filter_map(|truth| through(truth, &window))
        .collect();
    (show(picture, &window, dice), seen)
}

fn window(dice: &mut Dice, writing: bool) -> Window {
    let zoom = if dice.chance(0.3) {
        1.0
    } else {
        dice.scale(0.65, 1.35)
    };
    let shape = if dice.chance(0.5) {
        1.0
    } else {
        dice.scale(0.85, 1.18)
    };
    let (w, h) = (zoom * shape, zoom / shape);
    // Nearer: anywhere inside. Farther: the picture anywhere in the window.
    let place = |dice: &mut Dice, size: f32| dice.between(0.0, 1.0) * (1.0 - size);
    Window {
        x: place(dice, w),
        y: place(dice, h),
        w,
        h,
        mirrored: !writing && dice.chance(0.5),
    }
}

/// Where an object is in the window; `None` where nothing of it is.
fn through(truth: &Truth, window: &Window) -> Option<Truth> {
    let c = &truth.corners;
    let (mut x1, mut x2) = ((c.x1 - window.x) / window.w, (c.x2 - window.x) / window.w);
    let (y1, y2) = ((c.y1 - window.y) / window.h, (c.y2 - window.y) / window.h);
    if window.mirrored {
        (x1, x2) = (1.0 - x2, 1.0 - x1);
    }
    let whole = (x2 - x1) * (y2 - y1);
    let corners = Corners { x1, y1, x2, y2 }.clip(1.0, 1.0);
    let left = (corners.x2 - corners.x1).max(0.0) * (corners.y2 - corners.y1).max(0.0);
    let pixels = (
        (corners.x2 - corners.x1) * 300.0,
        (corners.y2 - corners.y1) * 300.0,
    );
    let small = pixels.0.min(pixels.1) < 10.0 || pixels.0 * pixels.1 < 300.0;
    (left > 0.0).then_some(Truth {
        class: truth.class,
        corners,
        difficult: truth.difficult || small || left < KEPT * whole,
    })
}

/// The window's picture, bilinear, under another exposure.
fn show(picture: &RgbImage, window: &Window, dice: &mut Dice) -> RgbImage {
    let (width, height) = picture.dimensions();
    let gain = dice.scale(0.8, 1.25);
    let lift = dice.between(-16.0, 16.0);
    let tints = [(); 3].map(|()| gain * dice.between(0.94, 1.06));
    let mut shown = RgbImage::new(width, height);
    let axis = |i: u32, size: u32, from: f32, span: f32| {
        (from + (i as f32 + 0.5) / size as f32 * span) * size as f32 - 0.5
    };
    let columns: Vec<(i64, f32)> = (0..width)
        .map(|x| if window.mirrored { width - 1 - x } else { x })
        .map(|x| axis(x, width, window.x, window.w))
        .map(|at| (at.floor() as i64, at - at.floor()))
        .collect();
    let samples = picture.as_raw();
    let inside = |x: i64, y: i64| x >= 0 && y >= 0 && x < i64::from(width) && y < i64::from(height);
    let at = |x: i64, y: i64, c: usize| {
        f32::from(samples[(y as usize * width as usize + x as usize) * 3 + c])
    };
    for y in 0..height {
        let row = axis(y, height, window.y, window.h);
        let (y0, fy) = (row.floor() as i64, row - row.floor());
        for (x, &(x0, fx)) in columns.iter().enumerate() {
            let there = inside(x0, y0) && inside(x0 + 1, y0 + 1);
            let pixel = std::array::from_fn(|c| {
                let level = if there {
                    let upper = at(x0, y0, c) * (1.0 - fx) + at(x0 + 1, y0, c) * fx;
                    let lower = at(x0, y0 + 1, c) * (1.0 - fx) + at(x0 + 1, y0 + 1, c) * fx;
                    upper * (1.0 - fy) + lower * fy
                } else if inside(x0.max(0), y0.max(0)) && x0 >= -1 && y0 >= -1 {
                    at(x0.max(0), y0.max(0), c)
                } else {
                    BEYOND[c]
                };
                (level * tints[c] + lift).round().clamp(0.0, 255.0) as u8
            });
            shown.put_pixel(x as u32, y, Rgb(pixel));
        }
    }
    shown
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
    fn a_mirrored_window_mirrors_boxes() {
        let window = Window {
            x: 0.0,
            y: 0.0,
            w: 1.0,
            h: 1.0,
            mirrored: true,
        };
        let seen = through(&truth(0.1, 0.3), &window).unwrap().corners;
        assert!((seen.x1 - 0.7).abs() < 1e-6 && (seen.x2 - 0.9).abs() < 1e-6);
    }

    #[test]
    fn what_is_mostly_cut_off_is_difficult_and_what_is_outside_is_gone() {
        let window = Window {
            x: 0.5,
            y: 0.0,
            w: 0.5,
            h: 1.0,
            mirrored: false,
        };
        assert!(!through(&truth(0.45, 0.75), &window).unwrap().difficult);
        assert!(through(&truth(0.3, 0.6), &window).unwrap().difficult);
        assert_eq!(through(&truth(0.1, 0.4), &window), None);
    }
}
