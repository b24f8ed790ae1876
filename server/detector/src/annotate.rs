//! Detections drawn into their picture: boxes, and labels on plates. What is drawn by [`draw_marks`] has the colours
//! and texts of the caller.
//!
//! A class's colour is that of its index, and so the same in every picture, whatever the labels file
//! calls it. The colours of any nine classes in succession are far apart for whoever does not see all
//! colours too, and those of any two of the first 80 can be told apart.

use std::sync::LazyLock;

use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _, point};
use image::{Rgb, RgbImage};

use super::Detection;
use super::boxes::Corners;

/// The colours of classes 1 to 80; then they come again. Made by `annotate/palette.py`. Every release
/// has the same.
#[rustfmt::skip]
#[expect(clippy::unreadable_literal, reason = "colours are written so everywhere")]
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

/// Roboto; `annotate/font.sh` says what is left of it.
static FONT: LazyLock<FontRef> = LazyLock::new(|| {
    let font = FontRef::try_from_slice(include_bytes!("annotate/Roboto-Medium.ttf"));
    font.expect("a font that ships")
});

/// The most boxes that are drawn. More would hide each other, and take seconds of a large picture.
const MOST: usize = 200;

/// The least height of a line of text that can be read, in pixels.
const SMALLEST_TEXT: f32 = 13.0;

/// A dash, and the gap after it, is so many times as long as the line is wide.
const DASH: i64 = 4;

/// Beside a plate's text, of the height of its line.
const PADDING: f32 = 0.2;

/// The colour of a class, by its index from 1.
#[must_use]
pub fn colour(class: usize) -> Rgb<u8> {
    let [_, red, green, blue] = PALETTE[(class - 1) % PALETTE.len()].to_be_bytes();
    Rgb([red, green, blue])
}

/// Black or white, whichever contrasts more with a colour: by 4.5 to 1 at least (WCAG 2, contrast
/// ratio).
#[must_use]
pub fn ink(colour: Rgb<u8>) -> Rgb<u8> {
    let linear = |level: u8| match f32::from(level) / 255.0 {
        dark if dark <= 0.04045 => dark / 12.92,
        light => ((light + 0.055) / 1.055).powf(2.4),
    };
    let [red, green, blue] = colour.0.map(linear);
    let luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    // Where both contrast alike: (L + 0.05) / 0.05 = 1.05 / (L + 0.05).
    if luminance > 0.179 { BLACK } else { WHITE }
}

/// Draws the detections, which are given best first: the best 200, and the best on top. Lines and text grow with the
/// picture, which must not be empty. A label that does not fit in it is made smaller, then cut, then left out.
pub fn draw(picture: &mut RgbImage, detections: &[Detection]) {
    let marks: Vec<Mark> = detections
        .iter()
        .take(MOST)
        .map(|found| Mark {
            corners: found.corners,
            colour: colour(found.class),
            line: Line::Solid,
            label: found.label.clone(),
            // Downwards: what is not certain is not called so.
            ending: format!(" {} %", (found.score * 100.0).floor()),
        })
        .collect();
    let pens = Pens::of(picture.width(), picture.height());
    draw_marks(picture, &marks, pens);
}

/// A box to draw, and what to write at it.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Where, in pixels of the picture. What lies outside is moved to its edge.
    pub corners: Corners,
    /// Of the box's line and the label's plate.
    pub colour: Rgb<u8>,
    /// How the box is drawn.
    pub line: Line,
    /// Written on a plate, and cut if it does not fit in the picture.
    pub label: String,
    /// Written after the label, never cut. If both are empty there is no plate.
    pub ending: String,
}

/// How a box is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Between two lines, black or white, that contrast with it.
    Solid,
    /// As solid, with gaps. There is a dash at every corner.
    Dashed,
    /// One pixel wide, with one outside it that contrasts.
    Thin,
}

/// Draws boxes with their labels: the first 200, the first on top and with the first choice of a place for its label.
/// The picture must not be empty.
pub fn draw_marks(picture: &mut RgbImage, marks: &[Mark], pens: Pens) {
    let marks = &marks[..marks.len().min(MOST)];
    let whole = Area::whole(picture);
    for mark in marks.iter().rev() {
        let area = Area::of(&mark.corners, whole);
        pens.outline(picture, area, mark.colour, mark.line);
    }
    let mut plates: Vec<Plate> = Vec::new();
    for mark in marks {
        if let Some(text) = Text::fitting(&mark.label, &mark.ending, pens.text, whole) {
            let area = place(&text, Area::of(&mark.corners, whole), pens, whole, &plates);
            let colour = mark.colour;
            plates.push(Plate { area, text, colour });
        }
    }
    for plate in plates.iter().rev() {
        plate.draw(picture, pens.casing);
    }
}

/// Writes one line of text, as high as `corners`, which are in pixels of the picture. A text that is wider than they
/// are is cut.
pub fn write(picture: &mut RgbImage, text: &str, corners: &Corners, colour: Rgb<u8>) {
    let area = Area::of(corners, Area::whole(picture));
    let height = area.height() as f32;
    let room = area.width() as f32 / height;
    if let Some(line) = cut(text, room) {
        write_line(picture, &line, height, (area.left as f32, area.top), colour);
    }
}

