//! PASCAL VOC's layout: `Annotations/NAME.xml`, `JPEGImages/NAME.jpg`, `ImageSets/Main/SET.txt`.
//!
//! VOC counts pixels from 1 and includes the last: its `xmin` is one more than the distance of the
//! left edge, its `xmax` is the distance of the right edge.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use image::codecs::jpeg::JpegEncoder;
use serde::Deserialize;

use super::{Set, Source};
use crate::measure::Truth;
use crate::scenes::{CLASSES, Scene};

/// The quality of the JPEG files written, 1 to 100.
const QUALITY: u8 = 92;

/// The document, whose root may have any name as far as the parser is concerned.
#[derive(Deserialize)]
enum Document {
    #[serde(rename = "annotation")]
    Annotation(Annotation),
}

#[derive(Deserialize)]
struct Annotation {
    filename: Option<String>,
    #[serde(default, rename = "object")]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    name: String,
    /// 1 where it is; some tools write words.
    #[serde(default)]
    difficult: String,
    bndbox: Bounds,
}

#[derive(Deserialize)]
struct Bounds {
    xmin: f64,
    ymin: f64,
    xmax: f64,
    ymax: f64,
}

impl Bounds {
    /// Of a box that has an area, pixels counted as VOC does.
    fn corners(&self) -> Option<[f64; 4]> {
        let corners = [self.xmin - 1.0, self.ymin - 1.0, self.xmax, self.ymax];
        let [x1, y1, x2, y2] = corners;
        (corners.iter().all(|side| side.is_finite()) && x1 < x2 && y1 < y2).then_some(corners)
    }
}

/// Reads the pictures that `ImageSets/Main/SET.txt` names, and their objects. Where `set` is `None`, every
/// annotation counts. The classes are those that occur, in alphabetical order.
///
/// # Errors
/// Where a file is missing or is not what VOC describes; the message names it.
pub fn read(folder: &Path, set: Option<&str>) -> anyhow::Result<Set> {
    let names = names(folder, set)?;
    let mut objects = Vec::new();
    let mut pictures = Vec::new();
    for (picture, name) in names.iter().enumerate() {
        let path = folder.join("Annotations").join(format!("{name}.xml"));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let Document::Annotation(annotation) = quick_xml::de::from_str(without_mark(&text))
            .with_context(|| format!("{} is no VOC annotation", path.display()))?;
        for object in annotation.objects {
            let class = object.name.trim().to_owned();
            let corners = object.bndbox.corners().with_context(|| {
                format!(
                    "{}: the box of a {class} is none: xmin has to be below xmax, ymin below ymax",
                    path.display()
                )
            })?;
            let ignored = matches!(object.difficult.trim(), "1" | "true");
            objects.push((picture, class, corners, ignored));
        }
        let file = file(folder, name, annotation.filename.as_deref());
        ensure!(
            file.exists(),
            "{} is annotated, but {} is missing",
            name,
            file.display()
        );
        pictures.push(Source::File(file));
    }
    let mut classes: BTreeMap<String, usize> = objects
        .iter()
        .map(|(_, class, _, _)| (class.clone(), 0))
        .collect();
    for (index, class) in classes.values_mut().enumerate() {
        *class = index;
    }
    let truths = objects
        .into_iter()
        .map(|(picture, class, corners, ignored)| Truth {
            picture,
            class: classes[&class],
            corners,
            ignored,
        })
        .collect();
    let set = Set {
        classes: classes.into_keys().collect(),
        pictures,
        truths,
    };
    Ok(set.merged())
}

/// Text without the byte order mark that some editors put before it.
fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// The picture of an annotation: of its name, or else the one that it names.
fn file(folder: &Path, name: &str, filename: Option<&str>) -> PathBuf {
    let pictures = folder.join("JPEGImages");
    let file = pictures.join(format!("{name}.jpg"));
    let named = filename.and_then(|named| Path::new(named.trim()).file_name());
    match named.map(|named| pictures.join(named)) {
        Some(named) if !file.exists() && named.exists() => named,
        _ => file,
    }
}

/// The names of the pictures of a set.
fn names(folder: &Path, set: Option<&str>) -> anyhow::Result<Vec<String>> {
    if let Some(set) = set {
        let path = folder.join("ImageSets/Main").join(format!("{set}.txt"));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        let names: Vec<String> = without_mark(&text).lines().filter_map(first).collect();
        let mut seen = HashSet::new();
        let again = names.iter().find(|name| !seen.insert(*name));
        if let Some(name) = again {
            bail!("{} names {name} more than once", path.display());
        }
        return Ok(names);
    }
    let path = folder.join("Annotations");
    let entries = std::fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let file = entry
            .with_context(|| format!("read {}", path.display()))?
            .path();
        let Some(name) = file.file_name().map(|name| name.to_string_lossy()) else {
            continue;
        };
        // Hidden ones are not VOC's: macOS leaves `._NAME.xml` beside what it has copied.
        if let Some(name) = name
            .strip_suffix(".xml")
            .filter(|name| !name.starts_with('.'))
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Makes the folders of an empty data set.
///
/// # Errors
/// Where they cannot be made.
pub fn create(folder: &Path) -> anyhow::Result<()> {
    for part in ["Annotations", "JPEGImages", "ImageSets/Main"] {
        let path = folder.join(part);
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    Ok(())
}

/// Writes a scene's picture and annotation under a name.
///
/// # Errors
/// Where a file cannot be written.
pub fn write_scene(folder: &Path, name: &str, scene: &Scene) -> anyhow::Result<()> {
    let picture = folder.join("JPEGImages").join(format!("{name}.jpg"));
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&scene.picture)?;
    std::fs::write(&picture, bytes).with_context(|| format!("write {}", picture.display()))?;
    let annotation = folder.join("Annotations").join(format!("{name}.xml"));
    std::fs::write(&annotation, xml(name, scene))
        .with_context(|| format!("write {}", annotation.display()))
}

/// Writes the list of a set.
///
/// # Errors
/// Where it cannot be written, or its name is that of a folder too.
pub fn write_set(folder: &Path, set: &str, names: &[String]) -> anyhow::Result<()> {
    let is_name = Path::new(set).file_name().is_some_and(|name| name == set);
    ensure!(is_name, "a list is named without a folder, not {set}");
    let path = folder.join("ImageSets/Main").join(format!("{set}.txt"));
    let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
    std::fs::write(&path, lines).with_context(|| format!("write {}", path.display()))
}

/// A scene's annotation. Nothing in it needs escaping: names are those of [`CLASSES`].
fn xml(name: &str, scene: &Scene) -> String {
    let (w, h) = scene.picture.dimensions();
    let mut text = format!(
        "<annotation>\n\t<filename>{name}.jpg</filename>\n\t<size><width>{w}</width>\
         <height>{h}</height><depth>3</depth></size>\n"
    );
    for object in &scene.objects {
        let c = &object.corners;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\t<object>\n\t\t<name>{}</name>\n\t\t<truncated>{}</truncated>\n\t\t<occluded>{}\
             </occluded>\n\t\t<difficult>{}</difficult>\n\t\t<bndbox><xmin>{}</xmin><ymin>{}</ymin>\
             <xmax>{}</xmax><ymax>{}</ymax></bndbox>\n\t</object>",
            CLASSES[object.class].name,
            u8::from(object.truncated),
            u8::from(object.occluded),
            u8::from(object.difficult),
            c.x1 + 1.0,
            c.y1 + 1.0,
            c.x2,
            c.y2
        );
    }
    text + "</annotation>\n"
}
