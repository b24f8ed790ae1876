//! What is behind the objects: streets, meadows, rooms, and surfaces seen from close by.

use super::colour::{Rgb, any, hsv, mix, near, scaled, within};
use super::dice::Dice;
use super::frame::Frame;
use super::noise;

/// Paints the whole frame.
pub fn paint(frame: &mut Frame, dice: &mut Dice) {
    match dice.below(11) {
        0..=2 => outdoors(frame, dice),
        3..=5 => room(frame, dice),
        6 | 7 => surface(frame, dice),
        8 => weave(frame, dice),
        9 => speckles(frame, dice),
        _ => blur_of_colours(frame, dice),
    }
}

/// Sky, a skyline or trees, and ground that runs to the horizon.
fn outdoors(frame: &mut Frame, dice: &mut Dice) {
    let (w, h) = frame.size();
    let horizon = (h as f32 * dice.between(0.3, 0.85)) as usize;
    let (zenith, haze) = sky(dice);
    let cloud = dice.between(0.0, 0.9);
    let share = dice.pick(&[2.0, 4.0, 8.0]);
    let clouds = noise::field(dice, w, h, w as f32 / share);
    let white = scaled([250.0, 248.0, 245.0], haze.iter().sum::<f32>() / 640.0);
    frame.each(0, horizon, |x, y| {
        let down = y as f32 / horizon.max(1) as f32;
        let cover = ((clouds[y * w + x] - 0.45) * 3.5 * cloud).clamp(0.0, 0.9);
        mix(mix(zenith, haze, down), white, cover)
    });
    ground(frame, dice, horizon);
    match dice.below(3) {
        0 => skyline(frame, dice, horizon),
        1 => trees(frame, dice, horizon),
        _ => {}
    }
    let posts = if dice.chance(0.4) {
        dice.count(1, 4)
    } else {
        0
    };
    for _ in 0..posts {
        let x = dice.between(0.0, w as f32) as usize;
        let wide = (dice.between(0.006, 0.03) * w as f32) as usize + 1;
        let top = (dice.between(0.0, 0.5) * h as f32) as usize;
        let colour = near(dice, [95.0, 92.0, 90.0], 50.0);
        frame.block((x, top), (wide, h - top), |dx, _| {
            scaled(colour, 0.7 + 0.5 * dx as f32 / wide as f32)
        });
    }
}

fn sky(dice: &mut Dice) -> (Rgb, Rgb) {
    let zenith = match dice.below(5) {
        0 | 1 => within(dice, (200.0, 220.0), (0.4, 0.8), (0.65, 0.95)),
        2 => near(dice, [165.0, 172.0, 180.0], 30.0),
        3 => hsv(dice.between(210.0, 250.0), 0.5, dice.between(0.15, 0.4)),
        _ => hsv(dice.between(15.0, 40.0), dice.between(0.3, 0.6), 0.85),
    };
    let pale = mix(zenith, [240.0, 238.0, 232.0], dice.between(0.2, 0.7));
    (zenith, pale)
}

fn ground(frame: &mut Frame, dice: &mut Dice, horizon: usize) {
    let (w, h) = frame.size();
    let base = match dice.below(5) {
        0 | 1 => within(dice, (70.0, 115.0), (0.3, 0.7), (0.3, 0.6)),
        2 => near(dice, [110.0, 110.0, 112.0], 35.0),
        3 => near(dice, [205.0, 185.0, 145.0], 25.0),
        _ => within(dice, (190.0, 215.0), (0.3, 0.6), (0.35, 0.6)),
    };
    let grain = noise::field(dice, w, h, dice_cell(w));
    let contrast = dice.between(0.2, 0.9);
    let lane = dice.chance(0.3).then(|| dice.between(0.2, 0.8) * w as f32);
    frame.each(horizon, h, |x, y| {
        // Rows are taken farther apart towards the horizon: texture shrinks with distance.
        let near_by = (y - horizon) as f32 / (h - horizon).max(1) as f32;
        let row = (near_by.sqrt() * (h - 1) as f32) as usize;
        let value = grain[row * w + x];
        let colour = scaled(base, 1.0 + (value - 0.5) * contrast * (0.3 + near_by));
        match lane {
            Some(foot) if ((x as f32 - foot) / (0.02 + near_by)).abs() < 0.035 * w as f32 => {
                mix(colour, [225.0, 222.0, 205.0], 0.7)
            }
            _ => colour,
        }
    });
}

