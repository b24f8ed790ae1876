//! Labels: the names of a model's classes in the detections.
//!
//! The user chooses the labels file, which can be for another data set. Matched by position, COCO's 80 names would
//! mislabel the 20 VOC classes. [`Labels::assign`] says how labels are matched.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use state_dict::quote;

/// VOC's classes, in the order of the original weights.
pub const VOC: [&str; 20] = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// The classes with different names in VOC and COCO: VOC's name, then COCO's.
pub const VOC_TO_COCO: [(&str, &str); 6] = [
    ("aeroplane", "airplane"),
    ("motorbike", "motorcycle"),
    ("diningtable", "dining table"),
    ("pottedplant", "potted plant"),
    ("sofa", "couch"),
    ("tvmonitor", "tv"),
];

/// The classes with different names in Open Images and COCO: Open Images' name in lower case, then COCO's.
const OPEN_IMAGES_TO_COCO: [(&str, &str); 7] = [
    ("cattle", "cow"),
    ("coffee cup", "cup"),
    ("computer monitor", "tv"),
    ("computer mouse", "mouse"),
    ("desk", "dining table"),
    ("mug", "cup"),
    ("table", "dining table"),
];

/// The name of the ids that COCO skips.
pub const GAP: &str = "N/A";

/// One of COCO's 80 classes.
#[derive(Debug)]
pub struct CocoClass {
    /// COCO's own id, 1 to 90, with gaps.
    pub id: usize,
    /// Its name.
    pub name: &'static str,
}

/// COCO's classes in order, from the list that ships as the default labels file.
pub static COCO: LazyLock<Vec<CocoClass>> = LazyLock::new(|| {
    include_str!("../../../data/coco_labels.txt")
        .lines()
        .map(|line| {
            let (id, rest) = line.split_once(',').expect("id,index,name");
            let (_, name) = rest.split_once(',').expect("id,index,name");
            CocoClass {
                id: id.parse().expect("a number"),
                name,
            }
        })
        .collect()
});

/// Maximum size of a labels file, in bytes: about ten thousand classes. In memory, a name takes many times its
/// size.
const MAX_BYTES: usize = 1 << 20;

/// The names in a labels file, one per class.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels(Vec<String>);

/// What is wrong with a labels file.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A line is not text.
    #[error("line {line} is not UTF-8 text; save the file as UTF-8")]
    NotUtf8 {
        /// Counted from 1.
        line: usize,
    },
    /// A line is malformed.
    #[error(
        "line {line} is {text}, which {problem}; write one class per line: `name`, or `id,index,name`"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// Its text, quoted.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file is too large for a list of classes.
    #[error("it has {bytes} bytes; a labels file has at most {MAX_BYTES}")]
    TooLong {
        /// Size of the file.
        bytes: usize,
    },
    /// There are no labels.
    #[error("it has no labels; write one class per line: `name`, or `id,index,name`")]
    Empty,
    /// The labels match the model's classes neither by number nor by name.
    #[error(
        "it has {labels} labels, but the model has {classes} classes{}; give a file with one label \
         per class in the model's order, or a file with the model's names",
        if *known { ", and the file contains none of their names" } else { ", whose names are not known" }
    )]
    Mismatch {
        /// Labels in the file.
        labels: usize,
        /// Classes of the model, without the background.
        classes: usize,
        /// Whether the names of the model's classes are known.
        known: bool,
    },
}

/// How labels were matched with a model's classes.
#[derive(Debug, Clone, PartialEq)]
pub enum Matched {
    /// There are as many labels as classes: the first label is for the first class.
    ByPosition,
    /// By the names of the classes.
    ByName {
        /// The classes that are not in the file. They keep their own names.
        unnamed: Vec<String>,
    },
}

impl fmt::Display for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPosition => f.write_str("by position"),
            Self::ByName { unnamed } if unnamed.is_empty() => f.write_str("by name"),
            Self::ByName { unnamed } => {
                write!(f, "by name; not in the file: {}", unnamed.join(", "))
            }
        }
    }
}

