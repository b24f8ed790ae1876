//! Runs a detector over labelled pictures, and computes its accuracy.
//!
//! ```text
//! report   tables and plots
//! sheet    a contact sheet of pictures with their found, missed and wrong boxes
//! ```

pub mod report;
pub mod sheet;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use anyhow::{Context as _, ensure};
use image::RgbImage;
use indicatif::ProgressBar;
use serde::Serialize;
use ssd_detector::boxes::{self, Criteria};
use ssd_detector::family::Family;
use ssd_detector::inference::{self, Inference};
use ssd_detector::labels::VOC_TO_COCO;
use ssd_detector::network::Network;
use ssd_detector::precision::{Precision, Requested, RequestedDevice, Selection};
use ssd_detector::priors::Prior;
use ssd_detector::{describe, notes};
use state_dict::StateDict;

use crate::data::{self, Dataset};
use crate::measure::{Detection, GroundTruth, coco, mean, voc};

/// The criteria of detections, as in the published evaluations.
const CRITERIA: Criteria = Criteria {
    threshold: 0.01,
    iou: 0.45,
    top_k: 200,
    classes_by_label: None,
};

/// Pictures with their ground truth.
#[derive(Debug)]
pub struct Set {
    /// Class names, in the order of [`GroundTruth::class`].
    pub classes: Vec<String>,
    /// The files of the pictures.
    pub pictures: Vec<PathBuf>,
    /// The objects in the pictures. Boxes are in pixels of the upright picture.
    pub ground_truths: Vec<GroundTruth>,
}

impl Set {
    /// The pictures of a data set with these indexes.
    #[must_use]
    pub fn of(dataset: &Dataset, indexes: &[usize]) -> Self {
        let mut set = Self {
            classes: dataset.classes.clone(),
            pictures: Vec::new(),
            ground_truths: Vec::new(),
        };
        for &index in indexes {
            let labelled = &dataset.pictures[index];
            let picture = set.pictures.len();
            set.pictures.push(labelled.path.clone());
            set.ground_truths
                .extend(labelled.objects.iter().map(|object| {
                    let c = object
                        .corners
                        .scale(labelled.width as f32, labelled.height as f32);
                    GroundTruth {
                        picture,
                        class: object.class,
                        corners: [c.x1, c.y1, c.x2, c.y2].map(f64::from),
                        ignored: object.difficult,
                    }
                }));
        }
        set
    }

    /// The pictures in a folder and its subfolders as background: none of them shows an object of `classes`, so every
    /// detection is a false positive.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn background(folder: &Path, classes: Vec<String>) -> anyhow::Result<Self> {
        Ok(Self {
            classes,
            pictures: data::pictures_in(folder)?,
            ground_truths: Vec::new(),
        })
    }

    /// Keeps the first `pictures` pictures and their objects.
    pub fn limit(&mut self, pictures: usize) {
        self.pictures.truncate(pictures);
        self.ground_truths.retain(|truth| truth.picture < pictures);
    }

    /// Merges classes with equivalent names, such as `tv` and `TVmonitor`, into the first of them.
    #[must_use]
    pub fn merged(mut self) -> Self {
        let mut classes: Vec<String> = Vec::new();
        let mut into = Vec::new();
        for class in self.classes {
            let known = classes
                .iter()
                .position(|other| is_same_class(other, &class));
            into.push(known.unwrap_or(classes.len()));
            if known.is_none() {
                classes.push(class);
            }
        }
        for truth in &mut self.ground_truths {
            truth.class = into[truth.class];
        }
        self.classes = classes;
        self
    }
}

/// Whether two names mean the same class: they differ only in case, or are its names in VOC and COCO.
fn is_same_class(a: &str, b: &str) -> bool {
    let coco = |name: &str| {
        let voc = VOC_TO_COCO
            .iter()
            .find(|(voc, _)| voc.eq_ignore_ascii_case(name));
        voc.map_or(name, |(_, coco)| coco).to_ascii_lowercase()
    };
    coco(a) == coco(b)
}

/// A network whose detections have the classes of a [`Set`].
#[derive(Debug)]
pub struct Detector {
    inference: Inference,
    family: &'static Family,
    priors: Vec<Prior>,
    /// For each class of the network without the background, the index of the set's class with the same name.
    class_map: Vec<Option<usize>>,
}

impl Detector {
    /// Prepares a network in single precision. Its classes without the background must be the set's, in order.
    ///
    /// # Errors
    /// If libtorch fails or does not find the device.
    pub fn from_network(network: Network, device: RequestedDevice) -> anyhow::Result<Self> {
        let family = network.family();
        let class_map = (0..network.classes() - 1).map(Some).collect();
        let requested = Requested {
            precision: Some(Precision::F32),
            device,
        };
        let (inference, _) = inference::prepare(network, None, requested)?;
        Ok(Self::new(inference, family, class_map))
    }

