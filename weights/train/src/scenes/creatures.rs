//! Animals and people, which are none of the classes and in most photographs.

use super::canvas::{Canvas, Ink, shape};
use super::colour::{Rgb, any, hsv, near, scaled, within};
use super::dice::Dice;
use super::objects::Light;

/// The head of a cat, a dog or a monkey on its chest: patches of fur, round eyes, nose, whiskers.
pub fn beast(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let (coat, other, third) = (fur(dice), fur(dice), fur(dice));
    if dice.chance(0.8) {
        let (wide, side) = (dice.between(0.5, 1.1), dice.between(-0.5, 0.5));
        let chest = [
            (-0.5, 0.2),
            (0.5, 0.2),
            (wide + side, 1.4),
            (side - wide, 1.4),
        ];
        canvas.fill(&shape::smooth(&chest), &Ink::Flat(other));
    }
    ears(canvas, dice, coat);
    let (wide, tall) = (dice.between(0.62, 0.85), dice.between(0.6, 0.85));
    canvas.fill(&shape::ellipse(0.0, 0.0, wide, tall), &Ink::Flat(coat));
    markings(canvas, dice, (third, scaled(other, 0.8)));
    let muzzle = scaled(third, dice.between(1.0, 1.5));
    let (broad, low) = (dice.between(0.22, 0.42), dice.between(0.3, 0.48));
    for side in [-1.0, 1.0] {
        let cheek = shape::ellipse(side * broad * 0.5, low, broad * 0.62, 0.22);
        canvas.onto(&cheek, &Ink::Flat(muzzle));
    }
    hairy(canvas, dice);
    canvas.shade_across(light.to, light.strength);
    eyes(canvas, dice);
    let leather = if dice.chance(0.5) {
        near(dice, [195.0, 125.0, 115.0], 35.0)
    } else {
        near(dice, [45.0, 40.0, 40.0], 25.0)
    };
    let half = dice.between(0.08, 0.18);
    let nose = [
        (-half, low - 0.2),
        (half, low - 0.2),
        (0.0, low - 0.2 + half),
    ];
    canvas.onto(&shape::smooth(&nose), &Ink::Flat(leather));
    let mouth = [(-0.25, low + 0.1), (0.0, low), (0.25, low + 0.1)];
    let line = Ink::Flat(scaled(coat, 0.35));
    canvas.line_onto(&shape::curve(&mouth), 0.03, &line);
    if dice.chance(0.6) {
        let white = Ink::Glaze([240.0; 3], 0.8);
        for _ in 0..dice.count(4, 9) {
            let (y, out) = (dice.between(-0.15, 0.2), dice.between(0.7, 1.1));
            for side in [-1.0, 1.0] {
                let whisker = [
                    (side * 0.2, low + y * 0.4),
                    (side * out, low + y * 1.5 - 0.1),
                ];
                canvas.line(&shape::polyline(&whisker), 0.01, &white);
            }
        }
    }
}

/// Pointed ones, or round ones that hang.
fn ears(canvas: &mut Canvas, dice: &mut Dice, coat: Rgb) {
    let inner = near(dice, [200.0, 145.0, 135.0], 35.0);
    let (pointed, high, out) = (
        dice.chance(0.65),
        dice.between(-1.15, -0.8),
        dice.between(0.5, 0.85),
    );
    for side in [-1.0, 1.0] {
        let ear = [(side * 0.1, -0.5), (side * out, high), (side * 0.75, -0.1)];
        let lobe = [
            (side * 0.24, -0.5),
            (side * (out - 0.05), high + 0.16),
            (side * 0.64, -0.2),
        ];
        if pointed {
            canvas.fill(&shape::polygon(&ear), &Ink::Flat(scaled(coat, 0.9)));
            canvas.onto(&shape::polygon(&lobe), &Ink::Flat(inner));
        } else {
            canvas.fill(&shape::smooth(&ear), &Ink::Flat(scaled(coat, 0.75)));
        }
    }
}

