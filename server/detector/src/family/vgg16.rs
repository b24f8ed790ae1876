//! SSD300 on VGG16 (Liu et al. 2016, figure 2): the original implementation's two configurations, and
//! torchvision's. All share one network; each family has its own tensor names, preprocessing, prior box sizes
//! and rules for selecting boxes.

use super::{BoxCoder, Family, Scores};
use crate::architecture::{Activation, Architecture, Builder, Channels, Geometry, Padding, Pool};
use crate::graph::MapId;
use crate::labels::{self, COCO};
use crate::preprocess::{Preprocessing, Samples};
use crate::priors::{Clamp, PriorMap};

/// Side of the input, in pixels.
const SIDE: usize = 300;

/// Sides of the six source feature maps, in cells.
const MAPS: [usize; 6] = [38, 19, 10, 5, 3, 1];
/// Distance between two cells of each source feature map, in input pixels.
const STRIDES: [f64; 6] = [8.0, 16.0, 32.0, 64.0, 100.0, 300.0];
/// Aspect ratios besides 1; each also stands for its inverse.
const RATIOS: [&[f64]; 6] = [
    &[2.0],
    &[2.0, 3.0],
    &[2.0, 3.0],
    &[2.0, 3.0],
    &[2.0],
    &[2.0],
];

/// The prior box sizes of the VOC configuration, in input pixels: the side of each feature map's small square,
/// and one more. The side of a map's large square is the geometric mean of its size and the next.
const VOC_SIZES: [f64; 7] = [30.0, 60.0, 111.0, 162.0, 213.0, 264.0, 315.0];
/// The prior box sizes of the COCO configuration and of torchvision: 0.07, 0.15, 0.33, 0.51, 0.69, 0.87 and 1.05
/// of the input's side.
const COCO_SIZES: [f64; 7] = [21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0];

/// Each cell has the small square, the large square, then a box for each ratio and its inverse.
fn prior_maps(sizes: [f64; 7]) -> Vec<PriorMap> {
    let side = SIDE as f64;
    let maps = MAPS.into_iter().enumerate().map(|(index, cells)| {
        let small = sizes[index] / side;
        let large = (small * sizes[index + 1] / side).sqrt();
        let mut shapes = vec![(small, small), (large, large)];
        for ratio in RATIOS[index] {
            let root = ratio.sqrt();
            shapes.extend([(small * root, small / root), (small / root, small * root)]);
        }
        PriorMap {
            side: cells,
            cells: side / STRIDES[index],
            shapes,
        }
    });
    maps.collect()
}

