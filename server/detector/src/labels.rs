//! Labels: the names of a model's classes in the detections.
//!
//! The user chooses the labels file, which can be for another data set. Matched by position, COCO's 80 names would
//! mislabel the 20 VOC classes. [`Labels::parse`] says which files are read, and [`Labels::assign`] how labels are
//! matched.

use std::collections::{BTreeMap, HashMap, HashSet};
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

/// The name of the ids that COCO skips. Classes with this label are never detected.
pub const GAP: &str = "N/A";

/// The names of the background, in lower case. Data sets and frameworks count it as class 0.
const BACKGROUND: [&str; 3] = ["background", "__background__", "_background_"];

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

/// Maximum number of a class. Numbers can have gaps, so they are limited independently of the file's size.
const MAX_NUMBER: usize = 9_999;

/// The names in a labels file, one per class.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// Distinct, except the gaps.
    names: Vec<String>,
    /// The name of the background, if the file begins with it. It is not in `names`.
    background: Option<String>,
}

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
    /// It is JSON of another structure.
    #[error(
        "it is JSON, but not a list of names: {0}; write [\"cat\", \"dog\"], {{\"0\": \"cat\", \"1\": \"dog\"}}, \
         {{\"cat\": 0, \"dog\": 1}}, or one name per line"
    )]
    Json(String),
    /// It has a format that is not read.
    #[error("it is {what}, not a list of names; {advice}")]
    Format {
        /// The format.
        what: &'static str,
        /// What to do next.
        advice: &'static str,
    },
    /// The labels match the model's classes neither by number nor by name.
    #[error(
        "it has {labels} labels{}, but the model has {classes} classes{}; give a file with one label \
         per class in the model's order, or a file with the model's names",
        background.as_ref().map_or_else(String::new, |first| {
            format!(" (its first name, {}, is no class)", quote(first))
        }),
        if *known { ", and the file contains none of their names" } else { ", whose names are not known" }
    )]
    Mismatch {
        /// Labels in the file, without the background.
        labels: usize,
        /// The name of the background, if the file begins with it.
        background: Option<String>,
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
    /// Reads a labels file: one class per line, or JSON.
    ///
    /// - Lines are `name`, or `id,index,name` (COCO's id, the position from 1, the name). Unix and Windows line
    ///   endings, a byte order mark and blank lines at the end are accepted.
    /// - If every line begins with a number and a space or a colon, and the numbers rise from 0 or 1, then they are not
    ///   part of the names. Numbers that are left out are gaps.
    /// - If every name is in quotes, they are not part of it.
    /// - JSON is an array of names, an object of numbers and names, or one of names and numbers.
    /// - `N/A` and `???` are gaps: numbers without a class. They can repeat.
    /// - The background (`background`, `__background__`, `_background_`, or a gap) is dropped if it comes first.
    ///
    /// # Errors
    /// If a line is not UTF-8, is blank or malformed, has a wrong index, or repeats a name; if there are no names, the
    /// file is larger than 1 MiB, or it has another format.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLong { bytes: bytes.len() });
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let valid = &bytes[..error.valid_up_to()];
            Error::NotUtf8 {
                line: valid.split(|&byte| byte == b'\n').count(),
            }
        })?;
        let text = text.trim_end();
        let mut names = match text.trim_start().chars().next() {
            Some('[' | '{') => from_json(text)?,
            _ => from_lines(text)?,
        };
        for name in names.iter_mut().filter(|name| is_gap(name)) {
            GAP.clone_into(name);
        }
        let is_background = names.first().is_some_and(|first| {
            first == GAP || BACKGROUND.contains(&first.to_lowercase().as_str())
        });
        let background = is_background.then(|| names.remove(0));
        if names.iter().all(|name| name == GAP) {
            return Err(Error::Empty);
        }
        Ok(Self { names, background })
    }

    /// The labels, in the file's order, without the background.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The labels without the gaps.
    fn classes(&self) -> impl Iterator<Item = &String> {
        self.names.iter().filter(|name| *name != GAP)
    }

    /// Whether these are COCO's names: those of the default labels file.
    pub(super) fn is_coco(&self) -> bool {
        self.classes().eq(COCO.iter().map(|class| class.name))
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

    /// Matches labels with a model's `classes` (without the background): by position if there are as many labels, with
    /// or without the gaps; else by name if the names of the classes are `known`. Names of VOC and Open Images also
    /// match COCO's. A class that is not in the file keeps its name.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if neither is possible.
    pub fn assign(
        &self,
        classes: usize,
        known: Option<&[String]>,
    ) -> Result<(Vec<String>, Matched), Error> {
        if self.names.len() == classes {
            return Ok((self.names.clone(), Matched::ByPosition));
        }
        if self.classes().count() == classes {
            return Ok((self.classes().cloned().collect(), Matched::ByPosition));
        }
        let is_named = |class: &String| class != GAP && self.find(class).is_some();
        match known {
            Some(known) if known.iter().any(is_named) => Ok(self.name(known)),
            _ => Err(Error::Mismatch {
                labels: self.names.len(),
                background: self.background.clone(),
                classes,
                known: known.is_some(),
            }),
        }
    }

    /// The label with this name, or with another data set's name of the class. Ignores case.
    fn find(&self, class: &str) -> Option<&String> {
        let class = class.to_lowercase();
        let in_coco = coco_name(coco_name(&class, &OPEN_IMAGES_TO_COCO), &VOC_TO_COCO);
        let mut lowered = self.names.iter().map(|label| (label, label.to_lowercase()));
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

/// Whether a name stands for a number without a class. TensorFlow writes question marks.
fn is_gap(name: &str) -> bool {
    name.eq_ignore_ascii_case(GAP) || name == "???"
}

/// The names of a file that is not JSON.
fn from_lines(text: &str) -> Result<Vec<String>, Error> {
    refuse_other_formats(text)?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let numbered = numbered(&lines);
    let text = |index: usize| match &numbered {
        Some(numbered) => numbered[index].1,
        None => lines[index],
    };
    let are_quoted = (0..lines.len()).all(|index| unquoted(text(index)).is_some());
    let (mut names, mut first_lines) = (Vec::new(), HashMap::new());
    for (line, index) in (1..).zip(0..lines.len()) {
        let name = match unquoted(text(index)) {
            Some(name) if are_quoted => checked(name),
            _ => name(text(index), line),
        };
        let name = name
            .and_then(|name| match first_lines.insert(name, line) {
                Some(first) if !is_gap(name) => Err(format!("repeats line {first}")),
                _ => Ok(name),
            })
            .map_err(|problem| Error::Line {
                line,
                text: quote(lines[index]),
                problem,
            })?;
        names.push(name.to_owned());
    }
    Ok(match numbered {
        Some(numbered) => {
            let numbers = numbered.iter().map(|&(number, _)| number);
            with_gaps(numbers.zip(names).collect())
        }
        None => names,
    })
}

/// The number and the name on each line. `None` if a line does not begin with a number and a space or a colon, or the
/// numbers do not rise from 0 or 1: `7 up` is a name.
fn numbered<'a>(lines: &[&'a str]) -> Option<Vec<(usize, &'a str)>> {
    let split = |line: &&'a str| {
        let end = line.find(|character: char| !character.is_ascii_digit())?;
        let number = line[..end]
            .parse()
            .ok()
            .filter(|&number| number <= MAX_NUMBER)?;
        let rest = &line[end..];
        let name = rest.strip_prefix(':').unwrap_or(rest);
        rest.starts_with([':', ' ', '\t'])
            .then(|| (number, name.trim()))
    };
    let numbered: Vec<(usize, &str)> = lines.iter().map(split).collect::<Option<_>>()?;
    let rises = numbered.array_windows().all(|[one, other]| one.0 < other.0);
    (rises && matches!(numbered.first(), Some((0 | 1, _)))).then_some(numbered)
}

