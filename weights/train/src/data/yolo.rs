//! YOLO: a text file a picture, in `labels` where the picture is in `images`, or beside it; and the names of the
//! classes in `data.yaml`, `classes.txt` or `obj.names`. As Ultralytics, labelImg, CVAT, Label Studio and Roboflow
//! write it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::folder::{Folder, Named, has_extension, stem};
use super::raw::{Frame, Raw, RawObject, RawPicture};
use super::yaml::{self, Value};
use super::{Format, Problem, not_too_many, quote, text};

/// Lists of names, the more telling ones first.
const LISTS: [&str; 3] = ["obj.names", "classes.txt", "_darknet.labels"];

/// Whether a file of this name lists the names of classes.
pub(super) fn is_list(name: &str) -> bool {
    LISTS.contains(&name)
}

/// The file below a folder that names the classes, if it holds a YOLO set.
pub(super) fn names_file(folder: &Folder) -> anyhow::Result<Option<PathBuf>> {
    let yaml = |file: &&PathBuf| has_extension(file, &["yaml", "yml"]) && has_names(file);
    let yamls: Vec<&PathBuf> = folder.files.iter().filter(yaml).collect();
    let usual = |file: &&&PathBuf| matches!(&*stem(file), "data" | "dataset");
    let usuals: Vec<&PathBuf> = yamls.iter().filter(usual).copied().collect();
    match (&*usuals, &*yamls) {
        ([file], _) | ([], [file]) => return Ok(Some((*file).clone())),
        ([one, other, ..], _) | ([], [one, other, ..]) => bail!(
            "{} and {} both name classes; give the path of one of them",
            one.display(),
            other.display()
        ),
        ([], []) => {}
    }
    // Without labels a list of names says nothing: other tools leave one too.
    if !folder.pictures().any(|picture| label(picture).is_some()) {
        return Ok(None);
    }
    for list in LISTS {
        let named = |file: &&PathBuf| file.file_name().is_some_and(|name| name == list);
        let mut files = folder.files.iter().filter(named);
        let Some(first) = files.next() else { continue };
        // labelImg and Roboflow leave one in every folder.
        let own = text(first)?;
        for other in files {
            ensure!(
                text(other)? == own,
                "{} and {} name different classes; give the path of one of them",
                first.display(),
                other.display()
            );
        }
        return Ok(Some(first.clone()));
    }
    // Only `labels` is sure to be of this kind.
    let is_sure = folder.pictures().filter_map(|picture| label(picture));
    let mut is_sure = is_sure.filter(|label| folder_of(label).is_some_and(|name| name == "labels"));
    if let Some(label) = is_sure.next() {
        bail!(
            "{} is a label as YOLO's, but nothing names the classes; put classes.txt into {}, a name a line in \
             the order of their numbers, or data.yaml",
            label.display(),
            folder.root.display()
        );
    }
    Ok(None)
}

fn has_names(file: &Path) -> bool {
    let has =
        |text: &str| yaml::entries(text).is_ok_and(|all| all.iter().any(|e| e.key == "names"));
    text(file).is_ok_and(|text| has(&text))
}

fn folder_of(file: &Path) -> Option<&std::ffi::OsStr> {
    file.parent()?.file_name()
}

/// The label of a picture: where Ultralytics looks, `images` in its path made `labels`, or beside it.
fn label(picture: &Path) -> Option<PathBuf> {
    let beside = picture.with_extension("txt");
    let parts: Vec<Component<'_>> = beside.components().collect();
    let is_images = |part: &Component<'_>| part.as_os_str().eq_ignore_ascii_case("images");
    let swapped = parts.iter().rposition(is_images).map(|at| {
        let part = |(index, part): (usize, &Component<'_>)| {
            if index == at {
                PathBuf::from("labels")
            } else {
                PathBuf::from(part.as_os_str())
            }
        };
        parts.iter().enumerate().map(part).collect::<PathBuf>()
    });
    [swapped, Some(beside)]
        .into_iter()
        .flatten()
        .find(|file| file.is_file())
}

/// What the file of names says.
#[derive(Default)]
struct Description {
    /// Numbers of classes and their names, in the order of the numbers.
    names: Vec<(u64, String)>,
    /// Where pictures are, as it is written, and the line.
    places: Vec<(Named, usize, Vec<String>)>,
    /// What the places start from.
    base: Option<String>,
    /// Labels go on with key points after the box.
    has_points: bool,
}

