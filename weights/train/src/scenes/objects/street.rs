//! What stands in streets.

use std::f32::consts::{FRAC_PI_8, PI};

use super::Light;
use crate::scenes::canvas::{Canvas, Ink, shape};
use crate::scenes::colour::{hsv, near, scaled};
use crate::scenes::dice::Dice;

/// The letters of STOP as strokes, each in a box one unit wide and two high.
const STOP: [&[(f32, f32)]; 5] = [
    &[
        (0.95, 0.3),
        (0.75, 0.05),
        (0.25, 0.05),
        (0.05, 0.35),
        (0.1, 0.7),
        (0.5, 1.0),
        (0.9, 1.3),
        (0.95, 1.65),
        (0.75, 1.95),
        (0.25, 1.95),
        (0.05, 1.7),
    ],
    &[(0.0, 0.0), (1.0, 0.0)],
    &[(0.5, 0.0), (0.5, 2.0)],
    &[
        (0.5, 0.0),
        (0.12, 0.3),
        (0.05, 1.0),
        (0.12, 1.7),
        (0.5, 2.0),
        (0.88, 1.7),
        (0.95, 1.0),
        (0.88, 0.3),
        (0.5, 0.0),
    ],
    &[
        (0.1, 2.0),
        (0.1, 0.0),
        (0.7, 0.05),
        (0.95, 0.3),
        (0.95, 0.75),
        (0.7, 1.02),
        (0.1, 1.05),
    ],
];
/// Which box each stroke is in.
const BOX: [f32; 5] = [0.0, 1.0, 1.0, 2.0, 3.0];

pub(super) fn stop_sign(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let hue = dice.between(-8.0, 8.0);
    let red = hsv(hue, dice.between(0.75, 0.98), dice.between(0.55, 0.9));
    let white = near(dice, [235.0, 232.0, 226.0], 18.0);
    let rim = dice.between(0.91, 0.95);
    canvas.fill(&shape::regular(8, 1.0, FRAC_PI_8), &Ink::Flat(white));
    canvas.onto(&shape::regular(8, rim, FRAC_PI_8), &Ink::Flat(red));
    let (wide, high) = (dice.between(0.27, 0.32), dice.between(0.62, 0.74));
    let gap = wide * 1.38;
    for (letter, place) in STOP.iter().zip(BOX) {
        let left = -1.5 * gap - wide / 2.0 + place * gap;
        let points: Vec<_> = letter
            .iter()
            .map(|&(x, y)| (left + x * wide, (y / 2.0 - 0.5) * high))
            .collect();
        canvas.line_onto(&shape::polyline(&points), 0.1, &Ink::Flat(white));
    }
    for side in [-0.72, 0.72] {
        if dice.chance(0.5) {
            canvas.onto(
                &shape::disc(0.0, side, 0.03),
                &Ink::Flat([120.0, 120.0, 118.0]),
            );
        }
    }
    canvas.shade_across(light.to, light.strength * dice.between(0.3, 0.9));
    canvas.grain(dice, 0.12, 24.0);
}

pub(super) fn traffic_light(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let body = if dice.chance(0.25) {
        near(dice, [205.0, 160.0, 30.0], 25.0)
    } else if dice.chance(0.2) {
        near(dice, [40.0, 80.0, 55.0], 20.0)
    } else {
        near(dice, [38.0, 40.0, 42.0], 20.0)
    };
    let half = dice.between(0.34, 0.42);
    if dice.chance(0.3) {
        let board = shape::rounded(-half - 0.1, -1.0, 2.0 * half + 0.2, 2.0, 0.1);
        canvas.fill(&board, &Ink::Flat(near(dice, [22.0, 22.0, 24.0], 10.0)));
    }
    let case = shape::rounded(-half, -0.97, 2.0 * half, 1.94, 0.12);
    canvas.fill(&case, &Ink::Flat(body));
    canvas.shade_cylinder(half * 1.2, light.to.0, 0.5 * light.strength);
    let lit = dice.below(3);
    let both = dice.chance(0.06);
    let radius = half * dice.between(0.6, 0.74);
    for (index, hue) in [2.0, 42.0, 140.0].into_iter().enumerate() {
        let y = (index as f32 - 1.0) * 0.62;
        let on = index == lit || (both && index == 1);
        lamp(canvas, dice, (y, radius), hue, on);
        visor(canvas, (y, radius), scaled(body, 0.45));
    }
    canvas.grain(dice, 0.1, 8.0);
}

fn lamp(canvas: &mut Canvas, dice: &mut Dice, (y, radius): (f32, f32), hue: f32, on: bool) {
    let hue = hue + dice.between(-6.0, 10.0);
    canvas.onto(
        &shape::disc(0.0, y, radius * 1.12),
        &Ink::Flat([14.0, 14.0, 15.0]),
    );
    let glass = shape::disc(0.0, y, radius);
    if on {
        let heart = hsv(hue, dice.between(0.15, 0.7), 1.0);
        let stops = vec![
            (0.0, heart, 1.0),
            (0.6, hsv(hue, 0.85, 1.0), 1.0),
            (1.0, hsv(hue, 0.95, 0.8), 1.0),
        ];
        canvas.onto(&glass, &Ink::Radial((0.0, y), radius, stops));
    } else {
        let value = dice.between(0.12, 0.32);
        canvas.onto(&glass, &Ink::Flat(hsv(hue, 0.75, value)));
    }
}

fn visor(canvas: &mut Canvas, (y, radius): (f32, f32), colour: [f32; 3]) {
    let arc: Vec<_> = (0..=12)
        .map(|i| {
            let (x, dy) = shape::on_circle(radius * 1.1, PI + PI * i as f32 / 12.0);
            (x, y + dy)
        })
        .collect();
    canvas.line(&shape::polyline(&arc), 0.06, &Ink::Flat(colour));
}