fn dice_cell(width: usize) -> f32 {
    width as f32 / 12.0
}

fn skyline(frame: &mut Frame, dice: &mut Dice, horizon: usize) {
    let (w, _) = frame.size();
    let mut x = 0;
    while x < w {
        let wide = (dice.between(0.06, 0.25) * w as f32) as usize + 4;
        let tall = ((dice.between(0.2, 1.0) * horizon as f32) as usize).min(horizon);
        let wall = near(dice, [150.0, 135.0, 122.0], 70.0);
        let pane = if dice.chance(0.5) {
            scaled(wall, 0.5)
        } else {
            near(dice, [200.0, 210.0, 220.0], 40.0)
        };
        let (across, down) = (dice.count(5, 16), dice.count(6, 18));
        let (frame_x, frame_y) = (across / 3 + 1, down / 3 + 1);
        let far = dice.between(0.0, 0.5);
        frame.block((x, horizon - tall), (wide, tall), |dx, dy| {
            let window = dx % across > frame_x && dy % down > frame_y;
            mix(if window { pane } else { wall }, [190.0, 195.0, 200.0], far)
        });
        x += wide;
    }
}

fn trees(frame: &mut Frame, dice: &mut Dice, horizon: usize) {
    let (w, h) = frame.size();
    let leaf = within(dice, (60.0, 130.0), (0.25, 0.6), (0.2, 0.45));
    let crowns = noise::field(dice, w, h, w as f32 / 5.0);
    let leaves = noise::field(dice, w, h, 6.0);
    let tall = dice.between(0.2, 0.8) * horizon as f32;
    frame.touch(0, horizon, |x, y, under| {
        let up = (horizon - y) as f32 / tall.max(1.0);
        // The edge of the crowns follows the coarse noise; its light the fine one.
        if crowns[(horizon / 2).min(h - 1) * w + x] * 0.6 + crowns[y * w + x] * 0.6 > up {
            scaled(leaf, 0.4 + 1.3 * leaves[y * w + x])
        } else {
            under
        }
    });
}

/// A wall with what hangs on it, and a floor or table.
fn room(frame: &mut Frame, dice: &mut Dice) {
    let (w, h) = frame.size();
    let edge = (h as f32 * dice.between(0.35, 0.95)) as usize;
    let paint = wall_paint(dice);
    let stripe = mix(paint, any(dice), dice.between(0.0, 0.4));
    let (kind, period) = (dice.below(5), dice.count(8, 50));
    let tone = noise::field(dice, w, h, w as f32 / 3.0);
    let lamp = (
        dice.between(0.0, 1.0) * w as f32,
        dice.between(-0.2, 0.6) * h as f32,
    );
    let reach = dice.between(0.5, 1.5) * w as f32;
    frame.each(0, edge, |x, y| {
        let colour = match kind {
            0 if (x / period) % 2 == 0 => stripe,
            1 if x % period < 2 || y % (period / 2 + 2) < 2 => stripe,
            2 if (x % period).pow(2) + (y % period).pow(2) < period => stripe,
            _ => paint,
        };
        let (dx, dy) = (x as f32 - lamp.0, y as f32 - lamp.1);
        let glow = 1.15 - 0.5 * ((dx * dx + dy * dy).sqrt() / reach).min(1.2);
        scaled(colour, glow * (0.85 + 0.3 * tone[y * w + x]))
    });
    for _ in 0..dice.count(0, 3) {
        frame_on_wall(frame, dice, edge);
    }
    planks(frame, dice, edge);
}

fn wall_paint(dice: &mut Dice) -> Rgb {
    if dice.chance(0.6) {
        within(dice, (20.0, 60.0), (0.02, 0.3), (0.5, 0.95))
    } else {
        within(dice, (0.0, 360.0), (0.05, 0.5), (0.3, 0.9))
    }
}

