//! What the readers of the formats hand over, and what is made of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use image::metadata::Orientation;
use ssd_server::detector::boxes::Corners;

use super::folder::Named;
use super::inspect::{self, Seen};
use super::{
    Dataset, Format, LONGEST_NAME, Labelled, Object, Part, Problem, is_name, not_too_many, quote,
};

/// A box may reach so many pixels beyond its picture without a word: tools round, and count from 0 or 1.
const ROUNDING: f64 = 2.0;

/// A set as its files say.
pub(super) struct Raw {
    pub format: Format,
    /// What lists the classes: a file, or the folder.
    pub source: PathBuf,
    /// Names of classes as they are spelled; several may be of one class.
    pub names: Vec<String>,
    pub pictures: Vec<RawPicture>,
    pub problems: Vec<Problem>,
}

/// A picture that is there, and what is said of it.
pub(super) struct RawPicture {
    pub path: PathBuf,
    /// The file that says it.
    pub source: PathBuf,
    pub named: Option<Named>,
    pub frame: Frame,
    pub objects: Vec<RawObject>,
    /// Objects whose boxes could not be read, or must not be learnt.
    pub unusable: usize,
}

/// What the sides of boxes are counted in.
#[derive(Clone, Copy)]
pub(super) enum Frame {
    /// Pixels of a picture of this size, where it is said.
    Pixels(Option<(f64, f64)>),
    /// Fractions of the picture's sides.
    Fractions,
}

impl Frame {
    /// Of a width and a height as they are said; some tools write 0 where they do not know.
    pub(super) fn pixels(width: Option<f64>, height: Option<f64>) -> Self {
        Self::Pixels(width.zip(height).filter(|&(w, h)| w > 0.0 && h > 0.0))
    }
}

/// An object as it is said to be.
pub(super) struct RawObject {
    /// An index into [`Raw::names`].
    pub name: usize,
    /// Left, top, right, bottom.
    pub sides: [f64; 4],
    pub difficult: bool,
    pub line: Option<usize>,
}

/// Looks at the pictures and puts the boxes into them.
///
/// # Errors
/// Where a class has a name that is none, or no box is left.
pub(super) fn finish(mut raw: Raw) -> anyhow::Result<Dataset> {
    for name in &raw.names {
        ensure!(
            is_name(name),
            "{}: a class is named {}, which is empty, longer than {LONGEST_NAME} characters, or has control \
             characters; give it a plain name in the labels",
            raw.source.display(),
            quote(name)
        );
    }
    raw.pictures.sort_by(|a, b| a.path.cmp(&b.path));
    let mut gathered = Gathered::new(raw.names.len());
    for picture in &raw.pictures {
        gathered.add(picture);
    }
    let Gathered {
        mut pictures,
        problems,
        boxes,
        first,
        named,
        ..
    } = gathered;
    ensure!(
        boxes.iter().any(|&boxes| boxes > 0),
        "{} has no box that can be trained on, in {} pictures; label some objects{}",
        raw.source.display(),
        raw.pictures.len(),
        match raw.problems.iter().chain(&problems).next() {
            Some(problem) => format!(", and see to what is wrong, first of all {problem}"),
            None => String::new(),
        }
    );
    let merged = merge(&raw, &boxes, &first);
    for object in pictures.iter_mut().flat_map(|picture| &mut picture.objects) {
        object.class = merged.class_of[object.class];
    }
    let left_out = assign(&mut pictures, &named);
    let mut all = merged.problems;
    if left_out > 0 {
        let what = format!(
            "{left_out} pictures are neither for training nor for validation (a test part, or in no list): \
             left out of both"
        );
        all.push(Problem::new(&raw.source, None, what));
    }
    // Of the set first, then file by file, however they were come by.
    let mut files: Vec<Problem> = raw.problems.into_iter().chain(problems).collect();
    files.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    all.extend(files);
    Ok(Dataset {
        format: raw.format,
        classes: merged.classes,
        pictures,
        problems: all,
    })
}

/// Gives the pictures their parts where there are both: a test part stands in for one of validation. How many
/// are left out then.
fn assign(pictures: &mut [Labelled], named: &[Option<Named>]) -> usize {
    let has = |part: Named| named.contains(&Some(part));
    let validation = if has(Named::Validation) {
        Named::Validation
    } else {
        Named::Test
    };
    if !has(Named::Train) || !has(validation) {
        return 0;
    }
    let mut left_out = 0;
    for (picture, named) in pictures.iter_mut().zip(named) {
        picture.part = match named {
            Some(Named::Train) => Some(Part::Train),
            Some(named) if *named == validation => Some(Part::Validation),
            _ => None,
        };
        left_out += usize::from(picture.part.is_none());
    }
    left_out
}

