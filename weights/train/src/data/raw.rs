//! Turns what a format's reader returns into a checked data set.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use ssd_detector::picture::Header;

use super::classes::{self, Classes};
use super::picture;
use super::upright::{Turn, objects};
use super::{
    Dataset, Format, Labelled, MAX_NAME_LENGTH, Part, Problem, count, is_name, not_too_many, quote,
    split,
};

/// A data set as its files describe it.
pub(super) struct Raw {
    pub format: Format,
    /// The file that lists the classes, or the folder.
    pub source: PathBuf,
    /// Class names as written. A class may have several spellings.
    pub names: Vec<String>,
    pub pictures: Vec<RawPicture>,
    pub problems: Vec<Problem>,
}

/// A picture's file, and the labels of the picture.
pub(super) struct RawPicture {
    pub path: PathBuf,
    /// The file of the labels.
    pub source: PathBuf,
    pub part: Option<Part>,
    pub frame: Frame,
    pub objects: Vec<RawObject>,
    /// The number of further objects whose labels cannot be read.
    pub unreadable: usize,
}

/// The unit of a picture's boxes.
#[derive(Clone, Copy)]
pub(super) enum Frame {
    /// Pixels of a picture with this width and height, if the labels state them.
    Pixels(Option<(f64, f64)>),
    /// Fractions of the upright picture's width and height.
    Fractions,
}

impl Frame {
    /// Pixels of a picture whose labels state this width and height. Some tools write 0 for an unknown size.
    pub(super) fn pixels(width: Option<f64>, height: Option<f64>) -> Self {
        Self::Pixels(width.zip(height).filter(|&(w, h)| w > 0.0 && h > 0.0))
    }
}

/// An object as its label describes it.
pub(super) struct RawObject {
    /// An index into [`Raw::names`].
    pub name: usize,
    /// Left, top, right and bottom.
    pub sides: [f64; 4],
    pub difficult: bool,
    pub line: Option<usize>,
}

/// Checks the pictures, converts the boxes to those of the upright pictures, and merges names into classes.
///
/// # Errors
/// If a class name is unusable, or no usable box remains.
pub(super) fn finish(mut raw: Raw) -> anyhow::Result<Dataset> {
    for name in &raw.names {
        ensure!(
            is_name(name),
            "{}: a class is named {}, which is empty, longer than {MAX_NAME_LENGTH} characters, or contains control \
             characters; give the class a plain name in the labels",
            raw.source.display(),
            quote(name)
        );
    }
    raw.pictures.sort_by(|a, b| a.path.cmp(&b.path));
    let mut checked = Checked::new(raw.names.len());
    for picture in &raw.pictures {
        checked.add(picture);
    }
    let mut objects = checked.pictures.iter().flat_map(|picture| &picture.objects);
    ensure!(
        objects.any(|object| !object.difficult),
        "{} has no usable box in {}; label some objects{}",
        raw.source.display(),
        count(raw.pictures.len(), "picture", "pictures"),
        match raw.problems.iter().chain(&checked.problems).next() {
            Some(problem) => format!(". The first problem is {problem}"),
            None => String::new(),
        }
    );
    let Classes {
        names,
        of_name,
        problems,
    } = classes::merge(&raw, &checked.uses);
    for object in checked.pictures.iter_mut().flat_map(|p| &mut p.objects) {
        object.class = of_name[object.class];
    }
    let mut dataset = Dataset {
        format: raw.format,
        classes: names,
        pictures: checked.pictures,
        problems,
    };
    let left_out = split::in_no_part(&dataset);
    if left_out > 0 {
        let what = format!(
            "{} left out: not assigned to training, validation or test by a list or folder name",
            count(left_out, "picture is", "pictures are")
        );
        dataset.problems.push(Problem::new(&raw.source, None, what));
    }
    // Problems of the whole data set come first, then the problems of each file.
    let mut of_files = raw.problems;
    of_files.append(&mut checked.problems);
    of_files.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    dataset.problems.append(&mut of_files);
    Ok(dataset)
}