impl Labels {
    /// Reads a labels file: one class per line, `name` or `id,index,name` (COCO's id, the position from 1, the
    /// name). Unix and Windows line endings, a byte order mark and blank lines at the end are accepted.
    ///
    /// # Errors
    /// If a line is not UTF-8, is blank or malformed, has a wrong index, or repeats a name; if there are no lines,
    /// or the file is larger than 1 MiB.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLong { bytes: bytes.len() });
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut lines = Vec::new();
        for (line, bytes) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let text = std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8 { line })?;
            lines.push(text.trim());
        }
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        let mut first_lines = HashMap::new();
        let mut names = Vec::with_capacity(lines.len());
        for (line, text) in (1..).zip(lines) {
            let name = name(text, line)
                .and_then(|name| match first_lines.insert(name, line) {
                    Some(first) => Err(format!("repeats line {first}")),
                    None => Ok(name),
                })
                .map_err(|problem| Error::Line {
                    line,
                    text: quote(text),
                    problem,
                })?;
            names.push(name.to_owned());
        }
        if names.is_empty() {
            Err(Error::Empty)
        } else {
            Ok(Self(names))
        }
    }

    /// The labels, in the file's order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether these are COCO's names: those of the default labels file.
    pub(super) fn is_coco(&self) -> bool {
        self.0.iter().eq(COCO.iter().map(|class| class.name))
    }

    /// Matches labels by name with classes, whose names are `own`. A class that is not in the file keeps its name.
    pub(super) fn name(&self, own: &[String]) -> (Vec<String>, Matched) {
        let mut unnamed = Vec::new();
        let label = |class: &String| {
            self.find(class).cloned().unwrap_or_else(|| {
                unnamed.push(class.clone());
                class.clone()
            })
        };
        let named = own.iter().map(label).collect();
        // The gaps in COCO's ids are not classes.
        unnamed.retain(|class| class != GAP);
        (named, Matched::ByName { unnamed })
    }

    /// Matches labels with a model's `classes` (without the background): by position if there are as many labels,
    /// else by name if the names of the classes are `known`. Names of VOC and Open Images also match COCO's. A
    /// class that is not in the file keeps its name.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if neither is possible.
    pub fn assign(
        &self,
        classes: usize,
        known: Option<&[String]>,
    ) -> Result<(Vec<String>, Matched), Error> {
        if self.0.len() == classes {
            return Ok((self.0.clone(), Matched::ByPosition));
        }
        let mismatch = Error::Mismatch {
            labels: self.0.len(),
            classes,
            known: known.is_some(),
        };
        let Some(known) = known else {
            return Err(mismatch);
        };
        if known.iter().all(|class| self.find(class).is_none()) {
            return Err(mismatch);
        }
        Ok(self.name(known))
    }

    /// The label with this name, or with another data set's name of the class. Ignores case.
    fn find(&self, class: &str) -> Option<&String> {
        let class = class.to_lowercase();
        let in_coco = coco_name(coco_name(&class, &OPEN_IMAGES_TO_COCO), &VOC_TO_COCO);
        let mut lowered = self.0.iter().map(|label| (label, label.to_lowercase()));
        let same = |(label, lowered): (_, String)| (lowered == class).then_some(label);
        let by_coco = |(label, lowered): (_, String)| {
            (coco_name(&lowered, &VOC_TO_COCO) == in_coco).then_some(label)
        };
        lowered
            .clone()
            .find_map(same)
            .or_else(|| lowered.find_map(by_coco))
    }
}

/// COCO's name of a class, from a table of other names and COCO's names; else the class's own name.
fn coco_name<'a>(class: &'a str, table: &[(&str, &'static str)]) -> &'a str {
    let entry = table.iter().find(|(other, _)| *other == class);
    entry.map_or(class, |&(_, coco)| coco)
}

/// The name on a line, or what is wrong with it.
fn name(text: &str, line: usize) -> Result<&str, String> {
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    let name = match fields[..] {
        [name] => name,
        [id, index, name] => {
            if id.parse::<u32>().is_err() {
                return Err("has an id that is not a number".to_owned());
            }
            if index.parse() != Ok(line) {
                return Err(format!("has the wrong index: expected {line}"));
            }
            name
        }
        _ => return Err(format!("has {} fields", fields.len())),
    };
    match name {
        "" => Err("has no name".to_owned()),
        _ if !is_name(name) => Err("has a control character".to_owned()),
        _ => Ok(name),
    }
}

/// Whether a text can name a class: it is not empty, and contains no control characters, which could change the
/// state of a terminal.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}
