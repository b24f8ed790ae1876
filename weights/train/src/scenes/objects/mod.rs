//! The classes of the demo model, and how each of their objects is drawn.
//!
//! Every drawing is about the origin, at most two units long, and no two of a class are alike:
//! build, colours, wear and light differ.

mod food;
mod home;
mod play;
mod street;

use super::canvas::Canvas;
use super::dice::Dice;

/// What an object's drawing is told of the scene.
#[derive(Debug, Clone, Copy)]
pub struct Light {
    /// To the lamp, in the object's plane; about a unit long.
    pub to: (f32, f32),
    /// How deep shades are, 0 to 1.
    pub strength: f32,
}

/// A class: its name, its drawing, and how its objects stand in pictures.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// COCO's name.
    pub name: &'static str,
    pub(super) draw: fn(&mut Canvas, &mut Dice, Light),
    /// Whether its mirror image is one too (writing is not).
    pub(super) mirrors: bool,
    /// The farthest it is rolled either way, radians.
    pub(super) roll: f32,
    /// The farthest it is turned from facing the eye, radians.
    pub(super) turn: f32,
    /// Whether it is seen up in the sky or on a wall, rather than standing on something.
    pub(super) aloft: bool,
}

impl Class {
    /// Whether a mirror image of it is one of its class too, which writing is not.
    #[must_use]
    pub fn mirrors(&self) -> bool {
        self.mirrors
    }
}

const fn class(
    name: &'static str,
    draw: fn(&mut Canvas, &mut Dice, Light),
    (roll, turn): (f32, f32),
) -> Class {
    Class {
        name,
        draw,
        mirrors: true,
        roll,
        turn,
        aloft: false,
    }
}

const fn aloft(class: Class) -> Class {
    Class {
        aloft: true,
        ..class
    }
}

const fn written(class: Class) -> Class {
    Class {
        mirrors: false,
        ..class
    }
}

const ANY: f32 = std::f32::consts::PI;

/// The classes, in the order of the model's outputs (1 for the first; 0 is the background).
pub const CLASSES: [Class; 14] = [
    aloft(class("traffic light", street::traffic_light, (0.12, 0.45))),
    aloft(written(class("stop sign", street::stop_sign, (0.22, 0.6)))),
    aloft(class("umbrella", play::umbrella, (0.6, 0.25))),
    class("sports ball", play::sports_ball, (ANY, 0.0)),
    aloft(class("kite", play::kite, (0.9, 0.5))),
    class("bottle", home::bottle, (0.2, 0.2)),
    class("cup", home::cup, (0.15, 0.15)),
    class("banana", food::banana, (ANY, 0.35)),
    class("apple", food::apple, (0.5, 0.1)),
    class("orange", food::orange, (ANY, 0.0)),
    class("pizza", food::pizza, (ANY, 0.9)),
    class("donut", food::donut, (ANY, 0.75)),
    class("tv", home::tv, (0.06, 0.55)),
    aloft(written(class("clock", home::clock, (0.15, 0.6)))),
];
