//! What is played with outdoors, and what is carried there.

use std::f32::consts::{FRAC_PI_2, PI, TAU};

use super::Light;
use crate::scenes::canvas::{Canvas, Ink, shape};
use crate::scenes::colour::{Rgb, hsv, near, scaled, vivid, within};
use crate::scenes::dice::Dice;

pub(super) fn sports_ball(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    match dice.below(6) {
        0 | 1 => football(canvas, dice),
        2 => basketball(canvas, dice),
        3 => tennis_ball(canvas, dice),
        4 => beach_ball(canvas, dice),
        _ => volleyball(canvas, dice),
    }
    // The light does not roll with the ball.
    let (sin, cos) = canvas.view().roll.sin_cos();
    let (x, y) = light.to;
    let light_here = (x * cos + y * sin, -x * sin + y * cos);
    canvas.round_off(1.0, light_here, light.strength * dice.between(0.6, 1.0));
    canvas.grain(dice, 0.08, 6.0);
}

/// A patch on the front of the unit ball: points about the direction (`across`, `up`), flattened.
fn patch(direction: (f32, f32), size: f32, corners: usize, turn: f32) -> Vec<(f32, f32)> {
    let (u, v) = direction;
    let depth = (1.0 - u * u - v * v).max(0.02).sqrt();
    let length = (u * u + v * v).sqrt();
    let (along_x, along_y) = if length > 1e-3 {
        (u / length, v / length)
    } else {
        (1.0, 0.0)
    };
    (0..corners)
        .map(|i| {
            let (a, b) = shape::on_circle(size, turn + TAU * i as f32 / corners as f32);
            // Along the direction outwards the patch is foreshortened; across it is not.
            let (out, across) = (a * depth, b);
            (
                u * (1.0 - size * size / 2.0) + out * along_x - across * along_y,
                v * (1.0 - size * size / 2.0) + out * along_y + across * along_x,
            )
        })
        .collect()
}

fn football(canvas: &mut Canvas, dice: &mut Dice) {
    let white = near(dice, [232.0, 232.0, 228.0], 16.0);
    let dark = if dice.chance(0.75) {
        near(dice, [24.0, 24.0, 28.0], 14.0)
    } else {
        scaled(vivid(dice), 0.7)
    };
    canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(white));
    let (u, v) = (dice.between(-0.25, 0.25), dice.between(-0.25, 0.25));
    let turn = dice.between(0.0, TAU);
    let ring = 0.80;
    canvas.onto(
        &shape::polygon(&patch((u, v), 0.33, 5, turn)),
        &Ink::Flat(dark),
    );
    let grey = Ink::Flat(scaled(white, 0.55));
    for i in 0..5 {
        let angle = turn + TAU * i as f32 / 5.0;
        let (x, y) = shape::on_circle(ring, angle);
        let (x, y) = (u * 0.6 + x, v * 0.6 + y);
        let length = (x * x + y * y).sqrt();
        let fit = (0.93 / length).min(1.0);
        let there = (x * fit, y * fit);
        let facing = angle_of(there);
        canvas.onto(
            &shape::polygon(&patch(there, 0.34, 5, angle - facing + PI)),
            &Ink::Flat(dark),
        );
        let (from_x, from_y) = shape::on_circle(0.3, angle);
        let seam = shape::polyline(&[(u + from_x, v + from_y), (there.0 * 0.85, there.1 * 0.85)]);
        canvas.line_onto(&seam, 0.035, &grey);
        let (bx, by) = shape::on_circle(0.62, angle + PI / 5.0);
        for side in [angle, angle + TAU / 5.0] {
            let (x, y) = shape::on_circle(0.72, side + (angle + PI / 5.0 - side) * 0.35);
            let seam = shape::polyline(&[(u * 0.8 + bx, v * 0.8 + by), (u * 0.7 + x, v * 0.7 + y)]);
            canvas.line_onto(&seam, 0.03, &grey);
        }
        let outer = shape::on_circle(1.0, angle + PI / 5.0);
        canvas.line_onto(
            &shape::polyline(&[(u * 0.8 + bx, v * 0.8 + by), outer]),
            0.03,
            &grey,
        );
    }
}

fn angle_of((x, y): (f32, f32)) -> f32 {
    y.atan2(x)
}