/// A blaze or a mask, and stripes: what most coats have, symmetric about the nose.
fn markings(canvas: &mut Canvas, dice: &mut Dice, (blaze, stripes): (Rgb, Rgb)) {
    if dice.chance(0.6) {
        let (brow, cheek) = (dice.between(0.05, 0.3), dice.between(0.2, 0.7));
        let outline = [
            (-brow, -0.7),
            (brow, -0.7),
            (0.12, 0.0),
            (cheek, 0.5),
            (0.0, 0.85),
            (-cheek, 0.5),
            (-0.12, 0.0),
        ];
        canvas.onto(&shape::smooth(&outline), &Ink::Flat(blaze));
    }
    for _ in 0..dice.count(0, 9) {
        let (from, to) = (
            (dice.between(0.0, 0.5), dice.between(-0.8, 0.4)),
            (dice.between(0.2, 0.9), dice.between(-0.9, 0.7)),
        );
        let width = dice.between(0.03, 0.12);
        for side in [-1.0, 1.0] {
            let stripe = [(side * from.0, from.1), (side * to.0, to.1)];
            canvas.line_onto(&shape::polyline(&stripe), width, &Ink::Flat(stripes));
        }
    }
}

/// Two round ones, with slits or wide pupils, that look the same way.
fn eyes(canvas: &mut Canvas, dice: &mut Dice) {
    let iris = within(dice, (20.0, 200.0), (0.1, 0.9), (0.15, 0.9));
    let (apart, size) = (dice.between(0.25, 0.4), dice.between(0.08, 0.18));
    let (slit, gaze) = (dice.between(0.2, 0.95), dice.between(-0.25, 0.25));
    let eye = dice.between(-0.25, 0.0);
    for side in [-1.0, 1.0] {
        let x = side * apart;
        let dark = Ink::Flat([22.0, 18.0, 16.0]);
        let lid = shape::ellipse(x, eye, size * 1.25, size * 1.1);
        canvas.onto(&lid, &dark);
        canvas.onto(&shape::ellipse(x, eye, size, size * 0.9), &Ink::Flat(iris));
        let pupil = x + gaze * size;
        canvas.onto(
            &shape::ellipse(pupil, eye, size * slit * 0.8, size * 0.8),
            &dark,
        );
        let shine = shape::disc(pupil - size * 0.3, eye - size * 0.35, size * 0.2);
        canvas.onto(&shine, &Ink::Flat([240.0; 3]));
    }
}

/// An animal from the side, standing or lying: a trunk, legs, a neck and a head.
pub fn animal(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let (coat, other) = (fur(dice), fur(dice));
    let (back, thick) = (dice.between(-0.3, 0.1), dice.between(0.25, 0.42));
    let (leg, foot) = (dice.between(0.07, 0.16), dice.between(0.4, 1.0));
    for x in [-0.62, -0.45, 0.4, 0.58] {
        let knee = (x + dice.between(-0.1, 0.1), back + 0.6 * foot);
        let path = shape::curve(&[(x, back), knee, (x, back + foot)]);
        canvas.line(
            &path,
            2.0 * leg * dice.between(0.7, 1.0),
            &Ink::Flat(scaled(coat, 0.8)),
        );
    }
    let tail = [(0.7, back), (0.95, back + dice.between(-0.6, 0.5))];
    canvas.line(&shape::polyline(&tail), leg, &Ink::Flat(coat));
    let trunk = [
        (-0.75, back - thick),
        (0.0, back - thick * dice.between(0.8, 1.0)),
        (0.72, back - thick),
        (0.72, back + thick * 0.6),
        (0.0, back + thick),
        (-0.7, back + thick),
    ];
    canvas.fill(&shape::smooth(&trunk), &Ink::Flat(coat));
    let head = (-0.9, back - dice.between(0.2, 0.7));
    let neck = shape::polyline(&[(-0.6, back - thick * 0.3), head]);
    canvas.line(&neck, thick, &Ink::Flat(coat));
    let long = dice.between(0.18, 0.32);
    let nose = (head.0 - 0.9 * long, head.1 + dice.between(0.0, 0.2));
    canvas.fill(&shape::ellipse(head.0, head.1, long, 0.2), &Ink::Flat(coat));
    canvas.line(
        &shape::polyline(&[head, nose]),
        0.2,
        &Ink::Flat(scaled(coat, 0.9)),
    );
    let ear = [
        (head.0, head.1 - 0.1),
        (head.0 + 0.1, head.1 - dice.between(0.25, 0.45)),
        (head.0 + 0.22, head.1 - 0.05),
    ];
    canvas.fill(&shape::smooth(&ear), &Ink::Flat(scaled(coat, 0.7)));
    for _ in 0..dice.count(0, 12) {
        let at = (dice.between(-0.8, 0.8), back + dice.between(-thick, thick));
        let (rx, ry) = (dice.between(0.03, 0.25), dice.between(0.03, 0.2));
        canvas.onto(&shape::ellipse(at.0, at.1, rx, ry), &Ink::Flat(other));
    }
    hairy(canvas, dice);
    canvas.shade_across(light.to, light.strength);
    let eye = shape::disc(head.0 - 0.04, head.1 - 0.05, 0.03);
    canvas.onto(&eye, &Ink::Flat([15.0; 3]));
}

