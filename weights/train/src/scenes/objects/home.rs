//! What stands or hangs in rooms.

use std::f32::consts::{FRAC_PI_2, PI, TAU};

use tiny_skia::{Pixmap, PremultipliedColorU8};

use super::Light;
use crate::scenes::canvas::{Canvas, Ink, shape};
use crate::scenes::colour::{Rgb, any, hsv, mix, near, scaled, vivid};
use crate::scenes::dice::Dice;
use crate::scenes::noise;

pub(super) fn clock(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let rim = any(dice);
    let dial = if dice.chance(0.85) {
        near(dice, [240.0, 238.0, 230.0], 16.0)
    } else {
        near(dice, [30.0, 32.0, 38.0], 12.0)
    };
    let bright = dial[0] > 128.0;
    let print = if bright {
        near(dice, [25.0, 25.0, 30.0], 18.0)
    } else {
        [235.0; 3]
    };
    let inner = dice.between(0.8, 0.92);
    if dice.chance(0.18) {
        canvas.fill(&shape::rounded(-1.0, -1.0, 2.0, 2.0, 0.15), &Ink::Flat(rim));
    } else {
        canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(rim));
    }
    canvas.shade_across(light.to, light.strength);
    canvas.onto(&shape::disc(0.0, 0.0, inner), &Ink::Flat(scaled(rim, 0.5)));
    canvas.onto(&shape::disc(0.0, 0.0, inner * 0.97), &Ink::Flat(dial));
    marks(canvas, dice, inner, print);
    let red = dice.chance(0.5);
    hand(canvas, dice, inner * 0.5, 0.075, print);
    hand(canvas, dice, inner * 0.76, 0.05, print);
    if red {
        hand(canvas, dice, inner * 0.8, 0.02, [200.0, 30.0, 30.0]);
    }
    canvas.onto(&shape::disc(0.0, 0.0, 0.06), &Ink::Flat(print));
    if dice.chance(0.5) {
        let glare = [(-0.9, -0.5), (-0.3, -1.0), (0.1, -1.0), (-0.8, 0.2)];
        canvas.onto(&shape::polygon(&glare), &Ink::Glaze([255.0; 3], 0.14));
    }
    canvas.grain(dice, 0.05, 16.0);
}

/// Twelve strokes, or the shapes that numerals have from afar.
fn marks(canvas: &mut Canvas, dice: &mut Dice, inner: f32, print: Rgb) {
    let numerals = dice.chance(0.5);
    for hour in 0..12 {
        let angle = TAU * hour as f32 / 12.0;
        let quarter = hour % 3 == 0;
        if numerals {
            let (x, y) = shape::on_circle(inner * 0.78, angle);
            let digits: &[f32] = if (7..=9).contains(&hour) {
                &[-0.05, 0.05]
            } else {
                &[0.0]
            };
            for dx in digits {
                let stroke = [
                    (x + dx - 0.02, y - 0.07),
                    (x + dx + 0.03, y - 0.02),
                    (x + dx - 0.02, y + 0.02),
                    (x + dx + 0.02, y + 0.07),
                ];
                canvas.line_onto(&shape::polyline(&stroke), 0.04, &Ink::Flat(print));
            }
        } else {
            let long = if quarter { 0.2 } else { 0.12 };
            let ends = [
                shape::on_circle(inner * 0.92, angle),
                shape::on_circle(inner * 0.92 - long, angle),
            ];
            canvas.line_onto(
                &shape::polyline(&ends),
                if quarter { 0.065 } else { 0.04 },
                &Ink::Flat(print),
            );
        }
    }
}

fn hand(canvas: &mut Canvas, dice: &mut Dice, length: f32, width: f32, colour: Rgb) {
    let angle = dice.between(0.0, TAU);
    let ends = [
        shape::on_circle(-length * 0.15, angle),
        shape::on_circle(length, angle),
    ];
    canvas.line_onto(&shape::polyline(&ends), width, &Ink::Flat(colour));
}

