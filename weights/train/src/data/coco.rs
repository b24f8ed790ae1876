//! Reads COCO's format: one JSON file for all pictures, or one each for training, validation and test. CVAT, Label
//! Studio, Roboflow and COCO itself write this format.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::folder::{Folder, part_named, stem};
use super::raw::{Frame, Raw, RawObject, RawPicture};
use super::{Format, MAX_TEXT_BYTES, Part, Problem, parent, quote, text};

#[derive(Deserialize)]
struct Instances {
    images: Vec<Picture>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Picture {
    id: Id,
    file_name: String,
    width: Option<f64>,
    height: Option<f64>,
}

#[derive(Deserialize)]
struct Annotation {
    id: Option<Id>,
    image_id: Id,
    category_id: Id,
    /// Left, top, width and height in pixels. Some tools leave it empty.
    bbox: Option<Vec<f64>>,
    #[serde(default)]
    iscrowd: Crowd,
}

#[derive(Deserialize)]
struct Category {
    id: Id,
    name: String,
    supercategory: Option<String>,
}

/// A number. Some tools write text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(untagged)]
enum Id {
    Number(i64),
    Text(String),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(&quote(text)),
        }
    }
}

/// 0 or 1. Some tools write false or true.
#[derive(Deserialize)]
#[serde(untagged)]
enum Crowd {
    Number(f64),
    Word(bool),
}

impl Default for Crowd {
    fn default() -> Self {
        Self::Word(false)
    }
}

impl Crowd {
    fn is_one(&self) -> bool {
        match self {
            Self::Number(number) => *number != 0.0,
            Self::Word(word) => *word,
        }
    }
}

/// The COCO files below the folder, at most one for each part. If there are COCO's own `instances_` files, only these:
/// the others describe no boxes.
pub(super) fn files(folder: &Folder) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for file in folder.with_extension("json") {
        // A file that is too long to search counts as COCO's, and is refused when it is read.
        let is_long = std::fs::metadata(file).is_ok_and(|kind| kind.len() > MAX_TEXT_BYTES);
        let is_coco =
            |text: String| text.contains("\"annotations\"") && text.contains("\"images\"");
        if is_long || text(file).is_ok_and(is_coco) {
            files.push(file.clone());
        }
    }
    let has_boxes = |file: &PathBuf| stem(file).starts_with("instances_");
    if files.iter().any(has_boxes) {
        files.retain(has_boxes);
    }
    let mut parts = HashMap::new();
    for file in &files {
        if let Some(other) = parts.insert(part(folder, file), file) {
            bail!(
                "{} and {} both contain COCO labels, and their names do not say which is for training, validation or \
                 testing; give the path of one of them",
                other.display(),
                file.display()
            );
        }
    }
    Ok(files)
}

/// The part of a file, by its name (`instances_train2017.json`) or its folder's name (`train/_annotations.coco.json`).
fn part(folder: &Folder, file: &Path) -> Option<Part> {
    stem(file)
        .split(|letter: char| !letter.is_alphanumeric())
        .find_map(part_named)
        .or_else(|| folder.part(file))
}

/// Reads the files. Their pictures are below the folder.
pub(super) fn read(folder: &Folder, files: &[PathBuf]) -> anyhow::Result<Raw> {
    let mut raw = Raw {
        format: Format::Coco,
        source: match files {
            [file] => file.clone(),
            _ => folder.root.clone(),
        },
        names: Vec::new(),
        pictures: Vec::new(),
        problems: Vec::new(),
    };
    // The classes of the training file come first, in the order of its ids.
    let mut by_part: Vec<(Option<Part>, &PathBuf)> = files
        .iter()
        .map(|file| (part(folder, file), file))
        .collect();
    by_part.sort();
    let is_alone = by_part.len() == 1;
    for (part, file) in by_part {
        let first = raw.pictures.len();
        // A single file may be named after one part but list pictures of all parts. The pictures' folders decide first.
        read_one(folder, file, part.filter(|_| !is_alone), &mut raw)?;
        for picture in &mut raw.pictures[first..] {
            picture.part = picture.part.or(part);
        }
    }
    Ok(raw)
}

/// Reads a file whose pictures all belong to `part`, if it is known.
fn read_one(folder: &Folder, file: &Path, part: Option<Part>, raw: &mut Raw) -> anyhow::Result<()> {
    let mut instances: Instances = serde_json::from_str(&text(file)?).with_context(|| {
        format!(
            "{} is not a COCO JSON file with images, annotations and categories; export the labels again, as COCO \
             with bounding boxes",
            file.display()
        )
    })?;
    instances.categories.sort_by(|a, b| a.id.cmp(&b.id));
    let names = names(file, &instances, raw)?;
    let by_picture = objects(file, &instances, &names, &mut raw.problems)?;
    for (picture, (objects, unreadable)) in instances.images.iter().zip(by_picture) {
        let Some(path) = find(folder, file, &picture.file_name, part) else {
            let what = format!(
                "the picture {} was not found beside this file or in `images`, and {} contains none or several \
                 pictures of this name: skipped",
                quote(&picture.file_name),
                folder.root.display()
            );
            raw.problems.push(Problem::new(file, None, what));
            continue;
        };
        raw.pictures.push(RawPicture {
            part: part.or_else(|| folder.part(&path)),
            path,
            source: file.to_owned(),
            frame: Frame::pixels(picture.width, picture.height),
            objects,
            unreadable,
        });
    }
    Ok(())
}

