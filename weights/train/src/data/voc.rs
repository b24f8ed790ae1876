//! Reads PASCAL VOC's format: an XML file for each picture, with the picture's name, beside it or in `Annotations`; and
//! lists of pictures in `ImageSets/Main`. labelImg, CVAT, Label Studio and Roboflow write this format.
//!
//! Tools disagree about pixels. The VOC devkit counts them from 1, and a box includes its last pixel: `xmin` and `ymin`
//! are 1 more than the distance from the picture's edge. Annotation tools write the distance. Coordinates are therefore
//! used as written. Only if `<database>` names the devkit (`The VOC2007 Database`), 1 is subtracted from `xmin` and
//! `ymin`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use super::folder::{Folder, is_picture, stem};
use super::raw::{Frame, Raw, RawObject, RawPicture};
use super::{Format, MAX_NAME_LENGTH, Part, Problem, count, is_name, not_too_many, quote, text};

/// The document. The parser maps its root element to a variant.
#[derive(Deserialize)]
enum Document {
    #[serde(rename = "annotation")]
    Annotation(Annotation),
}

#[derive(Deserialize)]
struct Annotation {
    filename: Option<String>,
    source: Option<Source>,
    size: Option<Size>,
    #[serde(default, rename = "object")]
    objects: Vec<Entry>,
}

#[derive(Deserialize)]
struct Source {
    database: Option<String>,
}

/// Numbers are parsed later, so that a faulty number only loses its box, not the whole file.
#[derive(Deserialize)]
struct Size {
    width: Option<String>,
    height: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    name: Option<String>,
    difficult: Option<String>,
    bndbox: Option<Bounds>,
}

#[derive(Deserialize)]
struct Bounds {
    xmin: Option<String>,
    ymin: Option<String>,
    xmax: Option<String>,
    ymax: Option<String>,
}

impl Annotation {
    /// The number of the first pixel: 1 in the devkit's own files, else 0.
    fn first_pixel(&self) -> f64 {
        let database = self.source.as_ref().and_then(|s| s.database.as_deref());
        let is_devkit = database.is_some_and(|name| {
            name.trim().starts_with("The VOC") && name.trim().ends_with("Database")
        });
        f64::from(u8::from(is_devkit))
    }

    fn frame(&self) -> Frame {
        let side = |of: fn(&Size) -> &Option<String>| number(of(self.size.as_ref()?).as_ref());
        Frame::pixels(side(|size| &size.width), side(|size| &size.height))
    }
}

impl Bounds {
    fn sides(&self, first_pixel: f64) -> Option<[f64; 4]> {
        let side = |text: &Option<String>| number(text.as_ref());
        Some([
            side(&self.xmin)? - first_pixel,
            side(&self.ymin)? - first_pixel,
            side(&self.xmax)?,
            side(&self.ymax)?,
        ])
    }
}

fn number(text: Option<&String>) -> Option<f64> {
    text.and_then(|text| text.trim().parse().ok())
}

/// Whether the folder contains an annotation.
pub(super) fn is_in(folder: &Folder) -> bool {
    let is_annotation = |file: &Path| {
        let mut bytes = Vec::new();
        let read = File::open(file).and_then(|file| file.take(4096).read_to_end(&mut bytes));
        let start = String::from_utf8_lossy(&bytes);
        read.is_ok() && (start.contains("<annotation>") || start.contains("<annotation "))
    };
    folder
        .with_extension("xml")
        .any(|file| file.is_file() && is_annotation(file))
}

