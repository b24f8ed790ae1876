//! Turns pictures into a network's inputs, and the network's outputs into detections.

use std::sync::Arc;

use image::RgbImage;

use super::boxes::{self, Corners, Criteria, RawOutput};
use super::family::{Family, Recognised};
use super::labels::{self, Labels, Matched};
use super::network::{self, Network};
use super::preprocess::Input;
use super::priors::Prior;
use super::quantise::{self, Scales};
use state_dict::StateDict;
use state_dict::quote;

/// Everything of a detector except its network. Threads share it; each model thread has its own
/// [`Inference`](super::inference::Inference).
#[derive(Debug)]
pub struct Model {
    name: String,
    family: &'static Family,
    priors: Vec<Prior>,
    labels: Vec<String>,
    classes_by_label: Vec<Vec<usize>>,
    threshold: f32,
    labels_in_file: usize,
    matched: Matched,
    notes: Vec<String>,
}

/// Why a detector cannot be made from weights and labels.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The weights belong to no known family.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The labels do not fit the weights.
    #[error(transparent)]
    Labels(#[from] labels::Error),
    /// The metadata of the weights file is wrong.
    #[error("{path}: its metadata `{key}` {problem}")]
    Metadata {
        /// The weights file.
        path: String,
        /// The metadata's key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
}

/// No class of the model has this label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model has no class {}{}", quote(label), did_you_mean(similar))]
pub struct UnknownClass {
    /// The label that was asked for.
    pub label: String,
    /// Labels of the model that are spelt like it, the most similar first.
    pub similar: Vec<String>,
}

impl UnknownClass {
    fn new<'a>(label: &str, known: impl Iterator<Item = &'a str>) -> Self {
        /// Minimum similarity of a misspelling: two of three letters are right.
        const LEAST: f64 = 0.6;
        const MOST: usize = 3;
        /// More characters than any label has. The time of a comparison grows with both lengths.
        const LONGEST: usize = 64;
        let asked: String = label.to_lowercase().chars().take(LONGEST).collect();
        let mut similar: Vec<(f64, &str)> = Vec::new();
        for name in known {
            let lower = name.to_lowercase();
            // "phone" is part of "Mobile phone", but not spelt like it.
            let is_part = lower.split_whitespace().any(|word| word == asked);
            let similarity = if is_part {
                1.0
            } else {
                strsim::normalized_damerau_levenshtein(&asked, &lower)
            };
            if similarity >= LEAST {
                similar.push((similarity, name));
            }
        }
        similar.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        similar.truncate(MOST);
        Self {
            label: label.to_owned(),
            similar: similar
                .into_iter()
                .map(|(_, name)| name.to_owned())
                .collect(),
        }
    }
}

fn did_you_mean(similar: &[String]) -> String {
    if similar.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = similar.iter().map(|label| quote(label)).collect();
    format!("; similar ones are {}", quoted.join(", "))
}

/// The criteria for requests that do not state them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// Minimum score, 0 to 1; `None` for the weights' own.
    pub threshold: Option<f32>,
    /// NMS drops the worse of two boxes of one class whose `IoU` exceeds this, 0 to 1.
    pub iou: f32,
    /// Maximum number of detections in a picture.
    pub top_k: usize,
}

/// Minimum width and height of a box, in pixels. Responses are rounded to this.
const LEAST_SIDE: f32 = 0.01;

/// A detected object.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// The label of its class.
    pub label: String,
    /// Class index, 1 or more.
    pub class: usize,
    /// 0 to 1.
    pub score: f32,
    /// In pixels of the upright picture, inside it and not empty.
    pub corners: Corners,
}

