//! Scenes: pictures drawn by the thousand, with the true boxes of the objects in them.
//!
//! ```text
//! objects      the classes and their drawings
//! distractors  what is none of them       creatures  the people and animals among it
//! closeups     what is none of them either, and fills the picture
//! backdrop     what is behind
//! camera       light, lens, sensor and JPEG
//! canvas       vector shapes in perspective        frame   the pixels, and whose they are
//! noise        fractal textures                    dice    seeded chance        colour
//! ```
//!
//! Scene `index` of `seed` is always the same picture, and needs no scene before it.

mod backdrop;
mod camera;
mod canvas;
mod closeups;
mod colour;
mod creatures;
mod dice;
mod distractors;
mod frame;
mod noise;
mod objects;

use image::RgbImage;
use ssd_server::detector::boxes::Corners;

pub use dice::Dice;
pub use objects::{CLASSES, Class, Light};

use canvas::{Canvas, View};
use colour::near;
use frame::{Frame, NOTHING};

/// An object is difficult (not asked for, and not an error to find) where less of it than this is
/// seen.
const VISIBLE: f32 = 0.45;
/// Or where it is smaller than this, in the 300x300 pixels that the network sees.
const SMALL_SIDE: f32 = 12.0;
const SMALL_AREA: f32 = 20.0 * 20.0;
/// An object of which fewer pixels are left is not there.
const TRACE: usize = 12;
/// Streams of the dice from here on say what stands close by. They are streams of their own, so that
/// all else in a scene is the same with it or without.
const CLOSE: u64 = 1 << 42;

/// What to draw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Width and height in pixels; where absent, they differ from scene to scene.
    pub size: Option<(u32, u32)>,
    /// No object of any class, only what is around them.
    pub distractors_only: bool,
}

/// An object and where it is seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Index in [`CLASSES`].
    pub class: usize,
    /// The extent of what is seen of it, in pixels: left, top, and one past right and bottom.
    pub corners: Corners,
    /// Too small or too hidden to be asked for.
    pub difficult: bool,
    /// It reaches out of the picture.
    pub truncated: bool,
    /// Something is before it.
    pub occluded: bool,
}

/// A picture and its objects.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The picture.
    pub picture: RgbImage,
    /// Its objects, in the order they were drawn.
    pub objects: Vec<Object>,
}

/// Draws scene `index` of `seed`.
///
/// # Errors
/// Where the JPEG codec fails.
pub fn draw(seed: u64, index: u64, style: &Style) -> anyhow::Result<Scene> {
    let dice = &mut Dice::new(seed, index);
    let ((width, height), stretch) = format(dice, style);
    let mut frame = Frame::new(width as usize, height as usize);
    backdrop::paint(&mut frame, dice);
    let angle = dice.between(-2.7, -0.44);
    let light = Light {
        to: (angle.cos(), angle.sin()),
        strength: dice.between(0.25, 1.0),
    };
    let mut stage = Stage {
        frame,
        light,
        stretch,
        laid: Vec::new(),
        places: Vec::new(),
    };
    let close = &mut Dice::new(seed, CLOSE + index);
    let closeup = close.chance(0.2);
    if closeup {
        stage.lay_closeups(close);
    }
    // A photograph of one thing often shows nothing else.
    if !(closeup && style.distractors_only && close.chance(0.6)) {
        stage.populate(dice, style.distractors_only);
    }
    let objects = stage.objects();
    let picture = camera::take(stage.frame, dice)?;
    Ok(Scene { picture, objects })
}

/// Size in pixels, and how much wider than high objects look in it: the network sees every
/// picture squeezed to a square, so square pictures are stretched at random.
fn format(dice: &mut Dice, style: &Style) -> ((u32, u32), f32) {
    if let Some(size) = style.size {
        return (size, 1.0);
    }
    match dice.below(20) {
        0..=12 => ((300, 300), dice.scale(0.7, 1.4)),
        13 | 14 => ((400, 300), 1.0),
        15 => ((300, 400), 1.0),
        16 | 17 => ((480, 360), 1.0),
        18 => ((450, 300), 1.0),
        _ => ((384, 384), 1.0),
    }
}

/// What became of an object that was drawn.
struct Laid {
    class: usize,
    /// Solid pixels, inside the frame or not.
    solid: usize,
    /// Of those, inside when it was drawn.
    inside: usize,
}

/// Where something stands: centre and radius, in pixels.
#[derive(Clone, Copy)]
struct Place {
    x: f32,
    y: f32,
    radius: f32,
}

