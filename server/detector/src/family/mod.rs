//! The families of weights: the operations of their networks, and the meaning of the inputs and outputs. Each
//! family is declared in a file of this folder and listed in [`ALL`]; no other code names a family.

mod mobilenet_v2;
mod mobilenet_v3;
mod vgg16;

use std::collections::HashSet;

use super::architecture::{Architecture, Channels, Operation};
use super::preprocess::Preprocessing;
use super::priors::{self, Clamp, Prior, PriorMap};
pub use mobilenet_v2::MOBILENET_V2;
pub use mobilenet_v3::SSDLITE;
use state_dict::{StateDict, Tensor};
pub use vgg16::{COCO_ORIGINAL, TORCHVISION, VOC};

/// Every family. If two families match a file equally well, the first one is used.
pub static ALL: [&Family; 5] = [&VOC, &COCO_ORIGINAL, &TORCHVISION, &MOBILENET_V2, &SSDLITE];

/// Maximum number of prior boxes of a network, and therefore of detections in a picture.
#[must_use]
pub fn max_priors() -> usize {
    let counts = ALL.into_iter().map(|family| family.priors().len());
    counts.max().unwrap_or(0)
}

/// A family of weights.
#[derive(Debug)]
pub struct Family {
    /// A stable name. Safetensors files contain it as the metadata `family`.
    pub name: &'static str,
    /// The origin of the weights, for people.
    pub about: &'static str,
    /// The network, with the family's tensor names.
    pub(super) architecture: fn() -> Architecture,
    /// Logits per box in the published weights, the background included.
    pub outputs: usize,
    /// The names of the classes in order, without the background, for a number of logits per box; `None` if
    /// they are not known.
    pub class_names: fn(usize) -> Option<Vec<String>>,
    /// How a picture becomes the network's input.
    pub preprocessing: Preprocessing,
    /// The prior boxes of each source feature map, the finest first.
    pub prior_maps: fn() -> Vec<PriorMap>,
    /// How prior boxes are clamped to the picture.
    pub clamp: Clamp,
    /// How offsets become bounding boxes.
    pub coder: BoxCoder,
    /// How logits become scores.
    pub scores: Scores,
    /// Default minimum score of a detection, 0 to 1.
    pub threshold: f32,
    /// Maximum number of boxes of a class that enter NMS, the best first.
    pub candidates: usize,
    /// Whether boxes are clipped to the picture before NMS.
    pub clips_before_nms: bool,
}

/// Names are stable and distinct.
impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// How a network's offsets describe a box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxCoder {
    /// The indexes of the four offsets: the centre's x, the centre's y, the width and the height.
    pub order: [usize; 4],
    /// Maximum logarithm of the ratio of a box's size to its prior's; `None` for no maximum.
    pub log_size_bound: Option<f32>,
}

impl BoxCoder {
    /// x, y, width, height, as in the paper.
    pub const X_FIRST: [usize; 4] = [0, 1, 2, 3];
    /// y, x, height, width, as in TensorFlow.
    pub const Y_FIRST: [usize; 4] = [1, 0, 3, 2];
}

/// How logits become scores from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// Over all classes and the background; the scores of a box sum to 1.
    Softmax,
    /// Each class separately.
    Sigmoid,
}

/// A family, and the prefix of its tensor names in the file: empty, or a wrapper's name and a dot (`module.` from
/// `DataParallel`, `model.` from a checkpoint).
#[derive(Debug, Clone, PartialEq)]
pub struct Recognised {
    /// The family.
    pub family: &'static Family,
    /// The prefix of every tensor name.
    pub prefix: String,
    /// The prefixes of the other state dicts of known networks in the file, in its order.
    pub others: Vec<String>,
}

/// The names under which a checkpoint usually has the state dict of its model. Averaged weights and the state of the
/// training have other names.
const USUAL_ENTRIES: [&str; 3] = ["model", "state_dict", "model_state_dict"];

/// Maximum number of state dicts that are compared, since a file can have thousands of tensors with one name.
const MAX_STATE_DICTS: usize = 64;