/// The colours of fur: from black over browns and ginger to white.
fn fur(dice: &mut Dice) -> Rgb {
    within(dice, (15.0, 42.0), (0.0, 0.65), (0.1, 0.95))
}

/// Hair all over, of a length that suits the canvas.
fn hairy(canvas: &mut Canvas, dice: &mut Dice) {
    let long = canvas.side() as f32 * dice.between(0.01, 0.04);
    let amount = dice.between(0.4, 1.4);
    canvas.hair(dice, amount, long);
}

/// A face from near by, more or less turned away.
pub fn face(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let skin = within(dice, (8.0, 32.0), (0.2, 0.65), (0.25, 1.0));
    let hair = within(dice, (10.0, 45.0), (0.1, 0.7), (0.05, 0.75));
    let (wide, turn) = (dice.between(0.55, 0.75), dice.between(-0.22, 0.22));
    if dice.chance(0.8) {
        let long = dice.between(-0.2, 0.9);
        canvas.fill(
            &shape::smooth(&[
                (0.0, -1.0),
                (wide * 1.2, -0.6),
                (wide * 1.1, long),
                (-wide * 1.1, long),
                (-wide * 1.2, -0.6),
            ]),
            &Ink::Flat(hair),
        );
    }
    let chin = dice.between(0.85, 1.0);
    canvas.fill(
        &shape::smooth(&[
            (0.0, -0.8),
            (wide, -0.35),
            (wide * 0.85, 0.35),
            (wide * 0.3, chin),
            (-wide * 0.3, chin),
            (-wide * 0.85, 0.35),
            (-wide, -0.35),
        ]),
        &Ink::Flat(skin),
    );
    canvas.shade_across(light.to, light.strength);
    let (dark, apart) = (scaled(hair, 0.6), dice.between(0.24, 0.34));
    for side in [-1.0, 1.0] {
        let x = turn + side * apart;
        canvas.onto(
            &shape::ellipse(x, -0.15, 0.14, 0.08),
            &Ink::Flat([232.0; 3]),
        );
        let iris = any(dice);
        canvas.onto(
            &shape::disc(x + turn * 0.3, -0.15, 0.075),
            &Ink::Flat(scaled(iris, 0.5)),
        );
        canvas.line_onto(
            &shape::curve(&[(x - 0.17, -0.32), (x, -0.39), (x + 0.17, -0.32)]),
            dice.between(0.03, 0.09),
            &Ink::Flat(dark),
        );
    }
    canvas.line_onto(
        &shape::curve(&[(turn, -0.1), (turn * 1.7 + 0.08, 0.25), (turn - 0.08, 0.3)]),
        0.05,
        &Ink::Flat(scaled(skin, 0.7)),
    );
    let smile = dice.between(-0.05, 0.15);
    let lips = scaled(
        [skin[0], skin[1] * 0.65, skin[2] * 0.65],
        dice.between(0.6, 1.0),
    );
    canvas.line_onto(
        &shape::curve(&[(turn - 0.25, 0.5), (turn, 0.5 + smile), (turn + 0.25, 0.5)]),
        dice.between(0.06, 0.14),
        &Ink::Flat(lips),
    );
    canvas.grain(dice, 0.1, 8.0);
}

/// Head and shoulders.
pub fn portrait(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let cloth = any(dice);
    let wide = dice.between(0.9, 1.3);
    let shoulders = [
        (-0.3, 0.55),
        (0.3, 0.55),
        (wide, 1.0),
        (wide, 1.45),
        (-wide, 1.45),
        (-wide, 1.0),
    ];
    canvas.fill(&shape::smooth(&shoulders), &Ink::Flat(cloth));
    folds(canvas, dice, cloth, (0.7, 1.4));
    face(canvas, dice, light);
    if dice.chance(0.3) {
        let hat = any(dice);
        let crown = [(-0.55, -0.6), (-0.45, -1.2), (0.45, -1.2), (0.55, -0.6)];
        canvas.fill(&shape::smooth(&crown), &Ink::Flat(hat));
        canvas.line(
            &shape::polyline(&[(-0.8, -0.6), (0.8, -0.6)]),
            0.12,
            &Ink::Flat(scaled(hat, 0.8)),
        );
    }
    canvas.grain(dice, 0.08, 3.0);
}

