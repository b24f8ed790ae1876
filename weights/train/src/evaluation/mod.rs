//! How accurate a detector is on a set of pictures whose objects are known.
//!
//! ```text
//! voc_folder   Annotations, JPEGImages, ImageSets, read and written
//! coco_file    COCO's instances JSON
//! report       tables and plots
//! ```

pub mod coco_file;
pub mod report;
pub mod voc_folder;

use std::path::Path;

use anyhow::{Context as _, ensure};
use image::RgbImage;
use indicatif::ProgressBar;
use serde::Serialize;
use ssd_server::detector::boxes::{self, Criteria, RawOutput};
use ssd_server::detector::family::Family;
use ssd_server::detector::inference::{self, Inference};
use ssd_server::detector::labels::VOC_TO_COCO;
use ssd_server::detector::network::Network;
use ssd_server::detector::picture;
use ssd_server::detector::precision::{Choice, Wanted};
use ssd_server::detector::priors::{Prior, by_map};
use ssd_server::detector::{self, describe};
use ssd_server::weights::StateDict;

use crate::measure::{Found, Truth, coco, mean, voc};
use crate::scenes::{self, CLASSES, Style};

/// Detections are asked for down to this score, as in the published evaluations.
const FLOOR: f32 = 0.01;
/// And at most this many a picture.
const MOST: usize = 200;
/// Of two boxes of one class that overlap more, one is kept.
const NMS: f32 = 0.45;

/// The largest picture that is read, in pixels.
const MOST_PIXELS: u64 = 200_000_000;

/// Pictures with their objects.
#[derive(Debug)]
pub struct Set {
    /// Class names, in the order of [`Truth::class`]. None where there is nothing to go by: then what the
    /// weights know counts.
    pub classes: Vec<String>,
    /// The pictures.
    pub pictures: Vec<Source>,
    /// The objects in them.
    pub truths: Vec<Truth>,
}

/// Where a picture is.
#[derive(Debug)]
pub enum Source {
    /// In a file.
    File(std::path::PathBuf),
    /// In memory.
    Drawn(Box<RgbImage>),
    /// Drawn whenever it is looked at.
    Scene {
        /// The seed.
        seed: u64,
        /// Which of its scenes.
        index: u64,
        /// What to draw.
        style: Style,
    },
}

impl Source {
    fn load(&self) -> anyhow::Result<std::borrow::Cow<'_, RgbImage>> {
        match self {
            Self::Drawn(picture) => Ok(std::borrow::Cow::Borrowed(picture)),
            Self::Scene { seed, index, style } => {
                let scene = scenes::draw(*seed, *index, style)?;
                Ok(std::borrow::Cow::Owned(scene.picture))
            }
            Self::File(path) => {
                // As the server reads it: upright, and refused where it is cut short.
                let read = || {
                    let bytes = std::fs::read(path)?;
                    anyhow::Ok(picture::Header::read(&bytes, MOST_PIXELS)?.decode(&bytes)?)
                };
                let picture = read().with_context(|| format!("read {}", path.display()))?;
                Ok(std::borrow::Cow::Owned(picture))
            }
        }
    }
}

/// Scenes 0 to `count` of a seed.
///
/// # Errors
/// Where one cannot be drawn.
pub fn drawn(seed: u64, count: usize, distractors_only: bool) -> anyhow::Result<Set> {
    let style = Style {
        distractors_only,
        ..Style::default()
    };
    let mut set = Set {
        classes: CLASSES.iter().map(|class| class.name.to_owned()).collect(),
        pictures: Vec::new(),
        truths: Vec::new(),
    };
    for picture in 0..count {
        let index = picture as u64;
        if distractors_only {
            // Nothing has to be known of these beforehand, so any number of them takes no memory.
            set.pictures.push(Source::Scene { seed, index, style });
            continue;
        }
        let scene = scenes::draw(seed, index, &style)?;
        set.truths.extend(scene.objects.iter().map(|object| {
            let c = &object.corners;
            Truth {
                picture,
                class: object.class,
                corners: [c.x1, c.y1, c.x2, c.y2].map(f64::from),
                ignored: object.difficult,
            }
        }));
        set.pictures.push(Source::Drawn(Box::new(scene.picture)));
    }
    Ok(set)
}

impl Set {
    /// Keeps the first pictures and what is in them.
    pub fn limit(&mut self, pictures: usize) {
        self.pictures.truncate(pictures);
        self.truths.retain(|truth| truth.picture < pictures);
    }

    /// Makes one class of those that mean the same, such as `tv` and `TVmonitor`, the first of them.
    #[must_use]
    pub fn merged(mut self) -> Self {
        let mut classes: Vec<String> = Vec::new();
        let mut into = Vec::new();
        for class in self.classes {
            let known = classes
                .iter()
                .position(|other| mean_the_same(other, &class));
            into.push(known.unwrap_or(classes.len()));
            if known.is_none() {
                classes.push(class);
            }
        }
        for truth in &mut self.truths {
            truth.class = into[truth.class];
        }
        self.classes = classes;
        self
    }
}

