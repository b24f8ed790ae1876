//! COCO: a JSON file for all pictures, or one each for training, validation and test. As CVAT, Label Studio and
//! Roboflow write it, and COCO itself.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::folder::{Folder, Named, named, stem};
use super::raw::{Frame, Raw, RawObject, RawPicture};
use super::{Format, LONGEST_TEXT, Problem, quote, text};

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
    /// Four numbers, but some tools leave it empty.
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

/// A number; some tools write text.
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

/// 0 or 1; some tools write false or true.
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

/// The files of COCO's kind below the folder, at most one for each part; of COCO's own those with boxes.
pub(super) fn files(folder: &Folder) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for file in folder.with_extension("json") {
        // One that is too long to be looked into is refused when it is read.
        let long = std::fs::metadata(file).is_ok_and(|kind| kind.len() > LONGEST_TEXT);
        let of_coco =
            |text: String| text.contains("\"annotations\"") && text.contains("\"images\"");
        if long || text(file).is_ok_and(of_coco) {
            files.push(file.clone());
        }
    }
    let own = |file: &PathBuf| stem(file).starts_with("instances_");
    if files.iter().any(own) {
        files.retain(own);
    }
    let mut parts = HashMap::new();
    for file in &files {
        if let Some(other) = parts.insert(part(folder, file), file) {
            bail!(
                "{} and {} both hold COCO's labels, for the same pictures as far as their names show; give the \
                 path of one of them",
                other.display(),
                file.display()
            );
        }
    }
    Ok(files)
}

/// What a file is for by its name, `instances_train2017.json`, or by its folder's, `train/_annotations.coco.json`.
fn part(folder: &Folder, file: &Path) -> Option<Named> {
    let stem = stem(file);
    let mut words = stem.split(|letter: char| !letter.is_alphanumeric());
    words.find_map(named).or_else(|| folder.named(file))
}

/// Reads the files; the pictures are looked for below the folder.
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
    // The training file's classes come first, in the order of its ids.
    let mut files: Vec<(Option<Named>, &PathBuf)> = files
        .iter()
        .map(|file| (part(folder, file), file))
        .collect();
    files.sort();
    let alone = files.len() == 1;
    for (part, file) in files {
        read_one(folder, file, part.filter(|_| !alone), &mut raw)?;
    }
    Ok(raw)
}

fn read_one(
    folder: &Folder,
    file: &Path,
    part: Option<Named>,
    raw: &mut Raw,
) -> anyhow::Result<()> {
    let shown = file.display();
    let mut instances: Instances = serde_json::from_str(&text(file)?).with_context(|| {
        format!(
            "{shown} is not COCO's JSON, an object with images, annotations and categories; export it again, as \
             COCO with boxes"
        )
    })?;
    instances.categories.sort_by(|a, b| a.id.cmp(&b.id));
    let names = names(file, &instances, raw)?;
    let mut index_of = HashMap::new();
    for (index, picture) in instances.images.iter().enumerate() {
        ensure!(
            index_of.insert(picture.id.clone(), index).is_none(),
            "{shown} lists the picture {} twice, so its boxes may be of either; number the pictures anew",
            picture.id
        );
    }
    let mut objects: Vec<(Vec<RawObject>, usize)> = Vec::new();
    objects.resize_with(instances.images.len(), Default::default);
    for annotation in &instances.annotations {
        let id = match &annotation.id {
            Some(id) => format!("the annotation {id} of picture {}", annotation.image_id),
            None => format!("an annotation of picture {}", annotation.image_id),
        };
        let Some(&index) = index_of.get(&annotation.image_id) else {
            let what = format!("{id}, which is not listed: skipped");
            raw.problems.push(Problem::new(file, None, what));
            continue;
        };
        let (usable, unusable) = &mut objects[index];
        match object(annotation, &names) {
            Ok(object) => usable.push(object),
            Err(why) => {
                *unusable += 1;
                let what = format!("{id} {why}: skipped");
                raw.problems.push(Problem::new(file, None, what));
            }
        }
    }
    for (picture, (objects, unusable)) in instances.images.iter().zip(objects) {
        let Some(path) = find(folder, file, &picture.file_name, part) else {
            let what = format!(
                "the picture {} is not beside the file, in images, nor anywhere in {} by its name alone: skipped",
                quote(&picture.file_name),
                folder.root.display()
            );
            raw.problems.push(Problem::new(file, None, what));
            continue;
        };
        raw.pictures.push(RawPicture {
            named: part.or_else(|| folder.named(&path)),
            path,
            source: file.to_owned(),
            frame: Frame::pixels(picture.width, picture.height),
            objects,
            unusable,
        });
    }
    Ok(())
}