pub(super) fn cup(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let glaze = match dice.below(3) {
        0 => near(dice, [236.0, 233.0, 226.0], 14.0),
        1 => vivid(dice),
        _ => any(dice),
    };
    let (top, half) = (dice.between(-0.9, -0.7), dice.between(0.56, 0.68));
    let foot = half * dice.between(0.68, 1.0);
    let bottom = dice.between(0.6, 0.85);
    let open = dice.between(0.09, 0.2);
    let left = -0.22;
    grip(canvas, dice, (left + half, top, bottom), glaze);
    let arc = |rx: f32, ry: f32, y: f32, from: f32| -> Vec<(f32, f32)> {
        (0..=10)
            .map(|i| shape::on_circle(1.0, from + PI * i as f32 / 10.0))
            .map(|(x, dy)| (left + x * rx, y + dy * ry))
            .collect()
    };
    let mut body = arc(half, open, top, PI);
    body.extend(arc(foot, open * 0.8, bottom, 0.0));
    canvas.fill(&shape::polygon(&body), &Ink::Flat(glaze));
    decoration(canvas, dice, (left, half, top, bottom), glaze);
    let stops = cylinder(light);
    canvas.onto(
        &shape::polygon(&body),
        &Ink::Linear((left - half, 0.0), (left + half, 0.0), stops),
    );
    canvas.fill(
        &shape::ellipse(left, top, half, open),
        &Ink::Flat(scaled(glaze, 1.12)),
    );
    let inside = shape::ellipse(left, top + 0.01, half * 0.9, open * 0.82);
    canvas.onto(&inside, &Ink::Flat(scaled(glaze, 0.55)));
    if dice.chance(0.6) {
        let drink = dice.pick(&[
            [70.0, 42.0, 25.0],
            [130.0, 75.0, 30.0],
            [205.0, 180.0, 150.0],
            [40.0, 26.0, 20.0],
        ]);
        let surface = shape::ellipse(left, top + open * 0.25, half * 0.82, open * 0.58);
        canvas.onto(&surface, &Ink::Flat(near(dice, drink, 8.0)));
    }
    canvas.grain(dice, 0.05, 12.0);
}

fn cylinder(light: Light) -> Vec<(f32, Rgb, f32)> {
    let (dark, white) = ([10.0, 8.0, 16.0], [255.0; 3]);
    let bright = (0.5 + light.to.0 * 0.26).clamp(0.15, 0.85);
    let s = light.strength;
    vec![
        (0.0, dark, 0.6 * s),
        (bright - 0.1, white, 0.02),
        (bright, white, 0.4 * s),
        (bright + 0.1, white, 0.02),
        (1.0, dark, 0.6 * s),
    ]
}

fn grip(canvas: &mut Canvas, dice: &mut Dice, (x, top, bottom): (f32, f32, f32), glaze: Rgb) {
    let middle = f32::midpoint(top, bottom) - 0.05;
    let reach = dice.between(0.3, 0.42);
    let tall = (bottom - top) * dice.between(0.26, 0.36);
    let loop_: Vec<_> = (0..=12)
        .map(|i| {
            let angle = -FRAC_PI_2 + PI * i as f32 / 12.0;
            (x - 0.06 + reach * angle.cos(), middle + tall * angle.sin())
        })
        .collect();
    let width = dice.between(0.11, 0.17);
    canvas.line(
        &shape::polyline(&loop_),
        width,
        &Ink::Flat(scaled(glaze, 0.62)),
    );
    canvas.line(
        &shape::polyline(&loop_),
        width * 0.55,
        &Ink::Flat(scaled(glaze, 0.9)),
    );
}

fn decoration(
    canvas: &mut Canvas,
    dice: &mut Dice,
    (left, half, top, bottom): (f32, f32, f32, f32),
    glaze: Rgb,
) {
    let second = if dice.chance(0.5) {
        vivid(dice)
    } else {
        scaled(glaze, 0.5)
    };
    match dice.below(5) {
        0 => {
            for i in 0..dice.count(1, 4) {
                let y = top + 0.35 + 0.2 * i as f32;
                let band = [(left - half, y), (left, y + 0.12), (left + half, y)];
                canvas.line_onto(&shape::curve(&band), 0.07, &Ink::Flat(second));
            }
        }
        1 => {
            for _ in 0..dice.count(6, 16) {
                let (x, y) = (
                    left + dice.between(-half, half),
                    dice.between(top + 0.3, bottom),
                );
                canvas.onto(
                    &shape::disc(x, y, dice.between(0.04, 0.09)),
                    &Ink::Flat(second),
                );
            }
        }
        2 => {
            let heart = [
                (left, 0.3),
                (left - 0.26, 0.0),
                (left - 0.16, -0.2),
                (left, -0.08),
                (left + 0.16, -0.2),
                (left + 0.26, 0.0),
            ];
            canvas.onto(&shape::smooth(&heart), &Ink::Flat(second));
        }
        _ => {}
    }
}