/// Reads the set that a file names the classes of.
pub(super) fn read(folder: &Folder, names: &Path) -> anyhow::Result<Raw> {
    let mut raw = Raw {
        format: Format::Yolo,
        source: names.to_owned(),
        names: Vec::new(),
        pictures: Vec::new(),
        problems: Vec::new(),
    };
    let content = text(names)?;
    let description = if has_extension(names, &["yaml", "yml"]) {
        describe(names, &content, &mut raw.problems)?
    } else {
        let lines = content.trim_end().lines().map(str::to_owned);
        Description {
            names: (0..).zip(lines).collect(),
            ..Description::default()
        }
    };
    let index_of: HashMap<u64, usize> = description
        .names
        .iter()
        .enumerate()
        .map(|(index, (number, _))| (*number, index))
        .collect();
    let pictures = pictures(folder, names, &description, &mut raw.problems)?;
    let mut labels = Labels {
        index_of,
        has_points: description.has_points,
        polygons: Vec::new(),
    };
    raw.names = description
        .names
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    let mut used = BTreeSet::new();
    let mut backgrounds = Vec::new();
    for (path, named) in pictures {
        let Some(label) = label(&path) else {
            backgrounds.push(path.clone());
            raw.pictures.push(RawPicture {
                source: path.clone(),
                path,
                named,
                frame: Frame::Fractions,
                objects: Vec::new(),
                unusable: 0,
            });
            continue;
        };
        let content = text(&label).and_then(|content| {
            let lines = content.lines().filter(|line| !line.trim().is_empty());
            not_too_many(&label, lines.count())?;
            Ok(content)
        });
        match content {
            Ok(content) => {
                let (objects, unusable) = labels.read(&label, &content, &mut raw.problems);
                raw.pictures.push(RawPicture {
                    path,
                    source: label.clone(),
                    named,
                    frame: Frame::Fractions,
                    objects,
                    unusable,
                });
            }
            Err(error) => {
                let what = format!("{error:#}: its picture is skipped");
                raw.problems.push(Problem::new(&label, None, what));
            }
        }
        used.insert(label);
    }
    ensure!(
        !used.is_empty(),
        "{}: there is no label for any of the {} pictures of the set; put a picture's label beside it or, where \
         the picture is in images, into labels, as NAME.txt",
        names.display(),
        raw.pictures.len()
    );
    labels.note(&mut raw.problems);
    if let [first, ..] = &*backgrounds {
        let what = format!(
            "{} pictures have no label file, this one first: taken as background, as Ultralytics does",
            backgrounds.len()
        );
        raw.problems.push(Problem::new(first, None, what));
    }
    strays(folder, &used, &mut raw.problems);
    Ok(raw)
}

/// Names the labels beside those that were read, whose pictures are missing.
fn strays(folder: &Folder, used: &BTreeSet<PathBuf>, problems: &mut Vec<Problem>) {
    let places: BTreeSet<_> = used.iter().filter_map(|label| label.parent()).collect();
    let is_other = |file: &Path| {
        let stem = stem(file).to_lowercase();
        matches!(&*stem, "classes" | "train" | "val" | "valid" | "test")
            || stem.starts_with("readme")
    };
    for file in folder.with_extension("txt") {
        let is_label = file.parent().is_some_and(|parent| places.contains(parent));
        if is_label && !is_other(file) && !used.contains(file) && label_is_stray(folder, file) {
            let what = "there is no picture of its name in the set: skipped";
            problems.push(Problem::new(file, None, what));
        }
    }
}

/// A picture that is there, but in no list of the set, has a label that is not looked at.
fn label_is_stray(folder: &Folder, file: &Path) -> bool {
    let pictures = folder.nearest(&stem(file), file);
    !pictures
        .iter()
        .any(|picture| label(picture).as_deref() == Some(file))
}

