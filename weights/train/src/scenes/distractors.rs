//! Things that are none of the classes, many of them nearly: signs that are not stop signs, wheels
//! that are not clocks, picture frames that are not televisions.

use std::f32::consts::{FRAC_PI_8, PI, TAU};

use super::canvas::{Canvas, Ink, shape};
use super::colour::{any, hsv, near, scaled, vivid, within};
use super::creatures::{beast, face, person};
use super::dice::Dice;
use super::objects::Light;

const KINDS: [fn(&mut Canvas, &mut Dice, Light); 21] = [
    blob,
    blob,
    flat_polygon,
    road_sign,
    carton,
    book,
    can,
    cone,
    wheel,
    plate,
    dull_ball,
    star,
    frame,
    plant,
    person,
    bar,
    face,
    beast,
    flower,
    page,
    coin,
];

/// Draws one.
pub fn draw(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    dice.pick(&KINDS)(canvas, dice, light);
}

/// A textured patch of no shape in particular: the world's leaves, stones, cushions.
fn blob(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let corners = dice.count(4, 9);
    let points: Vec<_> = (0..corners)
        .map(|i| {
            let angle = TAU * i as f32 / corners as f32;
            shape::on_circle(dice.between(0.4, 1.0), angle)
        })
        .collect();
    // A round one in an orange's colours would be an orange to anybody.
    let (outline, colour) = if dice.chance(0.6) {
        (shape::smooth(&points), unlike_oranges(dice))
    } else {
        (shape::polygon(&points), any(dice))
    };
    canvas.fill(&outline, &Ink::Flat(colour));
    if dice.chance(0.4) {
        let (stripe, step) = (any(dice), dice.between(0.15, 0.5));
        let slope = dice.between(-0.5, 0.5);
        for i in 0..(2.0 / step) as usize {
            let x = -1.0 + step * i as f32;
            canvas.line_onto(
                &shape::polyline(&[(x, -1.0), (x + slope, 1.0)]),
                step * 0.4,
                &Ink::Flat(stripe),
            );
        }
    }
    let (amount, cell) = (dice.between(0.05, 0.5), dice.scale(2.0, 40.0));
    canvas.grain(dice, amount, cell);
    canvas.shade_across(light.to, light.strength * dice.between(0.2, 1.0));
}

/// Any colour but those of oranges.
fn unlike_oranges(dice: &mut Dice) -> [f32; 3] {
    loop {
        let [red, green, blue] = any(dice);
        if !(0.3 * red..0.85 * red).contains(&green) || blue > 0.5 * green {
            return [red, green, blue];
        }
    }
}

fn flat_polygon(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let corners = dice.count(3, 8);
    let turn = if corners == 8 {
        FRAC_PI_8
    } else {
        dice.between(0.0, TAU)
    };
    // A red octagon would be a stop sign's back; other colours are not.
    let colour = if corners > 5 {
        within(dice, (35.0, 300.0), (0.0, 0.9), (0.3, 0.95))
    } else {
        any(dice)
    };
    canvas.fill(&shape::regular(corners, 1.0, turn), &Ink::Flat(colour));
    if dice.chance(0.5) {
        canvas.onto(
            &shape::regular(corners, dice.between(0.5, 0.9), turn),
            &Ink::Flat(any(dice)),
        );
    }
    canvas.shade_across(light.to, light.strength * 0.7);
    canvas.grain(dice, 0.12, 10.0);
}

/// Warning triangles, speed limits, arrows, boards with writing.
fn road_sign(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let white = near(dice, [235.0, 233.0, 228.0], 12.0);
    let red = hsv(dice.between(-6.0, 6.0), 0.9, dice.between(0.6, 0.85));
    let ink = near(dice, [25.0, 25.0, 28.0], 15.0);
    match dice.below(5) {
        0 => {
            canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(red));
            canvas.onto(&shape::disc(0.0, 0.0, 0.78), &Ink::Flat(white));
            writing(canvas, dice, (0.5, 0.3), ink);
        }
        1 => {
            canvas.fill(&shape::regular(3, 1.0, -PI / 2.0), &Ink::Flat(red));
            canvas.onto(&shape::regular(3, 0.72, -PI / 2.0), &Ink::Flat(white));
            canvas.onto(&shape::rectangle(-0.06, -0.3, 0.12, 0.5), &Ink::Flat(ink));
        }
        2 => {
            let blue = hsv(dice.between(205.0, 225.0), 0.85, 0.65);
            canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(blue));
            canvas.line_onto(
                &shape::polyline(&[(0.0, 0.6), (0.0, -0.5)]),
                0.2,
                &Ink::Flat(white),
            );
            canvas.line_onto(
                &shape::polyline(&[(-0.4, -0.1), (0.0, -0.55), (0.4, -0.1)]),
                0.2,
                &Ink::Flat(white),
            );
        }
        3 => {
            let board = dice.pick(&[
                [235.0, 180.0, 30.0],
                [30.0, 110.0, 70.0],
                [40.0, 80.0, 160.0],
                [190.0, 40.0, 40.0],
            ]);
            let high = dice.between(0.3, 0.7);
            canvas.fill(
                &shape::rounded(-1.0, -high, 2.0, 2.0 * high, 0.08),
                &Ink::Flat(near(dice, board, 15.0)),
            );
            writing(canvas, dice, (0.8, high * 0.7), white);
        }
        _ => {
            canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(red));
            canvas.onto(&shape::rectangle(-0.7, -0.16, 1.4, 0.32), &Ink::Flat(white));
        }
    }
    canvas.shade_across(light.to, light.strength * 0.6);
    canvas.grain(dice, 0.1, 16.0);
}

