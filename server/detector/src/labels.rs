//! Labels: what the classes of a model are called in the answers.
//!
//! A labels file belongs to whoever deploys the server, and need not be the model's own: the lab
//! pairs weights of VOC's 20 classes with COCO's list of 80, where taking labels by position would
//! name every object wrongly. [`Labels::assign`] says how they are matched.

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

/// What COCO calls the classes that VOC calls otherwise: VOC's name, COCO's.
pub const VOC_TO_COCO: [(&str, &str); 6] = [
    ("aeroplane", "airplane"),
    ("motorbike", "motorcycle"),
    ("diningtable", "dining table"),
    ("pottedplant", "potted plant"),
    ("sofa", "couch"),
    ("tvmonitor", "tv"),
];

/// What COCO calls the classes of Open Images that it has under another name. Beside these it has
/// some under the same name in capitals, which match by themselves.
const OPEN_IMAGES_TO_COCO: [(&str, &str); 7] = [
    ("cattle", "cow"),
    ("coffee cup", "cup"),
    ("computer monitor", "tv"),
    ("computer mouse", "mouse"),
    ("desk", "dining table"),
    ("mug", "cup"),
    ("table", "dining table"),
];

/// What an id of COCO's is called that no class has.
pub const GAP: &str = "N/A";

/// One of COCO's 80 classes.
#[derive(Debug)]
pub struct CocoClass {
    /// COCO's own number, 1 to 90, with gaps.
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

/// Bytes of the longest labels file: some ten thousand classes. A name takes many times its size in
/// memory.
const LONGEST: usize = 1 << 20;

/// The lines of a labels file: one name a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels(Vec<String>);

/// What is wrong with a labels file, and where.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A line is not text.
    #[error("line {line} is not UTF-8 text; save the file as UTF-8")]
    NotUtf8 {
        /// Counted from 1.
        line: usize,
    },
    /// A line cannot be read.
    #[error(
        "line {line} is {text}, which {problem}; a line is a class: `name`, or `id,index,name`"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// What it holds, quoted.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More than any list of classes.
    #[error("it has {bytes} bytes; a list of labels has {LONGEST} at most")]
    TooLong {
        /// Bytes of the file.
        bytes: usize,
    },
    /// No classes.
    #[error("it has no labels; write one class a line: `name`, or `id,index,name`")]
    Empty,
    /// The labels cannot be those of the model.
    #[error(
        "it has {labels} labels, but the model has {classes} classes{}; give a file with one label \
         a class in the model's order, or one that has the model's names",
        if *known { ", and none of their names is in it" } else { ", whose names are not known" }
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
    /// As many labels as classes: the first label is the first class.
    ByPosition,
    /// By the classes' names.
    ByName {
        /// Classes that the file does not name, and which keep their own names.
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
    /// Reads a labels file: one class a line, `name` or `id,index,name` (COCO's id, the position
    /// from 1, the name). Either line ending, a byte order mark and blank lines at the end are fine.
    ///
    /// # Errors
    /// Where a line is not UTF-8, blank, malformed, out of place or the name of an earlier one, and
    /// where there is none, or more than a megabyte of them. Lines are counted from 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > LONGEST {
            return Err(Error::TooLong { bytes: bytes.len() });
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut lines = Vec::new();
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let text = std::str::from_utf8(line).map_err(|_| Error::NotUtf8 { line: index + 1 })?;
            lines.push(text.trim());
        }
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        let mut first_lines = HashMap::new();
        let mut names = Vec::with_capacity(lines.len());
        for (line, text) in (1..).zip(lines) {
            let name = name(text, line).and_then(|name| match first_lines.insert(name, line) {
                Some(first) => Err(format!("repeats line {first}")),
                None => Ok(name),
            });
            let name = name.map_err(|problem| Error::Line {
                line,
                text: quote(text),
                problem,
            })?;
            names.push(name.to_owned());
        }
        match names.is_empty() {
            true => Err(Error::Empty),
            false => Ok(Self(names)),
        }
    }

    /// The labels, in the file's order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether it is the lab's list, COCO's, which stands for any model that nobody gave a list.
    #[must_use]
    pub fn is_the_lab_s(&self) -> bool {
        self.0.iter().eq(COCO.iter().map(|class| class.name))
    }

    /// Gives classes whose `own` names are known their labels by name: a class that the file does not name
    /// keeps its own.
    #[must_use]
    pub fn name(&self, own: &[String]) -> (Vec<String>, Matched) {
        let mut unnamed = Vec::new();
        let named = own.iter().map(|class| {
            self.find(class).cloned().unwrap_or_else(|| {
                unnamed.push(class.clone());
                class.clone()
            })
        });
        let named = named.collect();
        // The gaps of COCO's ids are no classes.
        unnamed.retain(|class| class != GAP);
        (named, Matched::ByName { unnamed })
    }

    /// Gives each of a model's `classes` (the background not counted) its label. As many labels as
    /// classes are taken by position; else by name, where the model's `known` names are known. Names of
    /// VOC and Open Images also match COCO's. A class that the file does not name keeps its own name.
    ///
    /// # Errors
    /// Where neither is possible: [`Error::Mismatch`] tells both counts.
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

    /// The label of that name, or of the name that COCO or VOC has for it; case does not matter.
    fn find(&self, class: &str) -> Option<&String> {
        let class = class.to_lowercase();
        let in_coco = coco_name(&class, &OPEN_IMAGES_TO_COCO);
        let in_coco = coco_name(in_coco, &VOC_TO_COCO);
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

/// COCO's name of a class, by a table of other names and COCO's; its own where the table has none.
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
                return Err("has an id that is no number".to_owned());
            }
            if index.parse() != Ok(line) {
                return Err(format!(
                    "has another index than {line}: lines are in the order of the index, from 1"
                ));
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

/// Whether a text can name a class: it is not empty, and has no control characters, which a terminal or a
/// log would obey.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}
