//! Draws a contact sheet: validation pictures with their found, missed and wrong boxes. On it, users first notice
//! mistakes in their labels.

use std::path::Path;

use anyhow::Context as _;
use image::codecs::jpeg::JpegEncoder;
use image::imageops;
use image::{Rgb, RgbImage};
use ssd_detector::annotate::{self, Line, Mark, Pens};
use ssd_detector::boxes::Corners;

use super::Set;
use crate::data;
use crate::measure::voc::{self, Verdict};
use crate::measure::{Box4, Detection, GroundTruth};

/// The maximum number of pictures on a sheet.
const MAX_PICTURES: usize = 24;
/// The maximum number of pictures in a row.
const MAX_COLUMNS: usize = 4;

/// The width and height of a tile. A picture is scaled to fit its tile, and centred. All lengths here are in pixels.
const TILE: (u32, u32) = (400, 300);
/// The space around tiles.
const GAP: u32 = 16;
/// The height of text, and the height of a line with the space below the text.
const TEXT: u32 = 16;
const LINE: u32 = 20;
/// The height of a line of the key.
const KEY: u32 = 28;

const GROUND: Rgb<u8> = Rgb([32, 32, 34]);
const INK: Rgb<u8> = Rgb([232, 232, 232]);

// Colour-blind people see this red as dark and this orange as light. Lines and labels differ too.
const FOUND: Rgb<u8> = Rgb([0, 200, 110]);
const MISSED: Rgb<u8> = Rgb([214, 20, 40]);
const WRONG: Rgb<u8> = Rgb([255, 165, 0]);
const IGNORED: Rgb<u8> = Rgb([190, 190, 190]);

/// The key: the colour, the line and the meaning of each kind of box.
const KINDS: [(Rgb<u8>, Line, &str); 4] = [
    (FOUND, Line::Solid, "found: detected as labelled"),
    (MISSED, Line::Dashed, "missed: labelled, not detected"),
    (WRONG, Line::Solid, "wrong: detected, no such label"),
    (IGNORED, Line::Thin, "difficult or a crowd: not counted"),
];

/// Writes a JPEG with up to 24 pictures of the set, the pictures with the most mistakes first. Mistakes are missed
/// objects, and false positives with a score of at least `threshold`, 0 to 1. If the set is empty, nothing is written.
///
/// # Errors
/// If a picture cannot be decoded, or the file cannot be written.
pub fn draw(
    set: &Set,
    detections: &[Detection],
    threshold: f64,
    path: &Path,
) -> anyhow::Result<()> {
    const QUALITY: u8 = 90;
    if set.pictures.is_empty() {
        return Ok(());
    }
    let mut pictures = judged(set, detections, threshold);
    pictures.sort_by_key(|picture| std::cmp::Reverse(picture.mistakes()));
    pictures.truncate(MAX_PICTURES);
    let sheet = compose(set, &pictures, threshold)?;
    let mut jpeg = Vec::new();
    sheet
        .write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, QUALITY))
        .and_then(|()| Ok(std::fs::write(path, jpeg)?))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The objects and the detections of a picture, by verdict.
#[derive(Debug, Default)]
struct Judged {
    /// The index of the picture in the set.
    picture: usize,
    found: Vec<Detection>,
    missed: Vec<GroundTruth>,
    wrong: Vec<Detection>,
    ignored: Vec<GroundTruth>,
}

/// The pictures of the set, in its order.
fn judged(set: &Set, detections: &[Detection], threshold: f64) -> Vec<Judged> {
    let mut pictures = vec![(Vec::new(), Vec::new()); set.pictures.len()];
    for truth in &set.ground_truths {
        pictures[truth.picture].0.push(*truth);
    }
    for detection in detections.iter().filter(|one| one.score >= threshold) {
        pictures[detection.picture].1.push(*detection);
    }
    let judge = |(picture, (truths, detections)): (usize, &(Vec<_>, Vec<_>))| {
        Judged::new(picture, truths, detections, set.classes.len())
    };
    pictures.iter().enumerate().map(judge).collect()
}

