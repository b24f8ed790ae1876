//! Fruit and baking.

use std::f32::consts::{PI, TAU};

use super::Light;
use crate::scenes::canvas::{Canvas, Ink, shape};
use crate::scenes::colour::{Rgb, hsv, mix, near, scaled, within};
use crate::scenes::dice::Dice;

/// The light as the object sees it, which the object's own roll does not turn.
fn unrolled(canvas: &Canvas, light: Light) -> (f32, f32) {
    let (sin, cos) = canvas.view().roll.sin_cos();
    let (x, y) = light.to;
    (x * cos + y * sin, -x * sin + y * cos)
}

/// A closed outline about the origin, its radius wavering by up to `waver`.
fn lump(dice: &mut Dice, radius: f32, waver: f32, corners: usize) -> Vec<(f32, f32)> {
    (0..corners)
        .map(|i| {
            let angle = TAU * i as f32 / corners as f32;
            shape::on_circle(radius * (1.0 - dice.between(0.0, waver)), angle)
        })
        .collect()
}

pub(super) fn orange(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let hue = dice.between(24.0, 36.0);
    let skin = hsv(hue, dice.between(0.82, 1.0), dice.between(0.85, 1.0));
    let towards = unrolled(canvas, light);
    canvas.fill(
        &shape::smooth(&lump(dice, 1.0, 0.035, 10)),
        &Ink::Flat(skin),
    );
    canvas.grain(dice, 0.16, 2.0);
    let (x, y) = shape::on_circle(dice.between(0.2, 0.75), dice.between(0.0, TAU));
    if dice.chance(0.75) {
        let dent = vec![
            (0.0, scaled(skin, 0.55), 0.9),
            (0.5, scaled(skin, 0.75), 0.5),
            (1.0, skin, 0.0),
        ];
        canvas.onto(&shape::disc(x, y, 0.26), &Ink::Radial((x, y), 0.26, dent));
        let green = near(dice, [85.0, 105.0, 45.0], 20.0);
        canvas.onto(&shape::regular_at(5, 0.075, (x, y)), &Ink::Flat(green));
    }
    if dice.chance(0.2) {
        leaf(canvas, dice, (x * 0.3, -0.8));
    }
    canvas.round_off(1.0, towards, light.strength * dice.between(0.55, 0.95));
}

fn leaf(canvas: &mut Canvas, dice: &mut Dice, (x, y): (f32, f32)) {
    let green = hsv(dice.between(85.0, 125.0), 0.7, dice.between(0.35, 0.6));
    let side = if dice.chance(0.5) { 1.0 } else { -1.0 };
    let tip = (x + side * 0.55, y - dice.between(0.0, 0.15));
    let outline = [
        (x, y),
        (x + side * 0.22, y - 0.16),
        tip,
        (x + side * 0.28, y + 0.1),
    ];
    canvas.fill(&shape::smooth(&outline), &Ink::Flat(green));
    canvas.line(
        &shape::polyline(&[(x, y), tip]),
        0.025,
        &Ink::Flat(scaled(green, 1.4)),
    );
}

pub(super) fn apple(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let (skin, blush) = apple_colours(dice);
    // Wide shoulders, a dimple on top, a narrower foot.
    let (w, h) = (dice.between(0.88, 0.98), dice.between(0.82, 0.92));
    let foot = dice.between(0.5, 0.66);
    let mut outline = vec![
        (0.0, -h * 0.72),
        (w * 0.35, -h * 0.92),
        (w * 0.82, -h * 0.72),
        (w, -h * 0.15),
        (w * 0.85, h * 0.45),
        (w * foot, h * 0.86),
        (w * 0.2, h * 0.93),
    ];
    let mirror: Vec<_> = outline[1..].iter().rev().map(|&(x, y)| (-x, y)).collect();
    outline.extend(mirror);
    canvas.fill(&shape::smooth(&outline), &Ink::Flat(skin));
    let side = dice.between(-0.7, 0.7);
    let glow = vec![(0.0, blush, 0.9), (0.5, blush, 0.5), (1.0, blush, 0.0)];
    canvas.onto(
        &shape::disc(0.0, 0.0, 1.4),
        &Ink::Radial((side, dice.between(-0.3, 0.5)), 1.0, glow),
    );
    for _ in 0..dice.count(4, 12) {
        let x = dice.between(-0.9, 0.9);
        let streak = [(x * 0.3, -h * 0.75), (x, 0.0), (x * 0.6, h * 0.8)];
        canvas.line_onto(
            &shape::curve(&streak),
            0.03,
            &Ink::Glaze(mix(skin, blush, dice.between(0.0, 1.0)), 0.3),
        );
    }
    canvas.grain(dice, 0.1, 3.0);
    let hollow = vec![
        (0.0, scaled(skin, 0.35), 0.95),
        (1.0, scaled(skin, 0.5), 0.0),
    ];
    canvas.onto(
        &shape::ellipse(0.0, -h * 0.74, 0.4, 0.2),
        &Ink::Radial((0.0, -h * 0.74), 0.38, hollow),
    );
    canvas.round_off(1.0, light.to, light.strength * dice.between(0.55, 0.95));
    let lean = dice.between(-0.2, 0.2);
    let stem = [(0.0, -h * 0.7), (lean * 0.5, -h * 0.85), (lean, -1.0)];
    let bark = near(dice, [85.0, 60.0, 35.0], 20.0);
    canvas.line(
        &shape::curve(&stem),
        dice.between(0.06, 0.09),
        &Ink::Flat(bark),
    );
    if dice.chance(0.4) {
        leaf(canvas, dice, (lean * 0.6, -h * 0.88));
    }
}

