//! What a network's numbers mean: how a picture becomes its input, and its outputs detections.

use image::RgbImage;

use super::boxes::{self, Corners, Criteria, RawOutput};
use super::family::Family;
use super::labels::{self, Labels, Matched};
use super::network::{self, Network};
use super::preprocess::Input;
use super::priors::Prior;
use super::quantise::Scales;
use state_dict::StateDict;
use state_dict::quote;

/// Everything of a detector but its network, which one thread owns: shared by all who prepare its
/// inputs and read its outputs.
#[derive(Debug)]
pub struct Model {
    name: String,
    family: &'static Family,
    priors: Vec<Prior>,
    labels: Vec<String>,
    /// The classes of each label.
    kinds: Vec<Vec<usize>>,
    threshold: f32,
    given: usize,
    matched: Matched,
}

/// Why no detector can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The weights are not those of a family.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The labels do not fit the weights.
    #[error(transparent)]
    Labels(#[from] labels::Error),
    /// What the weights' file says of itself cannot be right.
    #[error("{path}: its metadata {problem}")]
    Metadata {
        /// The weights file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What a request that does not say otherwise gets; the threshold may be left to the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// The least score that is shown, 0 to 1; `None` for what suits the weights.
    pub threshold: Option<f32>,
    /// Of two boxes of one class whose `IoU` exceeds this, 0 to 1, only the better is kept.
    pub iou: f32,
    /// The most detections of a picture.
    pub top_k: usize,
}

/// The least width and height of a box, in pixels. Responses round to this.
const LEAST_SIDE: f32 = 0.01;

/// One object found.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// The label of its class.
    pub label: String,
    /// Class index, 1 or more.
    pub class: usize,
    /// Probability, 0 to 1.
    pub score: f32,
    /// Where, in pixels of the upright picture, inside it and not empty.
    pub corners: Corners,
}

impl Model {
    /// Reads a network and what belongs to it from a state dict.
    ///
    /// # Errors
    /// Where the tensors are not those of a family, its metadata cannot be right, or the labels do not
    /// fit it.
    pub fn new(state: &StateDict, labels: &Labels) -> Result<(Self, Network), Error> {
        let network = Network::new(state)?;
        let family = network.family();
        let classes = network.classes() - 1;
        let own = own_class_names(state, classes)?;
        let given = labels.names().len();
        let (labels, matched) = match own {
            // Weights that know their own classes need no list, unless somebody gave one.
            Some(own) if labels.is_the_lab_s() => labels.name(&own),
            own => {
                let known = own.or_else(|| (family.class_names)(network.classes()));
                labels.assign(classes, known.as_deref())?
            }
        };
        let name = state.path().file_stem().unwrap_or_default();
        let model = Self {
            name: name.to_string_lossy().into_owned(),
            family,
            priors: family.priors(),
            kinds: kinds(&labels),
            labels,
            threshold: own_threshold(state)?.unwrap_or(family.threshold),
            given,
            matched,
        };
        Ok((model, network))
    }

    /// The name of the weights file without its extension.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The family of its weights.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// The labels of its classes in order, the background not counted.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The defaults with a threshold: where they have none, what the file says, else the family's.
    #[must_use]
    pub fn criteria(&self, defaults: Defaults) -> Criteria {
        Criteria {
            threshold: defaults.threshold.unwrap_or(self.threshold),
            iou: defaults.iou,
            top_k: defaults.top_k,
        }
    }

    /// How many labels the file has.
    #[must_use]
    pub fn labels_given(&self) -> usize {
        self.given
    }

    /// How the labels were matched with its classes.
    #[must_use]
    pub fn matched(&self) -> &Matched {
        &self.matched
    }

    /// The network's input for a picture, which must not be empty.
    #[must_use]
    pub fn input(&self, picture: &RgbImage) -> Input {
        self.family.preprocessing.input(picture)
    }