pub(super) fn bottle(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let (glass, opacity) = match dice.below(5) {
        0 => (
            hsv(dice.between(95.0, 140.0), 0.8, dice.between(0.25, 0.45)),
            0.92,
        ),
        1 => (
            hsv(dice.between(18.0, 32.0), 0.85, dice.between(0.25, 0.45)),
            0.93,
        ),
        2 => ([205.0, 220.0, 228.0], 0.6),
        3 => (hsv(dice.between(195.0, 220.0), 0.5, 0.8), 0.7),
        _ => (vivid(dice), 1.0),
    };
    let half = dice.between(0.25, 0.33);
    let neck = half * dice.between(0.3, 0.45);
    let (shoulder, lip) = (dice.between(-0.4, -0.1), dice.between(-0.9, -0.82));
    let throat = shoulder - dice.between(0.18, 0.4);
    let mut right = vec![
        (neck, lip),
        (neck, throat),
        (neck * 1.3, throat + 0.08),
        (half * 0.9, shoulder - 0.04),
        (half, shoulder + 0.08),
        (half, 0.92),
        (half * 0.9, 0.99),
    ];
    let left: Vec<_> = right.iter().rev().map(|&(x, y)| (-x, y)).collect();
    right.extend(left);
    let body = shape::polygon(&right);
    canvas.fill(&body, &Ink::Glaze(glass, opacity));
    if opacity < 0.95 && dice.chance(0.7) {
        let drink = mix(
            glass,
            dice.pick(&[
                [90.0, 30.0, 20.0],
                [240.0, 190.0, 60.0],
                [40.0, 60.0, 40.0],
                [200.0, 230.0, 240.0],
            ]),
            0.5,
        );
        let level = dice.between(throat, 0.2);
        canvas.onto(
            &shape::rectangle(-1.0, level, 2.0, 2.0),
            &Ink::Glaze(drink, 0.6),
        );
    }
    if dice.chance(0.75) {
        label(canvas, dice, half, shoulder);
    }
    canvas.onto(
        &body,
        &Ink::Linear((-half, 0.0), (half, 0.0), cylinder(light)),
    );
    let shine = shape::rounded(-half * 0.62, shoulder + 0.05, half * 0.14, 0.8, 0.03);
    canvas.onto(&shine, &Ink::Glaze([255.0; 3], 0.45));
    let cap = if dice.chance(0.5) {
        vivid(dice)
    } else {
        near(dice, [190.0, 185.0, 170.0], 30.0)
    };
    let wide = neck * 1.25;
    canvas.fill(
        &shape::rounded(-wide, -1.0, 2.0 * wide, lip + 1.04, 0.02),
        &Ink::Flat(cap),
    );
    canvas.grain(dice, 0.05, 12.0);
}

fn label(canvas: &mut Canvas, dice: &mut Dice, half: f32, shoulder: f32) {
    let paper = if dice.chance(0.6) {
        near(dice, [236.0, 230.0, 212.0], 14.0)
    } else {
        vivid(dice)
    };
    let top = dice.between(shoulder + 0.15, shoulder + 0.35);
    let bottom = dice.between(0.55, 0.82);
    canvas.onto(
        &shape::rectangle(-half, top, 2.0 * half, bottom - top),
        &Ink::Flat(paper),
    );
    let print = scaled(vivid(dice), 0.7);
    let y = top + (bottom - top) * 0.3;
    canvas.onto(
        &shape::rectangle(-half * 0.7, y, half * 1.4, 0.12),
        &Ink::Flat(print),
    );
    for line in 1..dice.count(2, 4) {
        let y = y + 0.1 + 0.08 * line as f32;
        let wide = dice.between(0.4, 1.3) * half;
        canvas.onto(
            &shape::rectangle(-wide / 2.0, y, wide, 0.025),
            &Ink::Glaze(print, 0.8),
        );
    }
}

