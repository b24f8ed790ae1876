//! Draws detections into their picture: boxes, and labels on plates. [`draw_marks`] takes colours and texts from
//! its caller.
//!
//! A class's colour depends only on its index, so it is the same in every picture and with every labels file.
//! Any nine successive classes have very different colours. The colours of any two of the first 80 classes are
//! distinguishable, also for people with colour blindness.

use std::sync::LazyLock;

use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _, point};
use image::{Rgb, RgbImage};

use super::Detection;
use super::boxes::Corners;

/// The colours of classes 1 to 80; class 81 has the first again. Made by `annotate/palette.py`. They must not
/// change from release to release.
#[rustfmt::skip]
#[expect(clippy::unreadable_literal, reason = "the usual notation of colours")]
const PALETTE: [u32; 80] = [
    0xe14b00, 0x1e00ff, 0x78ffff, 0xa596f0, 0x870f78, 0xf0e13c, 0xf09687, 0xa55a96,
    0x3c78ff, 0xc30000, 0x3c0fd2, 0x69e1f0, 0xb487c3, 0x960f4b, 0xd2f096, 0xf0783c,
    0xe1c300, 0x6969d2, 0xb45a4b, 0x690fa5, 0x69d2b4, 0x8787ff, 0x874b78, 0xa5ffc3,
    0xd28769, 0xd2a5ff, 0x783ce1, 0xa5001e, 0xa569b4, 0x87e169, 0x0fb4a5, 0x2d4b87,
    0xd23c78, 0x698700, 0xe196e1, 0x873cc3, 0x783cff, 0xa578e1, 0xb4e1a5, 0x96c35a,
    0x3c5a1e, 0xc36996, 0x5aa54b, 0xb41e69, 0x964ba5, 0x4bc3b4, 0x2dff4b, 0x781eb4,
    0xd2b41e, 0xa5d287, 0xc33ce1, 0xe15a78, 0x963c4b, 0xa5961e, 0xe178e1, 0x96f0d2,
    0x2d9696, 0xf0a5d2, 0x4b69b4, 0xd2e187, 0x690fe1, 0xa54b4b, 0xa5783c, 0x96b45a,
    0x693c96, 0x00a5b4, 0xffb4e1, 0xff5ac3, 0xb4ff78, 0xc33cc3, 0xb40f2d, 0x2d8769,
    0x78c396, 0x960f87, 0xd2a52d, 0xffc3ff, 0xa55af0, 0x78f069, 0xb42d96, 0x1e692d,
];

const BLACK: Rgb<u8> = Rgb([0, 0, 0]);
const WHITE: Rgb<u8> = Rgb([255, 255, 255]);

/// The part of Roboto that `annotate/font.sh` selects.
static FONT: LazyLock<FontRef> = LazyLock::new(|| {
    let font = FontRef::try_from_slice(include_bytes!("annotate/Roboto-Medium.ttf"));
    font.expect("a font that ships")
});

/// Maximum number of boxes that are drawn. More would hide each other, and take seconds in a large picture.
const MAX_BOXES: usize = 200;

/// Minimum height of a readable line of text, in pixels.
const SMALLEST_TEXT: f32 = 13.0;

/// Length of a dash, and of the gap after it, in widths of the line.
const DASH: i64 = 4;

/// Space on the left and on the right of a plate's text, in heights of the text's line.
const PADDING: f32 = 0.2;

/// The colour of a class, by its index from 1.
#[must_use]
pub fn colour(class: usize) -> Rgb<u8> {
    let [_, red, green, blue] = PALETTE[(class - 1) % PALETTE.len()].to_be_bytes();
    Rgb([red, green, blue])
}

/// Black or white: the one with the higher contrast to a colour, which is at least 4.5 to 1 (WCAG 2).
#[must_use]
pub fn ink(colour: Rgb<u8>) -> Rgb<u8> {
    let linear = |level: u8| match f32::from(level) / 255.0 {
        dark if dark <= 0.04045 => dark / 12.92,
        light => ((light + 0.055) / 1.055).powf(2.4),
    };
    let [red, green, blue] = colour.0.map(linear);
    let luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    // Both contrasts are equal at (L + 0.05) / 0.05 = 1.05 / (L + 0.05).
    if luminance > 0.179 { BLACK } else { WHITE }
}