impl Judged {
    fn new(
        picture: usize,
        truths: &[GroundTruth],
        detections: &[Detection],
        classes: usize,
    ) -> Self {
        let mut judged = Self {
            picture,
            ..Self::default()
        };
        let mut is_found = vec![false; truths.len()];
        for class in 0..classes {
            for (index, verdict) in voc::judge(truths, detections, class) {
                match verdict {
                    Verdict::TruePositive(object) => {
                        is_found[object] = true;
                        judged.found.push(detections[index]);
                    }
                    Verdict::FalsePositive => judged.wrong.push(detections[index]),
                    Verdict::Ignored => {}
                }
            }
        }
        for (truth, is_found) in truths.iter().zip(is_found) {
            if truth.ignored {
                judged.ignored.push(*truth);
            } else if !is_found {
                judged.missed.push(*truth);
            }
        }
        judged
    }

    fn mistakes(&self) -> usize {
        self.missed.len() + self.wrong.len()
    }

    fn caption(&self) -> String {
        format!(
            "{} found, {} missed, {} wrong",
            self.found.len(),
            self.missed.len(),
            self.wrong.len()
        )
    }

    /// The boxes in the picture's own pixels, mistakes first.
    fn marks(&self, classes: &[String]) -> Vec<Mark> {
        let mark = |(colour, line, _): (Rgb<u8>, Line, &str), corners: &Box4, label, ending| {
            let [x1, y1, x2, y2] = corners.map(|side| side as f32);
            Mark {
                corners: Corners { x1, y1, x2, y2 },
                colour,
                line,
                label,
                ending,
            }
        };
        let [found, missed, wrong, ignored] = KINDS;
        // Rounded down, as the server does.
        let score =
            |detection: &Detection| format!(" {} %", (detection.score as f32 * 100.0).floor());
        let mut marks = Vec::new();
        for truth in &self.missed {
            let label = format!("missed: {}", classes[truth.class]);
            marks.push(mark(missed, &truth.corners, label, String::new()));
        }
        for detection in &self.wrong {
            let label = format!("wrong: {}", classes[detection.class]);
            marks.push(mark(wrong, &detection.corners, label, score(detection)));
        }
        for detection in &self.found {
            let label = classes[detection.class].clone();
            marks.push(mark(found, &detection.corners, label, score(detection)));
        }
        for truth in &self.ignored {
            marks.push(mark(ignored, &truth.corners, String::new(), String::new()));
        }
        marks
    }

    /// The picture and its boxes, scaled to a tile.
    fn tile(&self, set: &Set) -> anyhow::Result<RgbImage> {
        let picture = data::pixels(&set.pictures[self.picture])?;
        let (width, height) = (picture.width() as f32, picture.height() as f32);
        let scale = (TILE.0 as f32 / width).min(TILE.1 as f32 / height);
        let side = |length: f32| ((length * scale).round() as u32).max(1);
        let small = imageops::thumbnail(&picture, side(width), side(height));
        let left = (TILE.0 - small.width()) / 2;
        let top = (TILE.1 - small.height()) / 2;
        let mut tile = RgbImage::from_pixel(TILE.0, TILE.1, GROUND);
        imageops::replace(&mut tile, &small, left.into(), top.into());
        let mut marks = self.marks(&set.classes);
        for Mark { corners, .. } in &mut marks {
            let scaled = corners.scale(scale, scale);
            *corners = Corners {
                x1: left as f32 + scaled.x1,
                y1: top as f32 + scaled.y1,
                x2: left as f32 + scaled.x2,
                y2: top as f32 + scaled.y2,
            };
        }
        annotate::draw_marks(&mut tile, &marks, Pens::of(TILE.0, TILE.1));
        Ok(tile)
    }
}

/// The positions of the tiles and the key on a sheet.
#[derive(Debug, Clone, Copy)]
struct Layout {
    columns: u32,
    rows: u32,
}

impl Layout {
    /// The layout of a number of pictures, at least one.
    fn of(pictures: usize) -> Self {
        let columns = pictures.min(MAX_COLUMNS);
        Self {
            columns: columns as u32,
            rows: pictures.div_ceil(columns) as u32,
        }
    }

