//! Reads YOLO's format: a text file for each picture, beside it, or in `labels` if the picture is in `images`; and the
//! names of the classes in `data.yaml`, `classes.txt` or `obj.names`. Ultralytics, labelImg, CVAT, Label Studio and
//! Roboflow write this format.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use anyhow::{bail, ensure};

use super::data_yaml::{self, Description, PartPaths};
use super::folder::{Folder, has_extension, stem};
use super::raw::{Frame, Raw, RawObject, RawPicture};
use super::{Format, Part, Problem, count, not_too_many, parent, quote, text};

/// Lists of class names, in order of precedence.
const LISTS: [&str; 3] = ["obj.names", "classes.txt", "_darknet.labels"];

/// Whether a file of this name lists class names.
pub(super) fn is_list(name: &str) -> bool {
    LISTS.contains(&name)
}

/// The file below a folder that names the classes, if the folder contains a YOLO data set.
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
    // A list of names alone is not a YOLO data set: tools write one for other formats too.
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
    // A text file beside a picture may be anything. A text file in `labels` is a label file.
    let in_labels = |label: &PathBuf| parent(label).file_name().is_some_and(|n| n == "labels");
    let mut labels = folder.pictures().filter_map(|picture| label_of(picture));
    if let Some(label) = labels.find(in_labels) {
        bail!(
            "{} looks like a YOLO label file, but no file names the classes; add data.yaml to {}, or classes.txt with \
             one name per line in the order of the class numbers",
            label.display(),
            folder.root.display()
        );
    }
    Ok(None)
}

/// The label file of a picture: in `labels` instead of the last `images` of the path, as in Ultralytics, or beside the
/// picture.
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
    let mut candidates = in_labels.into_iter().chain([beside.clone()]);
    candidates.find(|file: &PathBuf| file.is_file())
}

/// Reads the data set whose classes the file `names` lists.
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
    for (path, part) in listed {
        labels.read_picture(path, part, &mut raw);
    }
    ensure!(
        !labels.used.is_empty(),
        "{}: found no label file for {}; put NAME.txt beside each picture NAME or, if the pictures are in `images`, \
         into `labels`",
        names.display(),
        count(raw.pictures.len(), "picture", "pictures")
    );
    labels.report(&mut raw.problems);
    report_strays(folder, &labels.used, &mut raw.problems);
    Ok(raw)
}

/// The description in `data.yaml`, or a description from a list of class names.
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

/// The content of a label file.
fn content(label: &Path) -> anyhow::Result<String> {
    let content = text(label)?;
    let lines = content.lines().filter(|line| !line.trim().is_empty());
    not_too_many(lines.count())?;
    Ok(content)
}

/// Reports label files without a picture, in the folders of the label files that were read.
fn report_strays(folder: &Folder, used: &BTreeSet<PathBuf>, problems: &mut Vec<Problem>) {
    let folders: BTreeSet<&Path> = used.iter().map(|label| parent(label)).collect();
    let is_other = |file: &Path| {
        let stem = stem(file).to_lowercase();
        matches!(&*stem, "classes" | "train" | "val" | "valid" | "test")
            || stem.starts_with("readme")
    };
    // If a picture is in no list, its label file is not read, but is no stray.
    let has_picture = |file: &Path| {
        let mut pictures = folder.nearest(&stem(file), file).into_iter();
        pictures.any(|picture| label_of(picture).as_deref() == Some(file))
    };
    for file in folder.with_extension("txt") {
        let is_label = folders.contains(parent(file)) && !is_other(file);
        if is_label && !used.contains(file) && !has_picture(file) {
            let what = "the data set has no picture of this name: skipped";
            problems.push(Problem::new(file, None, what));
        }
    }
}