/// Reads `data.yaml`.
fn describe(
    file: &Path,
    content: &str,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<Description> {
    let shown = file.display();
    let entries = yaml::entries(content).map_err(|line| {
        anyhow::anyhow!("{shown}:{line}: the line is no `key: value`; write data.yaml as Ultralytics describes it")
    })?;
    let mut description = Description::default();
    let mut count = None;
    for entry in entries {
        let line = entry.line;
        let part = super::folder::named(&entry.key);
        match (&*entry.key, entry.value(), part) {
            ("names", value, _) => {
                ensure!(
                    description.names.is_empty(),
                    "{shown}:{line}: names is there twice; keep one"
                );
                description.names = value.and_then(listed).with_context(|| {
                    format!("{shown}:{line}: names is neither a list of names nor a map of numbers to names; \
             write it as `names: [cat, dog]`")
                })?;
            }
            ("nc", Some(Value::Text(text)), _) => {
                count = text.parse::<usize>().ok().zip(Some(line));
            }
            ("path", Some(Value::Text(text)), _) => description.base = Some(text),
            ("kpt_shape", ..) => description.has_points = true,
            (_, Some(Value::Text(text)), Some(_)) if matches!(&*text, "" | "null" | "~") => {}
            (_, Some(Value::Text(text)), Some(part)) => {
                description.places.push((part, line, vec![text]));
            }
            (_, Some(Value::List(places)), Some(part)) => {
                description.places.push((part, line, places));
            }
            (_, _, Some(_)) => bail!(
                "{shown}:{line}: {} is neither a folder nor a list of folders; write it as `{}: images/train`",
                quote(&entry.key),
                entry.key
            ),
            _ => {}
        }
    }
    ensure!(
        !description.names.is_empty(),
        "{shown} names no classes; add `names: [cat, dog]`, in the order of their numbers"
    );
    if let Some((count, line)) = count
        && count != description.names.len()
    {
        let what = format!(
            "nc is {count}, but there are {} names: the names count",
            description.names.len()
        );
        problems.push(Problem::new(file, line, what));
    }
    Ok(description)
}

/// Numbers and names of a list or a map.
fn listed(value: Value) -> Option<Vec<(u64, String)>> {
    match value {
        Value::List(names) => Some((0..).zip(names).collect()),
        Value::Map(pairs) => {
            let number = |(key, name): (String, String)| Some((key.parse().ok()?, name));
            let names: BTreeMap<u64, String> =
                pairs.into_iter().map(number).collect::<Option<_>>()?;
            Some(names.into_iter().collect())
        }
        Value::Text(_) => None,
    }
}

/// The pictures of the set and what they are for.
fn pictures(
    folder: &Folder,
    names: &Path,
    description: &Description,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<BTreeMap<PathBuf, Option<Named>>> {
    let mut all: BTreeMap<PathBuf, Option<Named>> = BTreeMap::new();
    let mut places = description.places.clone();
    places.sort_by_key(|(part, line, _)| (*part, *line));
    for (part, line, places) in places {
        let mut again = 0;
        for place in places {
            let Some(found) = resolve(names, description.base.as_deref(), &place) else {
                let what = format!("{} is not there: skipped", quote(&place));
                problems.push(Problem::new(names, line, what));
                continue;
            };
            let found = if found.is_dir() {
                Folder::open(&found)?.pictures().cloned().collect()
            } else {
                list(&found, problems)?
            };
            for picture in found {
                let picture = normal(&picture);
                let known = *all.entry(picture).or_insert(Some(part));
                again += usize::from(known != Some(part));
            }
        }
        if again > 0 {
            let what = format!(
                "{again} pictures are in a part before as well: they are kept there alone, for what was trained \
                 on says nothing in validation"
            );
            problems.push(Problem::new(names, line, what));
        }
    }
    if all.is_empty() {
        let each = |picture: &PathBuf| (normal(picture), folder.named(picture));
        all = folder.pictures().map(each).collect();
        if !description.places.is_empty() {
            let what = format!(
                "nothing is where it says: the pictures anywhere in {} are taken",
                folder.root.display()
            );
            problems.push(Problem::new(names, None, what));
        }
    }
    Ok(all)
}

/// A path without `.` and, where that is safe, `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match (part, normal.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                normal.pop();
            }
            _ => normal.push(part),
        }
    }
    normal
}

/// Where a place is: from `path`, from the file, or, as in Roboflow's, from the file but for `../` before it.
fn resolve(names: &Path, base: Option<&str>, place: &str) -> Option<PathBuf> {
    let own = names.parent().unwrap_or(Path::new(""));
    let place = place.replace('\\', "/");
    let base = base.map(|base| own.join(base.replace('\\', "/")));
    let inner = place.trim_start_matches("../");
    let places = [
        base.map(|base| base.join(&place)),
        Some(own.join(&place)),
        Some(own.join(inner)),
    ];
    places.into_iter().flatten().find(|place| place.exists())
}