/// Strokes that look like writing from afar, within `half` a width and height of the centre.
fn writing(canvas: &mut Canvas, dice: &mut Dice, half: (f32, f32), ink: [f32; 3]) {
    let lines = dice.count(1, 3);
    let high = half.1 * 2.0 / lines as f32;
    for line in 0..lines {
        let top = -half.1 + high * line as f32;
        let letters = dice.count(2, 7);
        let wide = half.0 * 2.0 / letters as f32;
        for letter in 0..letters {
            let left = -half.0 + wide * letter as f32;
            let points: Vec<_> = (0..dice.count(3, 5))
                .map(|_| {
                    (
                        left + dice.between(0.1, 0.8) * wide,
                        top + dice.between(0.1, 0.8) * high,
                    )
                })
                .collect();
            canvas.line_onto(
                &shape::polyline(&points),
                wide.min(high) * 0.16,
                &Ink::Flat(ink),
            );
        }
    }
}

fn carton(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let colour = any(dice);
    let (w, h, d) = (
        dice.between(0.4, 0.75),
        dice.between(0.3, 0.75),
        dice.between(0.1, 0.25),
    );
    let faces = [
        ([(-w, -h), (w, -h), (w, h), (-w, h)], 1.0),
        ([(-w, -h), (-w + d, -h - d), (w + d, -h - d), (w, -h)], 1.25),
        (
            [(w, -h), (w + d, -h - d), (w + d, h - d), (w, h)],
            0.65 + 0.2 * light.to.0,
        ),
    ];
    for (face, tone) in faces {
        canvas.fill(&shape::polygon(&face), &Ink::Flat(scaled(colour, tone)));
    }
    if dice.chance(0.6) {
        let print = vivid(dice);
        canvas.onto(
            &shape::rectangle(-w * 0.7, -h * 0.5, w * 1.4, h * dice.between(0.3, 1.0)),
            &Ink::Flat(print),
        );
        let ink = any(dice);
        writing(canvas, dice, (w * 0.6, h * 0.4), ink);
    }
    canvas.grain(dice, 0.12, 14.0);
}

fn book(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let high = dice.between(0.6, 1.0);
    let mut x = -0.9;
    while x < 0.8 {
        let wide = dice.between(0.1, 0.3);
        let tall = high * dice.between(0.75, 1.0);
        let cover = any(dice);
        canvas.fill(
            &shape::rectangle(x, high - 2.0 * tall, wide, 2.0 * tall),
            &Ink::Flat(cover),
        );
        let title = any(dice);
        canvas.onto(
            &shape::rectangle(x + wide * 0.25, high - 1.6 * tall, wide * 0.5, tall * 0.8),
            &Ink::Flat(title),
        );
        x += wide + 0.01;
        if dice.chance(0.25) {
            break;
        }
    }
    canvas.shade_across(light.to, light.strength * 0.6);
    canvas.grain(dice, 0.1, 8.0);
}

