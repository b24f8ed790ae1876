//! The published families of SSD300 weights: one network, but each has its own tensor names,
//! preprocessing, prior sizes and rules for choosing boxes.

use super::labels::{self, COCO};
use super::preprocess::Preprocessing;
use super::priors::{Sizes, boxes_per_cell};
use crate::weights::StateDict;

/// What differs from one family of weights to another. The network is the same in all.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// A stable name, which safetensors files carry as their metadata `family`.
    pub name: &'static str,
    /// Where the weights come from, for people.
    pub about: &'static str,
    /// From a picture to the network's input.
    pub preprocessing: Preprocessing,
    /// The sizes of the prior boxes.
    pub sizes: Sizes,
    /// The most candidates of one class that enter NMS.
    pub candidates: usize,
    /// The most that the logarithm of a box's growth over its prior may be, if bounded.
    pub log_size_bound: Option<f32>,
    /// Whether boxes are clipped to the picture before NMS.
    pub clips_before_nms: bool,
    /// What the family calls its tensors.
    pub(super) tensors: TensorNames,
}

/// The names of the network's layers in a state dict, without `.weight` and `.bias`.
#[derive(Debug, PartialEq)]
pub(super) struct TensorNames {
    /// The fifteen convolutions of VGG16's part, `conv1_1` to conv7.
    pub vgg: [&'static str; 15],
    /// The learned scale of `conv4_3`'s L2 normalisation, in full.
    pub l2_norm: &'static str,
    /// The eight extra convolutions.
    pub extras: [&'static str; 8],
    /// The localisation heads, before their number.
    pub loc: &'static str,
    /// The classification heads, before their number.
    pub conf: &'static str,
}

const ORIGINAL: TensorNames = TensorNames {
    vgg: [
        "vgg.0", "vgg.2", "vgg.5", "vgg.7", "vgg.10", "vgg.12", "vgg.14", "vgg.17", "vgg.19",
        "vgg.21", "vgg.24", "vgg.26", "vgg.28", "vgg.31", "vgg.33",
    ],
    l2_norm: "L2Norm.weight",
    extras: [
        "extras.0", "extras.1", "extras.2", "extras.3", "extras.4", "extras.5", "extras.6",
        "extras.7",
    ],
    loc: "loc",
    conf: "conf",
};

/// The original weights' mean picture, red, green and blue, in levels of 0 to 255.
const ORIGINAL_PREPROCESSING: Preprocessing = Preprocessing::Levels {
    mean: [123.0, 117.0, 104.0],
};

/// Weights of the original implementation (amdegroot/ssd.pytorch) in its VOC configuration, such as
/// `ssd300_mAP_77.43_v2.pth`; also the layout of the demo model.
pub static VOC: Family = Family {
    name: "ssd300-voc",
    about: "the original implementation's VOC configuration",
    preprocessing: ORIGINAL_PREPROCESSING,
    sizes: Sizes::VOC,
    candidates: 200,
    log_size_bound: None,
    clips_before_nms: false,
    tensors: ORIGINAL,
};

/// The original implementation in its COCO configuration: other prior sizes.
pub static COCO_ORIGINAL: Family = Family {
    name: "ssd300-coco",
    about: "the original implementation's COCO configuration",
    sizes: Sizes::COCO,
    preprocessing: ORIGINAL_PREPROCESSING,
    candidates: 200,
    log_size_bound: None,
    clips_before_nms: false,
    tensors: ORIGINAL,
};

/// torchvision's `ssd300_vgg16`, such as `ssd300_vgg16_coco-b556d3b4.pth`. Every number is that of
/// torchvision's `SSD` class and its transform.
pub static TORCHVISION: Family = Family {
    name: "torchvision-ssd300-vgg16",
    about: "torchvision's ssd300_vgg16",
    // Its mean and its deviation of 1/255 are of samples from 0 to 1.
    preprocessing: Preprocessing::Fractions {
        mean: [0.48235, 0.45882, 0.40784],
        deviation: [1.0 / 255.0; 3],
    },
    sizes: Sizes::TORCHVISION,
    candidates: 400,
    // ln(1000 / 16), as in torchvision's BoxCoder.
    log_size_bound: Some(4.135_166_6),
    clips_before_nms: true,
    tensors: TensorNames {
        vgg: [
            "backbone.features.0",
            "backbone.features.2",
            "backbone.features.5",
            "backbone.features.7",
            "backbone.features.10",
            "backbone.features.12",
            "backbone.features.14",
            "backbone.features.17",
            "backbone.features.19",
            "backbone.features.21",
            "backbone.extra.0.1",
            "backbone.extra.0.3",
            "backbone.extra.0.5",
            "backbone.extra.0.7.1",
            "backbone.extra.0.7.3",
        ],
        l2_norm: "backbone.scale_weight",
        extras: [
            "backbone.extra.1.0",
            "backbone.extra.1.2",
            "backbone.extra.2.0",
            "backbone.extra.2.2",
            "backbone.extra.3.0",
            "backbone.extra.3.2",
            "backbone.extra.4.0",
            "backbone.extra.4.2",
        ],
        loc: "head.regression_head.module_list",
        conf: "head.classification_head.module_list",
    },
};

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
    /// Tells the family of a state dict: by its metadata where it has any, else by its tensors'
    /// names and, between the two configurations of the original code, by the number of classes.
    /// `None` where it holds no SSD300.
    #[must_use]
    pub fn recognise(state: &StateDict) -> Option<Recognised> {
        let (named, prefix) = [&VOC, &TORCHVISION].into_iter().find_map(|family| {
            let first = format!("{}.weight", family.tensors.vgg[0]);
            let prefix = state.tensors().find_map(|tensor| {
                let prefix = tensor.name().strip_suffix(&first)?;
                (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
            })?;
            Some((family, prefix))
        })?;
        let mut recognised = Recognised {
            family: named,
            prefix,
        };
        let stated = state.metadata().get("family").map(String::as_str);
        if named == &VOC && stated != Some(VOC.name) {
            let coco = stated == Some(COCO_ORIGINAL.name)
                || recognised.outputs(state) == Some(1 + COCO.len());
            recognised.family = if coco { &COCO_ORIGINAL } else { &VOC };
        }
        Some(recognised)
    }

    /// The names of the classes without the background, where the number of outputs tells: 21 are
    /// VOC's, 81 COCO's, and torchvision's 91 are COCO's ids, whose gaps are called `N/A`.
    #[must_use]
    pub fn class_names(&self, outputs: usize) -> Option<Vec<String>> {
        let owned = |name: &&str| (*name).to_owned();
        match outputs {
            21 => Some(labels::VOC.iter().map(owned).collect()),
            81 => Some(COCO.iter().map(|class| class.name.to_owned()).collect()),
            91 => {
                let mut names = vec!["N/A".to_owned(); 90];
                for class in COCO.iter() {
                    class.name.clone_into(&mut names[class.id - 1]);
                }
                Some(names)
            }
            _ => None,
        }
    }
}

impl Recognised {
    /// Outputs of the classification heads a box, the background included: two at least, else
    /// `None`. The first head has four boxes a cell.
    #[must_use]
    pub fn outputs(&self, state: &StateDict) -> Option<usize> {
        let name = format!("{}{}.0.weight", self.prefix, self.family.tensors.conf);
        let outputs = state.get(&name)?.shape().first()? / boxes_per_cell()[0];
        (outputs >= 2).then_some(outputs)
    }
}