/// The pictures that can be used, so far.
struct Gathered {
    pictures: Vec<Labelled>,
    /// Of each what its place says it is for.
    named: Vec<Option<Named>>,
    problems: Vec<Problem>,
    /// By fingerprint.
    known: HashMap<(usize, u64), Vec<usize>>,
    /// Boxes of each name, and the first file with one.
    boxes: Vec<usize>,
    first: Vec<Option<PathBuf>>,
}

impl Gathered {
    fn new(names: usize) -> Self {
        Self {
            pictures: Vec::new(),
            named: Vec::new(),
            problems: Vec::new(),
            known: HashMap::new(),
            boxes: vec![0; names],
            first: vec![None; names],
        }
    }

    fn problem(&mut self, file: &Path, line: Option<usize>, what: impl Into<String>) {
        self.problems.push(Problem::new(file, line, what));
    }

    fn add(&mut self, picture: &RawPicture) {
        let said = picture.objects.len() + picture.unusable;
        if let Err(error) = not_too_many(&picture.path, said) {
            return self.problem(
                &picture.source,
                None,
                format!("{error}: the picture is skipped"),
            );
        }
        let read = inspect::bytes(&picture.path).and_then(|b| Ok((inspect::inspect(&b)?, b)));
        let (seen, bytes) = match read {
            Ok(read) => read,
            Err(error) => {
                let what = format!("{error:#}: the picture is skipped");
                return self.problem(&picture.path, None, what);
            }
        };
        let turned = match turned(picture, &seen) {
            Ok(turned) => turned,
            Err(what) => return self.problem(&picture.source, None, what),
        };
        // Looked at before what is wrong in it is told: of a copy only that it is one matters.
        let mut problems = Vec::new();
        let objects = objects(picture, &seen, turned, &mut problems);
        let (width, height) = seen.upright();
        let labelled = Labelled {
            path: picture.path.clone(),
            objects,
            part: None,
            width,
            height,
        };
        let fingerprint = inspect::fingerprint(&bytes);
        if let Some(what) = self.copy(&labelled, picture.named, fingerprint, &bytes) {
            return self.problem(&picture.path, None, what);
        }
        self.problems.append(&mut problems);
        if said > 0 && labelled.objects.is_empty() {
            let what = format!(
                "none of the {said} boxes of {} can be used: the picture is skipped, as it is no background",
                picture.path.display()
            );
            return self.problem(&picture.source, None, what);
        }
        if turned != Turn::Not {
            let what = turned.note(&picture.path, &seen);
            self.problem(&picture.source, None, what);
        }
        for object in &labelled.objects {
            self.boxes[object.class] += 1;
            self.first[object.class].get_or_insert_with(|| picture.source.clone());
        }
        let known = self.known.entry(fingerprint).or_default();
        known.push(self.pictures.len());
        self.named.push(picture.named);
        self.pictures.push(labelled);
    }

    /// What to say of a picture that is there already.
    fn copy(
        &self,
        picture: &Labelled,
        named: Option<Named>,
        fingerprint: (usize, u64),
        bytes: &[u8],
    ) -> Option<String> {
        let known = self.known.get(&fingerprint)?;
        let same = |path: &Path| inspect::bytes(path).is_ok_and(|known| known == bytes);
        let index = *known
            .iter()
            .find(|&&index| same(&self.pictures[index].path))?;
        let first = &self.pictures[index];
        if first.path == picture.path {
            return Some("is listed more than once: only the first entry counts".to_owned());
        }
        let mut what = format!("is the same picture as {}", first.path.display());
        if self.named[index] != named {
            what += ", which is in another part of the set (validation must not see what was trained on)";
        }
        if first.objects != picture.objects {
            what += ", labelled otherwise";
        }
        Some(what + ": only the first is kept")
    }
}

/// How the boxes of a picture that its file has turned come into the upright one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The file turns nothing, or there is nothing to turn.
    Not,
    /// They are of the upright picture.
    Already,
    /// They are taken to be of the upright picture.
    Assumed,
    /// They are of the picture as it is stored.
    With(Orientation),
}