    fn width(self) -> u32 {
        Self::left(self.columns)
    }

    fn height(self) -> u32 {
        self.tile(self.columns * self.rows).1
    }

    /// The left edge of a column.
    fn left(column: u32) -> u32 {
        GAP + column * (TILE.0 + GAP)
    }

    /// The left top corner of a line of the key. The key has the columns of the tiles.
    fn key(self, index: u32) -> (u32, u32) {
        let row = index / self.columns;
        (Self::left(index % self.columns), GAP + LINE + row * KEY)
    }

    /// The left top corner of a tile. Two lines of text are below it.
    fn tile(self, index: u32) -> (u32, u32) {
        let key = (KINDS.len() as u32).div_ceil(self.columns) * KEY;
        let row = index / self.columns;
        let top = GAP + LINE + key + GAP + row * (TILE.1 + 2 * LINE + GAP);
        (Self::left(index % self.columns), top)
    }
}

fn compose(set: &Set, pictures: &[Judged], threshold: f64) -> anyhow::Result<RgbImage> {
    let layout = Layout::of(pictures.len());
    let mut sheet = RgbImage::from_pixel(layout.width(), layout.height(), GROUND);
    let title = format!(
        "Pictures: {} of {}, most mistakes first; threshold {threshold:.2}",
        pictures.len(),
        set.pictures.len()
    );
    let width = layout.width() - 2 * GAP;
    write(&mut sheet, &title, (GAP, GAP), width);
    draw_key(&mut sheet, layout);
    for (index, judged) in (0..).zip(pictures) {
        let (left, top) = layout.tile(index);
        imageops::replace(&mut sheet, &judged.tile(set)?, left.into(), top.into());
        let below = top + TILE.1 + 4;
        let name = set.pictures[judged.picture].file_name().unwrap_or_default();
        write(&mut sheet, &name.to_string_lossy(), (left, below), TILE.0);
        write(&mut sheet, &judged.caption(), (left, below + LINE), TILE.0);
    }
    Ok(sheet)
}

/// Draws a box of each kind, with its meaning beside it.
fn draw_key(sheet: &mut RgbImage, layout: Layout) {
    const SAMPLE: u32 = 44;
    let mut marks = Vec::new();
    for (index, (colour, line, text)) in (0..).zip(KINDS) {
        let (left, top) = layout.key(index);
        marks.push(Mark {
            corners: corners((left, top + 4), SAMPLE, KEY - 8),
            colour,
            line,
            label: String::new(),
            ending: String::new(),
        });
        let text_at = (left + SAMPLE + 8, top + (KEY - TEXT) / 2);
        write(sheet, text, text_at, TILE.0 - SAMPLE - 8);
    }
    annotate::draw_marks(sheet, &marks, Pens::of(TILE.0, TILE.1));
}

fn write(sheet: &mut RgbImage, text: &str, at: (u32, u32), width: u32) {
    annotate::write(sheet, text, &corners(at, width, TEXT), INK);
}

