//! The same networks in every precision give the same detections, and int8 takes only the network's own scales.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use ssd_detector::boxes::Criteria;
use ssd_detector::inference::{self, Arithmetic, Inference, LayerError};
use ssd_detector::labels::Labels;
use ssd_detector::network::Network;
use ssd_detector::precision::{Precision, Processor, Requested, RequestedDevice};
use ssd_detector::quantise::{self, Scales};
use ssd_detector::{Detection, Error, Model};
use state_dict::{NewTensor, StateDict, safetensors_bytes};

const CRITERIA: Criteria = Criteria {
    threshold: 0.6,
    iou: 0.45,
    top_k: 200,
    classes_by_label: None,
};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The model that ships, and photographs. weights/train/tests/precision.rs tests what precision costs a trained SSD300.
const SHIPPED: &str = "weights/ssd_mobilenet_v2_oidv4.safetensors";
/// A narrow SSD300 of the VGG layout.
const SMALL: &str = "server/tests/data/small.safetensors";
/// torchvision's smallest network, narrow and with random weights.
const SSDLITE: &str = "server/tests/data/ssdlite.safetensors";
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
    let (inference, selection) = inference::prepare(network, None, requested).unwrap();
    assert_eq!(selection.precision, precision);
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
fn the_activations_of_ssdlite_are_nearly_the_same_in_bfloat16() {
    let (model, exact) = model(SSDLITE);
    let (_, inference) = in_precision(SSDLITE, Precision::Bf16);
    let input = model.input(&picture("data/samples/astronaut.jpg"));
    // Behind these, the random weights have amplified what is lost.
    let first = |layer: &LayerError| layer.layer.starts_with("backbone.features.0.");
    for layer in inference
        .errors(&exact, &input)
        .unwrap()
        .into_iter()
        .filter(first)
    {
        assert!(layer.error < 0.2, "{layer:?}");
    }
}

#[test]
fn the_model_that_ships_detects_the_same_in_single_precision_and_bfloat16() {
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
fn a_batch_gives_each_picture_the_output_that_it_gets_alone() {
    for (precision, most) in [(Precision::F32, 1e-6), (Precision::Bf16, 0.02)] {
        let (model, inference) = in_precision(SHIPPED, precision);
        let inputs = PHOTOGRAPHS.map(|name| model.input(&picture(name)));
        let together = inference
            .forward(&inputs.iter().collect::<Vec<_>>())
            .unwrap();
        assert_eq!(together.len(), inputs.len());
        for (output, input) in together.iter().zip(&inputs) {
            let alone = inference.forward_one(input).unwrap();
            let pairs = output.scores.iter().zip(&alone.scores);
            let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart <= most, "{precision}: {apart}");
        }
    }
}

#[test]
fn every_layer_stays_near_single_precision() {
    // A sum counts as the convolution with which it is fused, and a bottleneck as its last; in bfloat16 there are bottlenecks
    // on processors with AVX512-BF16 only.
    let processor = Processor::of_this_machine();
    let in_bf16 = if processor.x86 && processor.bf16 {
        34
    } else {
        60
    };
    for (precision, layers, most) in [(Precision::F32, 34, 1e-4), (Precision::Bf16, in_bf16, 0.1)] {
        let (model, network) = model(SHIPPED);
        let (_, inference) = in_precision(SHIPPED, precision);
        let input = model.input(&picture(PHOTOGRAPHS[0]));
        let errors = inference.errors(&network, &input).unwrap();
        assert_eq!(errors.len(), layers, "{precision}");
        for layer in errors {
            assert!(layer.error <= most, "{precision}: {layer:?}");
        }
    }
}

/// The scales that a narrow SSD300 reads from its metadata.
fn scales(network: &Network, metadata: &str) -> Result<Option<Scales>, Error> {
    let state = StateDict::open(&repository().join(SMALL)).unwrap();
    let stated = [(quantise::METADATA.to_owned(), metadata.to_owned())];
    let tensors = state.tensors().map(NewTensor::from).collect();
    let file = safetensors_bytes(tensors, &stated.into()).unwrap();
    ssd_detector::scales(&StateDict::from_bytes(file).unwrap(), network)
}

#[test]
fn scales_are_refused_if_a_layer_has_none_or_a_wrong_one() {
    tch::set_num_threads(1);
    let (model, network) = model(SMALL);
    let input = model.input(&picture(PHOTOGRAPHS[0]));
    let measured = quantise::calibrate(&network, &[input], || ()).unwrap();
    let stated = measured.to_metadata();
    assert!(scales(&network, &stated).unwrap().is_some());
    let sound: Map<String, Value> = serde_json::from_str(&stated).unwrap();
    let without = |layer: &str| {
        let mut scales = sound.clone();
        assert!(scales.remove(layer).is_some());
        json!(scales).to_string()
    };
    let with = |layer: &str, scale: Value| {
        let mut scales = sound.clone();
        scales.insert(layer.to_owned(), scale);
        json!(scales).to_string()
    };
    let mut cases = vec![
        ("{}".to_owned(), "no scale for layer `vgg.0`, `vgg.2`, "),
        ("[1]".to_owned(), "not a JSON object of layers and numbers"),
        (without("vgg.0"), "no scale for layer `vgg.0`;"),
        (
            without("L2Norm.weight"),
            "no scale for layer `L2Norm.weight`;",
        ),
        (without("extras.7"), "no scale for layer `extras.7`;"),
        (
            with("input", json!(0.1)),
            "a scale for `input`, which is not a hidden layer",
        ),
        (
            with("conf.0", json!(0.1)),
            "a scale for `conf.0`, which is not a hidden layer",
        ),
        (with("\u{1b}[2J", json!(0.1)), "a scale for `\\u{1b}[2J`"),
        (
            with("vgg.2", json!(null)),
            "not a JSON object of layers and numbers",
        ),
        (
            stated.replacen(':', ":1e999,\"x\":", 1),
            "not a JSON object of layers and numbers",
        ),
    ];
    for wrong in [0.0, -1.0, 1e-300, 1e-40, 1e300] {
        cases.push((
            with("vgg.2", json!(wrong)),
            "for layer `vgg.2`; a scale must be a positive number",
        ));
    }
    for (metadata, expected) in cases {
        let error = scales(&network, &metadata).unwrap_err().to_string();
        assert!(error.contains(expected), "{metadata}: {error}");
        for part in ["<memory>: its metadata `int8-scales` ", "`ssd calibrate`"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn scales_of_another_network_are_refused() {
    let (model, network) = model(SMALL);
    let inputs = [model.input(&picture(PHOTOGRAPHS[0]))];
    let measured = quantise::calibrate(&network, &inputs, || ()).unwrap();
    let file = repository().join("server/tests/data/torchvision.safetensors");
    let other = Network::new(&StateDict::open(&file).unwrap()).unwrap();
    let refused = Inference::new(other, &Arithmetic::Int8(measured), tch::Device::Cpu).unwrap_err();
    let expected = if cfg!(target_arch = "x86_64") {
        "no scale for layer `backbone"
    } else {
        // Whatever the scales.
        "int8 runs on x86-64 CPUs only"
    };
    assert!(refused.to_string().contains(expected), "{refused}");
}
