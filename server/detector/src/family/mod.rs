//! The families of weights: what a network is made of, and what its numbers mean. Each stands in a file
//! of its own, and in [`ALL`]; no other code names one.

mod mobilenet_v2;
mod vgg16;

use super::architecture::{Architecture, Channels, Operation};
use super::preprocess::Preprocessing;
use super::priors::{self, Clamp, Prior, PriorMap};
pub use mobilenet_v2::MOBILENET_V2;
use state_dict::StateDict;
pub use vgg16::{COCO_ORIGINAL, TORCHVISION, VOC};

/// Every family. Of two with the same tensor names the first is taken where nothing tells them apart.
pub static ALL: [&Family; 4] = [&VOC, &COCO_ORIGINAL, &TORCHVISION, &MOBILENET_V2];

/// The most priors of a family's network, and so the most detections of a picture.
#[must_use]
pub fn most_priors() -> usize {
    let counts = ALL.into_iter().map(|family| family.priors().len());
    counts.max().unwrap_or(0)
}

/// A family of weights.
#[derive(Debug)]
pub struct Family {
    /// A stable name, which safetensors files carry as their metadata `family`.
    pub name: &'static str,
    /// Where the weights come from, for people.
    pub about: &'static str,
    /// The network, with the family's tensor names.
    pub(super) architecture: fn() -> Architecture,
    /// Outputs for each box of the published weights, the background included.
    pub outputs: usize,
    /// The names of the classes in order, without the background, where so many outputs tell.
    pub class_names: fn(usize) -> Option<Vec<String>>,
    /// From a picture to the network's input.
    pub preprocessing: Preprocessing,
    /// The prior boxes of each source, the finest first.
    pub prior_maps: fn() -> Vec<PriorMap>,
    /// Which of their numbers are cut off at the picture's edges.
    pub clamp: Clamp,
    /// From offsets to boxes.
    pub coder: BoxCoder,
    /// From logits to scores.
    pub scores: Scores,
    /// The least score that is shown where neither the file nor the user says.
    pub threshold: f32,
    /// The most candidates of one class that enter NMS, the best first.
    pub candidates: usize,
    /// Whether boxes are clipped to the picture before NMS.
    pub clips_before_nms: bool,
}

/// Names are stable, and no two the same.
impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// How a network's offsets describe a box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxCoder {
    /// Where among the four offsets stand those of the centre from the left, the centre from the top,
    /// the width and the height.
    pub order: [usize; 4],
    /// The most that the logarithm of a box's growth over its prior may be, if bounded.
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
    /// Over all classes and the background, whose sum is 1.
    Softmax,
    /// Each class by itself.
    Sigmoid,
}

/// A family, and what stands before its tensor names in the file: nothing, or a wrapper's name and
/// a dot (`module.` of `DataParallel`, `model.` of a checkpoint).
#[derive(Debug, Clone, PartialEq)]
pub struct Recognised {
    /// The family.
    pub family: &'static Family,
    /// What stands before each tensor's name.
    pub prefix: String,
}

impl Family {
    /// Tells the family of a state dict by its tensors' names. Of families with the same names it is
    /// the one that the metadata `family` states, else the one whose published weights have as many
    /// outputs. `None` where no family has such names.
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
        let mut named: Vec<Recognised> = named.collect();
        let stated = state.metadata().get("family");
        let fitting = named
            .iter()
            .position(|candidate| stated.is_some_and(|name| name == candidate.family.name))
            .or_else(|| {
                named.iter().position(|candidate| {
                    candidate.outputs(state) == Some(candidate.family.outputs)
                })
            });
        (!named.is_empty()).then(|| named.swap_remove(fitting.unwrap_or(0)))
    }

    /// The name of the first tensor, by which a family is recognised.
    pub(super) fn first_tensor(&self) -> Option<String> {
        let architecture = (self.architecture)();
        let mut names = architecture.nodes();
        let name = names.find_map(|(_, node)| node.operation.name())?;
        Some(format!("{name}.weight"))
    }

    /// The classification heads in order: what each one's tensors are called, without `.weight` and
    /// `.bias`, and for how many boxes it has a logit of every class.
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

    /// The prior boxes, in the order of the network's outputs.
    #[must_use]
    pub fn priors(&self) -> Vec<Prior> {
        priors::lay_out(&(self.prior_maps)(), self.clamp)
    }
}

impl Recognised {
    /// Outputs of the classification heads a box, the background included: two at least, else
    /// `None`.
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
    fn every_family_has_its_own_name_and_priors_for_every_cell_of_its_sources() {
        for (index, family) in ALL.into_iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != family.name));
            let architecture = (family.architecture)();
            let sides = architecture.trace(
                family.preprocessing.side as i64,
                |operation, inputs: &[&i64]| match operation {
                    Operation::Convolution(convolution) => {
                        convolution.geometry.side_after(*inputs[0])
                    }
                    Operation::MaxPool(pool) => pool.side_after(*inputs[0]),
                    Operation::Add | Operation::L2Norm { .. } => *inputs[0],
                },
            );
            let maps = (family.prior_maps)();
            let outputs = architecture.outputs().as_chunks::<2>().0;
            assert_eq!(outputs.len(), maps.len(), "{}", family.name);
            for (heads, map) in outputs.iter().zip(&maps) {
                for head in heads {
                    assert_eq!(sides[*head], map.side as i64, "{}", family.name);
                }
            }
            assert_eq!(
                priors::by_map(&maps).last().map(|range| range.end),
                Some(family.priors().len())
            );
            let names = (family.class_names)(family.outputs).expect("published classes");
            assert_eq!(names.len() + 1, family.outputs);
        }
    }
}
