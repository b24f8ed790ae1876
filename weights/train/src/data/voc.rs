//! PASCAL VOC: an XML file a picture, of the picture's name, beside it or in `Annotations`; lists of pictures in
//! `ImageSets/Main`. As labelImg, CVAT, Label Studio and Roboflow write it.
//!
//! Pixels are counted from 1 and the last is included, as in [`crate::evaluation::voc_folder`]: of tools that
//! count from 0 boxes are a pixel larger to the left and top.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::folder::{Folder, Named, is_picture, named, stem};
use super::raw::{Frame, Raw, RawObject, RawPicture};
use super::{Format, LONGEST_NAME, Problem, is_name, not_too_many, quote, text};

/// The document, whose root may have any name as far as the parser is concerned.
#[derive(Deserialize)]
enum Document {
    #[serde(rename = "annotation")]
    Annotation(Annotation),
}

#[derive(Deserialize)]
struct Annotation {
    filename: Option<String>,
    size: Option<Size>,
    #[serde(default, rename = "object")]
    objects: Vec<Entry>,
}

/// Numbers are read later: one that is none costs its box, not the file.
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

fn number(text: Option<&String>) -> Option<f64> {
    text.and_then(|text| text.trim().parse().ok())
}

impl Bounds {
    fn sides(&self) -> Option<[f64; 4]> {
        let side = |text: &Option<String>| number(text.as_ref());
        let (x1, y1) = (side(&self.xmin)?, side(&self.ymin)?);
        let (x2, y2) = (side(&self.xmax)?, side(&self.ymax)?);
        // A pixel wide or high counted as VOC does, but no tool means it: it is a click without a drag.
        if x1.total_cmp(&x2).is_eq() || y1.total_cmp(&y2).is_eq() {
            return Some([x1, y1, x2, y2]);
        }
        Some([x1 - 1.0, y1 - 1.0, x2, y2])
    }
}

/// Whether there is an annotation anywhere in the folder.
pub(super) fn is_in(folder: &Folder) -> bool {
    let begins = |file: &Path| {
        let mut start = Vec::new();
        let read = File::open(file).and_then(|file| file.take(4096).read_to_end(&mut start));
        let start = String::from_utf8_lossy(&start);
        read.is_ok() && (start.contains("<annotation>") || start.contains("<annotation "))
    };
    folder
        .with_extension("xml")
        .any(|file| file.is_file() && begins(file))
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
    let lists = lists(folder, &mut raw.problems)?;
    let mut classes = HashMap::new();
    for file in folder.with_extension("xml") {
        let annotation = match parse(file) {
            Ok(annotation) => annotation,
            Err(error) => {
                let what = format!("{error:#}: skipped");
                raw.problems.push(Problem::new(file, None, what));
                continue;
            }
        };
        let named = match &lists {
            Some(lists) => lists.get(&stem(file)).copied(),
            None => folder.named(file),
        };
        picture(folder, file, named, annotation, &mut classes, &mut raw)?;
    }
    raw.names = vec![String::new(); classes.len()];
    for (name, index) in classes {
        raw.names[index] = name;
    }
    unlabelled(folder, &mut raw);
    Ok(raw)
}

/// An annotation, and the lines on which its objects begin.
fn parse(file: &Path) -> anyhow::Result<(Annotation, Vec<usize>)> {
    let text = text(file)?;
    let Document::Annotation(annotation) =
        quick_xml::de::from_str(&text).context("it is no VOC annotation")?;
    not_too_many(file, annotation.objects.len())?;
    let is_object = |line: &str| line.contains("<object>") || line.contains("<object ");
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| is_object(line));
    Ok((annotation, lines.map(|(index, _)| index + 1).collect()))
}

fn picture(
    folder: &Folder,
    file: &Path,
    named: Option<Named>,
    (annotation, lines): (Annotation, Vec<usize>),
    classes: &mut HashMap<String, usize>,
    raw: &mut Raw,
) -> anyhow::Result<()> {
    let filename = annotation.filename.unwrap_or_default();
    let Some(path) = find(folder, file, filename.trim(), &mut raw.problems) else {
        return Ok(());
    };
    // Several on a line, or one in a comment: then the lines say nothing.
    let known = lines.len() == annotation.objects.len();
    let mut objects = Vec::new();
    let count = annotation.objects.len();
    for (index, object) in annotation.objects.into_iter().enumerate() {
        let line = known.then(|| lines[index]);
        let name = object.name.unwrap_or_default();
        let sides = object.bndbox.as_ref().and_then(Bounds::sides);
        let what = if name.trim().is_empty() {
            "an object without a name: skipped".to_owned()
        } else if let Some(sides) = sides {
            anyhow::ensure!(
                is_name(&name),
                "{}: an object is named {}, which is longer than {LONGEST_NAME} characters or has control \
                 characters; give it a plain name",
                file.display(),
                quote(&name)
            );
            let next = classes.len();
            objects.push(RawObject {
                name: *classes.entry(name).or_insert(next),
                sides,
                difficult: matches!(
                    object.difficult.as_deref().map(str::trim),
                    Some("1" | "true" | "True")
                ),
                line,
            });
            continue;
        } else {
            format!(
                "the object {} has no bndbox with xmin, ymin, xmax and ymax as numbers: skipped",
                quote(&name)
            )
        };
        raw.problems.push(Problem::new(file, line, what));
    }
    let side = |of: fn(&Size) -> &Option<String>| {
        let size = annotation.size.as_ref();
        size.and_then(|size| number(of(size).as_ref()))
    };
    raw.pictures.push(RawPicture {
        path,
        source: file.to_owned(),
        named,
        frame: Frame::pixels(side(|size| &size.width), side(|size| &size.height)),
        unusable: count - objects.len(),
        objects,
    });
    Ok(())
}

