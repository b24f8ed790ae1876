//! Reads `data.yaml`, which describes a YOLO data set: the names of its classes, and the paths of its pictures.
//! Ultralytics and Roboflow write this format.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{anyhow, ensure};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Error, MessageFormatter as _, Spanned, UserMessageFormatter};

use super::{Part, Problem, count, printable};

/// The accepted values of the keys that are read, for error messages.
const ACCEPTED: &str = "write names as a list, `[cat, dog]`, or as a map of class numbers to names, \
                        `{0: cat, 1: dog}`; write train, val and test each as a folder, a list file, or a list of these";

/// The content of a file that describes a YOLO data set.
#[derive(Default)]
pub(super) struct Description {
    /// Class numbers and names, in the order of the numbers.
    pub names: Vec<(u64, String)>,
    /// The pictures of each part, in the order of the parts.
    pub parts: Vec<PartPaths>,
    /// The folder that the paths are relative to.
    pub base: Option<String>,
    /// Whether key points follow the box in a label.
    pub has_points: bool,
}

/// The paths of the pictures of a part.
pub(super) struct PartPaths {
    pub part: Part,
    pub line: usize,
    /// Folders and lists of pictures, as written.
    pub paths: Vec<String>,
}

/// The keys that are read. Others are ignored.
#[derive(Deserialize)]
struct Document {
    names: Option<Names>,
    nc: Option<Spanned<usize>>,
    path: Option<String>,
    train: Option<Spanned<Paths>>,
    val: Option<Spanned<Paths>>,
    valid: Option<Spanned<Paths>>,
    validation: Option<Spanned<Paths>>,
    test: Option<Spanned<Paths>>,
    kpt_shape: Option<IgnoredAny>,
}

struct Names(Vec<(u64, String)>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamesVisitor)
    }
}

/// Requests strings from the parser, so that names stay as written. An untagged enum would read the name `1` as a number
/// and `yes` as true.
struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names or a map of class numbers to names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Names, A::Error> {
        let names = Vec::deserialize(SeqAccessDeserializer::new(list))?;
        Ok(Names((0..).zip(names).collect()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Names, A::Error> {
        let names: BTreeMap<_, _> = Deserialize::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Names(names.into_iter().collect()))
    }
}

struct Paths(Vec<String>);

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PathsVisitor)
    }
}

struct PathsVisitor;