    /// Loads weights of any family, for a set with these class names. Also returns the selected precision and device.
    ///
    /// # Errors
    /// If the weights cannot be loaded or run, or have none of the classes.
    pub fn open(
        weights: &Path,
        classes: &[String],
        requested: Requested,
    ) -> anyhow::Result<(Self, Selection)> {
        let state = StateDict::open(weights)?;
        let network = Network::new(&state)?;
        let family = network.family();
        let class_map = class_map(&state, classes)?;
        let scales = ssd_detector::scales(&state, &network)?;
        let (inference, selection) = inference::prepare(network, scales.as_ref(), requested)?;
        Ok((Self::new(inference, family, class_map), selection))
    }

    /// The weights' class names that the set does not have. Detections of these classes are dropped.
    #[must_use]
    pub fn dropped<'a>(&self, own: &'a [String]) -> Vec<&'a str> {
        own.iter()
            .zip(&self.class_map)
            .filter(|(_, class)| class.is_none())
            .map(|(name, _)| name.as_str())
            .collect()
    }

    fn new(inference: Inference, family: &'static Family, class_map: Vec<Option<usize>>) -> Self {
        Self {
            inference,
            family,
            priors: family.priors(),
            class_map,
        }
    }

    /// A detector that shares the weights.
    fn shallow_clone(&self) -> Self {
        Self {
            inference: self.inference.shallow_clone(),
            family: self.family,
            priors: self.priors.clone(),
            class_map: self.class_map.clone(),
        }
    }

    /// The detections in a picture, in pixels of the picture.
    fn detect(&self, index: usize, picture: &RgbImage) -> anyhow::Result<Vec<Detection>> {
        let input = self.family.preprocessing.input(picture);
        let output = self.inference.forward_one(&input)?;
        let (w, h) = (picture.width() as f32, picture.height() as f32);
        let kinds = boxes::each_class(output.classes);
        let scored = boxes::detect(&output, &self.priors, self.family, &kinds, &CRITERIA);
        let detections = scored.into_iter().filter_map(|scored| {
            let c = scored.corners.scale(w, h).clip(w, h);
            Some(Detection {
                picture: index,
                class: self.class_map.get(scored.class - 1).copied().flatten()?,
                corners: [c.x1, c.y1, c.x2, c.y2].map(f64::from),
                score: f64::from(scored.score),
            })
        });
        Ok(detections.collect())
    }
}

/// The average precision of one class, 0 to 1; `None` without objects.
#[derive(Debug, Clone, Serialize)]
pub struct ClassAccuracy {
    /// The name of the class.
    pub name: String,
    /// The number of its objects, difficult ones not counted.
    pub objects: usize,
    /// As in VOC 2007: from eleven points.
    pub voc07: Option<f64>,
    /// As in VOC 2010: the area under the curve.
    pub voc10: Option<f64>,
    /// As in COCO: at an IoU of 0.50.
    pub coco50: Option<f64>,
    /// As in COCO: the mean over ten IoU thresholds from 0.50 to 0.95.
    pub coco: Option<f64>,
}

/// The accuracy over all classes. Average precisions are means over the classes with objects, 0 to 1.
#[derive(Debug, Clone, Serialize)]
pub struct Accuracy {
    /// The number of pictures.
    pub pictures: usize,
    /// The mean of [`ClassAccuracy::voc07`].
    pub voc07: Option<f64>,
    /// The mean of [`ClassAccuracy::voc10`].
    pub voc10: Option<f64>,
    /// The mean of [`ClassAccuracy::coco50`].
    pub coco50: Option<f64>,
    /// The mean of [`ClassAccuracy::coco`].
    pub coco: Option<f64>,
    /// The threshold of `at_threshold`, 0 to 1.
    pub threshold: f64,
    /// Precision, recall and the share of pictures with detections at the threshold.
    pub at_threshold: voc::AtThreshold,
    /// The accuracy of each class.
    pub classes: Vec<ClassAccuracy>,
    /// The precision-recall curve of each class, in the order of `classes`.
    #[serde(skip)]
    pub curves: Vec<voc::Curve>,
}