impl Turn {
    fn note(self, path: &Path, seen: &Seen) -> String {
        let ((w, h), (upright_w, upright_h)) = (seen.stored, seen.upright());
        let path = path.display();
        match self {
            Self::With(_) => format!(
                "the boxes are of {path} as it is stored, {w} x {h}: they are turned as its EXIF orientation says"
            ),
            Self::Already => format!(
                "the boxes are of {path} as its EXIF orientation turns it, {upright_w} x {upright_h}: they are \
                 taken as they are"
            ),
            Self::Not | Self::Assumed => format!(
                "{path} is turned by its EXIF orientation: the boxes are taken to be of the upright picture"
            ),
        }
    }
}

/// Which picture the boxes are of, the stored or the upright one, by the size that is said; or why that cannot
/// be told.
fn turned(picture: &RawPicture, seen: &Seen) -> Result<Turn, String> {
    let is_upright = seen.orientation == Orientation::NoTransforms;
    let stated = match picture.frame {
        _ if picture.objects.is_empty() => return Ok(Turn::Not),
        // As Ultralytics and OpenCV do, which obey the orientation.
        Frame::Fractions if is_upright => return Ok(Turn::Not),
        Frame::Fractions => return Ok(Turn::Assumed),
        Frame::Pixels(stated) => stated,
    };
    let ((w, h), upright) = (seen.stored, seen.upright());
    let path = picture.path.display();
    let unknown = format!(
        "{path} is turned by its EXIF orientation, and the annotation does not show whether its boxes are of the \
         picture before or after: skipped; save the picture upright and label it again"
    );
    let Some((stated_w, stated_h)) = stated else {
        return if is_upright {
            Ok(Turn::Not)
        } else {
            Err(unknown)
        };
    };
    // Whole numbers, read from text.
    let is = |(w, h): (u32, u32)| {
        (stated_w - f64::from(w)).abs() < 0.5 && (stated_h - f64::from(h)).abs() < 0.5
    };
    match (is((w, h)), is(upright)) {
        (true, true) if is_upright => Ok(Turn::Not),
        (true, true) => Err(unknown),
        (true, false) => Ok(Turn::With(seen.orientation)),
        (false, true) => Ok(Turn::Already),
        (false, false) => Err(format!(
            "the annotation is of a picture of {stated_w} x {stated_h} pixels, but {path} has {w} x {h}: skipped; \
             label the picture as it is, or put the original back"
        )),
    }
}

/// The objects whose boxes can be used.
fn objects(
    picture: &RawPicture,
    seen: &Seen,
    turned: Turn,
    problems: &mut Vec<Problem>,
) -> Vec<Object> {
    let (w, h) = match turned {
        Turn::With(_) => seen.stored,
        _ => seen.upright(),
    };
    let (w, h) = (f64::from(w), f64::from(h));
    let scale = match picture.frame {
        Frame::Pixels(_) => (1.0, 1.0),
        Frame::Fractions => (w, h),
    };
    let mut objects = Vec::new();
    for object in &picture.objects {
        let [x1, y1, x2, y2] = object.sides;
        let sides = [x1 * scale.0, y1 * scale.1, x2 * scale.0, y2 * scale.1];
        let orientation = match turned {
            Turn::With(orientation) => orientation,
            _ => Orientation::NoTransforms,
        };
        let what = match fit(sides, w, h) {
            Ok((inside, beyond)) => {
                let corners = turn(inside, orientation);
                if corners.is_empty() {
                    Some("the box has no area: skipped".to_owned())
                } else {
                    objects.push(Object {
                        class: object.name,
                        corners,
                        difficult: object.difficult,
                    });
                    let far = beyond > ROUNDING;
                    far.then(|| {
                        format!("the box reaches {beyond:.0} pixels beyond the picture: clipped")
                    })
                }
            }
            Err(why) => Some(format!("the box {why}: skipped")),
        };
        if let Some(what) = what {
            problems.push(Problem::new(&picture.source, object.line, what));
        }
    }
    objects
}

/// A box in pixels as fractions of a picture, inside it, and by how much it reached beyond; or why it cannot
/// be used.
fn fit(sides: [f64; 4], w: f64, h: f64) -> Result<([f64; 4], f64), String> {
    let [x1, y1, x2, y2] = sides;
    let shown = format!("from ({x1:.1}, {y1:.1}) to ({x2:.1}, {y2:.1})");
    if !sides.iter().all(|side| side.is_finite()) {
        return Err("has a side that is no number".to_owned());
    }
    if x1 >= x2 || y1 >= y2 {
        return Err(format!("{shown} is empty or inverted"));
    }
    if x1 >= w || y1 >= h || x2 <= 0.0 || y2 <= 0.0 {
        return Err(format!("{shown} is outside the picture of {w} x {h}"));
    }
    let beyond = (-x1).max(-y1).max(x2 - w).max(y2 - h);
    let inside = [
        x1.max(0.0) / w,
        y1.max(0.0) / h,
        x2.min(w) / w,
        y2.min(h) / h,
    ];
    Ok((inside, beyond))
}