/// Tensors that count something and have no part in the forward pass: of batch normalisation, of averaged weights, and
/// of the profiler `thop`. The last part of their names.
const COUNTERS: [&str; 4] = [
    "num_batches_tracked",
    "n_averaged",
    "total_ops",
    "total_params",
];

/// Maximum difference between a prior box of a family and one in a file, in parts of the picture.
const PRIOR_TOLERANCE: f32 = 1e-4;

impl Family {
    /// Recognises the family of a state dict by the names of its tensors. `None` if no family has these names.
    ///
    /// If the file has several state dicts of known networks, selects the most complete one; among equals, the one with
    /// a usual name (`model`, `state_dict`, `model_state_dict`); among those, the first. If several families have
    /// its names, selects the one in the metadata `family`, else the one whose published weights have the same number
    /// of logits per box, else the one that knows the names of that number of classes.
    #[must_use]
    pub fn recognise(state: &StateDict) -> Option<Recognised> {
        let prefixes = prefixes(state);
        let names = ALL.map(Self::tensor_names);
        let rank = |prefix: &&String| {
            let is_there = |name: &&String| state.get(&format!("{prefix}{name}")).is_some();
            let per_mille =
                |names: &Vec<String>| names.iter().filter(is_there).count() * 1000 / names.len();
            let entry = prefix.split('.').next().unwrap_or_default();
            let completeness = names.iter().map(per_mille).max();
            (completeness, USUAL_ENTRIES.contains(&entry))
        };
        // Of equals, `max_by_key` selects the last.
        let prefix = prefixes.iter().rev().max_by_key(rank)?;
        let others = prefixes.iter().filter(|other| *other != prefix);
        Some(Recognised {
            family: Self::of(state, prefix)?,
            prefix: prefix.clone(),
            others: others.cloned().collect(),
        })
    }

    /// The family of the tensors with this prefix.
    fn of(state: &StateDict, prefix: &str) -> Option<&'static Self> {
        let has_first = |family: &&Self| {
            let first = family.first_tensor();
            first.is_some_and(|first| state.get(&format!("{prefix}{first}")).is_some())
        };
        let families: Vec<&Self> = ALL.into_iter().filter(has_first).collect();
        let stated = state.metadata().get("family");
        let outputs = |family: &Self| family.outputs_of(state, prefix);
        let find = |fits: &dyn Fn(&Self) -> bool| families.iter().find(|family| fits(family));
        find(&|family| stated.is_some_and(|name| name == family.name))
            .or_else(|| find(&|family| outputs(family) == Some(family.outputs)))
            .or_else(|| find(&|family| outputs(family).and_then(family.class_names).is_some()))
            .or(families.first())
            .copied()
    }

    /// Logits per box in the tensors with this prefix, the background included; `None` if they are fewer than two.
    fn outputs_of(&self, state: &StateDict, prefix: &str) -> Option<usize> {
        let heads = self.classification_heads();
        let (name, boxes) = heads.first()?;
        let weight = state.get(&format!("{prefix}{name}.weight"))?;
        let outputs = weight.shape().first()? / boxes;
        (outputs >= 2).then_some(outputs)
    }

    /// The name of the network's first tensor. The family is recognised by it.
    pub(super) fn first_tensor(&self) -> Option<String> {
        self.tensor_names().into_iter().next()
    }

    /// The names of the network's tensors, in its order.
    pub(super) fn tensor_names(&self) -> Vec<String> {
        let architecture = (self.architecture)();
        let nodes = architecture.nodes();
        nodes
            .flat_map(|(_, node)| node.operation.tensor_names())
            .collect()
    }

    /// The classification heads in order: the name of their tensors, without `.weight` and `.bias`, and the
    /// number of boxes per cell. Each box has a logit per class.
    #[must_use]
    pub fn classification_heads(&self) -> Vec<(String, usize)> {
        let architecture = (self.architecture)();
        let heads = architecture
            .nodes()
            .filter_map(|(_, node)| match &node.operation {
                Operation::Convolution(head) => match head.channels {
                    Channels::Logits(boxes) => Some((head.name.clone(), boxes)),
                    _ => None,
                },
                _ => None,
            });
        heads.collect()
    }

    /// The prior boxes in the order of the network's outputs.
    #[must_use]
    pub fn priors(&self) -> Vec<Prior> {
        priors::lay_out(&(self.prior_maps)(), self.clamp)
    }
}