/// A head on shoulders, without a face.
pub fn person(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let skin = within(dice, (12.0, 30.0), (0.3, 0.65), (0.3, 0.95));
    let coat = any(dice);
    let hair = hsv(dice.between(15.0, 40.0), 0.5, dice.between(0.08, 0.5));
    canvas.fill(
        &shape::smooth(&[
            (-0.14, -0.4),
            (0.14, -0.4),
            (0.5, -0.15),
            (0.55, 0.95),
            (-0.55, 0.95),
            (-0.5, -0.15),
        ]),
        &Ink::Flat(coat),
    );
    canvas.fill(&shape::ellipse(0.0, -0.66, 0.24, 0.32), &Ink::Flat(skin));
    canvas.fill(
        &shape::smooth(&[
            (-0.26, -0.66),
            (-0.2, -0.98),
            (0.2, -0.98),
            (0.26, -0.66),
            (0.1, -0.82),
            (-0.1, -0.82),
        ]),
        &Ink::Flat(hair),
    );
    canvas.shade_across(light.to, light.strength * 0.8);
    canvas.grain(dice, 0.12, 8.0);
}

/// Somebody from head to foot, in a coat or in shirt and trousers, with or without a bag.
pub fn figure(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let skin = within(dice, (12.0, 30.0), (0.25, 0.65), (0.3, 0.95));
    // Coats are dark more often than not.
    let tone = if dice.chance(0.6) { 0.4 } else { 1.0 };
    let coat = scaled(any(dice), tone);
    let below = scaled(any(dice), 0.6);
    let stride = dice.between(0.03, 0.2);
    for side in [-1.0, 1.0] {
        let leg = [(side * 0.09, 0.1), (side * stride, 0.95)];
        canvas.line(&shape::polyline(&leg), 0.15, &Ink::Flat(below));
        let shoe = shape::ellipse(side * stride + 0.04, 0.97, 0.12, 0.05);
        canvas.fill(&shoe, &Ink::Flat([28.0, 24.0, 22.0]));
    }
    let hem = dice.between(0.1, 0.7);
    let (broad, flare) = (dice.between(0.2, 0.3), dice.between(0.15, 0.4));
    let trunk = [
        (-0.08, -0.7),
        (0.08, -0.7),
        (broad, -0.58),
        (broad * 0.9, -0.1),
        (flare, hem),
        (-flare, hem),
        (-broad * 0.9, -0.1),
        (-broad, -0.58),
    ];
    canvas.fill(&shape::smooth(&trunk), &Ink::Flat(coat));
    folds(canvas, dice, coat, (-0.5, hem));
    for side in [-1.0, 1.0] {
        let shoulder = (side * broad * 0.85, -0.55);
        let elbow = (side * dice.between(0.25, 0.5), dice.between(-0.4, -0.1));
        let hand = (side * dice.between(0.0, 0.6), dice.between(-0.6, 0.2));
        let arm = shape::curve(&[shoulder, elbow, hand]);
        canvas.line(&arm, 0.13, &Ink::Flat(scaled(coat, 0.9)));
        canvas.fill(&shape::disc(hand.0, hand.1, 0.06), &Ink::Flat(skin));
        if dice.chance(0.25) {
            let bag = shape::rounded(hand.0 - 0.15, hand.1, 0.3, dice.between(0.2, 0.4), 0.04);
            canvas.fill(&bag, &Ink::Flat(any(dice)));
        }
    }
    canvas.fill(&shape::ellipse(0.0, -0.84, 0.1, 0.14), &Ink::Flat(skin));
    let hair = within(dice, (15.0, 40.0), (0.1, 0.6), (0.05, 0.6));
    let cut = [(-0.12, -0.84), (-0.08, -1.0), (0.08, -1.0), (0.12, -0.84)];
    canvas.fill(&shape::smooth(&cut), &Ink::Flat(hair));
    canvas.shade_across(light.to, light.strength);
    canvas.grain(dice, 0.15, 6.0);
}

/// Darker and lighter lines down a cloth, from one height to another.
fn folds(canvas: &mut Canvas, dice: &mut Dice, cloth: Rgb, (top, bottom): (f32, f32)) {
    for _ in 0..dice.count(2, 8) {
        let (from, to) = (dice.between(-0.3, 0.3), dice.between(-0.6, 0.6));
        let fold = [
            (from, top),
            (dice.between(-0.4, 0.4), f32::midpoint(top, bottom)),
            (to, bottom),
        ];
        let tone = scaled(cloth, dice.between(0.5, 1.4));
        let width = dice.between(0.02, 0.1);
        canvas.line_onto(&shape::curve(&fold), width, &Ink::Flat(tone));
    }
}