/// An object in the terms of [`Raw`], or why it is none.
fn object(annotation: &Annotation, names: &HashMap<Id, usize>) -> Result<RawObject, String> {
    let Some(&name) = names.get(&annotation.category_id) else {
        let category = &annotation.category_id;
        return Err(format!(
            "is of the category {category}, which is not listed"
        ));
    };
    if annotation.iscrowd.is_one() {
        return Err("is a crowd, not one object (iscrowd)".to_owned());
    }
    let Some(&[x, y, w, h]) = annotation.bbox.as_deref() else {
        return Err("has no bbox of left, top, width and height".to_owned());
    };
    Ok(RawObject {
        name,
        sides: [x, y, x + w, y + h],
        difficult: false,
        line: None,
    })
}

/// The index of each category's name, which is added where it is new. One that only groups others, as
/// Roboflow's first, is left out.
fn names(file: &Path, instances: &Instances, raw: &mut Raw) -> anyhow::Result<HashMap<Id, usize>> {
    let used: HashSet<&Id> = instances
        .annotations
        .iter()
        .map(|a| &a.category_id)
        .collect();
    let all = &instances.categories;
    // What files before this one have named may be named again; twice in this one is told of.
    let known: HashMap<String, usize> = raw.names.iter().cloned().zip(0..).collect();
    let mut names = HashMap::new();
    for category in all {
        let groups = |other: &Category| {
            other.id != category.id && other.supercategory.as_ref() == Some(&category.name)
        };
        if !used.contains(&category.id) && all.iter().any(groups) {
            continue;
        }
        let index = known.get(&category.name).copied().unwrap_or_else(|| {
            raw.names.push(category.name.clone());
            raw.names.len() - 1
        });
        ensure!(
            names.insert(category.id.clone(), index).is_none(),
            "{} lists the category {} twice, so boxes may be of either; number the categories anew",
            file.display(),
            category.id
        );
    }
    Ok(names)
}

/// The picture of a name: from the file's folder or `images` beside it, or else the one of that name that is
/// nearest to the file.
fn find(folder: &Folder, file: &Path, name: &str, part: Option<Named>) -> Option<PathBuf> {
    let name = name.replace('\\', "/");
    let parent = file.parent().unwrap_or(Path::new(""));
    let normal = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    if Path::new(&name).components().all(normal) && !name.is_empty() {
        let places = [
            parent.to_owned(),
            parent.join("images"),
            folder.root.clone(),
            folder.root.join("images"),
        ];
        let mut files = places.iter().map(|place| place.join(&name));
        if let Some(path) = files.find(|path| path.is_file()) {
            return Some(path);
        }
    }
    let name = name.rsplit('/').next().unwrap_or_default();
    let found = folder.nearest(name, file);
    let of_part = |path: &&&PathBuf| part.is_some() && folder.named(path) == part;
    if let [path] = &*found {
        return Some((*path).clone());
    }
    let mut of_part = found.iter().filter(of_part);
    let path = of_part.next().filter(|_| of_part.next().is_none())?;
    Some((*path).clone())
}
