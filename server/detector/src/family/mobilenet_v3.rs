//! torchvision's `ssdlite320_mobilenet_v3_large`: `SSDLite` (Sandler et al. 2018, section 6.2) on MobileNetV3-Large (Howard
//! et al. 2019) at 320x320, with half of the channels after the fourth stage. The numbers come from torchvision's
//! functions `ssdlite320_mobilenet_v3_large` and `_mobilenet_v3_conf`.

use super::vgg16::{TORCHVISION, coco_names};
use super::{Family, Scores};
use crate::architecture::{Activation, Architecture, Builder, Channels, Geometry};
use crate::graph::MapId;
use crate::preprocess::{Preprocessing, Samples};
use crate::priors::PriorMap;

/// Sides of the six source feature maps, in cells.
const MAPS: [usize; 6] = [20, 10, 5, 3, 2, 1];
/// Boxes of a cell: two squares, and two for each of the ratios 2 and 3.
const BOXES: usize = 6;
/// Of every batch normalisation.
const EPSILON: f64 = 1e-3;

/// torchvision's `DefaultBoxGenerator`: scales from 0.2 to 0.95 in equal steps, then 1.
fn prior_maps() -> Vec<PriorMap> {
    let scale = |map: usize| match map {
        6 => 1.0,
        _ => 0.2 + (0.95 - 0.2) * map as f64 / 5.0,
    };
    let maps = MAPS.into_iter().enumerate().map(|(map, side)| {
        let (scale, between) = (scale(map), (scale(map) * scale(map + 1)).sqrt());
        let mut shapes = vec![(scale, scale), (between, between)];
        for ratio in [2.0_f64, 3.0] {
            let (long, short) = (scale * ratio.sqrt(), scale / ratio.sqrt());
            shapes.extend([(long, short), (short, long)]);
        }
        PriorMap {
            side,
            cells: side as f64,
            shapes,
        }
    });
    maps.collect()
}

/// An inverted residual block.
struct Block {
    /// Side of the depthwise kernel.
    kernel: i64,
    stride: i64,
    squeezes: bool,
    activation: Activation,
    /// Whether the input is added to the output.
    residual: bool,
}

/// The blocks after the first one, which alone does not expand its input.
const BLOCKS: [Block; 14] = {
    const fn block(
        kernel: i64,
        stride: i64,
        squeezes: bool,
        activation: Activation,
        residual: bool,
    ) -> Block {
        Block {
            kernel,
            stride,
            squeezes,
            activation,
            residual,
        }
    }
    const RELU: Activation = Activation::Relu;
    const SWISH: Activation = Activation::HardSwish;
    [
        block(3, 2, false, RELU, false),
        block(3, 1, false, RELU, true),
        block(5, 2, true, RELU, false),
        block(5, 1, true, RELU, true),
        block(5, 1, true, RELU, true),
        block(3, 2, false, SWISH, false),
        block(3, 1, false, SWISH, true),
        block(3, 1, false, SWISH, true),
        block(3, 1, false, SWISH, true),
        block(3, 1, true, SWISH, false),
        block(3, 1, true, SWISH, true),
        block(5, 2, true, SWISH, false),
        block(5, 1, true, SWISH, true),
        block(5, 1, true, SWISH, true),
    ]
};
/// The block whose expanded feature map is the finest source. torchvision splits it between two lists.
const FIRST_SOURCE: usize = 13;

/// The name of a part of a block.
fn part(block: usize, part: usize) -> String {
    match (block, part) {
        (FIRST_SOURCE, 0) => format!("backbone.features.0.{block}"),
        (FIRST_SOURCE, _) => format!("backbone.features.1.0.{part}"),
        (..FIRST_SOURCE, _) => format!("backbone.features.0.{block}.block.{part}"),
        _ => format!("backbone.features.1.{}.block.{part}", block - FIRST_SOURCE),
    }
}

