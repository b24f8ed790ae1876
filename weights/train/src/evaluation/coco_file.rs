//! COCO's `instances_*.json`: pictures, categories and boxes as left, top, width, height.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use serde::Deserialize;

use super::{Set, Source};
use crate::measure::Truth;

#[derive(Deserialize)]
struct Instances {
    images: Vec<Picture>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Picture {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: Crowd,
}

/// 0 or 1; some tools write false or true.
#[derive(Deserialize)]
#[serde(untagged)]
enum Crowd {
    Number(u8),
    Word(bool),
}

impl Default for Crowd {
    fn default() -> Self {
        Self::Word(false)
    }
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

/// Reads the annotations; pictures are looked for in `pictures`.
///
/// # Errors
/// Where the file cannot be read, speaks of a picture or category that it does not list or lists one twice, or
/// has a box that is none; or where a picture is missing.
pub fn read(file: &Path, pictures: &Path) -> anyhow::Result<Set> {
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let mut instances: Instances = serde_json::from_slice(text)
        .with_context(|| format!("{} holds no COCO instances", file.display()))?;
    // pycocotools goes through both by id, and equal scores keep that order.
    instances.images.sort_by_key(|picture| picture.id);
    instances.categories.sort_by_key(|category| category.id);
    let twice = |what: &str, id: u64| format!("{} lists {what} {id} twice", file.display());
    let picture_of = numbered(instances.images.iter().map(|p| p.id))
        .map_err(|id| anyhow!(twice("picture", id)))?;
    let class_of = numbered(instances.categories.iter().map(|c| c.id))
        .map_err(|id| anyhow!(twice("category", id)))?;
    for picture in &instances.images {
        let path = pictures.join(&picture.file_name);
        ensure!(
            path.exists(),
            "{} lists {}, which is missing",
            file.display(),
            path.display()
        );
    }
    let truths = instances
        .annotations
        .iter()
        .map(|annotation| {
            let [x, y, w, h] = annotation.bbox;
            let unknown = |what: &str, id: u64| {
                format!(
                    "{}: an annotation is of {what} {id}, which is not listed",
                    file.display()
                )
            };
            ensure!(
                annotation.bbox.iter().all(|side| side.is_finite()) && w >= 0.0 && h >= 0.0,
                "{}: a box of picture {} is none: {:?}; it has to be left, top, width and height",
                file.display(),
                annotation.image_id,
                annotation.bbox
            );
            Ok(Truth {
                picture: *picture_of
                    .get(&annotation.image_id)
                    .with_context(|| unknown("picture", annotation.image_id))?,
                class: *class_of
                    .get(&annotation.category_id)
                    .with_context(|| unknown("category", annotation.category_id))?,
                corners: [x, y, x + w, y + h],
                ignored: !matches!(annotation.iscrowd, Crowd::Number(0) | Crowd::Word(false)),
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let set = Set {
        classes: instances
            .categories
            .into_iter()
            .map(|category| category.name)
            .collect(),
        pictures: instances
            .images
            .iter()
            .map(|picture| Source::File(pictures.join(&picture.file_name)))
            .collect(),
        truths,
    };
    Ok(set.merged())
}

/// The index of each id, or the id that is there twice.
fn numbered(ids: impl Iterator<Item = u64>) -> Result<HashMap<u64, usize>, u64> {
    let mut indexes = HashMap::new();
    for (index, id) in ids.enumerate() {
        if indexes.insert(id, index).is_some() {
            return Err(id);
        }
    }
    Ok(indexes)
}