/// The picture of an annotation: of its name, or else the one that it names.
fn find(
    folder: &Folder,
    file: &Path,
    filename: &str,
    problems: &mut Vec<Problem>,
) -> Option<std::path::PathBuf> {
    // Tools write paths of the machine that they ran on, Windows' too.
    let filename = filename.rsplit(['/', '\\']).next().unwrap_or_default();
    let own = stem(file);
    let of_stem = folder.nearest(&own, file);
    let is_named = |path: &Path| path.file_name().is_some_and(|name| name == filename);
    let named_too = of_stem.iter().find(|path| is_named(path));
    if let Some(path) = named_too {
        return Some((*path).clone());
    }
    if let [path, rest @ ..] = &*of_stem {
        if !rest.is_empty() {
            let what = format!(
                "{} pictures have its name: {} is taken",
                of_stem.len(),
                path.display()
            );
            problems.push(Problem::new(file, None, what));
        } else if !filename.is_empty() && filename != own {
            let what = format!(
                "it names the picture {}, but {} has its own name: that one is taken",
                quote(filename),
                path.display()
            );
            problems.push(Problem::new(file, None, what));
        }
        return Some((*path).clone());
    }
    let of_name = folder.nearest(filename, file);
    if let [path] = &*of_name {
        return Some((*path).clone());
    }
    let what = format!(
        "there is no picture {}.jpg, .png or alike, nor {}: skipped",
        quote(&own),
        quote(filename)
    );
    problems.push(Problem::new(file, None, what));
    None
}

/// Names the pictures that have no annotation: whether anything is in them nobody has said.
fn unlabelled(folder: &Folder, raw: &mut Raw) {
    let labelled: HashSet<&Path> = raw.pictures.iter().map(|p| p.path.as_path()).collect();
    let without: Vec<_> = folder
        .pictures()
        .filter(|path| !labelled.contains(path.as_path()))
        .collect();
    if let [first, ..] = &*without {
        let what = format!(
            "{} pictures have no XML file that can be used, this one first: \
             left out; for a background write one without objects",
            without.len()
        );
        raw.problems.push(Problem::new(first, None, what));
    }
}

/// What each picture's name is listed for in `ImageSets/Main`, where there is a list both for training and for
/// validation or test.
fn lists(
    folder: &Folder,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<Option<BTreeMap<String, Named>>> {
    let main = folder.root.join("ImageSets").join("Main");
    let list = |name: &str| {
        let file = main.join(format!("{name}.txt"));
        file.is_file().then_some(file)
    };
    let validation = list("val").or_else(|| list("valid"));
    let (train, both, test) = (list("train"), list("trainval"), list("test"));
    let (Some(training), true) = (train.or(both), validation.is_some() || test.is_some()) else {
        return Ok(None);
    };
    let stems: HashSet<String> = folder
        .with_extension("xml")
        .map(|file| stem(file))
        .collect();
    let mut listed: BTreeMap<String, Named> = BTreeMap::new();
    // In this order, so that a picture of `trainval` that is in `val` too is validated on.
    let all_in_training =
        named(&stem(&training)) == Some(Named::Train) && stem(&training) == "trainval";
    for (file, part) in [
        (validation, Named::Validation),
        (Some(training), Named::Train),
        (test, Named::Test),
    ] {
        let Some(file) = file else { continue };
        for (index, line) in text(&file)?.lines().enumerate() {
            let Some(name) = name_in(line, &stems) else {
                if let Some(word) = line.split_whitespace().next() {
                    let what = format!("{} is listed, but has no annotation: skipped", quote(word));
                    problems.push(Problem::new(&file, index + 1, what));
                }
                continue;
            };
            match listed.get(&name) {
                None => {
                    listed.insert(name, part);
                }
                Some(Named::Validation) if part == Named::Train && all_in_training => {}
                Some(other) if *other == part => {}
                Some(_) => {
                    let what = format!(
                        "{} is in more than one list: only the first of val, train and test counts",
                        quote(&name)
                    );
                    problems.push(Problem::new(&file, index + 1, what));
                }
            }
        }
    }
    Ok(Some(listed))
}

/// The annotation that a line of a list is of: the line, or its first word, whose second says whether a class
/// is there; some tools write the picture's extension or folder too.
fn name_in(line: &str, stems: &HashSet<String>) -> Option<String> {
    let whole = line.trim();
    let first = whole.split_whitespace().next()?;
    for name in [whole, first] {
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let path = Path::new(name);
        let bare = if is_picture(path) {
            stem(path)
        } else {
            name.to_owned()
        };
        if stems.contains(&bare) {
            return Some(bare);
        }
    }
    None
}