/// The names by rising numbers, with gaps for the numbers that are missing.
fn with_gaps(numbered: BTreeMap<usize, String>) -> Vec<String> {
    let mut names = Vec::with_capacity(numbered.len());
    let first = numbered.keys().next().copied().unwrap_or(0);
    for (number, name) in numbered {
        names.resize(number - first, GAP.to_owned());
        names.push(name);
    }
    names
}

/// The text between quotes; `None` if there are none.
fn unquoted(text: &str) -> Option<&str> {
    ['"', '\''].into_iter().find_map(|mark| {
        let inner = text.strip_prefix(mark)?.strip_suffix(mark)?;
        (!inner.contains(mark)).then(|| inner.trim())
    })
}

/// Refuses formats of which every line would be read as a name.
fn refuse_other_formats(text: &str) -> Result<(), Error> {
    let mut lines = text.lines().map(str::trim);
    let is_remark = |line: &&str| line.is_empty() || line.starts_with('#');
    let first = lines.clone().find(|line| !is_remark(line)).unwrap_or("");
    let before_brace = first.split_once('{').map(|(before, _)| before.trim_end());
    let (what, advice) = if before_brace == Some("item") {
        (
            "a TensorFlow label map (pbtxt)",
            if text.contains("display_name") {
                r#"write them one per line: sed -En "s/.*display_name: *['\"](.*)['\"].*/\1/p" FILE"#
            } else {
                r#"write them one per line: sed -En "s/.*name: *['\"](.*)['\"].*/\1/p" FILE"#
            },
        )
    } else if first == "---"
        || first.starts_with("- ")
        || lines.any(|line| line.starts_with("names:"))
    {
        (
            "YAML",
            r#"write them one per line: sed -En "s/^ *(-|[0-9]+:) *//p" FILE"#,
        )
    } else if first.starts_with('<') {
        ("an HTML page or XML", "was it downloaded correctly?")
    } else {
        return Ok(());
    };
    Err(Error::Format { what, advice })
}

