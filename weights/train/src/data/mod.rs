//! Labelled pictures, read from the files that annotation tools write, and checked.
//!
//! ```text
//! folder     every file below a folder, in a stable order
//! voc        PASCAL VOC: an XML file for each picture
//! coco       COCO: a JSON file for all pictures
//! yolo       YOLO: a text file for each picture
//! data_yaml  the file that describes a YOLO data set
//! raw        turns what a format's reader returns into a checked data set
//! upright    turns boxes of the stored picture into boxes of the upright picture
//! classes    merges names that differ only in spelling into one class
//! picture    a picture's file: bytes, header, pixels
//! split      the pictures for training, for validation and for testing
//! summary    formats a data set in numbers
//! ```
//!
//! A fault in a data set is reported as a [`Problem`]. The faulty box or picture is not used.

mod classes;
mod coco;
mod data_yaml;
mod folder;
mod picture;
mod raw;
mod split;
mod summary;
mod upright;
mod voc;
mod yolo;

use std::fmt;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use ssd_detector::boxes::Corners;

use self::folder::Folder;
pub use self::folder::SHEET_SUFFIX;
pub use self::picture::pixels;
pub use self::split::{split, test_pictures};
pub use self::summary::Summary;

/// The maximum length of a label file, in bytes.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// The maximum length of a class name, in characters.
const MAX_NAME_LENGTH: usize = 100;

/// The maximum number of objects in a picture. With it, the number of pictures limits the memory of a data set and its
/// problems.
const MAX_OBJECTS: usize = 10_000;

/// What [`open`] accepts, for error messages.
const ACCEPTED: &str = "a folder with PASCAL VOC XML files, a COCO JSON file beside its pictures, or a YOLO folder \
                        with data.yaml or classes.txt";

/// The format of the labels.
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

/// A data set of labelled pictures.
#[derive(Debug)]
pub struct Dataset {
    /// The format of the labels.
    pub format: Format,
    /// Class names: VOC's in alphabetical order, COCO's by id, YOLO's as listed.
    pub classes: Vec<String>,
    /// The usable pictures, in the order of their paths.
    pub pictures: Vec<Labelled>,
    /// The faults of the data set, and what was done about each.
    pub problems: Vec<Problem>,
}

impl Dataset {
    /// The data set in numbers, and its problems.
    #[must_use]
    pub fn summary(&self) -> Summary<'_> {
        Summary(self)
    }
}

/// A picture and its objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// The picture's file.
    pub path: PathBuf,
    /// The objects in the picture. A picture without objects is background.
    pub objects: Vec<Object>,
    /// The part of the data set to which the data set's lists or folder names assign the picture. `None` if they assign
    /// it to no part.
    pub part: Option<Part>,
    /// Width of the upright picture, in pixels.
    pub width: u32,
    /// Height of the upright picture, in pixels.
    pub height: u32,
}

/// An object in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object {
    /// An index into [`Dataset::classes`].
    pub class: usize,
    /// The ground-truth box in fractions of the upright picture's sides, 0 to 1.
    pub corners: Corners,
    /// Whether the labels mark the object as hard to recognise (VOC's `difficult`) or as a crowd (COCO's `iscrowd`).
    /// Training and evaluation ignore such an object, whether a detector finds it or not.
    pub difficult: bool,
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// For training.
    Train,
    /// For validation during training.
    Validation,
    /// For a measurement after training.
    Test,
}

/// A fault in a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file with the fault.
    pub file: PathBuf,
    /// The line, from 1, if it is known.
    pub line: Option<usize>,
    /// What is wrong, and what was done about it.
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