fn basketball(canvas: &mut Canvas, dice: &mut Dice) {
    let hue = dice.between(14.0, 24.0);
    let skin = hsv(hue, dice.between(0.7, 0.9), dice.between(0.6, 0.85));
    let seam = Ink::Flat(near(dice, [30.0, 20.0, 16.0], 10.0));
    let width = dice.between(0.045, 0.07);
    canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(skin));
    let bow = dice.between(-0.3, 0.3);
    let along = [
        (-1.0, 0.0),
        (-0.5, bow * 0.75),
        (0.0, bow),
        (0.5, bow * 0.75),
        (1.0, 0.0),
    ];
    canvas.line_onto(&shape::curve(&along), width, &seam);
    let upright = dice.between(-0.3, 0.3);
    let down = [
        (0.0, -1.0),
        (upright * 0.75, -0.5),
        (upright, 0.0),
        (upright * 0.75, 0.5),
        (0.0, 1.0),
    ];
    canvas.line_onto(&shape::curve(&down), width, &seam);
    for side in [-1.0, 1.0] {
        let curve = [
            (side * 0.78, -0.78),
            (side * 0.5 + upright * 0.5, -0.4),
            (side * 0.4 + upright * 0.6, 0.0),
            (side * 0.5 + upright * 0.5, 0.4),
            (side * 0.78, 0.78),
        ];
        canvas.line_onto(&shape::curve(&curve), width, &seam);
    }
}

fn tennis_ball(canvas: &mut Canvas, dice: &mut Dice) {
    let felt = within(dice, (62.0, 76.0), (0.6, 0.85), (0.75, 0.95));
    canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(felt));
    let seam = Ink::Flat(near(dice, [238.0, 240.0, 225.0], 10.0));
    let (tip, shift) = (dice.between(0.05, 0.4), dice.between(-0.2, 0.2));
    for side in [-1.0, 1.0] {
        let curve = [
            (side * 0.95, -0.75),
            (side * (tip + 0.25), -0.45 + shift),
            (side * tip, shift),
            (side * (tip + 0.25), 0.45 + shift),
            (side * 0.95, 0.75),
        ];
        canvas.line_onto(&shape::curve(&curve), 0.09, &seam);
    }
    canvas.grain(dice, 0.2, 3.0);
}

fn beach_ball(canvas: &mut Canvas, dice: &mut Dice) {
    let white = [238.0, 238.0, 236.0];
    let colours: [Rgb; 3] = if dice.chance(0.4) {
        let one = vivid(dice);
        [one; 3]
    } else {
        let hue = dice.between(0.0, 360.0);
        [0.0, 120.0, 220.0].map(|more| hsv(hue + more, 0.85, 0.9))
    };
    canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(white));
    let pole = shape::on_circle(dice.between(0.1, 0.6), dice.between(0.0, TAU));
    for wedge in 0..6 {
        let colour = if wedge % 2 == 0 {
            colours[wedge / 2]
        } else {
            white
        };
        let angle = TAU * wedge as f32 / 6.0;
        let mut points = vec![pole];
        for step in 0..=6 {
            points.push(shape::on_circle(
                1.02,
                angle + TAU / 6.0 * step as f32 / 6.0,
            ));
        }
        canvas.onto(&shape::polygon(&points), &Ink::Flat(colour));
    }
    canvas.onto(&shape::disc(pole.0, pole.1, 0.13), &Ink::Flat(white));
}

fn volleyball(canvas: &mut Canvas, dice: &mut Dice) {
    let first = near(dice, [240.0, 236.0, 222.0], 10.0);
    let (second, third) = match dice.below(3) {
        0 => ([240.0, 200.0, 40.0], [35.0, 70.0, 160.0]),
        1 => (first, first),
        _ => ([190.0, 40.0, 45.0], [40.0, 120.0, 80.0]),
    };
    canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(first));
    let seam = Ink::Flat([90.0, 85.0, 80.0]);
    for third_part in 0..3 {
        let turn = TAU * third_part as f32 / 3.0;
        let spin = |(x, y): (f32, f32)| {
            let (sin, cos) = turn.sin_cos();
            (x * cos - y * sin, x * sin + y * cos)
        };
        let band = |at: f32| {
            let bent = [
                (0.0, 0.0),
                (0.35, -at * 0.55),
                (0.7, -at * 0.85),
                (1.05, -at),
            ];
            bent.map(spin)
        };
        for (index, colour) in [second, third].into_iter().enumerate() {
            let (near_edge, far_edge) = (
                band(0.35 + 0.4 * index as f32),
                band(0.75 + 0.5 * index as f32),
            );
            let mut points = near_edge.to_vec();
            points.extend(far_edge.iter().rev());
            canvas.onto(&shape::smooth(&points), &Ink::Flat(colour));
        }
        for at in [0.0, 0.4, 0.8, 1.25] {
            canvas.line_onto(&shape::curve(&band(at)), 0.035, &seam);
        }
    }
}