/// Whether two names are of one class: but for capitals the same, or VOC's and COCO's of it.
fn mean_the_same(a: &str, b: &str) -> bool {
    let coco = |name: &str| {
        let voc = VOC_TO_COCO
            .iter()
            .find(|(voc, _)| voc.eq_ignore_ascii_case(name));
        voc.map_or(name, |(_, coco)| coco).to_ascii_lowercase()
    };
    coco(a) == coco(b)
}

/// Every picture of a folder, none with an object of any class: whatever is found is invented.
///
/// # Errors
/// Where the folder cannot be read.
pub fn unannotated(folder: &Path) -> anyhow::Result<Set> {
    let context = || format!("read {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let file = entry.with_context(context)?.path();
        let kind = image::ImageFormat::from_path(&file);
        if kind.is_ok_and(|kind| kind.reading_enabled()) {
            files.push(file);
        }
    }
    files.sort();
    Ok(Set {
        classes: Vec::new(),
        pictures: files.into_iter().map(Source::File).collect(),
        truths: Vec::new(),
    })
}

/// A network with what is needed to read its answers.
#[derive(Debug)]
pub struct Detector {
    network: Inference,
    family: &'static Family,
    priors: Vec<Prior>,
    /// For each of the network's classes without the background, the set's class.
    meaning: Vec<Option<usize>>,
}

impl Detector {
    /// A network of the demo model's kind in single precision, whose classes are the set's, in order.
    ///
    /// # Errors
    /// Where libtorch fails.
    pub fn of(network: Network, classes: usize) -> anyhow::Result<Self> {
        let family = network.family();
        let (network, _) = inference::prepare(network, None, Wanted::REFERENCE)?;
        Ok(Self::new(network, family, (0..classes).map(Some).collect()))
    }

    /// The network of some weights of any family, for a set of these classes; and the arithmetic in
    /// which it runs.
    ///
    /// # Errors
    /// Where the weights cannot be used or run, or have none of the classes.
    pub fn open(
        weights: &Path,
        classes: &[String],
        wanted: Wanted,
    ) -> anyhow::Result<(Self, Choice)> {
        let state = StateDict::open(weights)?;
        let network = Network::new(&state)?;
        let family = network.family();
        let meaning = meaning(&state, classes)?;
        let scales = detector::scales(&state)?;
        let (network, choice) = inference::prepare(network, scales, wanted)?;
        Ok((Self::new(network, family, meaning), choice))
    }

    /// The names among these, of the weights' own classes, that the set says nothing of: what is found of them
    /// does not count.
    #[must_use]
    pub fn not_counted<'a>(&self, own: &'a [String]) -> Vec<&'a str> {
        let meant = own.iter().zip(&self.meaning);
        let not = meant.filter(|(_, meaning)| meaning.is_none());
        not.map(|(name, _)| name.as_str()).collect()
    }

    fn new(network: Inference, family: &'static Family, meaning: Vec<Option<usize>>) -> Self {
        Self {
            network,
            family,
            priors: family.priors(),
            meaning,
        }
    }

    /// What the network says of a picture.
    fn look(&self, picture: &RgbImage) -> anyhow::Result<RawOutput> {
        let input = self.family.preprocessing.input(picture);
        Ok(self.network.forward_one(&input)?)
    }

    /// What is found in a picture, in its pixels.
    fn find(&self, index: usize, picture: &RgbImage) -> anyhow::Result<Vec<Found>> {
        Ok(self.read(index, picture, &self.look(picture)?, &self.priors))
    }

    /// What each feature map finds by itself in a picture, in its pixels; the finest map first.
    fn find_by_map(&self, index: usize, picture: &RgbImage) -> anyhow::Result<Vec<Vec<Found>>> {
        let all = self.look(picture)?;
        let maps = by_map(&(self.family.prior_maps)()).into_iter().map(|on| {
            let part = RawOutput {
                offsets: all.offsets[on.start * 4..on.end * 4].to_vec(),
                scores: all.scores[on.start * all.classes..on.end * all.classes].to_vec(),
                ..all
            };
            self.read(index, picture, &part, &self.priors[on])
        });
        Ok(maps.collect())
    }

    /// The detections in what the network says of a picture at these priors.
    fn read(
        &self,
        index: usize,
        picture: &RgbImage,
        output: &RawOutput,
        priors: &[Prior],
    ) -> Vec<Found> {
        let (w, h) = (picture.width() as f32, picture.height() as f32);
        let criteria = Criteria {
            threshold: FLOOR,
            iou: NMS,
            top_k: MOST,
        };
        let kinds = boxes::each_class(output.classes);
        boxes::detect(output, priors, self.family, &kinds, &criteria)
            .into_iter()
            .filter_map(|scored| {
                let corners = scored.corners.scale(w, h).clip(w, h);
                Some(Found {
                    picture: index,
                    class: self.meaning.get(scored.class - 1).copied().flatten()?,
                    corners: [corners.x1, corners.y1, corners.x2, corners.y2].map(f64::from),
                    score: f64::from(scored.probability),
                })
            })
            .collect()
    }
}