/// A window, a picture or a cupboard door: rectangles in rectangles.
fn frame_on_wall(frame: &mut Frame, dice: &mut Dice, edge: usize) {
    let (w, h) = frame.size();
    let wide = (dice.between(0.1, 0.4) * w as f32) as usize + 6;
    let tall = (dice.between(0.1, 0.5) * h as f32) as usize + 6;
    let x = dice.between(0.0, w as f32 * 0.9) as usize;
    let y = dice.between(0.0, edge as f32 * 0.7) as usize;
    let tall = tall.min(edge.saturating_sub(y));
    let (rim, inside, other) = (any(dice), any(dice), any(dice));
    let thick = dice.count(2, 7);
    let panes = dice.count(1, 3);
    let split = dice.between(0.2, 0.8) * tall as f32;
    let tone = noise::field(dice, wide, tall.max(1), 12.0);
    frame.block((x, y), (wide, tall), |dx, dy| {
        let bar = dx < thick
            || dy < thick
            || dx + thick >= wide
            || dy + thick >= tall
            || (panes > 1 && dx % (wide / panes).max(1) < thick / 2);
        let value = tone[dy * wide + dx];
        if bar {
            rim
        } else if dy as f32 > split + (value - 0.5) * 30.0 {
            scaled(other, 0.6 + 0.8 * value)
        } else {
            scaled(inside, 0.7 + 0.6 * value)
        }
    });
}

/// A floor or table top of boards, tiles or cloth, in perspective.
fn planks(frame: &mut Frame, dice: &mut Dice, edge: usize) {
    let (w, h) = frame.size();
    let wood = within(dice, (15.0, 38.0), (0.2, 0.65), (0.25, 0.75));
    let base = if dice.chance(0.65) { wood } else { any(dice) };
    let grain = noise::field(dice, w, h, 30.0);
    let boards = dice.between(3.0, 14.0);
    let vanishing = dice.between(-0.5, 1.5) * w as f32;
    let kind = dice.below(3);
    let shine = dice.between(0.0, 0.35);
    frame.each(edge, h, |x, y| {
        let depth = (y - edge) as f32 / (h - edge).max(1) as f32;
        let away = 1.0 / (0.25 + depth);
        let across = ((x as f32 - vanishing) * away / w as f32 + 8.0) * boards / 4.0;
        let along = away * boards;
        let board = (across.floor() * 7.31).sin() * 0.12;
        let joint = across.fract() < 0.035;
        let streak = grain[y * w + (x / 3 + (across * 17.0) as usize) % w];
        let tone = match kind {
            0 if joint => 0.55,
            0 => 1.0 + board + (streak - 0.5) * 0.5,
            1 if joint || along.fract() < 0.05 => 0.6,
            1 if (across.floor() as i32 + along.floor() as i32) % 2 == 0 => 0.8 + 0.2 * streak,
            _ => 0.85 + 0.3 * streak,
        };
        scaled(base, tone * (1.0 + shine * (1.0 - depth)))
    });
}

/// A wall, stone, foliage or cloth that fills the picture: two or three colours of fractal noise.
fn surface(frame: &mut Frame, dice: &mut Dice) {
    let (w, h) = frame.size();
    let first = any(dice);
    let second = if dice.chance(0.7) {
        scaled(first, dice.between(0.3, 1.6))
    } else {
        any(dice)
    };
    let third = near(dice, mix(first, second, 0.5), 60.0);
    let cell = dice.scale(4.0, 120.0);
    let coarse = noise::field(dice, w, h, cell);
    let fine_cell = dice.scale(2.0, 16.0);
    let fine = noise::field(dice, w, h, fine_cell);
    let edge = dice.between(1.0, 6.0);
    let rough = dice.between(0.1, 0.9);
    let bricks = dice
        .chance(0.2)
        .then(|| (dice.count(14, 40), dice.count(7, 18)));
    frame.each(0, h, |x, y| {
        let i = y * w + x;
        let t = ((coarse[i] - 0.5) * edge + 0.5).clamp(0.0, 1.0);
        let mut colour = mix(
            mix(first, second, t),
            third,
            (fine[i] - 0.3).clamp(0.0, 0.5),
        );
        if let Some((wide, tall)) = bricks {
            let shift = if (y / tall) % 2 == 0 { wide / 2 } else { 0 };
            if y % tall < 2 || (x + shift) % wide < 2 {
                colour = mix(colour, [190.0, 185.0, 178.0], 0.7);
            }
        }
        scaled(colour, 1.0 + (fine[i] - 0.5) * rough)
    });
}

