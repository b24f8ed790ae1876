//! COCO's `instances_*.json`: pictures, categories and boxes as left, top, width, height.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
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
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

/// Reads the annotations; pictures are looked for in `pictures`.
///
/// # Errors
/// Where the file cannot be read, or speaks of a picture or category that it does not list.
pub fn read(file: &Path, pictures: &Path) -> anyhow::Result<Set> {
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let mut instances: Instances = serde_json::from_slice(&text)
        .with_context(|| format!("{} holds no COCO instances", file.display()))?;
    // pycocotools goes through both by id, and equal scores keep that order.
    instances.images.sort_by_key(|picture| picture.id);
    instances.categories.sort_by_key(|category| category.id);
    let picture_of: HashMap<u64, usize> = numbered(instances.images.iter().map(|p| p.id));
    let class_of: HashMap<u64, usize> = numbered(instances.categories.iter().map(|c| c.id));
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
            Ok(Truth {
                picture: *picture_of
                    .get(&annotation.image_id)
                    .with_context(|| unknown("picture", annotation.image_id))?,
                class: *class_of
                    .get(&annotation.category_id)
                    .with_context(|| unknown("category", annotation.category_id))?,
                corners: [x, y, x + w, y + h],
                ignored: annotation.iscrowd != 0,
            })
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Set {
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
    })
}

fn numbered(ids: impl Iterator<Item = u64>) -> HashMap<u64, usize> {
    ids.enumerate().map(|(index, id)| (id, index)).collect()
}