pub(super) fn kite(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    if dice.chance(0.3) {
        delta_kite(canvas, dice);
    } else {
        diamond_kite(canvas, dice);
    }
    canvas.shade_across(light.to, light.strength * 0.6);
    canvas.grain(dice, 0.06, 16.0);
}

/// A tail from a point down, swinging, with bows.
fn tail(canvas: &mut Canvas, dice: &mut Dice, from: (f32, f32), length: f32, colour: Rgb) {
    let swing = dice.between(-0.22, 0.22);
    let points: Vec<_> = (0..6)
        .map(|i| {
            let t = i as f32 / 5.0;
            (
                from.0 + swing * (t * 6.0).sin() * t.sqrt(),
                from.1 + length * t,
            )
        })
        .collect();
    canvas.line(
        &shape::curve(&points),
        0.025,
        &Ink::Flat(scaled(colour, 0.6)),
    );
    for &(x, y) in &points[1..] {
        let (wide, high) = (0.1, 0.05);
        for side in [-1.0, 1.0] {
            let bow = [
                (x, y),
                (x + side * wide, y - high),
                (x + side * wide, y + high),
            ];
            canvas.fill(&shape::polygon(&bow), &Ink::Flat(colour));
        }
    }
}

fn diamond_kite(canvas: &mut Canvas, dice: &mut Dice) {
    let half = dice.between(0.5, 0.68);
    let cross = dice.between(-0.55, -0.35);
    let foot = dice.between(0.3, 0.5);
    let (top, left, right, bottom) = ((0.0, -1.0), (-half, cross), (half, cross), (0.0, foot));
    let hue = dice.between(0.0, 360.0);
    let step = dice.pick(&[90.0, 120.0, 180.0, 40.0]);
    let value = dice.between(0.75, 1.0);
    let colour = |i: f32| hsv(hue + step * i, 0.85, value);
    let ribbon = colour(1.0);
    tail(canvas, dice, bottom, 0.98 - foot, ribbon);
    let centre = (0.0, cross);
    let quarters = [(top, left), (top, right), (bottom, right), (bottom, left)];
    let pattern = dice.below(3);
    for (i, (a, b)) in quarters.into_iter().enumerate() {
        let which = match pattern {
            0 => i as f32,
            1 => (i % 2) as f32,
            _ => (i / 2) as f32,
        };
        canvas.fill(&shape::polygon(&[centre, a, b]), &Ink::Flat(colour(which)));
    }
    let spar = Ink::Flat([60.0, 45.0, 35.0]);
    canvas.line_onto(&shape::polyline(&[top, bottom]), 0.03, &spar);
    canvas.line_onto(&shape::polyline(&[left, right]), 0.03, &spar);
}

fn delta_kite(canvas: &mut Canvas, dice: &mut Dice) {
    let (drop, keel) = (dice.between(0.1, 0.4), dice.between(0.05, 0.25));
    let nose = (0.0, -0.75);
    let hue = dice.between(0.0, 360.0);
    let (first, second) = (
        hsv(hue, 0.9, 0.9),
        hsv(hue + dice.between(60.0, 200.0), 0.85, 0.95),
    );
    for side in [-0.35, 0.0, 0.35] {
        if dice.chance(0.6) {
            let length = dice.between(0.4, 0.7);
            tail(canvas, dice, (side, keel), length, second);
        }
    }
    for side in [-1.0, 1.0] {
        let wing = [nose, (side, drop), (side * 0.45, keel), (0.0, keel + 0.1)];
        canvas.fill(&shape::polygon(&wing), &Ink::Flat(first));
        let stripe = [
            (side * 0.35, -0.45),
            (side * 0.62, -0.1),
            (side * 0.38, keel),
            (side * 0.15, keel),
        ];
        canvas.onto(&shape::polygon(&stripe), &Ink::Flat(second));
    }
    let spar = Ink::Flat([50.0, 40.0, 40.0]);
    canvas.line_onto(&shape::polyline(&[nose, (0.0, keel + 0.1)]), 0.03, &spar);
}