/// The pictures that a list names, from its own folder or the one above.
fn list(file: &Path, problems: &mut Vec<Problem>) -> anyhow::Result<Vec<PathBuf>> {
    let own = file.parent().unwrap_or(Path::new(""));
    let mut pictures = Vec::new();
    for (index, line) in text(file)?.lines().enumerate() {
        let name = line.trim().replace('\\', "/");
        if name.is_empty() {
            continue;
        }
        let places = [Some(own), own.parent()].into_iter().flatten();
        let mut places = places.map(|place| place.join(&name));
        if let Some(picture) = places.find(|picture| picture.is_file()) {
            pictures.push(picture);
        } else {
            let what = format!("the picture {} is not there: skipped", quote(&name));
            problems.push(Problem::new(file, index + 1, what));
        }
    }
    Ok(pictures)
}

/// Reads labels.
struct Labels {
    index_of: HashMap<u64, usize>,
    has_points: bool,
    /// Files and lines with outlines.
    polygons: Vec<(PathBuf, usize)>,
}

impl Labels {
    /// The objects of a file, and how many could not be read.
    fn read(
        &mut self,
        file: &Path,
        content: &str,
        problems: &mut Vec<Problem>,
    ) -> (Vec<RawObject>, usize) {
        let (mut objects, mut unusable) = (Vec::new(), 0);
        let (mut outlined, mut seen) = (None, BTreeSet::new());
        for (index, line) in content.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            // What is said twice is one object, as Ultralytics takes it.
            if !seen.insert(line.trim()) {
                problems.push(Problem::new(
                    file,
                    index + 1,
                    "the line is there twice: one counts",
                ));
                continue;
            }
            match self.object(line) {
                Ok((object, is_outline)) => {
                    if is_outline {
                        outlined.get_or_insert(index + 1);
                    }
                    objects.push(RawObject {
                        line: Some(index + 1),
                        ..object
                    });
                }
                Err(why) => {
                    unusable += 1;
                    problems.push(Problem::new(file, index + 1, format!("{why}: skipped")));
                }
            }
        }
        if let Some(line) = outlined {
            self.polygons.push((file.to_owned(), line));
        }
        (objects, unusable)
    }

    /// The object of a line, and whether an outline is all that is said of it.
    fn object(&self, line: &str) -> Result<(RawObject, bool), String> {
        let mut words = line.split_whitespace();
        let class = words.next().unwrap_or_default();
        // Some tools write `0.0`.
        let number = class.strip_suffix(".0").unwrap_or(class);
        let number = number
            .parse()
            .map_err(|_| format!("{} is no number of a class", quote(class)))?;
        let name = self.index_of.get(&number).copied();
        let name = name.ok_or_else(|| {
            format!(
                "there is no class {number} among the {} names",
                self.index_of.len()
            )
        })?;
        let mut numbers: Vec<f64> = Vec::new();
        for word in words {
            let number = word.parse();
            numbers.push(number.map_err(|_| format!("{} is no number", quote(word)))?);
        }
        let (sides, is_outline) = match *numbers {
            [cx, cy, w, h] => (around(cx, cy, w, h), false),
            [cx, cy, w, h, ..] if self.has_points => (around(cx, cy, w, h), false),
            _ if numbers.len() >= 6 && numbers.len().is_multiple_of(2) => (bounds(&numbers), true),
            [_, _, _, _, _] => {
                return Err(
                    "there is a score after the box, so it was found, not labelled".to_owned(),
                );
            }
            _ => {
                return Err(format!(
                    "there are {} numbers after the class, neither 4 (centre, width, height) nor the points of an \
                     outline",
                    numbers.len()
                ));
            }
        };
        let object = RawObject {
            name,
            sides,
            difficult: false,
            line: None,
        };
        Ok((object, is_outline))
    }

    fn note(&self, problems: &mut Vec<Problem>) {
        if let Some((file, line)) = self.polygons.first() {
            let what = format!(
                "{} label files hold outlines, this one first: the box around each is taken",
                self.polygons.len()
            );
            problems.push(Problem::new(file, *line, what));
        }
    }
}

fn around(cx: f64, cy: f64, w: f64, h: f64) -> [f64; 4] {
    [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0]
}

/// The box around points; a coordinate that is no number makes it none.
fn bounds(points: &[f64]) -> [f64; 4] {
    let mut sides = [
        f64::INFINITY,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NEG_INFINITY,
    ];
    let (points, _) = points.as_chunks::<2>();
    for &[x, y] in points {
        if !x.is_finite() || !y.is_finite() {
            return [f64::NAN; 4];
        }
        sides = [
            sides[0].min(x),
            sides[1].min(y),
            sides[2].max(x),
            sides[3].max(y),
        ];
    }
    sides
}
