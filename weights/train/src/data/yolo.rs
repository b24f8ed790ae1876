//! YOLO: a text file for each picture, beside it, or in `labels` if the picture is in `images`; and the names of the
//! classes in `data.yaml`, `classes.txt` or `obj.names`. Written by Ultralytics, labelImg, CVAT, Label Studio and
//! Roboflow.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use anyhow::{bail, ensure};

use super::data_yaml::{self, Description};
use super::folder::{Folder, has_extension, stem};
use super::raw::{Frame, Raw, RawObject, RawPicture};
use super::{Format, Part, Problem, count, not_too_many, parent, quote, text};

/// Lists of class names, in the order in which they are looked for.
const LISTS: [&str; 3] = ["obj.names", "classes.txt", "_darknet.labels"];

/// Whether a file of this name lists class names.
pub(super) fn is_list(name: &str) -> bool {
    LISTS.contains(&name)
}

/// The file below a folder that names the classes, if the folder holds a YOLO set.
pub(super) fn names_file(folder: &Folder) -> anyhow::Result<Option<PathBuf>> {
    let is_description = |file: &&PathBuf| {
        has_extension(file, &["yaml", "yml"])
            && text(file).is_ok_and(|content| data_yaml::has_names(&content))
    };
    let all: Vec<&PathBuf> = folder.files.iter().filter(is_description).collect();
    let is_usual = |file: &&&PathBuf| matches!(&*stem(file), "data" | "dataset");
    let usual: Vec<&PathBuf> = all.iter().filter(is_usual).copied().collect();
    match (&*usual, &*all) {
        ([file], _) | ([], [file]) => return Ok(Some((*file).clone())),
        ([one, other, ..], _) | ([], [one, other, ..]) => bail!(
            "{} and {} both name classes; give the path of one of them",
            one.display(),
            other.display()
        ),
        ([], []) => {}
    }
    // A list of names alone does not make a YOLO set: tools write one for other formats too.
    if !folder.pictures().any(|picture| label_of(picture).is_some()) {
        return Ok(None);
    }
    for list in LISTS {
        let is_list = |file: &&PathBuf| file.file_name().is_some_and(|name| name == list);
        let mut files = folder.files.iter().filter(is_list);
        let Some(first) = files.next() else { continue };
        // labelImg and Roboflow write a list into every folder.
        let names = text(first)?;
        for other in files {
            ensure!(
                text(other)? == names,
                "{} and {} name different classes; give the path of one of them",
                first.display(),
                other.display()
            );
        }
        return Ok(Some(first.clone()));
    }
    // A text file beside a picture may be anything, but not one in `labels`.
    let in_labels = |label: &PathBuf| parent(label).file_name().is_some_and(|n| n == "labels");
    let mut labels = folder.pictures().filter_map(|picture| label_of(picture));
    if let Some(label) = labels.find(in_labels) {
        bail!(
            "{} looks like a YOLO label, but no file names the classes; put classes.txt into {}, with a name in each \
             line in the order of the class numbers, or data.yaml",
            label.display(),
            folder.root.display()
        );
    }
    Ok(None)
}

/// The label of a picture. It is where Ultralytics looks for it, in `labels` instead of the last `images` of the path,
/// or beside the picture.
fn label_of(picture: &Path) -> Option<PathBuf> {
    let beside = picture.with_extension("txt");
    let mut parts: Vec<&OsStr> = beside.iter().collect();
    let images = parts
        .iter()
        .rposition(|part| part.eq_ignore_ascii_case("images"));
    let in_labels = images.map(|at| {
        parts[at] = OsStr::new("labels");
        parts.iter().collect()
    });
    let mut places = in_labels.into_iter().chain([beside.clone()]);
    places.find(|file: &PathBuf| file.is_file())
}

/// Reads the set whose classes a file names.
pub(super) fn read(folder: &Folder, names: &Path) -> anyhow::Result<Raw> {
    let mut raw = Raw {
        format: Format::Yolo,
        source: names.to_owned(),
        names: Vec::new(),
        pictures: Vec::new(),
        problems: Vec::new(),
    };
    let description = describe(names, &mut raw.problems)?;
    let listed = pictures(folder, names, &description, &mut raw.problems)?;
    let mut labels = Labels::new(&description);
    raw.names = description
        .names
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    let mut used = BTreeSet::new();
    let mut backgrounds = Vec::new();
    for (path, part) in listed {
        let label = label_of(&path);
        let mut picture = RawPicture {
            source: label.clone().unwrap_or_else(|| path.clone()),
            path,
            part,
            frame: Frame::Fractions,
            objects: Vec::new(),
            unreadable: 0,
        };
        if let Some(label) = label {
            match content(&label) {
                Ok(content) => {
                    (picture.objects, picture.unreadable) =
                        labels.read(&label, &content, &mut raw.problems);
                    raw.pictures.push(picture);
                }
                Err(error) => {
                    let what = format!("{error:#}: its picture is skipped");
                    raw.problems.push(Problem::new(&label, None, what));
                }
            }
            used.insert(label);
        } else {
            backgrounds.push(picture.path.clone());
            raw.pictures.push(picture);
        }
    }
    ensure!(
        !used.is_empty(),
        "{}: no picture of the set has a label, of {}; put a picture's label beside it or, if the picture is in \
         images, into labels, as NAME.txt",
        names.display(),
        count(raw.pictures.len(), "picture", "pictures")
    );
    labels.report_outlines(&mut raw.problems);
    if let [first, ..] = &*backgrounds {
        let what = format!(
            "{} no label file, this one first: taken as background, as Ultralytics does",
            count(backgrounds.len(), "picture has", "pictures have")
        );
        raw.problems.push(Problem::new(first, None, what));
    }
    report_strays(folder, &used, &mut raw.problems);
    Ok(raw)
}

