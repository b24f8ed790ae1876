//! SSD on MobileNetV2 (Sandler et al. 2018) at 300x300, as TensorFlow's Object Detection API builds it
//! (`ssd_mobilenet_v2`). MediaPipe trained the model that ships on Open Images V4.

use super::{BoxCoder, Family, Scores};
use crate::architecture::{Activation, Architecture, Builder, Channels, Geometry, Padding};
use crate::graph::MapId;
use crate::preprocess::{Preprocessing, Samples};
use crate::priors::{Clamp, PriorMap};

/// Sides of the six source feature maps, in cells.
const MAPS: [usize; 6] = [19, 10, 5, 3, 2, 1];

/// The classes of the published model, in order.
const CLASSES: [&str; 23] = [
    "Bicycle",
    "Boot",
    "Laptop",
    "Person",
    "Chair",
    "Cattle",
    "Desk",
    "Cat",
    "Computer mouse",
    "Computer monitor",
    "Box",
    "Mug",
    "Coffee cup",
    "Stationary bicycle",
    "Table",
    "Bottle",
    "High heels",
    "Vehicle",
    "Footwear",
    "Dog",
    "Book",
    "Camera",
    "Car",
];

/// The API's `ssd_anchor_generator`: scales from 0.2 to 0.95 in equal steps. The finest feature map has three
/// boxes, one of them a square of side 0.1. The other feature maps have boxes with the aspect ratios 1, 2, 1/2,
/// 3 and 1/3, and a square. The side of that square is the geometric mean of the map's scale and the next one;
/// after the last scale comes 1.
fn prior_maps() -> Vec<PriorMap> {
    let scale = |map: usize| match map {
        6 => 1.0,
        _ => 0.2 + 0.75 * map as f64 / 5.0,
    };
    let maps = MAPS.into_iter().enumerate().map(|(map, side)| {
        let shape = |ratio: f64| (scale(map) * ratio.sqrt(), scale(map) / ratio.sqrt());
        let shapes = if map == 0 {
            vec![(0.1, 0.1), shape(2.0), shape(0.5)]
        } else {
            let between = (scale(map) * scale(map + 1)).sqrt();
            // The published configuration rounds a third to this number.
            let mut shapes = [1.0, 2.0, 0.5, 3.0, 0.3333].map(shape).to_vec();
            shapes.push((between, between));
            shapes
        };
        PriorMap {
            side,
            cells: side as f64,
            shapes,
        }
    });
    maps.collect()
}

/// The inverted residual blocks after the first, in order: the stride of each, and whether its input is
/// added to its output.
const BLOCKS: [(i64, bool); 16] = [
    (2, false),
    (1, true),
    (2, false),
    (1, true),
    (1, true),
    (2, false),
    (1, true),
    (1, true),
    (1, true),
    (1, false),
    (1, true),
    (1, true),
    (2, false),
    (1, true),
    (1, true),
    (1, false),
];
/// The block whose expanded feature map is the finest source.
const FIRST_SOURCE: usize = 13;

fn architecture() -> Architecture {
    let square = |kernel, stride| Geometry {
        kernel,
        stride,
        padding: Padding::Same,
        dilation: 1,
    };
    let (point, linear, relu6) = (square(1, 1), Activation::Linear, Activation::Relu6);
    let (free, depthwise) = (Channels::Free, Channels::Depthwise);
    let mut network = Builder::default();
    let maps = prior_maps();
    let mut boxes = maps.iter().map(|map| map.shapes.len()).enumerate();
    let mut heads = |network: &mut Builder, map: MapId| {
        if let Some((source, boxes)) = boxes.next() {
            let both = ["offsets", "logits"].map(|head| format!("heads.{source}.{head}"));
            network.heads(map, both, point, boxes);
        }
    };

    let mut x = network.convolution(MapId::INPUT, "backbone.conv", square(3, 2), free, relu6);
    let first = |part| format!("backbone.block_0.{part}");
    x = network.convolution(x, first("depthwise"), square(3, 1), depthwise, relu6);
    x = network.convolution(x, first("project"), point, free, linear);
    for (block, (stride, residual)) in (1..).zip(BLOCKS) {
        let named = |part| format!("backbone.block_{block}.{part}");
        let input = x;
        x = network.convolution(x, named("expand"), point, free, relu6);
        if block == FIRST_SOURCE {
            heads(&mut network, x);
        }
        x = network.convolution(x, named("depthwise"), square(3, stride), depthwise, relu6);
        x = network.convolution(x, named("project"), point, free, linear);
        if residual {
            x = network.add(x, input);
        }
    }
    x = network.convolution(x, "backbone.last", point, free, relu6);
    heads(&mut network, x);
    for extra in 0..4 {
        let named = |part| format!("extras.{extra}.{part}");
        x = network.convolution(x, named("reduce"), point, free, relu6);
        x = network.convolution(x, named("expand"), square(3, 2), free, relu6);
        heads(&mut network, x);
    }
    network.build()
}

/// MediaPipe's SSD MobileNetV2, in the file that `weights/mobilenet` converts it to.
pub static MOBILENET_V2: Family = Family {
    name: "ssd-mobilenet-v2",
    about: "SSD on MobileNetV2, as TensorFlow's Object Detection API builds it",
    architecture,
    outputs: 1 + CLASSES.len(),
    class_names: |outputs| {
        let names = CLASSES.map(str::to_owned).to_vec();
        (outputs == 1 + CLASSES.len()).then_some(names)
    },
    preprocessing: Preprocessing {
        side: 300,
        samples: Samples::Levels,
        mean: [127.5; 3],
        deviation: [127.5; 3],
    },
    prior_maps,
    clamp: Clamp::Nothing,
    coder: BoxCoder {
        order: BoxCoder::Y_FIRST,
        log_size_bound: None,
    },
    scores: Scores::Sigmoid,
    threshold: 0.5,
    // The API limits the number of boxes that NMS keeps, not the number that enters it.
    candidates: usize::MAX,
    clips_before_nms: true,
};