fn apple_colours(dice: &mut Dice) -> (Rgb, Rgb) {
    let red = within(dice, (-10.0, 6.0), (0.8, 0.98), (0.5, 0.82));
    let green = within(dice, (72.0, 95.0), (0.55, 0.85), (0.6, 0.82));
    match dice.below(6) {
        0..=2 => (red, scaled(red, 1.3)),
        3 => (red, mix(green, [220.0, 190.0, 80.0], 0.6)),
        4 => (green, scaled(green, 1.2)),
        _ => (green, red),
    }
}

pub(super) fn banana(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let hue = dice.between(44.0, 56.0);
    let peel = hsv(hue, dice.between(0.7, 0.95), dice.between(0.82, 1.0));
    let count = if dice.chance(0.3) {
        dice.count(2, 3)
    } else {
        1
    };
    let towards = unrolled(canvas, light);
    let shift = 0.2;
    for nth in 0..count {
        let drop = (nth as f32 - (count - 1) as f32 / 2.0) * shift;
        finger(canvas, dice, peel, drop);
    }
    canvas.shade_across(towards, 0.5 * light.strength);
    canvas.grain(dice, 0.08, 6.0);
}

/// One banana: an arc whose thickness swells in the middle, with ridges, tip and stalk.
fn finger(canvas: &mut Canvas, dice: &mut Dice, peel: Rgb, drop: f32) {
    let half_arc = dice.between(0.85, 1.15);
    let radius = 0.93 / half_arc.sin();
    let thick = dice.between(0.17, 0.23);
    let middle = -radius + 0.30 + drop;
    let spine = |t: f32, off: f32| {
        let angle = PI / 2.0 - t * half_arc;
        let (x, y) = shape::on_circle(radius + off, angle);
        (x, y + middle)
    };
    let steps = 14;
    let swell = |t: f32| thick * (1.0 - t.abs().powi(4)).max(0.0).sqrt() * 0.85 + thick * 0.15;
    let places: Vec<f32> = (0..=steps)
        .map(|i| -1.0 + 2.0 * i as f32 / steps as f32)
        .collect();
    let mut outline: Vec<_> = places.iter().map(|&t| spine(t, swell(t))).collect();
    outline.extend(places.iter().rev().map(|&t| spine(t, -swell(t))));
    canvas.fill(&shape::polygon(&outline), &Ink::Flat(peel));
    let band = |from: f32, to: f32| {
        let mut points: Vec<_> = places.iter().map(|&t| spine(t, from * swell(t))).collect();
        points.extend(places.iter().rev().map(|&t| spine(t, to * swell(t))));
        shape::polygon(&points)
    };
    canvas.onto(&band(0.35, 1.0), &Ink::Flat(scaled(peel, 0.82)));
    canvas.onto(&band(-1.0, -0.55), &Ink::Flat(scaled(peel, 0.92)));
    let edge: Vec<_> = places.iter().map(|&t| spine(t, swell(t))).collect();
    canvas.line_onto(
        &shape::polyline(&edge),
        0.03,
        &Ink::Glaze(scaled(peel, 0.4), 0.6),
    );
    for _ in 0..dice.count(0, 9) {
        let (t, off) = (dice.between(-0.8, 0.8), dice.between(-0.1, 0.1));
        let (x, y) = spine(t, off);
        canvas.onto(
            &shape::disc(x, y, dice.between(0.01, 0.035)),
            &Ink::Glaze([90.0, 60.0, 25.0], 0.6),
        );
    }
    let dark = near(dice, [70.0, 52.0, 30.0], 15.0);
    let (x, y) = spine(-1.0, 0.0);
    canvas.onto(&shape::disc(x, y, 0.07), &Ink::Flat(dark));
    let green = mix(peel, [110.0, 120.0, 40.0], 0.6);
    canvas.line(
        &shape::polyline(&[spine(0.97, 0.0), spine(1.08, 0.02)]),
        0.09,
        &Ink::Flat(green),
    );
    let (x, y) = spine(1.09, 0.02);
    canvas.fill(&shape::disc(x, y, 0.05), &Ink::Flat(dark));
}