/// How wide lines and how high texts are, in pixels.
#[derive(Debug, Clone, Copy)]
pub struct Pens {
    line: i64,
    /// On either side of a line.
    casing: i64,
    /// Of a line of text.
    text: f32,
}

impl Pens {
    /// Those that are seen in a picture of this width and height.
    #[must_use]
    pub fn of(width: u32, height: u32) -> Self {
        let side = ((u64::from(width) * u64::from(height)) as f32).sqrt();
        Self {
            line: ((side / 220.0).round() as i64).max(1),
            casing: ((side / 660.0).round() as i64).max(1),
            text: (side / 28.0).round().max(SMALLEST_TEXT),
        }
    }

    /// The line lies inside the box, so that it is seen where the box reaches the picture's edge.
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

/// Pixels; those at `right` and `bottom` are the first outside.
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
        let side = |near: f32, far: f32, most: i64| {
            let near = (near.round() as i64).clamp(0, most - 1);
            (near, (far.round() as i64).clamp(near + 1, most))
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

    /// What of it lies in the picture is filled.
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

    /// Fills what is less than `width` from its edges.
    fn outline(self, picture: &mut RgbImage, width: i64, colour: Rgb<u8>) {
        for side in self.sides(width) {
            side.fill(picture, colour);
        }
    }

    /// What is less than `width` from its top, bottom, left and right edges.
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

    /// Pieces along its longer side with gaps between them, all of about `length`. The first and the last piece are at
    /// its ends.
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

/// A line of text of a size.
#[derive(Debug)]
struct Text {
    line: String,
    height: f32,
    width: f32,
}

impl Text {
    /// A label and what follows it, as large as `height` and the picture allow. `None` where nothing fits, or there
    /// is nothing to write.
    fn fitting(label: &str, ending: &str, height: f32, whole: Area) -> Option<Self> {
        let height = height.min(whole.height() as f32);
        if height < SMALLEST_TEXT || (label.is_empty() && ending.is_empty()) {
            return None;
        }
        // What the label may have of the smallest line, in heights of it, as all widths here.
        let room =
            whole.width() as f32 / SMALLEST_TEXT - width(ending, f32::INFINITY) - 2.0 * PADDING;
        let line = cut(label, room)? + ending;
        let wide = width(&line, f32::INFINITY) + 2.0 * PADDING;
        let fits = (whole.width() as f32 / wide).floor();
        let height = height.min(fits).max(SMALLEST_TEXT);
        Some(Self {
            line,
            height,
            width: height * wide,
        })
    }
}

/// Writes a line of text from its left top corner on.
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
    let coverage = coverage.clamp(0.0, 1.0);
    for (below, above) in pixel.0.iter_mut().zip(colour.0) {
        let mixed = f32::from(*below) * (1.0 - coverage) + f32::from(above) * coverage;
        *below = mixed.round() as u8;
    }
}

/// How wide a text is, in heights of its line. One that is wider than `enough` is not measured to its
/// end, wherever that is.
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

/// A text, with its end replaced by an ellipsis if it is wider than `room`; `None` where not one character fits.
fn cut(text: &str, room: f32) -> Option<String> {
    if width(text, room) > room {
        Some(beginning(text, room - advance('…'))? + "…")
    } else {
        Some(text.to_owned())
    }
}

/// As many of a text's characters as are no wider than `room`; `None` where not even one is.
fn beginning(text: &str, room: f32) -> Option<String> {
    let mut left = room;
    let fits = |character: &char| {
        left -= advance(*character);
        left >= 0.0
    };
    let begun: String = text.chars().take_while(fits).collect();
    (!begun.is_empty()).then(|| begun.trim_end().to_owned())
}

/// A label where it will be drawn.
#[derive(Debug)]
struct Plate {
    area: Area,
    text: Text,
    colour: Rgb<u8>,
}

impl Plate {
    fn draw(&self, picture: &mut RgbImage, casing: i64) {
        let ink = ink(self.colour);
        self.area.grown(casing).fill(picture, ink);
        self.area.fill(picture, self.colour);
        let Text { line, height, .. } = &self.text;
        let left = self.area.left as f32 + height * PADDING;
        write_line(picture, line, *height, (left, self.area.top), ink);
    }
}

/// Where a label hides least of the others': at a corner of its box, outside rather than inside,
/// above rather than below, left rather than right. Always in the picture.
fn place(text: &Text, frame: Area, pens: Pens, whole: Area, others: &[Plate]) -> Area {
    let width = (text.width.ceil() as i64).min(whole.width());
    let height = (text.height.ceil() as i64).min(whole.height());
    let at = |left: i64, top: i64| {
        let left = left.min(whole.right - width).max(0);
        let top = top.min(whole.bottom - height).max(0);
        Area {
            left,
            top,
            right: left + width,
            bottom: top + height,
        }
    };
    let rows = [
        // The box's own line goes on in the plate.
        frame.top + pens.line - height,
        frame.top,
        frame.bottom - pens.line,
        frame.bottom - height,
    ];
    let columns = [frame.left, frame.right - width];
    let places = columns
        .into_iter()
        .flat_map(|left| rows.map(|top| at(left, top)));
    let hidden = |place: &Area| others.iter().map(|other| other.area.overlap(*place)).sum();
    let best: Option<Area> = places.min_by_key(|place| -> i64 { hidden(place) });
    best.expect("there are eight")
}