pub(super) fn umbrella(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let rim = dice.between(-0.1, 0.12);
    let shaft = Ink::Flat(near(dice, [70.0, 55.0, 45.0], 30.0));
    if dice.chance(0.88) {
        handle(canvas, dice, &shaft);
    }
    let panels = dice.count(4, 6);
    let (first, second) = cloth(dice);
    let dip = dice.between(0.08, 0.16);
    let height = rim + 0.96;
    // The ribs meet at the top; from the side they are quarter ellipses of different widths.
    let foot = |i: usize| -(PI * i as f32 / panels as f32).cos() * 0.98;
    let mut dome = vec![(0.0, rim - height)];
    dome.extend((1..=8).map(|i| {
        let angle = FRAC_PI_2 * i as f32 / 8.0;
        (angle.sin() * 0.98, rim - height * angle.cos())
    }));
    for i in (0..panels).rev() {
        let (a, b) = (foot(i), foot(i + 1));
        dome.push((f32::midpoint(a, b), rim - dip));
        dome.push((a, rim));
    }
    dome.extend((1..8).rev().map(|i| {
        let angle = FRAC_PI_2 * i as f32 / 8.0;
        (-angle.sin() * 0.98, rim - height * angle.cos())
    }));
    canvas.fill(&shape::polygon(&dome), &Ink::Flat(first));
    for i in 0..panels {
        let (a, b) = (foot(i), foot(i + 1));
        let mut panel: Vec<_> = (0..=6)
            .map(|s| {
                let angle = FRAC_PI_2 * s as f32 / 6.0;
                (angle.sin() * a, rim - height * angle.cos())
            })
            .collect();
        panel.extend((0..=6).rev().map(|s| {
            let angle = FRAC_PI_2 * s as f32 / 6.0;
            (angle.sin() * b, rim - height * angle.cos())
        }));
        let base = if i % 2 == 0 { first } else { second };
        let facing = 1.0 - 0.28 * (f32::midpoint(a, b) - light.to.0).abs() * light.strength;
        canvas.onto(&shape::polygon(&panel), &Ink::Flat(scaled(base, facing)));
        canvas.line_onto(
            &shape::polyline(&panel[..7]),
            0.018,
            &Ink::Glaze([20.0; 3], 0.5),
        );
    }
    canvas.fill(
        &shape::rectangle(-0.02, rim - height - 0.06, 0.04, 0.08),
        &shaft,
    );
    canvas.shade_across((light.to.0 * 0.5, -0.9), 0.6 * light.strength);
    canvas.grain(dice, 0.06, 12.0);
}

/// The two colours of an umbrella's panels, often the same.
fn cloth(dice: &mut Dice) -> (Rgb, Rgb) {
    let first = if dice.chance(0.2) {
        near(dice, [35.0, 36.0, 42.0], 15.0)
    } else {
        vivid(dice)
    };
    let second = match dice.below(3) {
        0 => near(dice, [236.0, 234.0, 228.0], 12.0),
        1 => vivid(dice),
        _ => first,
    };
    (first, second)
}

fn handle(canvas: &mut Canvas, dice: &mut Dice, shaft: &Ink) {
    let foot = dice.between(0.75, 0.88);
    let bend = dice.between(0.1, 0.14);
    let mut crook = vec![(0.0, -0.3), (0.0, foot - 0.2), (0.0, foot)];
    if dice.chance(0.8) {
        crook.extend((1..=5).map(|i| {
            let (x, y) = shape::on_circle(bend, PI - PI * i as f32 / 5.0);
            (bend + x, foot + y)
        }));
    }
    canvas.line(&shape::polyline(&crook), dice.between(0.035, 0.06), shaft);
}
