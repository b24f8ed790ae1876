//! The same networks in every precision: the answers stay, and what is chosen is what suits.

use std::path::PathBuf;

use ssd_detector::boxes::Criteria;
use ssd_detector::inference::{self, Inference};
use ssd_detector::labels::Labels;
use ssd_detector::network::Network;
use ssd_detector::precision::{Precision, Requested, RequestedDevice};
use ssd_detector::{Detection, Model};
use state_dict::StateDict;

const CRITERIA: Criteria = Criteria {
    threshold: 0.6,
    iou: 0.45,
    top_k: 200,
};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The model that ships, and photographs. What precision costs a trained SSD300: weights/train/tests/precision.rs.
const SHIPPED: &str = "weights/ssd_mobilenet_v2_oidv4.safetensors";
const PHOTOGRAPHS: [&str; 3] = [
    "data/samples/cat.png",
    "data/samples/astronaut.jpg",
    "data/samples/coffee.jpg",
];

fn model(weights: &str) -> (Model, Network) {
    let labels = Labels::parse(include_bytes!("../../../data/coco_labels.txt")).unwrap();
    let state = StateDict::open(&repository().join(weights)).unwrap();
    Model::new(&state, &labels).unwrap()
}

fn picture(name: &str) -> image::RgbImage {
    image::open(repository().join(name)).unwrap().into_rgb8()
}

fn in_precision(weights: &str, precision: Precision) -> (Model, Inference) {
    // The tests share the cores.
    tch::set_num_threads(1);
    let (model, network) = model(weights);
    let requested = Requested {
        precision: Some(precision),
        device: RequestedDevice::Cpu,
    };
    let (inference, choice) = inference::prepare(network, None, requested).unwrap();
    assert_eq!(choice.precision, precision);
    (model, inference)
}

fn detections(weights: &str, precision: Precision, name: &str, threshold: f32) -> Vec<Detection> {
    let (model, inference) = in_precision(weights, precision);
    let picture = picture(name);
    let output = inference.forward_one(&model.input(&picture)).unwrap();
    let criteria = Criteria {
        threshold,
        ..CRITERIA
    };
    model.detections(&output, &criteria, picture.dimensions())
}

#[test]
fn the_model_that_ships_finds_the_same_in_single_precision_and_bfloat16() {
    for name in PHOTOGRAPHS {
        let exact = detections(SHIPPED, Precision::F32, name, 0.5);
        let found = detections(SHIPPED, Precision::Bf16, name, 0.5);
        assert_eq!((exact.len(), found.len()), (1, 1), "{name}");
        assert_eq!(exact[0].label, found[0].label, "{name}");
        assert!(exact[0].corners.iou(&found[0].corners) > 0.95, "{name}");
        let apart = (exact[0].score - found[0].score).abs();
        assert!(apart < 0.02, "{name}: {apart}");
    }
}

#[test]
fn a_batch_gives_each_picture_what_it_gets_alone() {
    for precision in [Precision::F32, Precision::Bf16] {
        let (model, inference) = in_precision(SHIPPED, precision);
        let inputs = PHOTOGRAPHS.map(|name| model.input(&picture(name)));
        let together = inference
            .forward(&inputs.iter().collect::<Vec<_>>())
            .unwrap();
        assert_eq!(together.len(), inputs.len());
        for (output, input) in together.iter().zip(&inputs) {
            let alone = inference.forward_one(input).unwrap();
            let apart = output.scores.iter().zip(&alone.scores);
            let apart = apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 0.02, "{precision}: {apart}");
        }
    }
}

#[test]
fn every_layer_stays_near_single_precision() {
    for (precision, most) in [(Precision::F32, 1e-4), (Precision::Bf16, 0.1)] {
        let (model, network) = model(SHIPPED);
        let (_, inference) = in_precision(SHIPPED, precision);
        let errors = inference.errors(&network, &model.input(&picture(PHOTOGRAPHS[0])));
        let errors = errors.unwrap();
        // Of 70 convolutions ten run as one with a sum.
        assert_eq!(errors.len(), 60);
        for layer in errors {
            assert!(layer.error <= most, "{precision}: {layer:?}");
        }
    }
}