/// Draws the first 200 detections, the first on top; they are sorted, best first. Lines and text grow with the
/// picture, which must not be empty. A label that does not fit into the picture is made smaller, then cut, then
/// left out.
pub fn draw(picture: &mut RgbImage, detections: &[Detection]) {
    let marks: Vec<Mark> = detections
        .iter()
        .take(MAX_BOXES)
        .map(|found| Mark {
            corners: found.corners,
            colour: colour(found.class),
            line: Line::Solid,
            label: found.label.clone(),
            // Rounded down: only a certain detection shows 100 %.
            ending: format!(" {} %", (found.score * 100.0).floor()),
        })
        .collect();
    let pens = Pens::of(picture.width(), picture.height());
    draw_marks(picture, &marks, pens);
}

/// A box to draw, with its text.
#[derive(Debug, Clone)]
pub struct Mark {
    /// The box, in pixels of the picture. Edges outside the picture move to its edge.
    pub corners: Corners,
    /// The colour of the box's line and the label's plate.
    pub colour: Rgb<u8>,
    /// How the box is drawn.
    pub line: Line,
    /// Written on a plate; cut if it does not fit in the picture.
    pub label: String,
    /// Written after the label, never cut. If both are empty, there is no plate.
    pub ending: String,
}

/// How a box is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Between two lines, black or white, for contrast.
    Solid,
    /// Like solid, with gaps; every corner has a dash.
    Dashed,
    /// One pixel wide, with a contrasting pixel outside.
    Thin,
}

/// Draws the first 200 boxes with their labels. The first is on top, and its label is placed first. The picture
/// must not be empty.
pub fn draw_marks(picture: &mut RgbImage, marks: &[Mark], pens: Pens) {
    let drawn = &marks[..marks.len().min(MAX_BOXES)];
    let whole = Area::whole(picture);
    for mark in drawn.iter().rev() {
        let area = Area::of(&mark.corners, whole);
        pens.outline(picture, area, mark.colour, mark.line);
    }
    let mut plates: Vec<Plate> = Vec::new();
    for mark in drawn {
        if let Some(text) = Text::fitting(&mark.label, &mark.ending, pens.text, whole) {
            let area = position(&text, Area::of(&mark.corners, whole), pens, whole, &plates);
            let colour = mark.colour;
            plates.push(Plate { area, text, colour });
        }
    }
    for plate in plates.iter().rev() {
        plate.draw(picture, pens.casing);
    }
}

/// Writes one line of text into a box in pixels of the picture, as high as the box, and cut if it is wider.
pub fn write(picture: &mut RgbImage, text: &str, corners: &Corners, colour: Rgb<u8>) {
    let area = Area::of(corners, Area::whole(picture));
    let height = area.height() as f32;
    let room = area.width() as f32 / height;
    if let Some(line) = cut(text, room) {
        write_line(picture, &line, height, (area.left as f32, area.top), colour);
    }
}

/// The width of lines and the height of text, in pixels.
#[derive(Debug, Clone, Copy)]
pub struct Pens {
    line: i64,
    /// The contrasting line on either side.
    casing: i64,
    text: f32,
}

impl Pens {
    /// Pens that are easy to see in a picture of this width and height.
    #[must_use]
    pub fn of(width: u32, height: u32) -> Self {
        let side = ((u64::from(width) * u64::from(height)) as f32).sqrt();
        Self {
            line: ((side / 220.0).round() as i64).max(1),
            casing: ((side / 660.0).round() as i64).max(1),
            text: (side / 28.0).round().max(SMALLEST_TEXT),
        }
    }

    /// The line lies inside the box, so that it also shows at the picture's edge.
    fn outline(self, picture: &mut RgbImage, area: Area, colour: Rgb<u8>, line: Line) {
        let side = area.width().min(area.height());
        let width = self.line.min(side / 4).max(1);
        match line {
            Line::Solid => {
                area.grown(self.casing)
                    .outline(picture, width + 2 * self.casing, ink(colour));
                area.outline(picture, width, colour);
            }
            Line::Dashed => {
                let sides = area.sides(width);
                let dashes = || sides.iter().flat_map(|side| side.dashes(DASH * self.line));
                for dash in dashes() {
                    dash.grown(self.casing).fill(picture, ink(colour));
                }
                for dash in dashes() {
                    dash.fill(picture, colour);
                }
            }
            Line::Thin => {
                area.grown(1).outline(picture, 1, ink(colour));
                area.outline(picture, 1, colour);
            }
        }
    }
}