/// The accuracy of one class.
#[derive(Debug, Clone, Serialize)]
pub struct ClassAccuracy {
    /// Its name.
    pub name: String,
    /// Objects asked for.
    pub objects: usize,
    /// VOC 2007, eleven points.
    pub voc07: Option<f64>,
    /// VOC 2010, the area.
    pub voc10: Option<f64>,
    /// COCO at an overlap of 0.50.
    pub coco50: Option<f64>,
    /// COCO, the mean of 0.50 to 0.95.
    pub coco: Option<f64>,
}

/// The accuracy over all classes.
#[derive(Debug, Clone, Serialize)]
pub struct Accuracy {
    /// Pictures looked at.
    pub pictures: usize,
    /// Means over the classes that have objects.
    pub voc07: Option<f64>,
    /// As above.
    pub voc10: Option<f64>,
    /// As above.
    pub coco50: Option<f64>,
    /// As above.
    pub coco: Option<f64>,
    /// The threshold of what follows.
    pub threshold: f64,
    /// Precision, recall and pictures with detections at the threshold.
    pub at_threshold: voc::AtThreshold,
    /// Class by class.
    pub classes: Vec<ClassAccuracy>,
    /// Precision-recall curves in the same order.
    #[serde(skip)]
    pub curves: Vec<voc::Curve>,
}

/// The threshold that the server shows detections from by default.
pub const THRESHOLD: f64 = 0.6;

/// Runs the detector over the set.
///
/// # Errors
/// Where a picture cannot be read or libtorch fails.
pub fn find(
    detector: &Detector,
    set: &Set,
    bar: Option<&ProgressBar>,
) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (index, source) in set.pictures.iter().enumerate() {
        let picture = source.load()?;
        found.extend(detector.find(index, &picture)?);
        if let Some(bar) = bar {
            bar.inc(1);
        }
    }
    Ok(found)
}

/// What each of the detector's feature maps finds by itself in the set; the finest map first.
///
/// # Errors
/// Where a picture cannot be read or libtorch fails.
pub fn find_by_map(detector: &Detector, set: &Set) -> anyhow::Result<Vec<Vec<Found>>> {
    let mut all: Vec<Vec<Found>> = Vec::new();
    for (index, source) in set.pictures.iter().enumerate() {
        let found = detector.find_by_map(index, &*source.load()?)?;
        all.resize_with(found.len(), Vec::new);
        for (all, found) in all.iter_mut().zip(found) {
            all.extend(found);
        }
    }
    Ok(all)
}

/// The names of the classes of some weights, without the background.
///
/// # Errors
/// Where the weights cannot be read, or the names are not known.
pub fn classes_of(weights: &Path) -> anyhow::Result<Vec<String>> {
    own_classes(&StateDict::open(weights)?)
}

fn own_classes(state: &StateDict) -> anyhow::Result<Vec<String>> {
    let known = describe(state).and_then(|description| description.classes);
    let path = state.path().display();
    known.with_context(|| format!("{path}: the names of its classes are not known"))
}

/// For each class of the network, without the background, the set's class that means the same.
///
/// # Errors
/// Where the names of the network's classes are not known, or none is one of the set's.
fn meaning(state: &StateDict, classes: &[String]) -> anyhow::Result<Vec<Option<usize>>> {
    let path = state.path().display();
    let own = own_classes(state)?;
    let of = |name: &String| classes.iter().position(|class| mean_the_same(class, name));
    let meaning: Vec<Option<usize>> = own.iter().map(of).collect();
    ensure!(
        meaning.iter().any(Option::is_some),
        "none of the classes of {path} ({}) is in the pictures' annotations ({})",
        own.join(", "),
        classes.join(", ")
    );
    Ok(meaning)
}

/// Measures detections that were made already.
#[must_use]
pub fn summarise(set: &Set, found: &[Found], threshold: f64) -> Accuracy {
    let mut classes = Vec::new();
    let mut curves = Vec::new();
    for (class, name) in set.classes.iter().enumerate() {
        let curve = voc::curve(&set.truths, found, class);
        let overlaps = coco::average_precisions(&set.truths, found, class);
        classes.push(ClassAccuracy {
            name: name.clone(),
            objects: curve.objects,
            voc07: curve.eleven_points(),
            voc10: curve.area(),
            coco50: overlaps.map(|aps| aps[0]),
            coco: overlaps.map(|aps| aps.iter().sum::<f64>() / 10.0),
        });
        curves.push(curve);
    }
    let over = |part: fn(&ClassAccuracy) -> Option<f64>| mean(classes.iter().map(part));
    let size = (set.classes.len(), set.pictures.len());
    Accuracy {
        pictures: set.pictures.len(),
        voc07: over(|c| c.voc07),
        voc10: over(|c| c.voc10),
        coco50: over(|c| c.coco50),
        coco: over(|c| c.coco),
        threshold,
        at_threshold: voc::at_threshold(&set.truths, found, size, threshold),
        classes,
        curves,
    }
}