impl Model {
    /// Makes a model and its network from a state dict and labels.
    ///
    /// # Errors
    /// If the tensors belong to no known family, the metadata is wrong, or the labels do not fit the weights.
    pub fn new(state: &StateDict, labels: &Labels) -> Result<(Self, Network), Error> {
        let network = Network::new(state)?;
        let family = network.family();
        let classes = network.classes() - 1;
        let own = own_class_names(state, classes)?;
        let labels_in_file = labels.names().len();
        let (labels, matched) = match own {
            // The default list must not replace the weights' own names by position.
            Some(own) if labels.is_coco() => labels.name(&own),
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
            classes_by_label: classes_by_label(&labels),
            labels,
            threshold: own_threshold(state)?.unwrap_or(family.threshold),
            labels_in_file,
            matched,
            notes: notes(state),
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

    /// The labels of its classes in order, without the background.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The labels that detections can have, in the order of their first classes: each once, without gaps.
    pub fn distinct_labels(&self) -> impl Iterator<Item = &str> {
        distinct(&self.labels, &self.classes_by_label)
    }

    /// The default criteria. The threshold is that of the defaults, else of the weights file, else of the family.
    #[must_use]
    pub fn criteria(&self, defaults: Defaults) -> Criteria {
        Criteria {
            threshold: defaults.threshold.unwrap_or(self.threshold),
            iou: defaults.iou,
            top_k: defaults.top_k,
            classes_by_label: None,
        }
    }

    /// The classes of each of these labels, for [`Criteria::classes_by_label`].
    ///
    /// # Errors
    /// If the model has no class with one of these labels.
    pub fn classes_named<'a>(
        &self,
        labels: impl IntoIterator<Item = &'a str>,
    ) -> Result<Arc<[Vec<usize>]>, UnknownClass> {
        let mut selected: Vec<Vec<usize>> = Vec::new();
        for label in labels {
            let has_label = |classes: &&Vec<usize>| self.labels[classes[0] - 1] == label;
            let classes = self.classes_by_label.iter().find(has_label);
            let classes =
                classes.ok_or_else(|| UnknownClass::new(label, self.distinct_labels()))?;
            if !selected.contains(classes) {
                selected.push(classes.clone());
            }
        }
        Ok(selected.into())
    }

    /// How many labels the labels file has.
    #[must_use]
    pub fn labels_in_file(&self) -> usize {
        self.labels_in_file
    }

    /// How the labels were matched with the classes.
    #[must_use]
    pub fn matched(&self) -> &Matched {
        &self.matched
    }

    /// What [`notes`] says about the weights.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The network's input for a picture, which must not be empty.
    #[must_use]
    pub fn input(&self, picture: &RgbImage) -> Input {
        self.family.preprocessing.input(picture)
    }

    /// The detections in a picture of `width` x `height` pixels, best first. Boxes are clipped to the picture.
    /// Boxes outside it, or thinner than 0.01 pixels after clipping, are left out.
    #[must_use]
    pub fn detections(
        &self,
        output: &RawOutput,
        criteria: &Criteria,
        (width, height): (u32, u32),
    ) -> Vec<Detection> {
        let (width, height) = (width as f32, height as f32);
        boxes::detect(
            output,
            &self.priors,
            self.family,
            &self.classes_by_label,
            criteria,
        )
        .into_iter()
        .filter_map(|found| {
            let corners = found.corners.scale(width, height).clip(width, height);
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

/// The classes, counted from 1, of each label, in the order of the labels' first classes. Gaps are left out: they are
/// not classes, and nothing is known about their scores.
fn classes_by_label(labels: &[String]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (class, label) in (1..).zip(labels).filter(|(_, label)| *label != labels::GAP) {
        let same = |group: &&mut Vec<usize>| labels[group[0] - 1] == *label;
        match groups.iter_mut().find(same) {
            Some(group) => group.push(class),
            None => groups.push(vec![class]),
        }
    }
    groups
}

fn distinct<'a>(
    labels: &'a [String],
    classes_by_label: &'a [Vec<usize>],
) -> impl Iterator<Item = &'a str> {
    let groups = classes_by_label.iter();
    groups.map(|classes| labels[classes[0] - 1].as_str())
}

/// The threshold that a safetensors file states.
fn own_threshold(state: &StateDict) -> Result<Option<f32>, Error> {
    let Some(text) = state.metadata().get("threshold") else {
        return Ok(None);
    };
    match text.parse() {
        Ok(threshold) if Criteria::THRESHOLD.contains(&threshold) => Ok(Some(threshold)),
        _ => Err(wrong(
            state,
            "threshold",
            format!("is {}, which is not a number from 0 to 1", quote(text)),
        )),
    }
}

/// The class names that a safetensors file states: a JSON array, without the background.
fn own_class_names(state: &StateDict, classes: usize) -> Result<Option<Vec<String>>, Error> {
    let Some(text) = state.metadata().get("classes") else {
        return Ok(None);
    };
    let wrong = |problem| wrong(state, "classes", problem);
    let names: Vec<String> = serde_json::from_str(text)
        .map_err(|error| wrong(format!("is not a JSON array of names: {error}")))?;
    if let Some(name) = names.iter().find(|name| !labels::is_name(name)) {
        return Err(wrong(format!(
            "contains the name {}; a name must not be empty or contain control characters",
            quote(name)
        )));
    }
    if names.len() != classes {
        let count = names.len();
        return Err(wrong(format!(
            "names {count} classes, but the tensors have {classes}"
        )));
    }
    Ok(Some(names))
}

fn wrong(state: &StateDict, key: &'static str, problem: String) -> Error {
    Error::Metadata {
        path: state.path().display().to_string(),
        key,
        problem,
    }
}

/// The int8 scales that a file states for its network; `None` if it is not calibrated.
///
/// # Errors
/// If its scales do not fit the network.
pub fn scales(state: &StateDict, network: &Network) -> Result<Option<Scales>, Error> {
    Scales::from_metadata(state.metadata(), network)
        .map_err(|problem| wrong(state, quantise::METADATA, problem))
}

/// How a file was read, for people: which of several state dicts was selected, which tensors are ignored, and which
/// objects were skipped. Each note is one line; most files have none.
#[must_use]
pub fn notes(state: &StateDict) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(recognised) = Family::recognise(state) {
        if !recognised.others.is_empty() {
            notes.push(selection(state, &recognised));
        }
        let ignored = recognised.ignored(state);
        if !ignored.is_empty() {
            notes.push(format!(
                "ignored, because the network has no use for them: {}",
                shown(&ignored)
            ));
        }
    }
    if !state.skipped().is_empty() {
        notes.push(state.skipped().to_string());
    }
    notes
}

/// Which of several state dicts was selected, and how to select another.
fn selection(state: &StateDict, recognised: &Recognised) -> String {
    const ROOT: &str = "(root)";
    let entry = |prefix: &String| match prefix.strip_suffix('.') {
        Some(entry) => entry.to_owned(),
        None => ROOT.to_owned(),
    };
    let selected = entry(&recognised.prefix);
    let others: Vec<String> = recognised.others.iter().map(entry).collect();
    let file = state.path().file_name().unwrap_or_default();
    let all = others.iter().chain([&selected]);
    let example = all.filter(|entry| *entry != ROOT).take(1);
    let example = example.map(|entry| format!("{}#{entry}", file.to_string_lossy()));
    format!(
        "of {} state dicts in the file, {} is used; the others are {}. To select one: {}",
        1 + others.len(),
        quote(&selected),
        shown(&others),
        quote(&example.collect::<String>())
    )
}

/// The first few names, quoted.
fn shown(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let quoted: Vec<String> = names.iter().take(SHOWN).map(|name| quote(name)).collect();
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", quoted.join(", ")),
        _ => quoted.join(", "),
    }
}

/// What is known about a state dict without building its network.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Its family.
    pub family: &'static Family,
    /// The names of its classes in order, without the background, if known.
    pub classes: Option<Vec<String>>,
    /// The default minimum score: the file's, else the family's.
    pub threshold: f32,
}

