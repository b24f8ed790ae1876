//! How accurate a detector is on a set of pictures whose objects are known.
//!
//! ```text
//! report   tables and plots
//! sheet    pictures with what was found, missed and invented
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
use ssd_detector::describe;
use ssd_detector::family::Family;
use ssd_detector::inference::{self, Inference};
use ssd_detector::labels::VOC_TO_COCO;
use ssd_detector::network::Network;
use ssd_detector::precision::{Choice, Precision, Requested, RequestedDevice};
use ssd_detector::priors::Prior;
use state_dict::StateDict;

use crate::data::{self, Dataset};
use crate::measure::{Found, Truth, coco, mean, voc};

/// Detections are asked for down to this score, as in the published evaluations.
const FLOOR: f32 = 0.01;
/// And at most this many a picture.
const MOST: usize = 200;
/// Of two boxes of one class that overlap more, one is kept.
const NMS: f32 = 0.45;

/// Pictures with their objects.
#[derive(Debug)]
pub struct Set {
    /// Class names, in the order of [`Truth::class`]. None where there is nothing to go by: then what the
    /// weights know counts.
    pub classes: Vec<String>,
    /// The pictures' files.
    pub pictures: Vec<PathBuf>,
    /// The objects in them, in pixels of the upright picture.
    pub truths: Vec<Truth>,
}