struct Stage {
    frame: Frame,
    light: Light,
    stretch: f32,
    laid: Vec<Laid>,
    places: Vec<Place>,
}

impl Stage {
    fn populate(&mut self, dice: &mut Dice, distractors_only: bool) {
        let busy = dice.count(0, 8);
        // Now and then so much lies about that no background is left.
        let clutter = if dice.chance(0.07) { 40 } else { 0 };
        let alone = if distractors_only {
            dice.count(3, 10)
        } else {
            0
        };
        for _ in 0..busy / 2 + clutter + alone {
            self.distract(dice);
        }
        let wanted = if distractors_only || dice.chance(0.05) {
            0
        } else {
            dice.count(2, 9)
        };
        for _ in 0..wanted {
            self.place_object(dice);
            if dice.chance(busy as f32 / 24.0) {
                self.distract(dice);
            }
        }
    }

    /// Lays a thing or two from close by over the middle, and puts what is behind out of focus.
    fn lay_closeups(&mut self, dice: &mut Dice) {
        let (w, h) = self.frame.size();
        let (w, h) = (w as f32, h as f32);
        let unit = w.min(h) / 300.0;
        if dice.chance(0.6) {
            self.frame.soften(dice.scale(1.0, 8.0) * unit);
        }
        for _ in 0..dice.count(1, 2) {
            let place = Place {
                x: w * dice.between(0.15, 0.85),
                y: h * dice.between(0.25, 0.75),
                radius: dice.scale(110.0, 330.0) * unit,
            };
            let view = self.view(dice, place.radius, (0.5, 0.8), true);
            let mut canvas = Canvas::new(view);
            closeups::draw(&mut canvas, dice, self.light);
            let tint = self.tint(dice);
            self.frame.lay(&canvas, (place.x, place.y), NOTHING, tint);
        }
    }

    fn distract(&mut self, dice: &mut Dice) {
        let size = dice.scale(20.0, 240.0);
        let Some(place) = self.find_place(dice, size, 0.5) else {
            return;
        };
        let view = self.view(dice, place.radius, (3.1, 0.8), true);
        let mut canvas = Canvas::new(view);
        distractors::draw(&mut canvas, dice, self.light);
        self.stand(dice, place, 0.3);
        let tint = self.tint(dice);
        self.frame.lay(&canvas, (place.x, place.y), NOTHING, tint);
    }

    fn place_object(&mut self, dice: &mut Dice) {
        let class = dice.below(CLASSES.len());
        let what = CLASSES[class];
        let size = dice.scale(28.0, 230.0);
        let crowded = if dice.chance(0.12) { 0.9 } else { 0.3 };
        let Some(place) = self.find_place(dice, size, crowded) else {
            return;
        };
        let owner = self.laid.len() as u8;
        let view = self.view(dice, place.radius, (what.roll, what.turn), what.mirrors);
        let mut canvas = Canvas::new(view);
        (what.draw)(&mut canvas, dice, self.light);
        if what.aloft {
            self.hang(dice, what.name, place);
        } else {
            self.stand(dice, place, 0.85);
        }
        let tint = self.tint(dice);
        let covered = self.frame.lay(&canvas, (place.x, place.y), owner, tint);
        self.laid.push(Laid {
            class,
            solid: covered.solid,
            inside: covered.inside,
        });
        self.places.push(place);
    }

    /// A place for something `size` pixels long (of a picture of 300), where it hides at most
    /// about `hide` of any one object's breadth.
    fn find_place(&self, dice: &mut Dice, size: f32, hide: f32) -> Option<Place> {
        let (w, h) = self.frame.size();
        let (w, h) = (w as f32, h as f32);
        let radius = size / 2.0 * w.min(h) / 300.0;
        for _ in 0..10 {
            // Mostly inside; the edge may cut a third of it off.
            let margin = if dice.chance(0.15) {
                radius * 0.35
            } else {
                radius * 0.85
            };
            let along = |dice: &mut Dice, side: f32| {
                if side > 2.0 * margin {
                    dice.between(margin, side - margin)
                } else {
                    side / 2.0
                }
            };
            let place = Place {
                x: along(dice, w),
                y: along(dice, h),
                radius,
            };
            let hides = |other: &Place| {
                let apart = ((place.x - other.x).powi(2) + (place.y - other.y).powi(2)).sqrt();
                let overlap = (place.radius + other.radius) * 0.85 - apart;
                overlap > hide * 2.0 * other.radius
            };
            if !self.places.iter().any(hides) {
                return Some(place);
            }
        }
        None
    }

