//! The families of weights: the operations of their networks, and the meaning of the inputs and outputs. Each
//! family is declared in a file of this folder and listed in [`ALL`]; no other code names a family.

mod mobilenet_v2;
mod vgg16;

use super::architecture::{Architecture, Channels, Operation};
use super::preprocess::Preprocessing;
use super::priors::{self, Clamp, Prior, PriorMap};
pub use mobilenet_v2::MOBILENET_V2;
use state_dict::StateDict;
pub use vgg16::{COCO_ORIGINAL, TORCHVISION, VOC};

/// Every family. If two families match a file equally well, the first one is used.
pub static ALL: [&Family; 4] = [&VOC, &COCO_ORIGINAL, &TORCHVISION, &MOBILENET_V2];

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
}

impl Family {
    /// Recognises the family of a state dict by the names of its tensors. If several families have these names,
    /// selects the one in the metadata `family`, else the one whose published weights have the same number of
    /// logits per box. `None` if no family has these names.
    #[must_use]
    pub fn recognise(state: &StateDict) -> Option<Recognised> {
        let named = ALL.into_iter().filter_map(|family| {
            let first = family.first_tensor()?;
            let prefix = state.tensors().find_map(|tensor| {
                let prefix = tensor.name().strip_suffix(&first)?;
                (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
            })?;
            Some(Recognised { family, prefix })
        });
        let mut candidates: Vec<Recognised> = named.collect();
        let stated = state.metadata().get("family");
        let fitting = candidates
            .iter()
            .position(|candidate| stated.is_some_and(|name| name == candidate.family.name))
            .or_else(|| {
                candidates.iter().position(|candidate| {
                    candidate.outputs(state) == Some(candidate.family.outputs)
                })
            });
        (!candidates.is_empty()).then(|| candidates.swap_remove(fitting.unwrap_or(0)))
    }

    /// The name of the network's first tensor. The family is recognised by it.
    pub(super) fn first_tensor(&self) -> Option<String> {
        let architecture = (self.architecture)();
        let mut names = architecture.nodes();
        let name = names.find_map(|(_, node)| node.operation.name())?;
        Some(format!("{name}.weight"))
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

impl Recognised {
    /// Logits per box in the file, the background included; `None` if they are fewer than two.
    #[must_use]
    pub fn outputs(&self, state: &StateDict) -> Option<usize> {
        let heads = self.family.classification_heads();
        let (name, boxes) = heads.first()?;
        let weight = state.get(&format!("{}{name}.weight", self.prefix))?;
        let outputs = weight.shape().first()? / boxes;
        (outputs >= 2).then_some(outputs)
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
                            Operation::Add | Operation::L2Norm { .. } => side,
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
