//! Labelled pictures of a user's own, for fine-tuning: read from what annotation tools write, and checked.
//!
//! ```text
//! folder    every file below a folder, in a stable order; training, validation and test by name
//! voc       one XML file a picture, as PASCAL VOC
//! coco      one JSON file for all, as COCO
//! yolo      one text file a picture, and the names beside, as Ultralytics and Darknet
//! yaml      as much of YAML as names a YOLO set
//! raw       what the three hand over, and what is made of it: boxes in the upright picture, classes
//! inspect   a picture's file without its pixels
//! split     which pictures are trained on and which are held out
//! summary   all of it for people
//! ```
//!
//! What is wrong in a set is named, and not trained on: see [`Problem`].

mod coco;
mod folder;
mod inspect;
mod raw;
mod split;
mod summary;
mod voc;
mod yaml;
mod yolo;

use std::fmt;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use image::RgbImage;
use ssd_server::detector::boxes::Corners;
use ssd_server::detector::picture::Header;

use self::folder::Folder;
pub use self::split::split;
pub use self::summary::Summary;

/// The longest file of annotations that is read, in bytes.
const LONGEST_TEXT: u64 = 64 << 20;

/// The longest name of a class, in characters.
const LONGEST_NAME: usize = 100;

/// The most objects of a picture: with it, what is kept of a set, its problems too, is bounded by its pictures.
const MOST_OBJECTS: usize = 10_000;

/// What is accepted, for errors.
const ACCEPTED: &str = "a folder with PASCAL VOC's XML files, COCO's JSON with its pictures, or a YOLO folder with \
                        data.yaml or classes.txt";

/// How the pictures are labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// PASCAL VOC's XML files.
    Voc,
    /// COCO's JSON.
    Coco,
    /// YOLO's text files.
    Yolo,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voc => "PASCAL VOC",
            Self::Coco => "COCO",
            Self::Yolo => "YOLO",
        })
    }
}

/// Pictures with their objects.
#[derive(Debug)]
pub struct Dataset {
    /// How they were labelled.
    pub format: Format,
    /// Class names. VOC's in alphabetical order, COCO's by id, YOLO's as listed.
    pub classes: Vec<String>,
    /// The pictures that can be used, in the order of their paths.
    pub pictures: Vec<Labelled>,
    /// What is wrong in the set, and what was done about it.
    pub problems: Vec<Problem>,
}

/// A picture and what is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// Its file.
    pub path: PathBuf,
    /// Its objects. None: a background.
    pub objects: Vec<Object>,
    /// What the set means it for, where the set has pictures for both. Pictures for neither have none then.
    pub part: Option<Part>,
    /// Pixels in a row, upright.
    pub width: u32,
    /// Rows, upright.
    pub height: u32,
}

/// An object in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// An index into [`Dataset::classes`].
    pub class: usize,
    /// Its box in fractions of the upright picture, inside it.
    pub corners: Corners,
    /// Whether it is marked as hard to recognise (VOC).
    pub difficult: bool,
}

/// What a picture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Training.
    Train,
    /// Validation.
    Validation,
}

/// Something wrong in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub file: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong and what was done.
    pub what: String,
}

impl Problem {
    fn new(file: &Path, line: impl Into<Option<usize>>, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: line.into(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.file.to_string_lossy()))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", printable(&self.what))
    }
}

impl Dataset {
    /// The set in numbers, and its problems.
    #[must_use]
    pub fn summary(&self) -> Summary<'_> {
        Summary(self)
    }
}