/// Reads every annotation below the folder.
pub(super) fn read(folder: &Folder) -> anyhow::Result<Raw> {
    let mut raw = Raw {
        format: Format::Voc,
        source: folder.root.clone(),
        names: Vec::new(),
        pictures: Vec::new(),
        problems: Vec::new(),
    };
    let listed = lists(folder, &mut raw.problems)?;
    let mut names = HashMap::new();
    for file in folder.with_extension("xml") {
        let (annotation, lines) = match parse(file) {
            Ok(parsed) => parsed,
            Err(error) => {
                let what = format!("{error:#}: skipped");
                raw.problems.push(Problem::new(file, None, what));
                continue;
            }
        };
        let filename = annotation.filename.as_deref().unwrap_or_default();
        let Some(path) = find(folder, file, filename.trim(), &mut raw.problems) else {
            continue;
        };
        let objects = objects(file, &annotation, &lines, &mut names, &mut raw.problems)?;
        raw.pictures.push(RawPicture {
            path,
            source: file.clone(),
            part: match &listed {
                Some(parts) => parts.get(&stem(file)).copied(),
                None => folder.part(file),
            },
            frame: annotation.frame(),
            unreadable: annotation.objects.len() - objects.len(),
            objects,
        });
    }
    raw.names = vec![String::new(); names.len()];
    for (name, index) in names {
        raw.names[index] = name;
    }
    report_unlabelled(folder, &mut raw);
    Ok(raw)
}

/// An annotation, and the lines on which its objects begin.
fn parse(file: &Path) -> anyhow::Result<(Annotation, Vec<usize>)> {
    let text = text(file)?;
    let Document::Annotation(annotation) =
        quick_xml::de::from_str(&text).context("the file is not a VOC annotation")?;
    not_too_many(annotation.objects.len())?;
    let is_object = |line: &str| line.contains("<object>") || line.contains("<object ");
    let lines = text.lines().zip(1..).filter(|(line, _)| is_object(line));
    Ok((annotation, lines.map(|(_, number)| number).collect()))
}