/// A tin, a drum, a roll or a lamp shade: a cylinder without a neck or a handle.
fn can(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let (half, colour) = (dice.between(0.35, 0.9), any(dice));
    let open = half * dice.between(0.1, 0.3);
    let (top, bottom) = (-0.98 + open, 0.98 - open);
    canvas.fill(&shape::ellipse(0.0, bottom, half, open), &Ink::Flat(colour));
    canvas.fill(
        &shape::rectangle(-half, top, 2.0 * half, bottom - top),
        &Ink::Flat(colour),
    );
    for _ in 0..dice.count(0, 3) {
        let y = dice.between(top + 0.2, bottom);
        canvas.onto(
            &shape::rectangle(-half, y, 2.0 * half, dice.between(0.05, 0.4)),
            &Ink::Flat(any(dice)),
        );
    }
    canvas.shade_cylinder(half, light.to.0, light.strength);
    canvas.fill(
        &shape::ellipse(0.0, top, half, open),
        &Ink::Flat(scaled(colour, 1.2)),
    );
    canvas.onto(
        &shape::ellipse(0.0, top, half * 0.85, open * 0.8),
        &Ink::Flat(near(dice, [170.0, 170.0, 172.0], 40.0)),
    );
    canvas.grain(dice, 0.08, 12.0);
}

fn cone(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let colour = vivid(dice);
    let half = dice.between(0.3, 0.8);
    let sides = [(0.0, -1.0), (half, 0.85), (0.0, 1.0), (-half, 0.85)];
    canvas.fill(&shape::polygon(&sides), &Ink::Flat(colour));
    if dice.chance(0.5) {
        let stripe = shape::rectangle(-1.0, -0.1, 2.0, 0.3);
        canvas.onto(&stripe, &Ink::Flat([235.0; 3]));
    }
    canvas.shade_cylinder(half, light.to.0, light.strength);
    canvas.grain(dice, 0.1, 8.0);
}

/// Wheels, fans, buttons, eyes and targets: rings and spokes about a centre.
fn wheel(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let tyre = near(dice, [32.0, 32.0, 34.0], 20.0);
    let outer = if dice.chance(0.5) { tyre } else { any(dice) };
    canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(outer));
    let mut radius = dice.between(0.6, 0.85);
    for _ in 0..dice.count(1, 3) {
        canvas.onto(&shape::disc(0.0, 0.0, radius), &Ink::Flat(any(dice)));
        radius *= dice.between(0.3, 0.85);
    }
    if dice.chance(0.6) {
        let (spoke, count) = (any(dice), dice.count(5, 14));
        let width = dice.between(0.03, 0.14);
        for i in 0..count {
            let end = shape::on_circle(0.72, TAU * i as f32 / count as f32);
            canvas.line_onto(
                &shape::polyline(&[(0.0, 0.0), end]),
                width,
                &Ink::Flat(spoke),
            );
        }
    }
    if dice.chance(0.3) {
        // An eye's pupil and its highlight.
        canvas.onto(
            &shape::ellipse(0.0, 0.0, dice.between(0.15, 0.5), 0.6),
            &Ink::Flat([12.0; 3]),
        );
        canvas.onto(&shape::disc(-0.2, -0.25, 0.12), &Ink::Flat([245.0; 3]));
    }
    canvas.shade_across(light.to, light.strength * 0.7);
    canvas.grain(dice, 0.08, 10.0);
}

/// A plate, a lid, a bowl from above, or a hoop.
fn plate(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let glaze = if dice.chance(0.5) {
        near(dice, [232.0, 230.0, 226.0], 14.0)
    } else {
        any(dice)
    };
    canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(glaze));
    let inner = dice.between(0.55, 0.75);
    canvas.onto(
        &shape::disc(0.0, 0.0, inner),
        &Ink::Flat(scaled(glaze, 0.9)),
    );
    canvas.line_onto(
        &shape::disc(0.0, 0.0, inner),
        0.03,
        &Ink::Flat(scaled(glaze, 0.7)),
    );
    if dice.chance(0.4) {
        canvas.line_onto(&shape::disc(0.0, 0.0, 0.92), 0.05, &Ink::Flat(vivid(dice)));
    }
    canvas.shade_across(light.to, light.strength * 0.6);
    canvas.grain(dice, 0.05, 12.0);
    if dice.chance(0.2) {
        canvas.cut(&shape::disc(0.0, 0.0, dice.between(0.8, 0.92)));
    }
}

/// A plain sphere in colours that neither fruit nor the balls have: a lamp, a bauble, a balloon.
fn dull_ball(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let colour = match dice.below(3) {
        0 => within(dice, (190.0, 300.0), (0.3, 0.9), (0.3, 0.9)),
        1 => near(dice, [120.0, 120.0, 122.0], 60.0),
        _ => within(dice, (300.0, 335.0), (0.4, 0.9), (0.5, 0.9)),
    };
    let tall = dice.between(0.75, 1.0);
    canvas.fill(&shape::ellipse(0.0, 0.0, tall, 1.0), &Ink::Flat(colour));
    canvas.round_off(1.0, light.to, light.strength);
    canvas.grain(dice, 0.06, 6.0);
}