/// What `data.yaml` or a list of class names says.
fn describe(names: &Path, problems: &mut Vec<Problem>) -> anyhow::Result<Description> {
    let content = text(names)?;
    if has_extension(names, &["yaml", "yml"]) {
        return data_yaml::read(names, &content, problems);
    }
    let lines = content.trim_end().lines().map(str::to_owned);
    Ok(Description {
        names: (0..).zip(lines).collect(),
        ..Description::default()
    })
}

/// The content of a label.
fn content(label: &Path) -> anyhow::Result<String> {
    let content = text(label)?;
    let lines = content.lines().filter(|line| !line.trim().is_empty());
    not_too_many(lines.count())?;
    Ok(content)
}

/// Reports the labels without a picture, in the folders of the labels that were read.
fn report_strays(folder: &Folder, used: &BTreeSet<PathBuf>, problems: &mut Vec<Problem>) {
    let folders: BTreeSet<&Path> = used.iter().map(|label| parent(label)).collect();
    let is_other = |file: &Path| {
        let stem = stem(file).to_lowercase();
        matches!(&*stem, "classes" | "train" | "val" | "valid" | "test")
            || stem.starts_with("readme")
    };
    // The label of a picture that no list names is not read, but has a picture.
    let has_picture = |file: &Path| {
        let mut pictures = folder.nearest(&stem(file), file).into_iter();
        pictures.any(|picture| label_of(picture).as_deref() == Some(file))
    };
    for file in folder.with_extension("txt") {
        let is_label = folders.contains(parent(file)) && !is_other(file);
        if is_label && !used.contains(file) && !has_picture(file) {
            let what = "the set has no picture of this name: skipped";
            problems.push(Problem::new(file, None, what));
        }
    }
}