/// A rectangle of pixels; `right` and `bottom` are the first outside.
#[derive(Debug, Clone, Copy)]
struct Area {
    left: i64,
    top: i64,
    right: i64,
    bottom: i64,
}

impl Area {
    fn whole(picture: &RgbImage) -> Self {
        Self {
            left: 0,
            top: 0,
            right: i64::from(picture.width()),
            bottom: i64::from(picture.height()),
        }
    }

    /// At least one pixel of the picture.
    fn of(corners: &Corners, whole: Self) -> Self {
        let side = |near: f32, far: f32, end: i64| {
            let first = (near.round() as i64).clamp(0, end - 1);
            (first, (far.round() as i64).clamp(first + 1, end))
        };
        let (left, right) = side(corners.x1, corners.x2, whole.right);
        let (top, bottom) = side(corners.y1, corners.y2, whole.bottom);
        Self {
            left,
            top,
            right,
            bottom,
        }
    }

    fn width(self) -> i64 {
        self.right - self.left
    }

    fn height(self) -> i64 {
        self.bottom - self.top
    }

    fn grown(self, by: i64) -> Self {
        Self {
            left: self.left - by,
            top: self.top - by,
            right: self.right + by,
            bottom: self.bottom + by,
        }
    }

    fn common(self, other: Self) -> Self {
        Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }

    /// In pixels.
    fn overlap(self, other: Self) -> i64 {
        let common = self.common(other);
        common.width().max(0) * common.height().max(0)
    }

    /// Fills the part that lies in the picture.
    fn fill(self, picture: &mut RgbImage, colour: Rgb<u8>) {
        let inside = self.common(Self::whole(picture));
        if inside.left >= inside.right {
            return;
        }
        let columns = inside.left as usize..inside.right as usize;
        let stride = picture.width() as usize;
        let (pixels, _) = picture.as_chunks_mut::<3>();
        for row in inside.top..inside.bottom {
            pixels[row as usize * stride..][columns.clone()].fill(colour.0);
        }
    }

    /// Fills its edges, `width` pixels wide.
    fn outline(self, picture: &mut RgbImage, width: i64, colour: Rgb<u8>) {
        for side in self.sides(width) {
            side.fill(picture, colour);
        }
    }

    /// Its top, bottom, left and right edges, `width` pixels wide.
    fn sides(self, width: i64) -> [Self; 4] {
        let Self {
            left,
            top,
            right,
            bottom,
        } = self;
        let (across, down) = (width.min(self.width()), width.min(self.height()));
        [
            Self {
                bottom: top + down,
                ..self
            },
            Self {
                top: bottom - down,
                ..self
            },
            Self {
                right: left + across,
                ..self
            },
            Self {
                left: right - across,
                ..self
            },
        ]
    }

    /// Pieces along its longer side, with gaps between them. Pieces and gaps are about `length` pixels long. There is
    /// a piece at each end.
    fn dashes(self, length: i64) -> impl Iterator<Item = Self> {
        let long = self.width().max(self.height());
        let pieces = (long / length) | 1;
        let piece = move |index: i64| {
            let (from, to) = (long * index / pieces, long * (index + 1) / pieces);
            if self.width() > self.height() {
                Self {
                    left: self.left + from,
                    right: self.left + to,
                    ..self
                }
            } else {
                Self {
                    top: self.top + from,
                    bottom: self.top + to,
                    ..self
                }
            }
        };
        (0..pieces).step_by(2).map(piece)
    }
}

/// A line of text with its size in pixels.
#[derive(Debug)]
struct Text {
    line: String,
    height: f32,
    width: f32,
}

impl Text {
    /// A label and its ending, as large as `height` and the picture allow. `None` if nothing fits, or there is
    /// nothing to write.
    fn fitting(label: &str, ending: &str, height: f32, whole: Area) -> Option<Self> {
        let highest = height.min(whole.height() as f32);
        if highest < SMALLEST_TEXT || (label.is_empty() && ending.is_empty()) {
            return None;
        }
        // The label's room in the smallest line. All widths here are in heights of the line.
        let room =
            whole.width() as f32 / SMALLEST_TEXT - width(ending, f32::INFINITY) - 2.0 * PADDING;
        let line = cut(label, room)? + ending;
        let wide = width(&line, f32::INFINITY) + 2.0 * PADDING;
        let fits = (whole.width() as f32 / wide).floor();
        let height = highest.min(fits).max(SMALLEST_TEXT);
        Some(Self {
            line,
            height,
            width: height * wide,
        })
    }
}