pub(super) fn pizza(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let crust = within(dice, (26.0, 36.0), (0.5, 0.7), (0.65, 0.85));
    let sauce = hsv(dice.between(4.0, 16.0), 0.85, dice.between(0.6, 0.8));
    let cheese = within(dice, (38.0, 50.0), (0.4, 0.65), (0.85, 0.98));
    let towards = unrolled(canvas, light);
    if dice.chance(0.25) {
        let half = dice.between(0.35, 0.5);
        let wedge = [
            (-half * 1.9, -0.9),
            (0.0, -1.0),
            (half * 1.9, -0.9),
            (0.0, 1.0),
        ];
        canvas.fill(&shape::polygon(&wedge), &Ink::Flat(crust));
        canvas.grain(dice, 0.25, 8.0);
        let inner = [
            (-half * 1.72, -0.68),
            (0.0, -0.78),
            (half * 1.72, -0.68),
            (0.0, 1.0),
        ];
        canvas.onto(&shape::polygon(&inner), &Ink::Flat(cheese));
        toppings(
            canvas,
            dice,
            |dice| {
                let y = dice.between(-0.6, 0.55);
                (dice.between(-1.0, 1.0) * half * (0.8 - y) * 0.8, y)
            },
            9,
        );
    } else {
        canvas.fill(
            &shape::smooth(&lump(dice, 1.0, 0.06, 16)),
            &Ink::Flat(crust),
        );
        canvas.grain(dice, 0.28, 10.0);
        let rim = dice.between(0.8, 0.88);
        canvas.onto(
            &shape::smooth(&lump(dice, rim, 0.05, 18)),
            &Ink::Flat(sauce),
        );
        canvas.onto(
            &shape::smooth(&lump(dice, rim * 0.96, 0.1, 22)),
            &Ink::Flat(cheese),
        );
        toppings(
            canvas,
            dice,
            |dice| shape::on_circle(rim * dice.between(0.0, 0.72).sqrt(), dice.between(0.0, TAU)),
            18,
        );
        if dice.chance(0.6) {
            let cut = Ink::Glaze([90.0, 50.0, 20.0], 0.7);
            let turn = dice.between(0.0, PI);
            for i in 0..dice.count(2, 4) {
                let (x, y) = shape::on_circle(1.0, turn + PI / 4.0 * i as f32);
                canvas.line_onto(&shape::polyline(&[(x, y), (-x, -y)]), 0.025, &cut);
            }
        }
        if dice.chance(0.2) {
            let from = dice.between(0.0, TAU);
            canvas.cut(&shape::sector(1.2, from, from + PI / 4.0));
        }
    }
    canvas.shade_across(towards, 0.4 * light.strength);
    canvas.grain(dice, 0.14, 12.0);
}

fn toppings(
    canvas: &mut Canvas,
    dice: &mut Dice,
    place: impl Fn(&mut Dice) -> (f32, f32),
    most: usize,
) {
    for _ in 0..most {
        let (x, y) = place(dice);
        let blotch = near(dice, [215.0, 120.0, 40.0], 20.0);
        let size = dice.between(0.04, 0.14);
        let melt = vec![(0.0, blotch, 0.6), (1.0, blotch, 0.0)];
        canvas.onto(&shape::disc(x, y, size), &Ink::Radial((x, y), size, melt));
    }
    let meat = dice.chance(0.8);
    for _ in 0..dice.count(most / 3, most) {
        let (x, y) = place(dice);
        match dice.below(if meat { 5 } else { 2 }) {
            0 => {
                let leaf = near(dice, [60.0, 105.0, 40.0], 20.0);
                canvas.onto(&shape::ellipse(x, y, 0.09, 0.045), &Ink::Flat(leaf));
            }
            1 => {
                let olive = near(dice, [35.0, 32.0, 36.0], 12.0);
                let ring = shape::disc(x, y, 0.055);
                canvas.line_onto(&ring, 0.04, &Ink::Flat(olive));
            }
            _ => pepperoni(canvas, dice, (x, y)),
        }
    }
}

fn pepperoni(canvas: &mut Canvas, dice: &mut Dice, (x, y): (f32, f32)) {
    let meat = near(dice, [175.0, 50.0, 38.0], 18.0);
    let radius = dice.between(0.11, 0.16);
    let edge = scaled(meat, 0.7);
    canvas.onto(&shape::disc(x, y, radius), &Ink::Flat(edge));
    canvas.onto(&shape::disc(x, y, radius * 0.85), &Ink::Flat(meat));
    canvas.onto(
        &shape::disc(x - 0.03, y - 0.04, radius * 0.3),
        &Ink::Glaze([235.0, 140.0, 110.0], 0.5),
    );
}