/// The prefixes of the state dicts of known networks, in the file's order.
fn prefixes(state: &StateDict) -> Vec<String> {
    let firsts: Vec<String> = ALL.into_iter().filter_map(Family::first_tensor).collect();
    let mut prefixes = Vec::new();
    for tensor in state.tensors() {
        let prefix = |first: &String| tensor.name().strip_suffix(first.as_str());
        let is_prefix = |prefix: &&str| prefix.is_empty() || prefix.ends_with('.');
        let Some(prefix) = firsts.iter().filter_map(prefix).find(is_prefix) else {
            continue;
        };
        if prefixes.len() == MAX_STATE_DICTS {
            break;
        }
        if !prefixes.iter().any(|other| other == prefix) {
            prefixes.push(prefix.to_owned());
        }
    }
    prefixes
}

impl Recognised {
    /// Logits per box in the file, the background included; `None` if they are fewer than two.
    #[must_use]
    pub fn outputs(&self, state: &StateDict) -> Option<usize> {
        self.family.outputs_of(state, &self.prefix)
    }

    /// Whether a tensor may be ignored: it is a counter, or repeats the prior boxes.
    pub(super) fn is_redundant(&self, tensor: Tensor<'_>) -> bool {
        let last = tensor.name().rsplit('.').next();
        last.is_some_and(|last| COUNTERS.contains(&last)) || self.are_priors(tensor)
    }

    /// Whether a tensor has the values of the family's prior boxes: for each the centre's x and y, the width and the
    /// height. Other prior boxes belong to another network.
    fn are_priors(&self, tensor: Tensor<'_>) -> bool {
        if !matches!(*tensor.shape(), [.., 4]) {
            return false;
        }
        let priors = self.family.priors();
        if tensor.element_count() != priors.len() * 4 {
            return false;
        }
        let ours = priors.iter().flat_map(|p| [p.cx, p.cy, p.w, p.h]);
        let near = |(a, b): (f32, &f32)| (a - b).abs() <= PRIOR_TOLERANCE;
        ours.zip(&tensor.to_f32()).all(near)
    }

    /// The names of the tensors that are ignored.
    #[must_use]
    pub fn ignored(&self, state: &StateDict) -> Vec<String> {
        let used: HashSet<String> = self.family.tensor_names().into_iter().collect();
        let ignored = state.tensors().filter(|tensor| {
            let name = tensor.name().strip_prefix(&self.prefix);
            name.is_some_and(|name| !used.contains(name)) && self.is_redundant(*tensor)
        });
        ignored.map(|tensor| tensor.name().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_its_own_name_and_prior_boxes_for_every_cell_of_its_source_feature_maps() {
        for (index, family) in ALL.into_iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != family.name));
            let architecture = (family.architecture)();
            let sides = architecture
                .run(
                    family.preprocessing.side as i64,
                    |_, operation, inputs: &[&i64]| {
                        let side = *inputs[0];
                        Ok::<_, ()>(match operation {
                            Operation::Convolution(convolution) => {
                                convolution.geometry.side_after(side)
                            }
                            Operation::MaxPool(pool) => pool.side_after(side),
                            Operation::Mean => 1,
                            Operation::Add | Operation::Scale | Operation::L2Norm { .. } => side,
                        })
                    },
                )
                .unwrap();
            let maps = (family.prior_maps)();
            let expected = maps.iter().flat_map(|map| [map.side as i64; 2]);
            assert!(sides.into_iter().eq(expected), "{}", family.name);
            let names = (family.class_names)(family.outputs).expect("published classes");
            assert_eq!(names.len() + 1, family.outputs);
        }
    }
}
