//! Turns boxes of the stored picture into boxes of the upright picture.
//!
//! A camera stores the rows of its sensor, and the EXIF orientation says how to turn them upright. Some annotation
//! tools apply it, others do not. The picture size in the labels shows which convention was used.

use std::path::Path;

use image::metadata::Orientation;
use ssd_detector::boxes::Corners;
use ssd_detector::picture::Header;

use super::raw::{Frame, RawPicture};
use super::{Object, Problem};

/// How many pixels a box may extend beyond its picture without a report: tools round, and count from 0 or from 1.
const ROUNDING: f64 = 2.0;

/// How the boxes of a picture become boxes of the upright picture.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Unchanged: the picture is stored upright, or has no boxes.
    Not,
    /// Unchanged: the labels state the size of the upright picture.
    Already,
    /// Unchanged: fractions are assumed to refer to the upright picture.
    Assumed,
    /// Turned: the labels state the size of the stored picture.
    With(Orientation),
}

impl Turn {
    /// Compares the size in the labels with the picture's size. The error says why the picture is skipped.
    pub(super) fn of(picture: &RawPicture, header: &Header) -> Result<Self, String> {
        let is_upright = header.orientation() == Orientation::NoTransforms;
        let stated = match picture.frame {
            _ if picture.objects.is_empty() => return Ok(Self::Not),
            Frame::Fractions if is_upright => return Ok(Self::Not),
            // Ultralytics and OpenCV apply the orientation.
            Frame::Fractions => return Ok(Self::Assumed),
            Frame::Pixels(stated) => stated,
        };
        let path = picture.path.display();
        let unknown = || {
            format!(
                "{path} has an EXIF orientation, and the labels do not say whether the boxes refer to the stored or to \
                 the upright picture: skipped; save the picture upright and label it again"
            )
        };
        let Some((stated_w, stated_h)) = stated else {
            return if is_upright {
                Ok(Self::Not)
            } else {
                Err(unknown())
            };
        };
        // Both are whole numbers.
        let is_stated = |(w, h): (u32, u32)| {
            (stated_w - f64::from(w)).abs() < 0.5 && (stated_h - f64::from(h)).abs() < 0.5
        };
        let (w, h) = header.stored();
        let (is_of_stored, is_of_upright) = (is_stated((w, h)), is_stated(header.upright()));
        if is_of_stored && is_upright {
            Ok(Self::Not)
        } else if is_of_stored && is_of_upright {
            Err(unknown())
        } else if is_of_stored {
            Ok(Self::With(header.orientation()))
        } else if is_of_upright {
            Ok(Self::Already)
        } else {
            Err(format!(
                "the labels state a picture of {stated_w} x {stated_h} pixels, but {path} has {w} x {h}: skipped; \
                 label the picture again, or restore the original"
            ))
        }
    }

    /// What to report about a picture whose file is not upright.
    pub(super) fn note(self, path: &Path, header: &Header) -> Option<String> {
        let ((w, h), (upright_w, upright_h)) = (header.stored(), header.upright());
        let shown = path.display();
        match self {
            Self::Not => None,
            Self::With(_) => Some(format!(
                "the boxes refer to the stored picture {shown}, {w} x {h}: turned by its EXIF orientation"
            )),
            Self::Already => Some(format!(
                "the boxes refer to the upright picture {shown}, {upright_w} x {upright_h}: used unchanged"
            )),
            Self::Assumed => Some(format!(
                "{shown} has an EXIF orientation: the boxes are assumed to refer to the upright picture"
            )),
        }
    }
}

/// The objects with usable boxes, in fractions of the upright picture, and the faults of the other boxes.
pub(super) fn objects(
    picture: &RawPicture,
    header: &Header,
    turn: Turn,
) -> (Vec<Object>, Vec<Problem>) {
    let ((w, h), orientation) = match turn {
        Turn::With(orientation) => (header.stored(), orientation),
        _ => (header.upright(), Orientation::NoTransforms),
    };
    let size = (f64::from(w), f64::from(h));
    let (scale_x, scale_y) = match picture.frame {
        Frame::Pixels(_) => (1.0, 1.0),
        Frame::Fractions => size,
    };
    let (mut objects, mut problems) = (Vec::new(), Vec::new());
    for object in &picture.objects {
        let [x1, y1, x2, y2] = object.sides;
        let sides = [x1 * scale_x, y1 * scale_y, x2 * scale_x, y2 * scale_y];
        match fit(sides, size, orientation) {
            Ok((corners, beyond)) => {
                if beyond > ROUNDING {
                    let what =
                        format!("the box extends {beyond:.0} pixels beyond the picture: clipped");
                    problems.push(Problem::new(&picture.source, object.line, what));
                }
                objects.push(Object {
                    class: object.name,
                    corners,
                    difficult: object.difficult,
                });
            }
            Err(why) => {
                let what = format!("the box {why}: skipped");
                problems.push(Problem::new(&picture.source, object.line, what));
            }
        }
    }
    (objects, problems)
}

/// The box of an object, clipped to the picture and turned upright, and how many pixels it extended beyond the picture.
/// The error says why the box is unusable.
fn fit(
    sides: [f64; 4],
    (w, h): (f64, f64),
    orientation: Orientation,
) -> Result<(Corners, f64), String> {
    let [x1, y1, x2, y2] = sides;
    let shown = format!("from ({x1:.1}, {y1:.1}) to ({x2:.1}, {y2:.1})");
    if !sides.iter().all(|side| side.is_finite()) {
        return Err("has a side that is not a number".to_owned());
    }
    if x1 >= x2 || y1 >= y2 {
        return Err(format!("{shown} is empty or inverted"));
    }
    if x1 >= w || y1 >= h || x2 <= 0.0 || y2 <= 0.0 {
        return Err(format!("{shown} is outside the picture of {w} x {h}"));
    }
    let inside = [
        x1.max(0.0) / w,
        y1.max(0.0) / h,
        x2.min(w) / w,
        y2.min(h) / h,
    ];
    let corners = turned(inside, orientation);
    // A box may be too thin for single precision.
    if corners.is_empty() {
        return Err(format!("{shown} has no area"));
    }
    Ok((corners, (-x1).max(-y1).max(x2 - w).max(y2 - h)))
}

/// Turns a box upright. Both boxes are in fractions of their pictures.
fn turned([x1, y1, x2, y2]: [f64; 4], orientation: Orientation) -> Corners {
    use Orientation as O;
    let (left, top, right, bottom) = (1.0 - x2, 1.0 - y2, 1.0 - x1, 1.0 - y1);
    let sides = match orientation {
        O::NoTransforms => [x1, y1, x2, y2],
        O::FlipHorizontal => [left, y1, right, y2],
        O::Rotate180 => [left, top, right, bottom],
        O::FlipVertical => [x1, top, x2, bottom],
        O::Rotate90FlipH => [y1, x1, y2, x2],
        O::Rotate90 => [top, x1, bottom, x2],
        O::Rotate270FlipH => [top, left, bottom, right],
        O::Rotate270 => [y1, left, y2, right],
    };
    let [x1, y1, x2, y2] = sides.map(|side| side as f32);
    Corners { x1, y1, x2, y2 }
}
