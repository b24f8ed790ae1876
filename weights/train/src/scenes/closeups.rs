//! What photographs show from near by: animals, people and machines that fill the picture, or nearly.
//! None of them is of any class. Without them a network would only ever have been asked about large
//! boxes where an object's own fills them.

use std::f32::consts::{FRAC_PI_2, TAU};

use super::canvas::{Canvas, Ink, shape};
use super::colour::{Rgb, any, near, scaled};
use super::creatures;
use super::dice::Dice;
use super::distractors;
use super::objects::Light;

/// Draws one.
pub fn draw(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    match dice.below(8) {
        0 | 1 => creatures::beast(canvas, dice, light),
        2 => creatures::animal(canvas, dice, light),
        3 => creatures::portrait(canvas, dice, light),
        4 => creatures::figure(canvas, dice, light),
        5 => machine(canvas, dice, light),
        _ => distractors::draw(canvas, dice, light),
    }
}

/// Engines, cameras, tools, rockets: tubes, boxes, rods and rings of metal, on legs or not.
fn machine(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let metal = near(dice, [120.0, 120.0, 124.0], 90.0);
    let paint = if dice.chance(0.5) { any(dice) } else { metal };
    let waist = dice.between(-0.4, 0.2);
    if dice.chance(0.5) {
        let spread = dice.between(0.2, 0.7);
        let width = dice.between(0.03, 0.1);
        for side in [-1.0, 0.15, 1.0] {
            let leg = [(side * 0.1, waist), (side * spread, 1.0)];
            canvas.line(
                &shape::polyline(&leg),
                width,
                &Ink::Flat(scaled(metal, 0.7)),
            );
        }
    }
    for _ in 0..dice.count(5, 18) {
        let (x, y) = (dice.normal() * 0.35, waist + dice.normal() * 0.3);
        let base = if dice.chance(0.6) { metal } else { paint };
        let colour = scaled(base, dice.between(0.25, 1.5));
        let (w, h) = (dice.between(0.08, 0.5), dice.between(0.08, 0.5));
        match dice.below(4) {
            0 => canvas.fill(
                &shape::rounded(x - w / 2.0, y - h / 2.0, w, h, 0.03),
                &Ink::Flat(colour),
            ),
            1 => tube(canvas, dice, (x, y), colour),
            2 => ring(canvas, dice, (x, y), colour),
            _ => {
                let (dx, dy) = shape::on_circle(dice.between(0.2, 0.8), dice.between(0.0, TAU));
                let rod = shape::polyline(&[(x, y), (x + dx, y + dy)]);
                canvas.line(&rod, dice.between(0.02, 0.12), &Ink::Flat(colour));
            }
        }
    }
    canvas.shade_across(light.to, light.strength * 0.7);
    canvas.grain(dice, 0.15, 5.0);
}

/// A rod that is lit along its middle.
fn tube(canvas: &mut Canvas, dice: &mut Dice, (x, y): (f32, f32), colour: Rgb) {
    let (long, wide) = (dice.between(0.15, 0.7), dice.between(0.05, 0.25));
    let (dx, dy) = shape::on_circle(long / 2.0, dice.between(-FRAC_PI_2, FRAC_PI_2));
    let path = shape::polyline(&[(x - dx, y - dy), (x + dx, y + dy)]);
    for (share, tone) in [(1.0, 0.55), (0.7, 0.85), (0.4, 1.15), (0.15, 1.6)] {
        canvas.line(&path, wide * share, &Ink::Flat(scaled(colour, tone)));
    }
}

/// A lens, a knob, an end of a pipe: one disc in another.
fn ring(canvas: &mut Canvas, dice: &mut Dice, (x, y): (f32, f32), colour: Rgb) {
    let mut radius = dice.between(0.05, 0.35);
    for _ in 0..dice.count(2, 5) {
        let tone = scaled(colour, dice.between(0.2, 1.6));
        canvas.fill(&shape::disc(x, y, radius), &Ink::Flat(tone));
        radius *= dice.between(0.5, 0.9);
    }
}