impl Set {
    /// Some of the pictures of a data set, by their indexes.
    #[must_use]
    pub fn of(dataset: &Dataset, indexes: &[usize]) -> Self {
        let mut set = Self {
            classes: dataset.classes.clone(),
            pictures: Vec::new(),
            truths: Vec::new(),
        };
        for &index in indexes {
            let labelled = &dataset.pictures[index];
            let picture = set.pictures.len();
            set.pictures.push(labelled.path.clone());
            set.truths.extend(labelled.objects.iter().map(|object| {
                let c = object
                    .corners
                    .scale(labelled.width as f32, labelled.height as f32);
                Truth {
                    picture,
                    class: object.class,
                    corners: [c.x1, c.y1, c.x2, c.y2].map(f64::from),
                    ignored: object.difficult,
                }
            }));
        }
        set
    }

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

/// Every picture of a folder, none of which has an object of any class: every detection is wrong.
///
/// # Errors
/// Where the folder cannot be read.
pub fn background(folder: &Path) -> anyhow::Result<Set> {
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
        pictures: files,
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
    /// A network in single precision on a device, whose classes are the set's, in order.
    ///
    /// # Errors
    /// Where libtorch fails, or the device is not there.
    pub fn of(network: Network, device: RequestedDevice) -> anyhow::Result<Self> {
        let family = network.family();
        let meaning = (0..network.classes() - 1).map(Some).collect();
        let requested = Requested {
            precision: Some(Precision::F32),
            device,
        };
        let (network, _) = inference::prepare(network, None, requested)?;
        Ok(Self::new(network, family, meaning))
    }

    /// The network of some weights of any family, for a set of these classes; and the arithmetic in
    /// which it runs.
    ///
    /// # Errors
    /// Where the weights cannot be used or run, or have none of the classes.
    pub fn open(
        weights: &Path,
        classes: &[String],
        requested: Requested,
    ) -> anyhow::Result<(Self, Choice)> {
        let state = StateDict::open(weights)?;
        let network = Network::new(&state)?;
        let family = network.family();
        let meaning = meaning(&state, classes)?;
        let scales = ssd_detector::scales(&state)?;
        let (network, choice) = inference::prepare(network, scales, requested)?;
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

    /// The same detector: the weights are shared, not copied.
    fn shallow_clone(&self) -> Self {
        Self {
            network: self.network.shallow_clone(),
            family: self.family,
            priors: self.priors.clone(),
            meaning: self.meaning.clone(),
        }
    }

    /// What is found in a picture, in its pixels.
    fn find(&self, index: usize, picture: &RgbImage) -> anyhow::Result<Vec<Found>> {
        let input = self.family.preprocessing.input(picture);
        let output = self.network.forward_one(&input)?;
        let (w, h) = (picture.width() as f32, picture.height() as f32);
        let criteria = Criteria {
            threshold: FLOOR,
            iou: NMS,
            top_k: MOST,
        };
        let kinds = boxes::each_class(output.classes);
        let found = boxes::detect(&output, &self.priors, self.family, &kinds, &criteria);
        let found = found.into_iter().filter_map(|scored| {
            let corners = scored.corners.scale(w, h).clip(w, h);
            Some(Found {
                picture: index,
                class: self.meaning.get(scored.class - 1).copied().flatten()?,
                corners: [corners.x1, corners.y1, corners.x2, corners.y2].map(f64::from),
                score: f64::from(scored.score),
            })
        });
        Ok(found.collect())
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

/// Runs the detector over the set, with a thread for each core. libtorch's own threads are not used: they share out
/// every layer and wait, spinning, at the end of each.
///
/// # Errors
/// Where a picture cannot be read or libtorch fails.
pub fn find(
    detector: &Detector,
    set: &Set,
    bar: Option<&ProgressBar>,
) -> anyhow::Result<Vec<Found>> {
    let next = AtomicUsize::new(0);
    let work = |detector: Detector| {
        tch::set_num_threads(1);
        let mut found = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = set.pictures.get(index) else {
                return Ok(found);
            };
            found.extend(detector.find(index, &data::pixels(path)?)?);
            if let Some(bar) = bar {
                bar.inc(1);
            }
        }
    };
    let parts: Vec<anyhow::Result<Vec<Found>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores())
            .map(|_| detector.shallow_clone())
            .map(|detector| scope.spawn(|| work(detector)))
            .collect();
        let joined = workers.into_iter().map(ScopedJoinHandle::join);
        joined
            .map(|found| found.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut found = parts
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?
        .concat();
    // Equal scores keep the order of the pictures, whichever thread was faster.
    found.sort_by_key(|found| found.picture);
    Ok(found)
}

/// How many cores there are for this program.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// What weights say of themselves.
#[derive(Debug)]
pub struct Own {
    /// The names of their classes, without the background.
    pub classes: Vec<String>,
    /// The threshold for their scores.
    pub threshold: f64,
}

/// What some weights say of themselves.
///
/// # Errors
/// Where the weights cannot be read, or the names of their classes are not known.
pub fn of_weights(weights: &Path) -> anyhow::Result<Own> {
    own(&StateDict::open(weights)?)
}

fn own(state: &StateDict) -> anyhow::Result<Own> {
    let unknown = || {
        format!(
            "{}: the names of its classes are not known",
            state.path().display()
        )
    };
    let description = describe(state).with_context(unknown)?;
    Ok(Own {
        classes: description.classes.with_context(unknown)?,
        threshold: f64::from(description.threshold),
    })
}

/// For each class of the network, without the background, the set's class that means the same.
///
/// # Errors
/// Where the names of the network's classes are not known, or none is one of the set's.
fn meaning(state: &StateDict, classes: &[String]) -> anyhow::Result<Vec<Option<usize>>> {
    let path = state.path().display();
    let own = own(state)?.classes;
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

/// The mean over the classes of COCO's average precision, at an overlap of 0.50 and from 0.50 to 0.95. Zeros where
/// there is no object.
#[must_use]
pub fn mean_average_precisions(set: &Set, found: &[Found]) -> [f64; 2] {
    let classes = 0..set.classes.len();
    let overlaps = classes.map(|class| coco::average_precisions(&set.truths, found, class));
    let overlaps: Vec<_> = overlaps.collect();
    let over = |part: fn(&[f64; 10]) -> f64| mean(overlaps.iter().map(|of| of.as_ref().map(part)));
    [
        over(|aps| aps[0]).unwrap_or(0.0),
        over(|aps| aps.iter().sum::<f64>() / 10.0).unwrap_or(0.0),
    ]
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