/// The names in JSON.
fn from_json(text: &str) -> Result<Vec<String>, Error> {
    let (mut names, mut seen) = (BTreeMap::new(), HashSet::new());
    for (number, name) in numbers_and_names(text)? {
        let quoted = quote(&name);
        let problem = if let Err(problem) = checked(&name) {
            format!("its name {quoted} {problem}")
        } else if number > MAX_NUMBER {
            format!("it has the number {number}; the limit is {MAX_NUMBER}")
        } else if !is_gap(&name) && !seen.insert(name.clone()) {
            format!("it has the name {quoted} twice")
        } else if names.insert(number, name).is_some() {
            format!("it has the number {number} twice")
        } else {
            continue;
        };
        return Err(Error::Json(problem));
    }
    match names.keys().next() {
        None | Some(0 | 1) => Ok(with_gaps(names)),
        Some(first) => Err(Error::Json(format!(
            "its first number is {first}; 0 or 1 is expected"
        ))),
    }
}

/// The names of a JSON array with their positions from 0; or the numbers and names of an object, in either order.
fn numbers_and_names(text: &str) -> Result<Vec<(usize, String)>, Error> {
    let wrong = |error: serde_json::Error| Error::Json(quote(&error.to_string()));
    if text.trim_start().starts_with('[') {
        let names: Vec<String> = serde_json::from_str(text).map_err(wrong)?;
        return Ok(names.into_iter().enumerate().collect());
    }
    if let Ok(by_name) = serde_json::from_str::<BTreeMap<String, usize>>(text) {
        let pairs = by_name.into_iter().map(|(name, number)| (number, name));
        return Ok(pairs.collect());
    }
    let by_number: BTreeMap<String, String> = serde_json::from_str(text).map_err(wrong)?;
    let pairs = by_number.into_iter().map(|(key, name)| {
        let number = key.parse().ok();
        let problem = || Error::Json(format!("its key {} is not a number", quote(&key)));
        Ok((number.ok_or_else(problem)?, name))
    });
    pairs.collect()
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
    checked(name)
}

/// The name, or what is wrong with it.
fn checked(name: &str) -> Result<&str, String> {
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