/// The pictures of the set, and their parts.
fn pictures(
    folder: &Folder,
    names: &Path,
    description: &Description,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<BTreeMap<PathBuf, Option<Part>>> {
    let mut all: BTreeMap<PathBuf, Option<Part>> = BTreeMap::new();
    for places in &description.places {
        let mut again = 0;
        for path in places.paths.iter().filter(|path| !path.is_empty()) {
            let Some(found) = resolve(names, description.base.as_deref(), path) else {
                let what = format!("{} is not there: skipped", quote(path));
                problems.push(Problem::new(names, places.line, what));
                continue;
            };
            let pictures = if found.is_dir() {
                Folder::open(&found)?.pictures().cloned().collect()
            } else {
                list(&found, problems)?
            };
            for picture in pictures {
                let part = *all.entry(normal(&picture)).or_insert(Some(places.part));
                again += usize::from(part != Some(places.part));
            }
        }
        if again > 0 {
            let what = format!(
                "{} in an earlier part as well, and stays in that part only",
                count(again, "picture is", "pictures are")
            );
            problems.push(Problem::new(names, places.line, what));
        }
    }
    if all.is_empty() {
        let pictures = folder.pictures();
        all = pictures
            .map(|picture| (normal(picture), folder.part(picture)))
            .collect();
        if !description.places.is_empty() {
            let what = format!(
                "it names no place with pictures: all pictures in {} are taken",
                folder.root.display()
            );
            problems.push(Problem::new(names, None, what));
        }
    }
    Ok(all)
}

/// A path without `.`, and without `..` after a folder's name.
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

/// The file or folder of a path in `data.yaml`, which starts from `path`, or from the folder of `data.yaml`. Roboflow's
/// paths start one folder too high, with `../`.
fn resolve(names: &Path, base: Option<&str>, path: &str) -> Option<PathBuf> {
    let own = parent(names);
    let path = path.replace('\\', "/");
    let places = [
        base.map(|base| own.join(base.replace('\\', "/")).join(&path)),
        Some(own.join(&path)),
        Some(own.join(path.trim_start_matches("../"))),
    ];
    places.into_iter().flatten().find(|place| place.exists())
}

/// The pictures that a list names. Its paths start from the list's folder, or from the one above.
fn list(file: &Path, problems: &mut Vec<Problem>) -> anyhow::Result<Vec<PathBuf>> {
    let own = parent(file);
    let mut pictures = Vec::new();
    for (line, number) in text(file)?.lines().zip(1..) {
        let name = line.trim().replace('\\', "/");
        if name.is_empty() {
            continue;
        }
        let folders = [Some(own), own.parent()].into_iter().flatten();
        let mut places = folders.map(|folder| folder.join(&name));
        if let Some(picture) = places.find(|picture| picture.is_file()) {
            pictures.push(picture);
        } else {
            let what = format!("the picture {} is not there: skipped", quote(&name));
            problems.push(Problem::new(file, number, what));
        }
    }
    Ok(pictures)
}

/// Reads labels.
struct Labels {
    /// The index of each class number's name.
    index_of: HashMap<u64, usize>,
    has_points: bool,
    /// Labels with outlines, and the line of the first.
    outlines: Vec<(PathBuf, usize)>,
}

impl Labels {
    fn new(description: &Description) -> Self {
        let names = description.names.iter().zip(0..);
        Self {
            index_of: names.map(|((number, _), index)| (*number, index)).collect(),
            has_points: description.has_points,
            outlines: Vec::new(),
        }
    }

    /// The objects of a label, and the number of its lines that could not be read.
    fn read(
        &mut self,
        file: &Path,
        content: &str,
        problems: &mut Vec<Problem>,
    ) -> (Vec<RawObject>, usize) {
        let (mut objects, mut unreadable) = (Vec::new(), 0);
        let (mut first_outline, mut seen) = (None, BTreeSet::new());
        for (line, number) in content.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            // Ultralytics too takes equal lines for one object.
            if !seen.insert(line) {
                let what = "the line is there twice: it counts once";
                problems.push(Problem::new(file, number, what));
                continue;
            }
            match self.object(line) {
                Ok((name, Shape { sides, is_outline })) => {
                    if is_outline {
                        first_outline.get_or_insert(number);
                    }
                    objects.push(RawObject {
                        name,
                        sides,
                        difficult: false,
                        line: Some(number),
                    });
                }
                Err(why) => {
                    unreadable += 1;
                    problems.push(Problem::new(file, number, format!("{why}: skipped")));
                }
            }
        }
        if let Some(line) = first_outline {
            self.outlines.push((file.to_owned(), line));
        }
        (objects, unreadable)
    }

    /// The name and shape of a line's object, or why it cannot be read.
    fn object(&self, line: &str) -> Result<(usize, Shape), String> {
        let mut words = line.split_whitespace();
        let class = words.next().unwrap_or_default();
        // Some tools write `0.0`.
        let whole = class.strip_suffix(".0").unwrap_or(class);
        let number = whole
            .parse()
            .map_err(|_| format!("{} is not a class number", quote(class)))?;
        let Some(&name) = self.index_of.get(&number) else {
            return Err(format!(
                "there is no class {number}, the set has {}",
                count(self.index_of.len(), "name", "names")
            ));
        };
        let mut numbers: Vec<f64> = Vec::new();
        for word in words {
            match word.parse() {
                Ok(number) => numbers.push(number),
                Err(_) => return Err(format!("{} is not a number", quote(word))),
            }
        }
        Ok((name, self.shape(&numbers)?))
    }

    /// The shape that the numbers after a class describe.
    fn shape(&self, numbers: &[f64]) -> Result<Shape, String> {
        match *numbers {
            [cx, cy, w, h, ref points @ ..] if points.is_empty() || self.has_points => Ok(Shape {
                sides: [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0],
                is_outline: false,
            }),
            _ if numbers.len() >= 6 && numbers.len().is_multiple_of(2) => Ok(Shape {
                sides: bounds(numbers),
                is_outline: true,
            }),
            [_, _, _, _, _] => {
                Err("a score follows the box: it is a detection, not a label".to_owned())
            }
            _ => Err(format!(
                "{} the class, neither 4 (centre, width, height) nor the points of an outline",
                count(numbers.len(), "number follows", "numbers follow")
            )),
        }
    }

    fn report_outlines(&self, problems: &mut Vec<Problem>) {
        if let Some((file, line)) = self.outlines.first() {
            let what = format!(
                "{}, this one first: the box around an outline is taken",
                count(
                    self.outlines.len(),
                    "label file holds outlines",
                    "label files hold outlines"
                )
            );
            problems.push(Problem::new(file, *line, what));
        }
    }
}

/// A box, or the box around an outline.
struct Shape {
    sides: [f64; 4],
    is_outline: bool,
}

/// The box around points. NaN if a coordinate is not finite.
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