/// Describes a state dict; `None` if it belongs to no known family.
#[must_use]
pub fn describe(state: &StateDict) -> Option<Description> {
    let recognised = Family::recognise(state)?;
    let outputs = recognised.outputs(state)?;
    // `Model::new` refuses wrong metadata; this function still describes the rest.
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
    fn classes_with_one_label_are_grouped_and_gaps_are_left_out() {
        let labels = ["cup", labels::GAP, "cat", "cup", labels::GAP].map(str::to_owned);
        let expected = [vec![1, 4], vec![3]];
        assert_eq!(classes_by_label(&labels), expected);
    }

    #[test]
    fn an_unknown_class_names_the_labels_that_are_spelt_like_it() {
        let known = ["cat", "car", "dog", "Mobile phone", labels::GAP, "cat"].map(str::to_owned);
        let groups = classes_by_label(&known);
        let unknown = |label| UnknownClass::new(label, distinct(&known, &groups));
        let similar = |label| unknown(label).similar;
        assert_eq!(similar("Cat"), ["cat", "car"]);
        assert_eq!(similar("phone"), ["Mobile phone"]);
        assert_eq!(similar("zebra"), [""; 0]);
        assert_eq!(similar("n/a"), [""; 0]);
        assert_eq!(
            unknown("dgo").to_string(),
            "the model has no class `dgo`; similar ones are `dog`"
        );
    }
}