fn star(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let points = dice.count(4, 9);
    let inner = dice.between(0.35, 0.75);
    let outline: Vec<_> = (0..2 * points)
        .map(|i| {
            let radius = if i % 2 == 0 { 1.0 } else { inner };
            shape::on_circle(radius, PI * i as f32 / points as f32)
        })
        .collect();
    let petals = dice.chance(0.5);
    let outline = if petals {
        shape::smooth(&outline)
    } else {
        shape::polygon(&outline)
    };
    canvas.fill(&outline, &Ink::Flat(vivid(dice)));
    if petals {
        canvas.onto(&shape::disc(0.0, 0.0, 0.3), &Ink::Flat(any(dice)));
    }
    canvas.shade_across(light.to, light.strength * 0.6);
    canvas.grain(dice, 0.12, 6.0);
}

/// A picture or a mirror in a frame of wood or metal, or a window.
fn frame(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let rim = if dice.chance(0.6) {
        within(dice, (20.0, 48.0), (0.3, 0.8), (0.4, 0.9))
    } else {
        near(dice, [215.0, 213.0, 210.0], 35.0)
    };
    let half = dice.between(0.55, 1.0);
    canvas.fill(
        &shape::rectangle(-1.0, -half, 2.0, 2.0 * half),
        &Ink::Flat(rim),
    );
    let thick = dice.between(0.08, 0.2);
    let inner = shape::rectangle(
        -1.0 + thick,
        -half + thick,
        2.0 - 2.0 * thick,
        2.0 * (half - thick),
    );
    canvas.onto(
        &inner,
        &Ink::Linear(
            (0.0, -half),
            (0.0, half),
            vec![(0.0, any(dice), 1.0), (1.0, any(dice), 1.0)],
        ),
    );
    let landscape = dice.chance(0.5);
    if landscape {
        let hills = [
            (-1.0 + thick, 0.2),
            (-0.4, -0.1),
            (0.1, 0.2),
            (0.5, 0.0),
            (1.0 - thick, 0.3),
            (1.0 - thick, half - thick),
            (-1.0 + thick, half - thick),
        ];
        canvas.onto(&shape::polygon(&hills), &Ink::Flat(any(dice)));
    } else if dice.chance(0.5) {
        // A window's bars.
        canvas.line_onto(
            &shape::polyline(&[(0.0, -1.0), (0.0, 1.0)]),
            0.07,
            &Ink::Flat(rim),
        );
        canvas.line_onto(
            &shape::polyline(&[(-1.0, 0.0), (1.0, 0.0)]),
            0.07,
            &Ink::Flat(rim),
        );
    }
    canvas.shade_across(light.to, light.strength * 0.5);
    canvas.grain(dice, 0.12, 8.0);
}

/// Leaves about a stem, in a pot or without.
fn plant(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let green = within(dice, (70.0, 150.0), (0.4, 0.8), (0.25, 0.6));
    for _ in 0..dice.count(5, 14) {
        let angle = -PI / 2.0 + dice.between(-1.4, 1.4);
        let (x, y) = shape::on_circle(dice.between(0.6, 1.1), angle);
        let (mx, my) = (x * 0.5 - y * 0.14, 0.2 + y * 0.5 + x * 0.14);
        let (nx, ny) = (x * 0.5 + y * 0.14, 0.2 + y * 0.5 - x * 0.14);
        let leaf = shape::smooth(&[(0.0, 0.2), (mx, my), (x, 0.2 + y), (nx, ny)]);
        canvas.fill(&leaf, &Ink::Flat(near(dice, green, 30.0)));
    }
    if dice.chance(0.7) {
        let pot = [(-0.4, 0.2), (0.4, 0.2), (0.3, 0.95), (-0.3, 0.95)];
        canvas.fill(&shape::polygon(&pot), &Ink::Flat(any(dice)));
    }
    canvas.shade_across(light.to, light.strength * 0.6);
    canvas.grain(dice, 0.15, 6.0);
}

/// A stick, a cable, a plank, a pole.
fn bar(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let bend = dice.between(-0.5, 0.5);
    let colour = any(dice);
    let width = dice.between(0.03, 0.35);
    canvas.line(
        &shape::curve(&[
            (-0.85, bend),
            (0.0, -bend * 0.3),
            (0.85, bend * dice.between(-1.0, 1.0)),
        ]),
        width,
        &Ink::Flat(scaled(colour, 0.7)),
    );
    canvas.line_onto(
        &shape::curve(&[
            (-0.85, bend - width * 0.2),
            (0.0, -bend * 0.3 - width * 0.2),
            (0.85, bend),
        ]),
        width * 0.4,
        &Ink::Flat(colour),
    );
    canvas.shade_across(light.to, light.strength * 0.4);
    canvas.grain(dice, 0.15, 5.0);
}