/// Runs the detector over the set, with a thread for each core. libtorch's own threads are not used: they divide every
/// layer, and wait for each other at the end of each layer.
///
/// # Errors
/// If a picture cannot be decoded, or libtorch fails.
pub fn detect(
    detector: &Detector,
    set: &Set,
    bar: Option<&ProgressBar>,
) -> anyhow::Result<Vec<Detection>> {
    let next = AtomicUsize::new(0);
    let work = |detector: Detector| {
        tch::set_num_threads(1);
        let mut detections = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = set.pictures.get(index) else {
                return Ok(detections);
            };
            detections.extend(detector.detect(index, &data::pixels(path)?)?);
            if let Some(bar) = bar {
                bar.inc(1);
            }
        }
    };
    let parts: Vec<anyhow::Result<Vec<Detection>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores())
            .map(|_| detector.shallow_clone())
            .map(|clone| scope.spawn(|| work(clone)))
            .collect();
        workers
            .into_iter()
            .map(ScopedJoinHandle::join)
            .map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut detections = parts
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?
        .concat();
    // Equal scores keep the order of the pictures, no matter which thread was faster.
    detections.sort_by_key(|detection| detection.picture);
    Ok(detections)
}

/// The number of cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The classes and the threshold of weights.
#[derive(Debug)]
pub struct Metadata {
    /// The class names, without the background.
    pub classes: Vec<String>,
    /// The threshold of the file, else of the family, 0 to 1.
    pub threshold: f64,
    /// What was selected, ignored or skipped in the file.
    pub notes: Vec<String>,
}

/// Reads the classes and the threshold of weights.
///
/// # Errors
/// If the weights cannot be read, or their class names are not known.
pub fn metadata(weights: &Path) -> anyhow::Result<Metadata> {
    metadata_of(&StateDict::open(weights)?)
}

fn metadata_of(state: &StateDict) -> anyhow::Result<Metadata> {
    let unknown = || format!("{}: the class names are unknown", state.path().display());
    let description = describe(state).with_context(unknown)?;
    Ok(Metadata {
        classes: description.classes.with_context(unknown)?,
        threshold: f64::from(description.threshold),
        notes: notes(state),
    })
}

/// For each class of the network without the background, the index of the set's class with the same name.
///
/// # Errors
/// If the class names of the network are unknown, or the set has none of them.
fn class_map(state: &StateDict, classes: &[String]) -> anyhow::Result<Vec<Option<usize>>> {
    let own = metadata_of(state)?.classes;
    let in_set = |name: &String| classes.iter().position(|class| is_same_class(class, name));
    let class_map: Vec<Option<usize>> = own.iter().map(in_set).collect();
    ensure!(
        class_map.iter().any(Option::is_some),
        "the weights {} detect {}, but the data set has labels only of {}",
        state.path().display(),
        own.join(", "),
        classes.join(", ")
    );
    Ok(class_map)
}

/// COCO's mean average precision over the classes, at an IoU of 0.50 and from 0.50 to 0.95, 0 to 1. Zeros without
/// objects.
#[must_use]
pub fn mean_average_precisions(set: &Set, detections: &[Detection]) -> [f64; 2] {
    let of_classes: Vec<_> = (0..set.classes.len())
        .map(|class| coco::average_precisions(&set.ground_truths, detections, class))
        .collect();
    let mean_of = |value: fn([f64; 10]) -> f64| {
        mean(of_classes.iter().map(|of_class| of_class.map(value))).unwrap_or(0.0)
    };
    [
        mean_of(|values| values[0]),
        mean_of(|values| values.iter().sum::<f64>() / 10.0),
    ]
}

/// Computes the accuracy of detections; precision and recall at `threshold`, 0 to 1.
#[must_use]
pub fn summarise(set: &Set, detections: &[Detection], threshold: f64) -> Accuracy {
    let mut classes = Vec::new();
    let mut curves = Vec::new();
    for (class, name) in set.classes.iter().enumerate() {
        let curve = voc::curve(&set.ground_truths, detections, class);
        let coco = coco::average_precisions(&set.ground_truths, detections, class);
        classes.push(ClassAccuracy {
            name: name.clone(),
            objects: curve.objects,
            voc07: curve.eleven_points(),
            voc10: curve.area(),
            coco50: coco.map(|values| values[0]),
            coco: coco.map(|values| values.iter().sum::<f64>() / 10.0),
        });
        curves.push(curve);
    }
    let mean_of = |value: fn(&ClassAccuracy) -> Option<f64>| mean(classes.iter().map(value));
    let size = (set.classes.len(), set.pictures.len());
    Accuracy {
        pictures: set.pictures.len(),
        voc07: mean_of(|class| class.voc07),
        voc10: mean_of(|class| class.voc10),
        coco50: mean_of(|class| class.coco50),
        coco: mean_of(|class| class.coco),
        threshold,
        at_threshold: voc::at_threshold(&set.ground_truths, detections, size, threshold),
        classes,
        curves,
    }
}