/// Strokes that run along a flow, like fur, grass and hair.
fn weave(frame: &mut Frame, dice: &mut Dice) {
    let (w, h) = frame.size();
    let first = any(dice);
    let second = scaled(first, dice.between(0.3, 0.8));
    let long = dice.count(6, 22);
    let grain = noise::field(dice, w, h, 2.0);
    let flow = noise::field(dice, w, h, w as f32 / 3.0);
    let share = dice.pick(&[3.0, 6.0, 10.0]);
    let patches = noise::field(dice, w, h, w as f32 / share);
    let light = any(dice);
    let swirl = dice.between(1.0, 6.0);
    let contrast = dice.between(1.0, 3.0);
    // Every third pixel along the stroke is enough for a mean.
    frame.each(0, h, |x, y| {
        let i = y * w + x;
        let (sin, cos) = (flow[i] * swirl).sin_cos();
        let mut sum = 0.0;
        let mut steps = 0;
        for step in (0..long).step_by(3) {
            let sx = (x as f32 + cos * step as f32).clamp(0.0, (w - 1) as f32) as usize;
            let sy = (y as f32 + sin * step as f32).clamp(0.0, (h - 1) as f32) as usize;
            sum += grain[sy * w + sx];
            steps += 1;
        }
        let t = ((sum / steps as f32 - 0.5) * contrast + 0.5).clamp(0.0, 1.0);
        let patch = ((patches[i] - 0.5) * 5.0).clamp(0.0, 0.8);
        mix(mix(first, second, t), scaled(light, 0.6 + t * 0.6), patch)
    });
}

/// Grains of all sizes and two tones on a ground: gravel, stars, cells under a microscope, crowds.
fn speckles(frame: &mut Frame, dice: &mut Dice) {
    let (w, h) = frame.size();
    let ground = any(dice);
    let tones = [(); 3].map(|()| any(dice));
    let (cell, rough) = (dice.scale(8.0, 80.0), dice.between(0.1, 0.6));
    let tone = noise::field(dice, w, h, cell);
    frame.each(0, h, |x, y| {
        scaled(ground, 1.0 + (tone[y * w + x] - 0.5) * rough)
    });
    let largest = dice.scale(1.5, 12.0);
    let hollow = dice.chance(0.3);
    for _ in 0..dice.count(60, 700) {
        let at = (dice.between(0.0, w as f32), dice.between(0.0, h as f32));
        let radius = largest * dice.between(0.3, 1.0) * w as f32 / 300.0;
        let grain = dice.pick(&tones);
        let grain = near(dice, grain, 25.0);
        let opacity = dice.between(0.4, 1.0);
        frame.glow(at, radius, grain, opacity);
        if hollow {
            frame.glow(at, radius * 0.5, ground, opacity);
        }
    }
}

/// A background far out of focus: large soft discs of light and colour.
fn blur_of_colours(frame: &mut Frame, dice: &mut Dice) {
    let (w, h) = frame.size();
    let cell = w as f32 / dice.pick(&[1.5, 3.0, 5.0]);
    let fields = [(); 3].map(|()| noise::field(dice, w, h, cell));
    let (low, high) = (any(dice), any(dice));
    let gain = dice.between(1.0, 2.2);
    frame.each(0, h, |x, y| {
        let at = |field: &[f32]| {
            ((field[(y / 2 * 2) * w + x / 2 * 2] - 0.5) * gain + 0.5).clamp(0.0, 1.0)
        };
        std::array::from_fn(|c| low[c] + (high[c] - low[c]) * at(&fields[c]))
    });
    frame.soften(dice.between(2.0, 6.0));
    for _ in 0..dice.count(0, 14) {
        let (x, y) = (dice.between(0.0, w as f32), dice.between(0.0, h as f32));
        let radius = dice.between(0.01, 0.07) * w as f32;
        let colour = any(dice);
        frame.glow((x, y), radius, colour, dice.between(0.15, 0.6));
    }
}