    fn view(&self, dice: &mut Dice, scale: f32, (roll, turn): (f32, f32), mirrors: bool) -> View {
        // Most things are seen nearly as they are meant to be; few from far round the side.
        let lean = |dice: &mut Dice, most: f32| {
            dice.between(-1.0, 1.0) * dice.between(0.0, 1.0).sqrt() * most
        };
        View {
            scale,
            roll: lean(dice, roll),
            yaw: lean(dice, turn),
            pitch: lean(dice, turn * 0.7),
            stretch: self.stretch,
            mirrored: mirrors && dice.chance(0.5),
        }
    }

    /// The light on one object: nearly the scene's.
    #[expect(clippy::unused_self, reason = "reads as the stage's")]
    fn tint(&self, dice: &mut Dice) -> [f32; 3] {
        let level = dice.between(205.0, 275.0);
        near(dice, [level; 3], 10.0).map(|l| l / 255.0)
    }

    /// The shadow of what stands on something.
    fn stand(&mut self, dice: &mut Dice, place: Place, likely: f32) {
        if dice.chance(likely) {
            let (dx, depth) = (-self.light.to.0 * 0.35, dice.between(0.2, 0.75));
            let at = (place.x + dx * place.radius, place.y + 0.8 * place.radius);
            let size = (place.radius * 1.15, place.radius * dice.between(0.25, 0.6));
            self.frame.shadow(at, size, depth);
        }
    }

    /// What holds a thing up: a pole for signs and lights, a string for kites.
    fn hang(&mut self, dice: &mut Dice, name: &str, place: Place) {
        let h = self.frame.size().1;
        let grey = near(dice, [125.0, 125.0, 125.0], 45.0);
        let (wide, up) = match name {
            "stop sign" => (0.09, false),
            "traffic light" => (0.12, dice.chance(0.3)),
            "kite" => (0.012, false),
            _ => return,
        };
        if !dice.chance(0.75) {
            return;
        }
        let wide = (wide * place.radius).max(1.0);
        let left = (place.x - wide / 2.0).max(0.0) as usize;
        let middle = (place.y.max(0.0) as usize).min(h);
        let (top, tall) = if up {
            (0, middle)
        } else {
            (middle, h - middle)
        };
        self.frame
            .block((left, top), (wide.ceil() as usize, tall), |dx, _| {
                colour::scaled(grey, 0.75 + 0.4 * dx as f32 / wide)
            });
    }

    /// The objects that can be seen, with the extent of what is seen.
    fn objects(&self) -> Vec<Object> {
        let (w, h) = self.frame.size();
        let unit = (300.0 / w as f32, 300.0 / h as f32);
        let seen = self.seen();
        let mut objects = Vec::new();
        for (laid, (visible, extent)) in self.laid.iter().zip(seen) {
            let Some(corners) = extent.filter(|_| visible >= TRACE) else {
                continue;
            };
            let (wide, high) = (
                (corners.x2 - corners.x1) * unit.0,
                (corners.y2 - corners.y1) * unit.1,
            );
            let small = wide.min(high) < SMALL_SIDE || wide * high < SMALL_AREA;
            objects.push(Object {
                class: laid.class,
                corners,
                difficult: small || (visible as f32) < VISIBLE * laid.solid as f32,
                truncated: laid.inside < laid.solid,
                occluded: (visible as f32) < 0.97 * laid.inside as f32,
            });
        }
        objects
    }

    /// For each object laid: how many of its pixels are seen, and their extent.
    fn seen(&self) -> Vec<(usize, Option<Corners>)> {
        let mut seen = vec![(0, None); self.laid.len()];
        let w = self.frame.size().0;
        for (index, &owner) in self.frame.owners().iter().enumerate() {
            if owner == NOTHING {
                continue;
            }
            let (x, y) = ((index % w) as f32, (index / w) as f32);
            let (count, extent) = &mut seen[usize::from(owner)];
            *count += 1;
            let corners: &mut Corners = extent.get_or_insert(Corners {
                x1: x,
                y1: y,
                x2: x + 1.0,
                y2: y + 1.0,
            });
            corners.x1 = corners.x1.min(x);
            corners.x2 = corners.x2.max(x + 1.0);
            corners.y2 = y + 1.0;
        }
        seen
    }
}