/// Writes a line of text with its top left corner at a pixel.
fn write_line(
    picture: &mut RgbImage,
    line: &str,
    height: f32,
    (left, top): (f32, i64),
    colour: Rgb<u8>,
) {
    let scale = PxScale::from(height);
    let font = FONT.as_scaled(scale);
    let mut x = left;
    let baseline = top as f32 + font.ascent().round();
    for character in line.chars() {
        let id = FONT.glyph_id(character);
        let glyph = id.with_scale_and_position(scale, point(x, baseline));
        x += font.h_advance(id);
        let Some(outlined) = FONT.outline_glyph(glyph) else {
            continue;
        };
        let corner = outlined.px_bounds().min;
        outlined.draw(|column, row, coverage| {
            let x = corner.x as i64 + i64::from(column);
            let y = corner.y as i64 + i64::from(row);
            if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
                && let Some(pixel) = picture.get_pixel_mut_checked(x, y)
            {
                blend(pixel, colour, coverage);
            }
        });
    }
}

fn blend(pixel: &mut Rgb<u8>, colour: Rgb<u8>, coverage: f32) {
    let share = coverage.clamp(0.0, 1.0);
    for (below, above) in pixel.0.iter_mut().zip(colour.0) {
        let mixed = f32::from(*below) * (1.0 - share) + f32::from(above) * share;
        *below = mixed.round() as u8;
    }
}

/// The width of a text, in heights of its line. Measuring stops when it exceeds `enough`.
fn width(text: &str, enough: f32) -> f32 {
    let mut sum = 0.0;
    for character in text.chars() {
        sum += advance(character);
        if sum > enough {
            break;
        }
    }
    sum
}

fn advance(character: char) -> f32 {
    FONT.as_scaled(1.0).h_advance(FONT.glyph_id(character))
}

/// A text; if it is wider than `room`, its end is replaced by an ellipsis. `None` if no character fits.
fn cut(text: &str, room: f32) -> Option<String> {
    if width(text, room) > room {
        Some(beginning(text, room - advance('…'))? + "…")
    } else {
        Some(text.to_owned())
    }
}

/// As many characters of a text as fit in `room`; `None` if no character does.
fn beginning(text: &str, room: f32) -> Option<String> {
    let mut left = room;
    let fits = |character: &char| {
        left -= advance(*character);
        left >= 0.0
    };
    let begun: String = text.chars().take_while(fits).collect();
    (!begun.is_empty()).then(|| begun.trim_end().to_owned())
}

/// A label and the area where it will be drawn.
#[derive(Debug)]
struct Plate {
    area: Area,
    text: Text,
    colour: Rgb<u8>,
}

impl Plate {
    fn draw(&self, picture: &mut RgbImage, casing: i64) {
        let contrast = ink(self.colour);
        self.area.grown(casing).fill(picture, contrast);
        self.area.fill(picture, self.colour);
        let Text { line, height, .. } = &self.text;
        let left = self.area.left as f32 + height * PADDING;
        write_line(picture, line, *height, (left, self.area.top), contrast);
    }
}

/// The area in the picture where a label hides as little of the other labels as possible. It lies at a corner of
/// the label's box, preferably outside, above and left.
fn position(text: &Text, frame: Area, pens: Pens, whole: Area, others: &[Plate]) -> Area {
    let width = (text.width.ceil() as i64).min(whole.width());
    let height = (text.height.ceil() as i64).min(whole.height());
    let at = |x: i64, y: i64| {
        let left = x.min(whole.right - width).max(0);
        let top = y.min(whole.bottom - height).max(0);
        Area {
            left,
            top,
            right: left + width,
            bottom: top + height,
        }
    };
    let rows = [
        // The plate covers the box's line.
        frame.top + pens.line - height,
        frame.top,
        frame.bottom - pens.line,
        frame.bottom - height,
    ];
    let columns = [frame.left, frame.right - width];
    let hidden =
        |area: &Area| -> i64 { others.iter().map(|other| other.area.overlap(*area)).sum() };
    columns
        .into_iter()
        .flat_map(|left| rows.map(|top| at(left, top)))
        .min_by_key(hidden)
        .expect("there are eight")
}