/// A box in a stored picture, in the upright one. Both in fractions.
fn turn([x1, y1, x2, y2]: [f64; 4], orientation: Orientation) -> Corners {
    use Orientation as O;
    let (left, top, right, bottom) = (1.0 - x2, 1.0 - y2, 1.0 - x1, 1.0 - y1);
    let turned = match orientation {
        O::NoTransforms => [x1, y1, x2, y2],
        O::FlipHorizontal => [left, y1, right, y2],
        O::Rotate180 => [left, top, right, bottom],
        O::FlipVertical => [x1, top, x2, bottom],
        O::Rotate90FlipH => [y1, x1, y2, x2],
        O::Rotate90 => [top, x1, bottom, x2],
        O::Rotate270FlipH => [top, left, bottom, right],
        O::Rotate270 => [y1, left, y2, right],
    };
    let [x1, y1, x2, y2] = turned.map(|side| side as f32);
    Corners { x1, y1, x2, y2 }
}

/// The classes that names are of.
struct Merged {
    classes: Vec<String>,
    /// For each name its class. Of VOC names without boxes: no class.
    class_of: Vec<usize>,
    problems: Vec<Problem>,
}

/// Names that differ only in case and surrounding spaces are of one class, spelled as most of its boxes are.
fn merge(raw: &Raw, boxes: &[usize], first: &[Option<PathBuf>]) -> Merged {
    // What only VOC's boxes name is no class without one.
    let counts = |name: usize| raw.format != Format::Voc || boxes[name] > 0;
    let mut group_of: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for name in (0..raw.names.len()).filter(|&name| counts(name)) {
        let key = raw.names[name].trim().to_lowercase();
        let group = *group_of.entry(key).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(name);
    }
    let spelling = |group: &[usize]| -> String {
        let mut spellings: Vec<(&str, usize)> = Vec::new();
        for &name in group {
            let trimmed = raw.names[name].trim();
            match spellings.iter_mut().find(|(known, _)| *known == trimmed) {
                Some((_, count)) => *count += boxes[name],
                None => spellings.push((trimmed, boxes[name])),
            }
        }
        // Of equally common ones the first.
        let most = spellings.iter().rev().max_by_key(|(_, count)| *count);
        most.map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    };
    let mut classes: Vec<(String, Vec<usize>)> = groups
        .into_iter()
        .map(|group| (spelling(&group), group))
        .collect();
    if raw.format == Format::Voc {
        classes.sort();
    }
    let mut problems = Vec::new();
    let mut class_of = vec![0; raw.names.len()];
    let mut none = Vec::new();
    for (class, (spelling, group)) in classes.iter().enumerate() {
        let total: usize = group.iter().map(|&name| boxes[name]).sum();
        let mut same = 0;
        for &name in group {
            class_of[name] = class;
            let own = &raw.names[name];
            same += usize::from(own == spelling);
            if group.len() > 1 && (own != spelling || same > 1) {
                let file = first[name].as_deref().unwrap_or(&raw.source);
                let what = format!(
                    "{} ({} boxes) is taken as the class {} ({total} in all)",
                    quote(own),
                    boxes[name],
                    quote(spelling)
                );
                problems.push(Problem::new(file, None, what));
            }
        }
        if total == 1 {
            let file = group.iter().find_map(|&name| first[name].as_deref());
            let what = format!(
                "the class {} has a single box, too few to learn it from: label more, or take it out",
                quote(spelling)
            );
            problems.push(Problem::new(file.unwrap_or(&raw.source), None, what));
        } else if total == 0 {
            none.push(quote(spelling));
        }
    }
    if let [first, rest @ ..] = &*none {
        let more = rest.iter().take(4).map(|name| format!(", {name}"));
        let more: String = more.collect();
        let dots = if rest.len() > 4 { ", …" } else { "" };
        let what = format!(
            "{} classes have no box and cannot be learnt: {first}{more}{dots}",
            none.len()
        );
        problems.push(Problem::new(&raw.source, None, what));
    }
    Merged {
        classes: classes.into_iter().map(|(name, _)| name).collect(),
        class_of,
        problems,
    }
}