/// The readable objects of an annotation. `names` gives each class name an index.
fn objects(
    file: &Path,
    annotation: &Annotation,
    lines: &[usize],
    names: &mut HashMap<String, usize>,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<Vec<RawObject>> {
    // If a line has several objects, or a comment has one, the lines are unknown.
    let are_known = lines.len() == annotation.objects.len();
    let mut objects = Vec::new();
    for (index, object) in annotation.objects.iter().enumerate() {
        let line = are_known.then(|| lines[index]);
        let name = object.name.as_deref().unwrap_or_default();
        if name.trim().is_empty() {
            let what = "an object has no name: skipped";
            problems.push(Problem::new(file, line, what));
            continue;
        }
        let bndbox = object.bndbox.as_ref();
        let Some(sides) = bndbox.and_then(|bounds| bounds.sides(annotation.first_pixel())) else {
            let what = format!(
                "the object {} has no bndbox with xmin, ymin, xmax and ymax as numbers: skipped",
                quote(name)
            );
            problems.push(Problem::new(file, line, what));
            continue;
        };
        anyhow::ensure!(
            is_name(name),
            "{}: an object is named {}, which is longer than {MAX_NAME_LENGTH} characters or contains control \
             characters; give the object a plain name",
            file.display(),
            quote(name)
        );
        let next = names.len();
        let difficult = object.difficult.as_deref().unwrap_or_default();
        objects.push(RawObject {
            name: *names.entry(name.to_owned()).or_insert(next),
            sides,
            difficult: matches!(difficult.trim(), "1" | "true" | "True"),
            line,
        });
    }
    Ok(objects)
}

/// The picture of an annotation: the picture with the name of the annotation file, else the picture that the annotation
/// names.
fn find(
    folder: &Folder,
    file: &Path,
    stated: &str,
    problems: &mut Vec<Problem>,
) -> Option<PathBuf> {
    // Tools write paths of their machine, including Windows paths.
    let filename = stated.rsplit(['/', '\\']).next().unwrap_or_default();
    let own = stem(file);
    let of_own = folder.nearest(&own, file);
    let is_named = |path: &&&PathBuf| path.file_name().is_some_and(|name| name == filename);
    if let Some(path) = of_own.iter().find(is_named) {
        return Some((*path).clone());
    }
    if let [path, rest @ ..] = &*of_own {
        if !rest.is_empty() {
            let what = format!(
                "{} pictures have the name of the annotation file: {} is used",
                of_own.len(),
                path.display()
            );
            problems.push(Problem::new(file, None, what));
        } else if !filename.is_empty() && filename != own {
            let what = format!(
                "the annotation names the picture {}, but {} has the name of the annotation file and is used",
                quote(filename),
                path.display()
            );
            problems.push(Problem::new(file, None, what));
        }
        return Some((*path).clone());
    }
    if let [path] = &*folder.nearest(filename, file) {
        return Some((*path).clone());
    }
    let mut what = format!(
        "there is no picture {} with an extension such as .jpg or .png",
        quote(&own)
    );
    if !filename.is_empty() {
        what += &format!(", and none or several pictures named {}", quote(filename));
    }
    problems.push(Problem::new(file, None, what + ": skipped"));
    None
}

/// Reports the pictures without an annotation. They may show objects, so they are not background.
fn report_unlabelled(folder: &Folder, raw: &mut Raw) {
    let labelled: HashSet<&Path> = raw.pictures.iter().map(|p| p.path.as_path()).collect();
    let mut without = folder
        .pictures()
        .filter(|path| !labelled.contains(path.as_path()));
    if let Some(first) = without.next() {
        let what = format!(
            "{} no usable XML file (this is the first): left out; for a picture without objects, write an XML file \
             without objects",
            count(1 + without.count(), "picture has", "pictures have")
        );
        raw.problems.push(Problem::new(first, None, what));
    }
}

/// The part of each annotation, by its name, from the lists in `ImageSets/Main`: `trainval` and `test` if both exist,
/// else `train` (or `trainval`), `val` and `test`. `None` without such lists.
fn lists(
    folder: &Folder,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<Option<BTreeMap<String, Part>>> {
    let main = folder.root.join("ImageSets").join("Main");
    let list = |names: &[&str]| {
        let mut files = names.iter().map(|name| main.join(format!("{name}.txt")));
        files.find(|file| file.is_file())
    };
    let (trainval, test) = (list(&["trainval"]), list(&["test"]));
    let lists = if trainval.is_some() && test.is_some() {
        // As in VOC's own benchmark (Everingham et al. 2010, section 2.2), even if there are other lists.
        vec![(Part::Train, trainval), (Part::Test, test)]
    } else {
        // In this order, so that a picture in both `trainval` and `val` is for validation.
        vec![
            (Part::Validation, list(&["val", "valid"])),
            (Part::Train, list(&["train"]).or(trainval)),
            (Part::Test, test),
        ]
    };
    if lists.iter().all(|(_, file)| file.is_none()) {
        return Ok(None);
    }
    let stems: HashSet<String> = folder
        .with_extension("xml")
        .map(|file| stem(file))
        .collect();
    let mut listed: BTreeMap<String, Part> = BTreeMap::new();
    for (part, list) in lists {
        let Some(file) = list else { continue };
        for (line, number) in text(&file)?.lines().zip(1..) {
            let Some(word) = line.split_whitespace().next() else {
                continue;
            };
            let Some(name) = name_in(line, &stems) else {
                let what = format!("{} is listed, but has no annotation: skipped", quote(word));
                problems.push(Problem::new(&file, number, what));
                continue;
            };
            let first = *listed.entry(name).or_insert(part);
            let is_trainval = first == Part::Validation && stem(&file) == "trainval";
            if first != part && !is_trainval {
                let what = format!(
                    "{} is in more than one list: the first of val, train and test is used",
                    quote(word)
                );
                problems.push(Problem::new(&file, number, what));
            }
        }
    }
    Ok(Some(listed))
}

/// The annotation that a line of a list names. The line is the name; a mark may follow that says whether the picture
/// shows a class. Some tools also write the picture's extension or folder.
fn name_in(line: &str, stems: &HashSet<String>) -> Option<String> {
    let whole = line.trim();
    let first = whole.split_whitespace().next()?;
    let bare = |text: &str| {
        let name = text.rsplit(['/', '\\']).next().unwrap_or(text);
        if is_picture(Path::new(name)) {
            stem(Path::new(name))
        } else {
            name.to_owned()
        }
    };
    [whole, first]
        .map(bare)
        .into_iter()
        .find(|name| stems.contains(name))
}