/// Petals in rings about a heart.
fn flower(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let colour = vivid(dice);
    let rings = dice.count(1, 3);
    for ring in 0..rings {
        let (count, reach) = (dice.count(5, 13), 1.0 - 0.3 * ring as f32);
        let (broad, offset) = (
            dice.between(0.6, 1.3) / count as f32,
            dice.between(0.0, TAU),
        );
        let tone = scaled(colour, 1.0 + 0.15 * ring as f32);
        for petal in 0..count {
            let angle = offset + TAU * petal as f32 / count as f32;
            let around = |radius: f32, by: f32| shape::on_circle(radius * reach, angle + by * PI);
            canvas.fill(
                &shape::smooth(&[
                    (0.0, 0.0),
                    around(0.65, -broad),
                    around(1.0, 0.0),
                    around(0.65, broad),
                ]),
                &Ink::Flat(near(dice, tone, 22.0)),
            );
        }
    }
    let heart = any(dice);
    canvas.onto(
        &shape::disc(0.0, 0.0, dice.between(0.1, 0.35)),
        &Ink::Flat(heart),
    );
    canvas.shade_across(light.to, light.strength * 0.7);
    canvas.grain(dice, 0.15, 5.0);
}

/// Print: a sheet or a label with lines of letters, headings and boxes.
fn page(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let paper = near(dice, [228.0, 224.0, 212.0], 30.0);
    let half = dice.between(0.5, 0.95);
    canvas.fill(
        &shape::rectangle(-half, -1.0, 2.0 * half, 2.0),
        &Ink::Flat(paper),
    );
    let ink = near(dice, [45.0, 45.0, 50.0], 35.0);
    let (high, mut y) = (dice.between(0.05, 0.16), -0.88);
    while y + high < 0.9 {
        if dice.chance(0.12) {
            let tall = dice.between(1.0, 4.0) * high;
            let left = dice.between(-half, 0.0) * 0.8;
            canvas.onto(
                &shape::rectangle(left, y, half * dice.between(0.5, 0.9), tall),
                &Ink::Flat(any(dice)),
            );
            y += tall + 0.6 * high;
            continue;
        }
        let end = half * dice.between(0.3, 0.88);
        let mut x = -0.85 * half;
        while x < end {
            let wide = high * dice.between(0.3, 0.8);
            let points: Vec<_> = (0..dice.count(2, 4))
                .map(|_| {
                    (
                        x + dice.between(0.0, 0.8) * wide,
                        y + dice.between(0.0, 0.7) * high,
                    )
                })
                .collect();
            canvas.line_onto(&shape::polyline(&points), high * 0.13, &Ink::Flat(ink));
            x += wide * if dice.chance(0.2) { 2.0 } else { 1.0 };
        }
        y += high * 1.25;
    }
    canvas.shade_across(light.to, light.strength * 0.5);
    canvas.grain(dice, 0.08, 20.0);
}

/// A coin or a medal: a metal disc with a rim and a relief.
fn coin(canvas: &mut Canvas, dice: &mut Dice, light: Light) {
    let metal = if dice.chance(0.5) {
        near(dice, [150.0, 148.0, 142.0], 45.0)
    } else {
        within(dice, (18.0, 46.0), (0.3, 0.7), (0.3, 0.8))
    };
    let (low, high) = (scaled(metal, 0.65), scaled(metal, 1.3));
    canvas.fill(&shape::disc(0.0, 0.0, 1.0), &Ink::Flat(metal));
    canvas.line_onto(&shape::disc(0.0, 0.0, 0.95), 0.08, &Ink::Flat(high));
    canvas.line_onto(
        &shape::disc(0.0, 0.0, dice.between(0.8, 0.9)),
        0.04,
        &Ink::Flat(low),
    );
    let relief: Vec<_> = (0..dice.count(5, 9))
        .map(|i| shape::on_circle(dice.between(0.2, 0.65), i as f32 * 0.9))
        .collect();
    canvas.onto(
        &shape::smooth(&relief),
        &Ink::Flat(scaled(metal, dice.between(0.75, 1.25))),
    );
    canvas.line_onto(&shape::smooth(&relief), 0.05, &Ink::Flat(low));
    if dice.chance(0.5) {
        writing(canvas, dice, (0.5, 0.2), high);
    }
    canvas.shade_across(light.to, light.strength);
    canvas.grain(dice, 0.2, 4.0);
}