/// The names of the layers in a state dict, without `.weight` and `.bias`.
struct Names {
    /// The fifteen convolutions of the VGG16 part, `conv1_1` to conv7.
    vgg: [&'static str; 15],
    /// The learned factors of `conv4_3`'s L2 normalisation, in full.
    l2_norm: &'static str,
    extras: [&'static str; 8],
    /// The localisation heads, without their number.
    offsets: &'static str,
    /// The classification heads, without their number.
    logits: &'static str,
}

const ORIGINAL_NAMES: Names = Names {
    vgg: [
        "vgg.0", "vgg.2", "vgg.5", "vgg.7", "vgg.10", "vgg.12", "vgg.14", "vgg.17", "vgg.19",
        "vgg.21", "vgg.24", "vgg.26", "vgg.28", "vgg.31", "vgg.33",
    ],
    l2_norm: "L2Norm.weight",
    extras: [
        "extras.0", "extras.1", "extras.2", "extras.3", "extras.4", "extras.5", "extras.6",
        "extras.7",
    ],
    offsets: "loc",
    logits: "conf",
};

const TORCHVISION_NAMES: Names = Names {
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
    offsets: "head.regression_head.module_list",
    logits: "head.classification_head.module_list",
};

const HALVE: Pool = Pool {
    window: 2,
    stride: 2,
    padding: 0,
    ceil: false,
};
/// From 75 cells to 38.
const HALVE_UP: Pool = Pool {
    ceil: true,
    ..HALVE
};
/// Keeps the side; conv6 is dilated instead.
const KEEP: Pool = Pool {
    window: 3,
    stride: 1,
    padding: 1,
    ceil: false,
};

fn architecture(names: &Names) -> Architecture {
    let mut network = Builder::default();
    let boxes = RATIOS.map(|ratios| 2 + 2 * ratios.len());
    let mut source = 0;
    let mut heads = |network: &mut Builder, map: MapId| {
        let both = [names.offsets, names.logits].map(|head| format!("{head}.{source}"));
        network.heads(map, both, Geometry::keeping(3), boxes[source]);
        source += 1;
    };
    let mut x = MapId::INPUT;
    let convolve = |network: &mut Builder, x, name, geometry| {
        network.convolution(x, name, geometry, Channels::Free, Activation::Relu)
    };
    for (index, name) in names.vgg[..13].iter().enumerate() {
        x = convolve(&mut network, x, *name, Geometry::keeping(3));
        // conv4_3
        if index == 9 {
            let normalised = network.l2_norm(x, names.l2_norm);
            heads(&mut network, normalised);
        }
        let pool = match index {
            1 | 3 | 9 => HALVE,
            6 => HALVE_UP,
            12 => KEEP,
            _ => continue,
        };
        x = network.max_pool(x, pool);
    }
    let dilated = Geometry {
        padding: Padding::Each(6),
        dilation: 6,
        ..Geometry::keeping(3)
    };
    x = convolve(&mut network, x, names.vgg[13], dilated);
    x = convolve(&mut network, x, names.vgg[14], Geometry::keeping(1));
    heads(&mut network, x);
    let halving = Geometry {
        stride: 2,
        ..Geometry::keeping(3)
    };
    let unpadded = Geometry {
        padding: Padding::Each(0),
        ..Geometry::keeping(3)
    };
    let pairs = names.extras.as_chunks::<2>().0;
    for ([reduce, expand], geometry) in pairs.iter().zip([halving, halving, unpadded, unpadded]) {
        x = convolve(&mut network, x, *reduce, Geometry::keeping(1));
        x = convolve(&mut network, x, *expand, geometry);
        heads(&mut network, x);
    }
    network.build()
}

/// The names of the classes without the background, by the number of outputs: 21 for VOC, 81 for COCO, and 91
/// for torchvision, which uses COCO's ids with their gaps.
pub(super) fn coco_names(outputs: usize) -> Option<Vec<String>> {
    let owned = |name: &&str| (*name).to_owned();
    match outputs {
        21 => Some(labels::VOC.iter().map(owned).collect()),
        81 => Some(COCO.iter().map(|class| class.name.to_owned()).collect()),
        91 => {
            let mut names = vec![labels::GAP.to_owned(); 90];
            for class in COCO.iter() {
                class.name.clone_into(&mut names[class.id - 1]);
            }
            Some(names)
        }
        _ => None,
    }
}

/// Logits per box in the original implementation's COCO configuration. Only the 80 classes and the background were
/// ever trained.
const COCO_ORIGINAL_OUTPUTS: usize = 201;

/// The names of COCO's classes, then gaps; for other numbers of outputs as above.
fn original_coco_names(outputs: usize) -> Option<Vec<String>> {
    if outputs != COCO_ORIGINAL_OUTPUTS {
        return coco_names(outputs);
    }
    let mut names = coco_names(81)?;
    names.resize(outputs - 1, labels::GAP.to_owned());
    Some(names)
}

const ORIGINAL: Family = Family {
    name: "ssd300-voc",
    about: "the original implementation's VOC configuration",
    architecture: || architecture(&ORIGINAL_NAMES),
    outputs: 21,
    class_names: coco_names,
    preprocessing: Preprocessing {
        side: SIDE,
        samples: Samples::Levels,
        mean: [123.0, 117.0, 104.0],
        deviation: [1.0; 3],
    },
    prior_maps: || prior_maps(VOC_SIZES),
    clamp: Clamp::SizesAndCentres,
    coder: BoxCoder {
        order: BoxCoder::X_FIRST,
        log_size_bound: None,
    },
    scores: Scores::Softmax,
    threshold: 0.6,
    candidates: 200,
    clips_before_nms: false,
};

/// Weights of the original implementation (amdegroot/ssd.pytorch) in its VOC configuration, such as
/// `ssd300_mAP_77.43_v2.pth`.
pub static VOC: Family = ORIGINAL;

/// The original implementation in its COCO configuration, with other prior box sizes.
pub static COCO_ORIGINAL: Family = Family {
    name: "ssd300-coco",
    about: "the original implementation's COCO configuration",
    outputs: 81,
    class_names: original_coco_names,
    prior_maps: || prior_maps(COCO_SIZES),
    ..ORIGINAL
};

/// torchvision's `ssd300_vgg16`, such as `ssd300_vgg16_coco-b556d3b4.pth`. The numbers come from torchvision's `SSD`
/// class and its transform.
pub static TORCHVISION: Family = Family {
    name: "torchvision-ssd300-vgg16",
    about: "torchvision's ssd300_vgg16",
    architecture: || architecture(&TORCHVISION_NAMES),
    outputs: 91,
    preprocessing: Preprocessing {
        side: SIDE,
        samples: Samples::Fractions,
        mean: [0.48235, 0.45882, 0.40784],
        deviation: [1.0 / 255.0; 3],
    },
    prior_maps: || prior_maps(COCO_SIZES),
    // The centres of the third feature map's last cells lie four pixels beyond the picture.
    clamp: Clamp::Sizes,
    coder: BoxCoder {
        order: BoxCoder::X_FIRST,
        // ln(1000 / 16), as in torchvision's BoxCoder.
        log_size_bound: Some(4.135_166_6),
    },
    candidates: 400,
    clips_before_nms: true,
    ..ORIGINAL
};