pub(super) fn tv(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let case = near(dice, [26.0, 26.0, 29.0], 14.0);
    let half = dice.between(0.52, 0.62);
    let lift = 0.14;
    let (top, bottom) = (-half - lift, half - lift);
    if dice.chance(0.8) {
        stand(canvas, dice, bottom, case);
    }
    canvas.fill(
        &shape::rounded(-1.0, top, 2.0, bottom - top, 0.03),
        &Ink::Flat(case),
    );
    let bezel = dice.between(0.035, 0.07);
    let (corner, size) = (
        (-1.0 + bezel, top + bezel),
        (2.0 - 2.0 * bezel, bottom - top - bezel * 2.2),
    );
    let screen = shape::rectangle(corner.0, corner.1, size.0, size.1);
    if dice.chance(0.22) {
        canvas.onto(&screen, &Ink::Flat(near(dice, [16.0, 18.0, 22.0], 8.0)));
    } else {
        let programme = programme(dice);
        canvas.picture(&programme, corner, size);
    }
    if dice.chance(0.6) {
        let x = dice.between(-0.8, 0.4);
        let glare = [
            (x, corner.1),
            (x + 0.45, corner.1),
            (x + 0.05, corner.1 + size.1),
            (x - 0.4, corner.1 + size.1),
        ];
        canvas.onto(
            &shape::polygon(&glare),
            &Ink::Glaze(
                [255.0; 3],
                dice.between(0.04, 0.14) * (0.5 + light.strength),
            ),
        );
    }
    canvas.line_onto(&screen, 0.012, &Ink::Glaze([0.0; 3], 0.6));
}

fn stand(canvas: &mut Canvas, dice: &mut Dice, bottom: f32, case: Rgb) {
    let foot = Ink::Flat(scaled(case, 0.8));
    if dice.chance(0.5) {
        canvas.fill(&shape::rectangle(-0.09, bottom - 0.02, 0.18, 0.16), &foot);
        canvas.fill(
            &shape::ellipse(0.0, bottom + 0.15, dice.between(0.35, 0.5), 0.05),
            &foot,
        );
    } else {
        for side in [-1.0, 1.0] {
            let leg = [(side * 0.6, bottom - 0.02), (side * 0.72, bottom + 0.16)];
            canvas.line(&shape::polyline(&leg), 0.05, &foot);
        }
    }
}

/// What is on: a landscape, a football match, a speaker before a plain wall, or blurred colours.
fn programme(dice: &mut Dice) -> Pixmap {
    const SIZE: (usize, usize) = (48, 28);
    let mut picture = Pixmap::new(SIZE.0 as u32, SIZE.1 as u32).expect("a fixed size");
    let cell = dice.pick(&[4.0, 8.0, 16.0]);
    let field = noise::field(dice, SIZE.0, SIZE.1, cell);
    let (upper, lower, third) = match dice.below(4) {
        0 => (
            [120.0, 175.0, 235.0],
            [70.0, 120.0, 50.0],
            [240.0, 240.0, 245.0],
        ),
        1 => (
            [60.0, 140.0, 60.0],
            [75.0, 165.0, 70.0],
            [235.0, 235.0, 235.0],
        ),
        2 => (any(dice), any(dice), [225.0, 180.0, 150.0]),
        _ => (vivid(dice), vivid(dice), vivid(dice)),
    };
    let horizon = dice.between(0.25, 0.75);
    let (gx, gy, spread) = (
        dice.between(10.0, 38.0),
        dice.between(8.0, 20.0),
        dice.between(3.0, 9.0),
    );
    for (index, pixel) in picture.pixels_mut().iter_mut().enumerate() {
        let (x, y) = ((index % SIZE.0) as f32, (index / SIZE.0) as f32);
        let value = field[index];
        let high = y / SIZE.1 as f32 + (value - 0.5) * 0.25;
        let mut colour = if high < horizon { upper } else { lower };
        let distance = ((x - gx).powi(2) + (y - gy).powi(2)).sqrt() / spread;
        if distance + (value - 0.5) < 0.8 {
            colour = third;
        }
        let colour = scaled(colour, 0.65 + value * 0.7);
        let [red, green, blue] = colour.map(|level| level as u8);
        *pixel = PremultipliedColorU8::from_rgba(red, green, blue, 255).expect("opaque");
    }
    picture
}