/// How often a name is used.
#[derive(Clone, Default)]
pub(super) struct Uses {
    pub boxes: usize,
    /// The first file with a box of the name.
    pub first: Option<PathBuf>,
}

/// The usable pictures, collected one by one.
struct Checked {
    pictures: Vec<Labelled>,
    problems: Vec<Problem>,
    /// Indexes of pictures by fingerprint.
    known: HashMap<(usize, u64), Vec<usize>>,
    /// For each name.
    uses: Vec<Uses>,
}

impl Checked {
    fn new(names: usize) -> Self {
        Self {
            pictures: Vec::new(),
            problems: Vec::new(),
            known: HashMap::new(),
            uses: vec![Uses::default(); names],
        }
    }

    fn problem(&mut self, file: &Path, what: impl Into<String>) {
        self.problems.push(Problem::new(file, None, what));
    }

    fn add(&mut self, picture: &RawPicture) {
        let stated = picture.objects.len() + picture.unreadable;
        if let Err(error) = not_too_many(stated) {
            return self.problem(&picture.source, format!("{error}: the picture is skipped"));
        }
        let read =
            picture::bytes(&picture.path).and_then(|bytes| Ok((picture::header(&bytes)?, bytes)));
        let (header, bytes) = match read {
            Ok(read) => read,
            Err(error) => {
                let what = format!("{error:#}: the picture is skipped");
                return self.problem(&picture.path, what);
            }
        };
        let turn = match Turn::of(picture, &header) {
            Ok(turn) => turn,
            Err(what) => return self.problem(&picture.source, what),
        };
        let (objects, mut problems) = objects(picture, &header, turn);
        let labelled = labelled(picture, &header, objects);
        let fingerprint = picture::fingerprint(&bytes);
        // Faults in the labels of a copy are not reported.
        if let Some(what) = self.copy(&labelled, fingerprint, &bytes) {
            return self.problem(&picture.path, what);
        }
        self.problems.append(&mut problems);
        if stated > 0 && labelled.objects.is_empty() {
            let what = format!(
                "{} is skipped: its labels have objects, but no usable box (0 of {stated})",
                picture.path.display()
            );
            return self.problem(&picture.source, what);
        }
        if let Some(what) = turn.note(&picture.path, &header) {
            self.problem(&picture.source, what);
        }
        for object in &labelled.objects {
            let uses = &mut self.uses[object.class];
            uses.boxes += 1;
            uses.first.get_or_insert_with(|| picture.source.clone());
        }
        let known = self.known.entry(fingerprint).or_default();
        known.push(self.pictures.len());
        self.pictures.push(labelled);
    }

    /// What to report if an earlier picture has the same bytes as this one.
    fn copy(&self, picture: &Labelled, fingerprint: (usize, u64), bytes: &[u8]) -> Option<String> {
        let mut known = self.known.get(&fingerprint)?.iter();
        let is_same = |&&index: &&usize| {
            let path = &self.pictures[index].path;
            picture::bytes(path).is_ok_and(|known| known == bytes)
        };
        let first = &self.pictures[*known.find(is_same)?];
        if first.path == picture.path {
            return Some(
                "the picture is listed more than once: the first entry is used".to_owned(),
            );
        }
        let mut what = format!("the picture is a copy of {}", first.path.display());
        if first.part != picture.part {
            what += ", which is in another part of the data set (a training picture cannot measure accuracy)";
        }
        if first.objects != picture.objects {
            what += ", with other labels";
        }
        Some(what + ": only the first is used")
    }
}

fn labelled(picture: &RawPicture, header: &Header, objects: Vec<super::Object>) -> Labelled {
    let (width, height) = header.upright();
    Labelled {
        path: picture.path.clone(),
        objects,
        part: picture.part,
        width,
        height,
    }
}