/// The pictures of the data set, and their parts.
fn pictures(
    folder: &Folder,
    names: &Path,
    description: &Description,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<BTreeMap<PathBuf, Option<Part>>> {
    let mut all: BTreeMap<PathBuf, Option<Part>> = BTreeMap::new();
    for PartPaths { part, line, paths } in &description.parts {
        let mut repeated = 0;
        for path in paths.iter().filter(|path| !path.is_empty()) {
            let Some(found) = resolve(names, description.base.as_deref(), path) else {
                let what = format!("{} does not exist: skipped", quote(path));
                problems.push(Problem::new(names, *line, what));
                continue;
            };
            let pictures = if found.is_dir() {
                Folder::open(&found)?.pictures().cloned().collect()
            } else {
                list(&found, problems)?
            };
            for picture in pictures {
                let first = *all.entry(normal(&picture)).or_insert(Some(*part));
                repeated += usize::from(first != Some(*part));
            }
        }
        if repeated > 0 {
            let what = format!(
                "{} also in an earlier part: only the earlier part is used",
                count(repeated, "picture is", "pictures are")
            );
            problems.push(Problem::new(names, *line, what));
        }
    }
    if all.is_empty() {
        all = folder
            .pictures()
            .map(|picture| (normal(picture), folder.part(picture)))
            .collect();
        if !description.parts.is_empty() {
            let what = format!(
                "none of its paths has pictures: all pictures in {} are used",
                folder.root.display()
            );
            problems.push(Problem::new(names, None, what));
        }
    }
    Ok(all)
}

/// Removes `.` from a path, and `..` together with the folder before it.
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

/// The file or folder that `data.yaml` states. The path is relative to the key `path`, or to the folder of `data.yaml`.
/// Roboflow writes paths with one `../` too many.
fn resolve(names: &Path, base: Option<&str>, stated: &str) -> Option<PathBuf> {
    let own = parent(names);
    let path = stated.replace('\\', "/");
    let candidates = [
        base.map(|base| own.join(base.replace('\\', "/")).join(&path)),
        Some(own.join(&path)),
        Some(own.join(path.trim_start_matches("../"))),
    ];
    candidates.into_iter().flatten().find(|path| path.exists())
}

/// The pictures that a list names. The paths are relative to the list's folder, or to the folder above.
fn list(file: &Path, problems: &mut Vec<Problem>) -> anyhow::Result<Vec<PathBuf>> {
    let own = parent(file);
    let mut pictures = Vec::new();
    for (line, number) in text(file)?.lines().zip(1..) {
        let name = line.trim().replace('\\', "/");
        if name.is_empty() {
            continue;
        }
        let folders = [Some(own), own.parent()].into_iter().flatten();
        let mut candidates = folders.map(|folder| folder.join(&name));
        if let Some(picture) = candidates.find(|picture| picture.is_file()) {
            pictures.push(picture);
        } else {
            let what = format!("the picture {} does not exist: skipped", quote(&name));
            problems.push(Problem::new(file, number, what));
        }
    }
    Ok(pictures)
}

/// Reads label files.
struct Labels {
    /// For each class number, the index of its name.
    index_of: HashMap<u64, usize>,
    has_points: bool,
    /// The label files that were read.
    used: BTreeSet<PathBuf>,
    /// The pictures without a label file.
    backgrounds: Vec<PathBuf>,
    /// The label files with outlines, and the line of the first outline in each.
    outlines: Vec<(PathBuf, usize)>,
}

impl Labels {
    fn new(description: &Description) -> Self {
        let names = description.names.iter().zip(0..);
        Self {
            index_of: names.map(|((number, _), index)| (*number, index)).collect(),
            has_points: description.has_points,
            used: BTreeSet::new(),
            backgrounds: Vec::new(),
            outlines: Vec::new(),
        }
    }

    /// Adds a picture and the objects of its label file, if it has one, to `raw`.
    fn read_picture(&mut self, path: PathBuf, part: Option<Part>, raw: &mut Raw) {
        let label = label_of(&path);
        let mut picture = RawPicture {
            source: label.clone().unwrap_or_else(|| path.clone()),
            path,
            part,
            frame: Frame::Fractions,
            objects: Vec::new(),
            unreadable: 0,
        };
        let Some(file) = label else {
            self.backgrounds.push(picture.path.clone());
            return raw.pictures.push(picture);
        };
        match content(&file) {
            Ok(content) => {
                (picture.objects, picture.unreadable) =
                    self.read(&file, &content, &mut raw.problems);
                raw.pictures.push(picture);
            }
            Err(error) => {
                let what = format!("{error:#}: its picture is skipped");
                raw.problems.push(Problem::new(&file, None, what));
            }
        }
        self.used.insert(file);
    }

    /// The objects of a label file, and the number of its lines that cannot be read.
    fn read(
        &mut self,
        file: &Path,
        content: &str,
        problems: &mut Vec<Problem>,
    ) -> (Vec<RawObject>, usize) {
        let (mut objects, mut unreadable) = (Vec::new(), 0);
        let (mut first_outline, mut seen) = (None, BTreeSet::new());
        for (line, number) in content.lines().map(str::trim).zip(1..) {
            if line.is_empty() {
                continue;
            }
            // Equal lines are one object, as in Ultralytics.
            if !seen.insert(line) {
                let what = "the line repeats an earlier line: skipped";
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

    /// The name and shape of a line's object. The error says why the line cannot be read.
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
                "the data set has {}, but no class {number}",
                count(self.index_of.len(), "class", "classes")
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
                "{} the class; a box has 4 (centre x, centre y, width, height), an outline has at least 3 points",
                count(numbers.len(), "number follows", "numbers follow")
            )),
        }
    }

    /// Reports the outlines, and the pictures without a label file.
    fn report(&self, problems: &mut Vec<Problem>) {
        if let [first, ..] = &*self.backgrounds {
            let what = format!(
                "{} no label file (this is the first): used as background, as Ultralytics does",
                count(self.backgrounds.len(), "picture has", "pictures have")
            );
            problems.push(Problem::new(first, None, what));
        }
        if let Some((file, line)) = self.outlines.first() {
            let what = format!(
                "{} outlines (this is the first): the box around each outline is used",
                count(
                    self.outlines.len(),
                    "label file contains",
                    "label files contain"
                )
            );
            problems.push(Problem::new(file, *line, what));
        }
    }
}

/// A labelled box, or the box around a labelled outline.
struct Shape {
    sides: [f64; 4],
    is_outline: bool,
}

/// The box around points. NaN if a coordinate is not finite.
fn bounds(points: &[f64]) -> [f64; 4] {
    if points.iter().any(|coordinate| !coordinate.is_finite()) {
        return [f64::NAN; 4];
    }
    let (pairs, _) = points.as_chunks::<2>();
    let nothing = [f64::MAX, f64::MAX, f64::MIN, f64::MIN];
    pairs.iter().fold(nothing, |[x1, y1, x2, y2], &[x, y]| {
        [x1.min(x), y1.min(y), x2.max(x), y2.max(y)]
    })
}