/// Labelled pictures, told apart by their contents: a PASCAL VOC folder, COCO's JSON with its pictures, or a
/// YOLO folder. `path` is the folder, or the JSON file, `data.yaml` or list of names in it, which settles the
/// format.
///
/// # Errors
/// Where there is no such set, it is of more than one format, its names of classes cannot be used, or nothing
/// in it can be trained on.
pub fn open(path: &Path) -> anyhow::Result<Dataset> {
    let shown = path.display();
    let kind = std::fs::metadata(path)
        .with_context(|| format!("{shown} cannot be read; give {ACCEPTED}"))?;
    if kind.is_dir() {
        return open_folder(&Folder::open(path)?);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let raw = if folder::has_extension(path, &["json"]) {
        // COCO's own layout has the JSON in `annotations`, and the pictures beside that.
        let inside = parent.file_name().is_some_and(|name| name == "annotations");
        let root = parent.parent().filter(|_| inside).unwrap_or(parent);
        let root = if root.as_os_str().is_empty() {
            Path::new(".")
        } else {
            root
        };
        coco::read(&Folder::open(root)?, &[path.to_owned()])?
    } else if folder::has_extension(path, &["yaml", "yml"]) || yolo::is_list(&name) {
        yolo::read(&Folder::open(parent)?, path)?
    } else {
        bail!("{shown} is a file that is not read; give {ACCEPTED}");
    };
    raw::finish(raw)
}

fn open_folder(folder: &Folder) -> anyhow::Result<Dataset> {
    let voc = voc::is_in(folder);
    let coco = coco::files(folder)?;
    let yolo = yolo::names_file(folder)?;
    let shown = folder.root.display();
    let raw = match (voc, &*coco, yolo) {
        (true, [], None) => voc::read(folder)?,
        (false, [_, ..], None) => coco::read(folder, &coco)?,
        (false, [], Some(names)) => yolo::read(folder, &names)?,
        (false, [], None) => bail!(
            "{shown} holds no labels that are read; give {ACCEPTED}, or export the labels as one of these"
        ),
        (true, [], Some(names)) => bail!(
            "{shown} holds labels both of PASCAL VOC and of YOLO ({}); give the path of that file to read \
             YOLO's, or a folder with one kind",
            names.display()
        ),
        (_, [file, ..], _) => bail!(
            "{shown} holds labels of more than one kind; give the path of {} to read COCO's, or a folder with \
             one kind",
            file.display()
        ),
    };
    raw::finish(raw)
}

/// The pixels of a picture, upright.
///
/// # Errors
/// Where the file is gone, damaged, cut short, not the one it was, or has more than `pixel_limit` pixels.
pub fn decode(picture: &Labelled, pixel_limit: u64) -> anyhow::Result<RgbImage> {
    let shown = picture.path.display();
    let read = || {
        let bytes = inspect::bytes(&picture.path)?;
        anyhow::Ok(Header::read(&bytes, pixel_limit)?.decode(&bytes)?)
    };
    let pixels = read().with_context(|| {
        format!("{shown} cannot be decoded; replace the picture or take it and its labels out of the set")
    })?;
    ensure!(
        pixels.dimensions() == (picture.width, picture.height),
        "{shown} has another size than when the set was opened; leave the pictures as they are while they are \
         in use, and start again"
    );
    Ok(pixels)
}

/// The text of a file of annotations, without the byte order mark that some editors put before it.
fn text(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let context = || format!("{shown} cannot be read");
    let kind = std::fs::metadata(file).with_context(context)?;
    ensure!(kind.is_file(), "{shown} is no regular file");
    let mut text = Vec::new();
    File::open(file)
        .and_then(|file| file.take(LONGEST_TEXT + 1).read_to_end(&mut text))
        .with_context(context)?;
    ensure!(
        text.len() as u64 <= LONGEST_TEXT,
        "{shown} is longer than {} MB, the most that is read of one file; divide the set",
        LONGEST_TEXT >> 20
    );
    if text.starts_with(b"\xef\xbb\xbf") {
        text.drain(..3);
    }
    String::from_utf8(text).with_context(|| format!("{shown} is not in UTF-8; convert it"))
}

/// Whether a text can name a class: as the server's labels, it is not empty nor too long, and has no character that a
/// terminal or log would obey.
fn is_name(text: &str) -> bool {
    let name = text.trim();
    let length = name.chars().count();
    (1..=LONGEST_NAME).contains(&length) && !name.chars().any(is_obeyed)
}

/// That a picture has no more objects than are read, of which `file` says so many.
fn not_too_many(file: &Path, objects: usize) -> anyhow::Result<()> {
    ensure!(
        objects <= MOST_OBJECTS,
        "{} has {objects} objects, more than the {MOST_OBJECTS} that are read of one picture",
        file.display()
    );
    Ok(())
}

/// Control characters, and those that turn the direction of text.
fn is_obeyed(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    turns || character.is_control()
}

/// A text from a set with nothing in it that a terminal obeys.
fn printable(text: &str) -> String {
    let mut printable = String::new();
    for character in text.chars() {
        if is_obeyed(character) {
            // Writing to a String cannot fail.
            let _ = write!(printable, "{}", character.escape_unicode());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// A text from a set in backquotes, printable, cut.
fn quote(text: &str) -> String {
    const SHOWN: usize = 80;
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", printable(&cut))
}