pub(super) fn donut(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let dough = within(dice, (24.0, 34.0), (0.5, 0.7), (0.6, 0.8));
    let hole = dice.between(0.24, 0.36);
    let towards = unrolled(canvas, light);
    canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(dough));
    canvas.grain(dice, 0.12, 6.0);
    let plain = dice.chance(0.12);
    let icing = icing_colour(dice);
    if !plain {
        canvas.onto(
            &shape::smooth(&lump(dice, 0.95, 0.1, 16)),
            &Ink::Flat(icing),
        );
        canvas.onto(
            &shape::smooth(&lump(dice, hole * 1.25, 0.1, 9)),
            &Ink::Flat(dough),
        );
    }
    ring_shade(canvas, hole, towards, light.strength);
    if !plain && dice.chance(0.65) {
        sprinkles(canvas, dice, hole);
    } else if !plain && dice.chance(0.4) {
        drizzle(canvas, dice, icing);
    }
    canvas.cut(&shape::smooth(&lump(dice, hole, 0.08, 9)));
}

fn icing_colour(dice: &mut Dice) -> Rgb {
    match dice.below(5) {
        0 | 1 => within(dice, (325.0, 350.0), (0.3, 0.6), (0.85, 0.98)),
        2 => near(dice, [88.0, 50.0, 30.0], 18.0),
        3 => near(dice, [240.0, 232.0, 215.0], 12.0),
        _ => hsv(
            dice.pick(&[190.0, 270.0, 95.0, 50.0]),
            dice.between(0.3, 0.55),
            0.92,
        ),
    }
}

/// A torus seen from above: dark at both edges, bright on the crown, brighter towards the light.
fn ring_shade(canvas: &mut Canvas, hole: f32, towards: (f32, f32), strength: f32) {
    let dark = [30.0, 15.0, 8.0];
    let inner = hole.clamp(0.05, 0.6);
    let crown = f32::midpoint(inner, 1.0);
    let stops = vec![
        (0.0, dark, 0.7 * strength),
        (inner, dark, 0.65 * strength),
        (inner + (crown - inner) * 0.7, dark, 0.05),
        (crown, [255.0; 3], 0.08),
        (crown + (1.0 - crown) * 0.5, dark, 0.08),
        (1.0, dark, 0.6 * strength),
    ];
    canvas.onto(
        &shape::disc(0.0, 0.0, 1.1),
        &Ink::Radial((0.0, 0.0), 1.0, stops),
    );
    let angle = towards.1.atan2(towards.0);
    let arc = |from: f32, to: f32| -> Vec<_> {
        (0..=8)
            .map(|i| shape::on_circle(crown, angle + from + (to - from) * i as f32 / 8.0))
            .collect()
    };
    let shine = Ink::Glaze([255.0; 3], 0.28 * strength);
    canvas.line_onto(&shape::polyline(&arc(-0.6, 0.6)), 0.11, &shine);
    canvas.line_onto(&shape::polyline(&arc(-0.4, 0.4)), 0.05, &shine);
}

fn sprinkles(canvas: &mut Canvas, dice: &mut Dice, hole: f32) {
    let one = dice
        .chance(0.3)
        .then(|| hsv(dice.between(0.0, 360.0), 0.5, 1.0));
    for _ in 0..dice.count(14, 50) {
        let (x, y) = shape::on_circle(dice.between(hole + 0.16, 0.86), dice.between(0.0, TAU));
        let (dx, dy) = shape::on_circle(0.055, dice.between(0.0, PI));
        let colour = one.unwrap_or_else(|| hsv(dice.between(0.0, 360.0), 0.8, 0.98));
        canvas.line_onto(
            &shape::polyline(&[(x - dx, y - dy), (x + dx, y + dy)]),
            0.045,
            &Ink::Flat(colour),
        );
    }
}

fn drizzle(canvas: &mut Canvas, dice: &mut Dice, icing: Rgb) {
    let bright = icing.iter().sum::<f32>() > 400.0;
    let colour = if bright {
        [95.0, 55.0, 35.0]
    } else {
        [240.0, 225.0, 205.0]
    };
    let count = dice.count(5, 8);
    let zigzag: Vec<_> = (0..=count * 2)
        .map(|i| {
            let x = -0.9 + 1.8 * i as f32 / (count * 2) as f32;
            (x, if i % 2 == 0 { -0.9 } else { 0.9 })
        })
        .collect();
    canvas.line_onto(&shape::polyline(&zigzag), 0.05, &Ink::Flat(colour));
}