    /// The detections in a picture of `width` x `height` pixels, best first. Boxes are clipped to
    /// the picture; one that lies outside it altogether is left out.
    #[must_use]
    pub fn detections(
        &self,
        output: &RawOutput,
        criteria: &Criteria,
        (width, height): (u32, u32),
    ) -> Vec<Detection> {
        let (width, height) = (width as f32, height as f32);
        boxes::detect(output, &self.priors, self.family, &self.kinds, criteria)
            .into_iter()
            .filter_map(|found| {
                let corners = found.corners.scale(width, height).clip(width, height);
                // What is left at the picture's edge may be too thin to be shown.
                let sides = [corners.x2 - corners.x1, corners.y2 - corners.y1];
                let shows = sides.iter().all(|side| *side >= LEAST_SIDE);
                shows.then(|| Detection {
                    label: self.labels[found.class - 1].clone(),
                    class: found.class,
                    score: found.score,
                    corners,
                })
            })
            .collect()
    }
}

/// The classes, from 1, of each label, in the order of the first. Gaps have one name, and are no kind.
fn kinds(labels: &[String]) -> Vec<Vec<usize>> {
    let mut kinds: Vec<Vec<usize>> = Vec::new();
    for (class, label) in (1..).zip(labels) {
        let same = |kind: &&mut Vec<usize>| labels[kind[0] - 1] == *label && label != labels::GAP;
        match kinds.iter_mut().find(same) {
            Some(kind) => kind.push(class),
            None => kinds.push(vec![class]),
        }
    }
    kinds
}

/// The threshold that a safetensors file carries.
fn own_threshold(state: &StateDict) -> Result<Option<f32>, Error> {
    let Some(text) = state.metadata().get("threshold") else {
        return Ok(None);
    };
    match text.parse() {
        Ok(threshold) if (0.0..=1.0).contains(&threshold) => Ok(Some(threshold)),
        _ => Err(Error::Metadata {
            path: state.path().display().to_string(),
            problem: format!("`threshold` is {}, no number from 0 to 1", quote(text)),
        }),
    }
}

/// The class names that a safetensors file carries: a JSON array, without the background.
fn own_class_names(state: &StateDict, classes: usize) -> Result<Option<Vec<String>>, Error> {
    let Some(text) = state.metadata().get("classes") else {
        return Ok(None);
    };
    let wrong = |problem: String| Error::Metadata {
        path: state.path().display().to_string(),
        problem,
    };
    let names: Vec<String> = serde_json::from_str(text)
        .map_err(|error| wrong(format!("`classes` is no JSON array of names: {error}")))?;
    if let Some(name) = names.iter().find(|name| !labels::is_name(name)) {
        return Err(wrong(format!(
            "`classes` has {}, which is no name",
            quote(name)
        )));
    }
    if names.len() != classes {
        let count = names.len();
        return Err(wrong(format!(
            "`classes` names {count} classes, but the tensors are of {classes}"
        )));
    }
    Ok(Some(names))
}

/// The scales of a calibrated file; `None` where it is not.
///
/// # Errors
/// Where its metadata is not what calibration writes.
pub fn scales(state: &StateDict) -> Result<Option<Scales>, Error> {
    let scales = Scales::from_metadata(state.metadata()).transpose();
    scales.map_err(|problem| Error::Metadata {
        path: state.path().display().to_string(),
        problem,
    })
}

/// What can be told of a state dict without building its network.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Its family.
    pub family: &'static Family,
    /// The names of its classes in order, without the background, where they are known.
    pub classes: Option<Vec<String>>,
    /// The threshold for its scores: what the file says, else the family's.
    pub threshold: f32,
}

/// Tells the family and the classes of a state dict; `None` where it is of no family.
#[must_use]
pub fn describe(state: &StateDict) -> Option<Description> {
    let recognised = Family::recognise(state)?;
    let outputs = recognised.outputs(state)?;
    // A wrong list is refused where the model is used; here the rest is told all the same.
    let own = own_class_names(state, outputs - 1).ok().flatten();
    Some(Description {
        family: recognised.family,
        classes: own.or_else(|| (recognised.family.class_names)(outputs)),
        threshold: own_threshold(state)
            .ok()
            .flatten()
            .unwrap_or(recognised.family.threshold),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_one_label_are_one_kind_but_for_the_gaps_of_coco_s_ids() {
        let labels = ["cup", labels::GAP, "cat", "cup", labels::GAP].map(str::to_owned);
        assert_eq!(kinds(&labels), [vec![1, 4], vec![2], vec![3], vec![5]]);
    }
}