/// Opens a data set of labelled pictures.
///
/// `path` is a folder, whose format is recognised by its files, or the file that describes the data set: COCO's JSON,
/// `data.yaml`, or a list of class names.
///
/// # Errors
/// If `path` contains no labels or labels in several formats, a class name is unusable, or no usable box remains.
pub fn open(path: &Path) -> anyhow::Result<Dataset> {
    let shown = path.display();
    let kind = std::fs::metadata(path)
        .with_context(|| format!("{shown} cannot be read; give {ACCEPTED}"))?;
    if kind.is_dir() {
        return open_folder(&Folder::open(path)?);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let raw = if folder::has_extension(path, &["json"]) {
        coco::read(&Folder::open(coco_root(path))?, &[path.to_owned()])?
    } else if folder::has_extension(path, &["yaml", "yml"]) || yolo::is_list(&name) {
        yolo::read(&Folder::open(parent(path))?, path)?
    } else {
        bail!("{shown} is not a label file; give {ACCEPTED}");
    };
    raw::finish(raw)
}

/// The pictures in a folder and its subfolders, in the order of their paths.
///
/// # Errors
/// If a folder cannot be read, or contains too many files.
pub fn pictures_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    Ok(Folder::open(folder)?.pictures().cloned().collect())
}

/// The folder with the pictures of a COCO JSON file. In COCO's own layout, the file is in `annotations`, and the folders
/// of pictures are beside `annotations`.
fn coco_root(json: &Path) -> &Path {
    let own = parent(json);
    if own.file_name().is_some_and(|name| name == "annotations") {
        parent(own)
    } else {
        own
    }
}

/// The folder of a file. `.` for a bare name.
fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
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
            "{shown} contains no labels in a known format; give {ACCEPTED}, or export the labels in one of these \
             formats"
        ),
        (true, [], Some(names)) => bail!(
            "{shown} contains both PASCAL VOC and YOLO labels; to use the YOLO labels, give the path of {}; \
             otherwise, give a folder with labels in one format",
            names.display()
        ),
        (_, [file, ..], _) => bail!(
            "{shown} contains labels in more than one format; to use the COCO labels, give the path of {}; \
             otherwise, give a folder with labels in one format",
            file.display()
        ),
    };
    raw::finish(raw)
}

/// Reads a regular file of at most `max` bytes.
fn read(file: &Path, max: u64) -> anyhow::Result<Vec<u8>> {
    ensure!(
        std::fs::metadata(file)?.is_file(),
        "it is not a regular file"
    );
    let mut bytes = Vec::new();
    File::open(file)?.take(max + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= max,
        "it is larger than the limit of {} MB",
        max >> 20
    );
    Ok(bytes)
}

/// The text of a label file, without a byte order mark, which some editors write.
fn text(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let mut bytes =
        read(file, MAX_TEXT_BYTES).with_context(|| format!("{shown} cannot be read"))?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).with_context(|| format!("{shown} is not in UTF-8; convert it"))
}

/// Whether a text can name a class. The server's labels follow the same rule: a name has 1 to [`MAX_NAME_LENGTH`]
/// characters, and no control characters.
fn is_name(text: &str) -> bool {
    let name = text.trim();
    let length = name.chars().count();
    (1..=MAX_NAME_LENGTH).contains(&length) && !name.chars().any(is_control)
}

/// Refuses a picture with too many objects.
fn not_too_many(objects: usize) -> anyhow::Result<()> {
    ensure!(
        objects <= MAX_OBJECTS,
        "{objects} objects are more than the limit of {MAX_OBJECTS} for one picture"
    );
    Ok(())
}

/// Whether a character controls a terminal, or changes the direction of text.
fn is_control(character: char) -> bool {
    let directs = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    directs || character.is_control()
}

/// A text from a data set, with control characters escaped.
fn printable(text: &str) -> String {
    let mut printable = String::new();
    for character in text.chars() {
        if is_control(character) {
            // Writing to a String cannot fail.
            let _ = write!(printable, "{}", character.escape_unicode());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// The first 80 characters of a text from a data set, printable, in backquotes.
fn quote(text: &str) -> String {
    const SHOWN: usize = 80;
    let start: String = text.chars().take(SHOWN).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", printable(&start))
}

/// A number and a text, `one` for 1 and else `many`: `1 picture has`, `2 pictures have`.
#[must_use]
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