fn corners((left, top): (u32, u32), width: u32, height: u32) -> Corners {
    Corners {
        x1: left as f32,
        y1: top as f32,
        x2: (left + width) as f32,
        y2: (top + height) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The colour of the pictures.
    const PLAIN: Rgb<u8> = Rgb([90, 110, 130]);

    fn truth(picture: usize, corners: Box4) -> GroundTruth {
        GroundTruth {
            picture,
            class: 0,
            corners,
            ignored: false,
        }
    }

    fn detection((picture, corners, score): (usize, Box4, f64)) -> Detection {
        Detection {
            picture,
            class: 0,
            corners,
            score,
        }
    }

    /// Pictures with twice a tile's sides, all of one colour.
    fn set(folder: &Path, pictures: usize, ground_truths: Vec<GroundTruth>) -> Set {
        let path = |picture: usize| {
            let path = folder.join(format!("{picture}.png"));
            let pixels = RgbImage::from_pixel(2 * TILE.0, 2 * TILE.1, PLAIN);
            pixels.save(&path).unwrap();
            path
        };
        Set {
            classes: vec!["raccoon".to_owned()],
            pictures: (0..pictures).map(path).collect(),
            ground_truths,
        }
    }

    const LEFT: Box4 = [60.0, 100.0, 340.0, 500.0];
    const RIGHT: Box4 = [460.0, 100.0, 740.0, 500.0];

    #[test]
    fn pictures_with_more_mistakes_come_first_and_found_missed_and_wrong_boxes_have_their_colours()
    {
        let folder = tempfile::tempdir().unwrap();
        let set = set(folder.path(), 2, vec![truth(0, LEFT), truth(1, LEFT)]);
        // In the second picture the object is missed: its detection is below the threshold, and the other is wrong.
        let detections = [(0, LEFT, 0.9), (1, RIGHT, 0.8), (1, LEFT, 0.4)].map(detection);
        let mut pictures = judged(&set, &detections, 0.5);
        pictures.sort_by_key(|picture| std::cmp::Reverse(picture.mistakes()));
        let captions: Vec<_> = pictures.iter().map(Judged::caption).collect();
        assert_eq!(
            captions,
            ["0 found, 1 missed, 1 wrong", "1 found, 0 missed, 0 wrong"]
        );
        let sheet = compose(&set, &pictures, 0.5).unwrap();
        let at = |tile: u32, x: u32, y: u32| {
            let (left, top) = Layout::of(2).tile(tile);
            *sheet.get_pixel(left + x, top + y)
        };
        // Near the lower right corners, where no label is.
        assert_eq!(at(0, 169, 249), MISSED);
        assert_eq!(at(0, 369, 240), WRONG);
        assert_eq!(at(1, 169, 240), FOUND);
        assert_eq!(at(1, 369, 240), PLAIN);
        let gaps_in_lower_edge = |tile: u32, left: u32| {
            let pixels = (left..left + 140).map(|x| at(tile, x, 249));
            pixels.filter(|pixel| *pixel == PLAIN).count()
        };
        assert!(gaps_in_lower_edge(0, 30) > 40, "a missed box is dashed");
        assert_eq!(
            (gaps_in_lower_edge(0, 230), gaps_in_lower_edge(1, 30)),
            (0, 0)
        );
    }

    #[test]
    fn two_detections_of_an_object_are_one_found_and_one_wrong_and_a_detection_finds_one_object() {
        let twice = [(0, LEFT, 0.9), (0, LEFT, 0.8)].map(detection);
        let caption = |truths: &[GroundTruth], detections: &[Detection]| {
            Judged::new(0, truths, detections, 1).caption()
        };
        let object = truth(0, LEFT);
        assert_eq!(caption(&[object], &twice), "1 found, 0 missed, 1 wrong");
        assert_eq!(
            caption(&[object, object], &twice[..1]),
            "1 found, 1 missed, 0 wrong"
        );
    }

    #[test]
    fn a_difficult_object_is_neither_missed_nor_is_its_detection_wrong() {
        let mut difficult = truth(0, LEFT);
        difficult.ignored = true;
        let judged = Judged::new(0, &[difficult], &[detection((0, LEFT, 0.9))], 1);
        assert_eq!(judged.caption(), "0 found, 0 missed, 0 wrong");
        assert_eq!(judged.ignored, [difficult]);
    }

    #[test]
    fn the_file_is_a_jpeg_with_at_most_24_pictures_and_is_not_written_without_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.jpg");
        draw(&set(folder.path(), 0, Vec::new()), &[], 0.5, &path).unwrap();
        assert!(!path.exists());
        draw(&set(folder.path(), 30, Vec::new()), &[], 0.5, &path).unwrap();
        let layout = Layout::of(24);
        assert_eq!((layout.columns, layout.rows), (4, 6));
        let jpeg = image::ImageReader::open(&path).unwrap();
        let size = jpeg.into_dimensions().unwrap();
        assert_eq!(size, (layout.width(), layout.height()));
    }
}