/// For each picture of the file, its objects and the number of its annotations that cannot be read.
fn objects(
    file: &Path,
    instances: &Instances,
    names: &HashMap<Id, usize>,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<Vec<(Vec<RawObject>, usize)>> {
    let mut index_of = HashMap::new();
    for (index, picture) in instances.images.iter().enumerate() {
        ensure!(
            index_of.insert(&picture.id, index).is_none(),
            "{} lists two pictures with the id {}, so it is unknown which of them has the boxes; give each picture its \
             own id",
            file.display(),
            picture.id
        );
    }
    let mut objects: Vec<(Vec<RawObject>, usize)> = Vec::new();
    objects.resize_with(instances.images.len(), Default::default);
    for annotation in &instances.annotations {
        let fault = match index_of.get(&annotation.image_id) {
            None => "refers to a picture that is not listed".to_owned(),
            Some(&index) => {
                let (readable, unreadable) = &mut objects[index];
                match object(annotation, names) {
                    Ok(object) => {
                        readable.push(object);
                        continue;
                    }
                    Err(fault) => {
                        *unreadable += 1;
                        fault
                    }
                }
            }
        };
        let which = match &annotation.id {
            Some(id) => format!("the annotation {id}"),
            None => "an annotation".to_owned(),
        };
        let picture = &annotation.image_id;
        let what = format!("{which} of picture {picture} {fault}: skipped");
        problems.push(Problem::new(file, None, what));
    }
    Ok(objects)
}

/// The object of an annotation. The error says why it cannot be read.
fn object(annotation: &Annotation, names: &HashMap<Id, usize>) -> Result<RawObject, String> {
    let category = &annotation.category_id;
    let Some(&name) = names.get(category) else {
        return Err(format!("has the category {category}, which is not listed"));
    };
    let Some(&[x, y, w, h]) = annotation.bbox.as_deref() else {
        return Err("has no bbox with left, top, width and height".to_owned());
    };
    Ok(RawObject {
        name,
        sides: [x, y, x + w, y + h],
        difficult: annotation.iscrowd.is_one(),
        line: None,
    })
}

/// The index of each category's name in [`Raw::names`]. Adds new names to it. Leaves out a category without boxes that
/// only groups others, as Roboflow writes it.
fn names(file: &Path, instances: &Instances, raw: &mut Raw) -> anyhow::Result<HashMap<Id, usize>> {
    let used: HashSet<&Id> = instances
        .annotations
        .iter()
        .map(|annotation| &annotation.category_id)
        .collect();
    // Equal names in several files are one name. A name that one file lists twice counts as two names, and is reported.
    let known: HashMap<String, usize> = raw.names.iter().cloned().zip(0..).collect();
    let mut names = HashMap::new();
    for category in &instances.categories {
        let is_grouped = |other: &Category| {
            other.id != category.id && other.supercategory.as_ref() == Some(&category.name)
        };
        if !used.contains(&category.id) && instances.categories.iter().any(is_grouped) {
            continue;
        }
        let index = known.get(&category.name).copied().unwrap_or_else(|| {
            raw.names.push(category.name.clone());
            raw.names.len() - 1
        });
        ensure!(
            names.insert(category.id.clone(), index).is_none(),
            "{} lists two categories with the id {}, so it is unknown which of them a box has; give each category its \
             own id",
            file.display(),
            category.id
        );
    }
    Ok(names)
}

/// The picture with the name that the JSON file states: in the file's folder, in `images` beside it, in the root
/// folder or its `images`; else the nearest picture with this name.
fn find(folder: &Folder, file: &Path, stated: &str, part: Option<Part>) -> Option<PathBuf> {
    let name = stated.replace('\\', "/");
    let is_normal = |component: Component<'_>| matches!(component, Component::Normal(_));
    if Path::new(&name).components().all(is_normal) && !name.is_empty() {
        let own = parent(file);
        let folders = [
            own.to_owned(),
            own.join("images"),
            folder.root.clone(),
            folder.root.join("images"),
        ];
        let mut files = folders.iter().map(|folder| folder.join(&name));
        if let Some(path) = files.find(|path| path.is_file()) {
            return Some(path);
        }
    }
    let nearest = folder.nearest(name.rsplit('/').next().unwrap_or_default(), file);
    if let [path] = &*nearest {
        return Some((*path).clone());
    }
    let is_of_part = |path: &&&PathBuf| part.is_some() && folder.part(path) == part;
    let mut of_part = nearest.iter().filter(is_of_part);
    let path = of_part.next().filter(|_| of_part.next().is_none())?;
    Some((*path).clone())
}