impl<'de> Visitor<'de> for PathsVisitor {
    type Value = Paths;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a folder, a list file, or a list of these, as text")
    }

    fn visit_str<E>(self, path: &str) -> Result<Paths, E> {
        Ok(Paths(vec![path.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Paths, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Paths)
    }
}

/// Whether a YAML file describes a YOLO data set, perhaps with faults.
pub(super) fn has_names(content: &str) -> bool {
    match parse(content) {
        Ok(document) => document.names.is_some(),
        Err(_) => content.lines().any(|line| line.starts_with("names:")),
    }
}

/// Reads the content of a file.
pub(super) fn read(
    file: &Path,
    content: &str,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<Description> {
    let shown = file.display();
    let document = parse(content).map_err(|error| {
        let line = error.location().map(|at| format!(":{}", at.line()));
        anyhow!(
            "{shown}{}: {}; {ACCEPTED}",
            line.unwrap_or_default(),
            printable(&message(&error))
        )
    })?;
    let names = document.names.map_or_else(Vec::new, |names| names.0);
    ensure!(
        !names.is_empty(),
        "{shown} names no classes; add `names: [cat, dog]`, in the order of the class numbers"
    );
    if let Some(stated) = document.nc
        && stated.value != names.len()
    {
        let what = format!(
            "nc is {}, but {}: nc is ignored",
            stated.value,
            count(names.len(), "name is given", "names are given")
        );
        problems.push(Problem::new(file, line(&stated), what));
    }
    let paths_of = [
        (Part::Train, document.train),
        (Part::Validation, document.val),
        (Part::Validation, document.valid),
        (Part::Validation, document.validation),
        (Part::Test, document.test),
    ];
    let parts = paths_of.into_iter().filter_map(|(part, paths)| {
        paths.map(|paths| PartPaths {
            part,
            line: line(&paths),
            paths: paths.value.0,
        })
    });
    Ok(Description {
        names,
        parts: parts.collect(),
        base: document.path,
        has_points: document.kpt_shape.is_some(),
    })
}

/// Parses an untrusted file. By default, the parser refuses more than 64 levels and more than 250,000 values. An alias
/// counts as all the values that it stands for.
fn parse(content: &str) -> Result<Document, Error> {
    let options = serde_saphyr::options! {
        null_as_string: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(content, options)
}

fn message(error: &Error) -> String {
    match error {
        Error::InvalidScalar { .. } => "a whole number is expected".to_owned(),
        error => UserMessageFormatter.format_message(error).into_owned(),
    }
}

fn line<T>(value: &Spanned<T>) -> usize {
    usize::try_from(value.referenced.line()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Description, has_names, read};
    use crate::data::Part;

    fn description(content: &str) -> Description {
        read(Path::new("data.yaml"), content, &mut Vec::new()).unwrap()
    }

    fn names(content: &str) -> Vec<(u64, String)> {
        description(content).names
    }

    fn refusal(content: &str) -> String {
        let description = read(Path::new("data.yaml"), content, &mut Vec::new());
        description.err().expect(content).to_string()
    }

    fn numbered(names: &[(u64, &str)]) -> Vec<(u64, String)> {
        let owned = |&(number, name): &(u64, &str)| (number, name.to_owned());
        names.iter().map(owned).collect()
    }

    #[test]
    fn names_are_a_list_in_every_style() {
        for content in [
            "names: ['it''s', \"a, b\", c d]  # three",
            "names: [ # three\n  'it''s',\n  \"a, b\", # the second\n  c d,\n]\nnc: 3",
            "names:\n- it's\n- 'a, b'\n- c d # the last\n",
            "---\nnames:\n\n  - \"it's\"\n  # a remark\n  - a, b\n  - c d",
            "{\"names\": [\"it's\", \"a, b\", \"c d\"]}",
        ] {
            let expected = numbered(&[(0, "it's"), (1, "a, b"), (2, "c d")]);
            assert_eq!(names(content), expected, "{content}");
        }
    }

    #[test]
    fn names_are_a_map_in_both_styles_in_the_order_of_the_numbers() {
        for content in [
            "names:\n  10: 'dog: big'\n  2: cat",
            "names: {10: 'dog: big', 2: cat}",
        ] {
            let expected = numbered(&[(2, "cat"), (10, "dog: big")]);
            assert_eq!(names(content), expected, "{content}");
        }
    }

    #[test]
    fn names_that_are_numbers_or_keywords_in_yaml_stay_as_written() {
        let expected = numbered(&[(0, "01"), (1, "yes"), (2, "null"), (3, "1.50"), (4, "~")]);
        assert_eq!(names("names: [01, yes, null, 1.50, ~]"), expected);
        assert_eq!(
            names("names:\n- 01\n- yes\n- null\n- 1.50\n- ~\n"),
            expected
        );
        assert_eq!(
            names("names: {0: 01, 1: yes, 2: null, 3: 1.50, 4: ~}"),
            expected
        );
    }

    #[test]
    fn the_paths_of_a_part_are_a_text_or_a_list_of_texts() {
        let content = "path: ../a#b # where\ntrain: x\nval: [y, 1]\ntest:\nvalid: \"C:\\\\a b\"\nnames: [cat]";
        let description = description(content);
        assert_eq!(description.base.as_deref(), Some("../a#b"));
        let parts = description.parts.iter();
        let found: Vec<_> = parts.map(|p| (p.part, p.line, p.paths.join("|"))).collect();
        let expected = [
            (Part::Train, 2, "x".to_owned()),
            (Part::Validation, 3, "y|1".to_owned()),
            (Part::Validation, 5, "C:\\a b".to_owned()),
        ];
        assert_eq!(found, expected);
        assert!(!description.has_points);
    }

    #[test]
    fn other_keys_may_have_any_value() {
        let content = "download: |\n  import x\n  [\nroboflow:\n  a:\n    b: c\nkpt_shape: [2, 3]\nnames: [cat]";
        assert_eq!(names(content), numbered(&[(0, "cat")]));
        assert!(description(content).has_points);
    }

    #[test]
    fn faults_are_refused_with_their_line() {
        for (content, expected) in [
            (
                "nc: 1\nnames: cat",
                "data.yaml:2: invalid type: string \"cat\", expected a list of names",
            ),
            (
                "nc: 1\nnames: 3",
                "data.yaml:2: invalid type: integer `3`, expected a list",
            ),
            ("names: [[cat]]", "data.yaml:1: expected string scalar"),
            (
                "names:\n  0: cat\n  a: dog",
                "data.yaml:3: a whole number is expected; write names as",
            ),
            (
                "names: {0: cat, 0: dog}",
                "data.yaml:1: duplicate mapping key `0`",
            ),
            (
                "names: [cat]\n\nnames: [dog]",
                "data.yaml:3: duplicate mapping key `names`",
            ),
            (
                "names: [cat]\nval: 7",
                "data.yaml:2: invalid type: integer `7`, expected a folder",
            ),
            ("names: [cat]\nnonsense", "data.yaml:2: "),
            ("names: [cat", "data.yaml:1: unclosed bracket"),
            ("cat\ndog", "data.yaml:1: expected mapping"),
            ("names: []", "data.yaml names no classes"),
            ("", "data.yaml names no classes"),
            (
                "names: [cat]\n? \"a\\e\"\n: 1\n? \"a\\e\"\n: 2",
                "`a\\u{1b}`",
            ),
        ] {
            let error = refusal(content);
            assert!(error.contains(expected), "{content}: {error}");
        }
    }

    #[test]
    fn aliases_stand_for_their_values_but_an_alias_bomb_is_refused() {
        let content = "x: &x [cat, dog]\nnames: *x";
        assert_eq!(names(content), numbered(&[(0, "cat"), (1, "dog")]));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
            bomb += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        bomb += "names: *a29";
        assert!(
            refusal(&bomb).contains("data.yaml:6: "),
            "{}",
            refusal(&bomb)
        );
    }

    #[test]
    fn deep_nesting_is_refused() {
        let block: String = (1..50_000_usize.isqrt())
            .map(|level| format!("{}-\n", " ".repeat(level)))
            .collect();
        for content in [
            format!("names: [cat]\nx: {}", "[".repeat(1_000_000)),
            format!("names: [cat]\nx: {}{}", "{a: ".repeat(100), "}".repeat(100)),
            format!("names: [cat]\nx:\n{block}"),
        ] {
            assert!(refusal(&content).contains("data.yaml:"));
        }
    }

    #[test]
    fn a_file_that_cannot_be_parsed_describes_a_data_set_if_a_line_starts_with_names() {
        assert!(has_names("names: [cat]"));
        assert!(has_names("nc: 1\nnames: [cat"));
        assert!(!has_names("services: [cat]"));
        assert!(!has_names("- names: [cat]\nx"));
    }
}