fn square(kernel: i64, stride: i64) -> Geometry {
    Geometry {
        stride,
        ..Geometry::keeping(kernel)
    }
}

fn convolve(
    network: &mut Builder,
    x: MapId,
    name: &str,
    geometry: Geometry,
    channels: Channels,
    activation: Activation,
) -> MapId {
    network.normalised_convolution(x, (name, EPSILON), geometry, channels, activation)
}

/// The two heads of source number `source`, each after a depthwise convolution of its own.
fn heads(network: &mut Builder, map: MapId, source: usize) {
    for (head, channels) in [
        ("regression_head", Channels::Offsets(BOXES)),
        ("classification_head", Channels::Logits(BOXES)),
    ] {
        let (depthwise, point) = (square(3, 1), square(1, 1));
        let named = |part| format!("head.{head}.module_list.{source}.{part}");
        let (each, relu6) = (Channels::Depthwise, Activation::Relu6);
        let before = convolve(network, map, &named(0), depthwise, each, relu6);
        network.head(before, named(1), point, channels);
    }
}

fn architecture() -> Architecture {
    let mut network = Builder::default();
    let (linear, relu, relu6, hard_swish) = (
        Activation::Linear,
        Activation::Relu,
        Activation::Relu6,
        Activation::HardSwish,
    );
    let (free, depthwise, point) = (Channels::Free, Channels::Depthwise, square(1, 1));

    let stem = "backbone.features.0.0";
    let mut x = convolve(
        &mut network,
        MapId::INPUT,
        stem,
        square(3, 2),
        free,
        hard_swish,
    );
    let input = x;
    x = convolve(&mut network, x, &part(1, 0), square(3, 1), depthwise, relu);
    x = convolve(&mut network, x, &part(1, 1), point, free, linear);
    x = network.add(x, input);
    for (block, spec) in (2..).zip(BLOCKS) {
        let mut parts = (0..).map(|number| part(block, number));
        let mut next = || parts.next().unwrap_or_default();
        let (input, activation) = (x, spec.activation);
        x = convolve(&mut network, x, &next(), point, free, activation);
        if block == FIRST_SOURCE {
            heads(&mut network, x, 0);
        }
        let moves = square(spec.kernel, spec.stride);
        x = convolve(&mut network, x, &next(), moves, depthwise, activation);
        if spec.squeezes {
            x = network.squeeze_excitation(x, &next());
        }
        x = convolve(&mut network, x, &next(), point, free, linear);
        if spec.residual {
            x = network.add(x, input);
        }
    }
    x = convolve(
        &mut network,
        x,
        "backbone.features.1.3",
        point,
        free,
        hard_swish,
    );
    heads(&mut network, x, 1);
    for extra in 0..4 {
        let named = |part: usize| format!("backbone.extra.{extra}.{part}");
        x = convolve(&mut network, x, &named(0), point, free, relu6);
        x = convolve(&mut network, x, &named(1), square(3, 2), depthwise, relu6);
        x = convolve(&mut network, x, &named(2), point, free, relu6);
        heads(&mut network, x, 2 + extra);
    }
    network.build()
}

/// torchvision's `ssdlite320_mobilenet_v3_large`, such as `ssdlite320_mobilenet_v3_large_coco-a79551df.pth`.
pub static SSDLITE: Family = Family {
    name: "torchvision-ssdlite320-mobilenet-v3",
    about: "torchvision's ssdlite320_mobilenet_v3_large",
    architecture,
    outputs: 91,
    class_names: coco_names,
    preprocessing: Preprocessing {
        side: 320,
        samples: Samples::Fractions,
        mean: [0.5; 3],
        deviation: [0.5; 3],
    },
    prior_maps,
    clamp: TORCHVISION.clamp,
    coder: TORCHVISION.coder,
    scores: Scores::Softmax,
    threshold: 0.5,
    candidates: 300,
    clips_before_nms: true,
};
