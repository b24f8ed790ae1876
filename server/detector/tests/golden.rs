//! The detector against a plain `PyTorch` implementation of SSD300, against torchvision's, and against
//! LiteRT with the model that ships. Their outputs are in tests/data; tests/reference tells how they were made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ssd_detector::boxes::{self, Corners, Criteria, RawOutput, each_class};
use ssd_detector::family::{COCO_ORIGINAL, Family, MOBILENET_V2, SSDLITE, TORCHVISION, VOC};
use ssd_detector::inference;
use ssd_detector::labels::{GAP, Labels};
use ssd_detector::network::Network;
use ssd_detector::precision::Requested;
use ssd_detector::{Detection, Model};
use state_dict::StateDict;

const CRITERIA: Criteria = Criteria {
    threshold: 0.6,
    iou: 0.45,
    top_k: 200,
    classes_by_label: None,
};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(name)
}

fn golden(name: &str) -> Vec<f32> {
    StateDict::open(&data("golden.safetensors"))
        .unwrap()
        .get(name)
        .unwrap()
        .to_f32()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // `max` would pass over NaN.
    assert!(a.iter().chain(b).all(|value| value.is_finite()));
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

fn cat() -> image::RgbImage {
    image::open(data("cat.png")).unwrap().into_rgb8()
}

#[test]
fn prior_boxes_equal_the_reference() {
    for (family, file, name) in [
        (&VOC, "golden.safetensors", "priors.voc"),
        (&COCO_ORIGINAL, "golden.safetensors", "priors.coco"),
        (&TORCHVISION, "torchvision-priors.safetensors", "priors"),
        (&MOBILENET_V2, "mobilenet/golden.safetensors", "priors"),
        (&SSDLITE, "ssdlite-priors.safetensors", "priors"),
    ] {
        let ours: Vec<f32> = family
            .priors()
            .iter()
            .flat_map(|p| [p.cx, p.cy, p.w, p.h])
            .collect();
        let reference = StateDict::open(&data(file)).unwrap();
        let theirs = reference.get(name).unwrap().to_f32();
        assert!(worst(&ours, &theirs) <= 1e-6, "{name}");
    }
}

#[test]
fn the_input_equals_the_reference_within_a_level_and_nearly_everywhere_exactly() {
    let input = VOC.preprocessing.input(&cat());
    let pixels = input.values().as_chunks::<3>().0;
    let ours: Vec<f32> = (0..3)
        .flat_map(|channel| pixels.iter().map(move |pixel| pixel[channel]))
        .collect();
    let theirs = golden("input");
    assert!(worst(&ours, &theirs) <= 1.0);
    let equal = ours
        .iter()
        .zip(&theirs)
        .filter(|(a, b)| a.to_bits() == b.to_bits())
        .count();
    assert!(
        equal * 1000 >= ours.len() * 999,
        "{equal} of {}",
        ours.len()
    );
}

#[test]
fn the_three_weight_files_give_the_reference_outputs() {
    let input = tch::Tensor::from_slice(&golden("input")).view([1, 3, 300, 300]);
    for file in ["small-legacy.pth", "small-zip.pth", "small.safetensors"] {
        let network = Network::new(&StateDict::open(&data(file)).unwrap()).unwrap();
        assert_eq!((network.classes(), network.family()), (21, &VOC));
        let (loc, logits) = tch::no_grad(|| network.outputs(&input)).unwrap();
        let conf = logits.softmax(-1, tch::Kind::Float);
        let numbers = |tensor: tch::Tensor| Vec::<f32>::try_from(tensor.view([-1])).unwrap();
        assert!(worst(&numbers(loc), &golden("loc")) <= 1e-4, "{file}");
        assert!(worst(&numbers(conf), &golden("conf")) <= 1e-4, "{file}");
    }
}

#[test]
fn nms_keeps_the_same_boxes_in_the_same_order() {
    let cases: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data("nms-cases.json")).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let numbers = |v: &serde_json::Value| -> Vec<f32> {
            v.as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_f64().unwrap() as f32)
                .collect()
        };
        let found: Vec<Corners> = case["boxes"]
            .as_array()
            .unwrap()
            .iter()
            .map(numbers)
            .map(|b| Corners {
                x1: b[0],
                y1: b[1],
                x2: b[2],
                y2: b[3],
            })
            .collect();
        let scores = numbers(&case["scores"]);
        let iou = case["iou"].as_f64().unwrap() as f32;
        let top_k = case["top_k"].as_u64().unwrap() as usize;
        let keep: Vec<usize> = case["keep"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap() as usize)
            .collect();
        assert_eq!(boxes::nms(&found, &scores, iou, top_k), keep);
    }
}

#[test]
fn an_object_of_two_classes_with_one_label_is_detected_once() {
    let priors = MOBILENET_V2.priors();
    let mut output = RawOutput {
        offsets: vec![0.0; priors.len() * 4],
        scores: vec![0.0; priors.len() * 4],
        classes: 4,
    };
    // One prior box that scores for three classes.
    output.scores[4000 + 1] = 0.7;
    output.scores[4000 + 2] = 0.9;
    output.scores[4000 + 3] = 0.8;
    let detected = |classes_by_label: &[Vec<usize>]| {
        boxes::detect(&output, &priors, &MOBILENET_V2, classes_by_label, &CRITERIA)
            .iter()
            .map(|found| found.class)
            .collect::<Vec<_>>()
    };
    assert_eq!(detected(&each_class(4)), [2, 3, 1]);
    assert_eq!(detected(&[vec![1, 2], vec![3]]), [2, 3]);
}

#[test]
fn the_detections_of_the_cat_equal_the_reference() {
    let state = StateDict::open(&data("small.safetensors")).unwrap();
    let network = Network::new(&state).unwrap();
    let (family, classes) = (network.family(), each_class(network.classes()));
    let (inference, _) = inference::prepare(network, None, Requested::REFERENCE).unwrap();
    let picture = cat();
    let output = inference
        .forward_one(&family.preprocessing.input(&picture))
        .unwrap();
    let mut ours = boxes::detect(&output, &family.priors(), family, &classes, &CRITERIA);
    ours.sort_by(|a, b| a.class.cmp(&b.class).then(b.score.total_cmp(&a.score)));
    let reference: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data("golden-detections.json")).unwrap()).unwrap();
    let theirs = reference["detections"].as_array().unwrap();
    assert_eq!(ours.len(), theirs.len());
    let (w, h) = (picture.width() as f32, picture.height() as f32);
    for (a, b) in ours.iter().zip(theirs) {
        assert_eq!(a.class as u64, b["class_index"].as_u64().unwrap());
        assert!((f64::from(a.score) - b["probability"].as_f64().unwrap()).abs() <= 1e-3);
        let side = |i: usize| b["box"][i].as_f64().unwrap() as f32;
        let expected = Corners {
            x1: side(0),
            y1: side(1),
            x2: side(2),
            y2: side(3),
        };
        let scaled = a.corners.scale(w, h);
        assert!(scaled.iou(&expected) >= 0.99);
    }
}

/// Compares the detections of torchvision's network on photographs, with random weights.
#[track_caller]
fn assert_torchvision_s_detections(family: &Family, files: &str, iou: f32) {
    let state = StateDict::open(&data(&format!("{files}.safetensors"))).unwrap();
    let labels = Labels::parse(include_bytes!("../../../data/coco_labels.txt")).unwrap();
    let (model, network) = Model::new(&state, &labels).unwrap();
    assert_eq!((model.family(), network.classes()), (family, 91));
    assert_eq!(model.labels()[12], "stop sign");
    let (inference, _) = inference::prepare(network, None, Requested::REFERENCE).unwrap();
    let criteria = Criteria {
        iou,
        top_k: 300,
        ..CRITERIA
    };
    let reference = std::fs::read(data(&format!("{files}-detections.json"))).unwrap();
    let reference: BTreeMap<String, Vec<serde_json::Value>> =
        serde_json::from_slice(&reference).unwrap();
    let mut count = 0;
    for (name, theirs) in reference {
        let picture = image::open(data(&name)).unwrap().into_rgb8();
        let output = inference.forward_one(&model.input(&picture)).unwrap();
        let mut ours = model.detections(&output, &criteria, picture.dimensions());
        // These random weights also detect the gaps in COCO's ids.
        let is_class = |found: &&serde_json::Value| {
            let class = found["class_index"].as_u64().unwrap() as usize;
            model.labels()[class - 1] != GAP
        };
        let theirs: Vec<_> = theirs.iter().filter(is_class).collect();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        count += ours.len();
        // Of nearly equal scores, either may come first.
        for theirs in theirs {
            let class = theirs["class_index"].as_u64().unwrap();
            let probability = theirs["probability"].as_f64().unwrap();
            let side = |index: usize| theirs["box"][index].as_f64().unwrap() as f32;
            let [x1, y1, x2, y2] = [0, 1, 2, 3].map(side);
            let same = |ours: &Detection| {
                ours.class as u64 == class
                    && (f64::from(ours.score) - probability).abs() <= 1e-3
                    && ours.corners.iou(&Corners { x1, y1, x2, y2 }) >= 0.99
            };
            let found = ours.iter().position(same);
            ours.remove(found.unwrap_or_else(|| panic!("{name}: no {theirs}")));
        }
    }
    assert!(count > 20);
}

#[test]
fn ssd300_s_detections_equal_torchvision_s() {
    assert_torchvision_s_detections(&TORCHVISION, "torchvision", 0.45);
}

#[test]
fn ssdlite_s_detections_equal_torchvision_s() {
    assert_torchvision_s_detections(&SSDLITE, "ssdlite", 0.55);
}

/// The model that ships, with its own class names.
fn shipped() -> (Model, Network) {
    let file = data("../../../weights/ssd_mobilenet_v2_oidv4.safetensors");
    let names = (MOBILENET_V2.class_names)(MOBILENET_V2.outputs).unwrap();
    let labels = Labels::parse(names.join("\n").as_bytes()).unwrap();
    Model::new(&StateDict::open(&file).unwrap(), &labels).unwrap()
}

const PHOTOGRAPHS: [&str; 3] = ["cat.png", "astronaut.png", "coffee.png"];

fn photograph(name: &str) -> image::RgbImage {
    let folder = if name == "cat.png" { "" } else { "mobilenet/" };
    image::open(data(&format!("{folder}{name}")))
        .unwrap()
        .into_rgb8()
}

/// LiteRT's detections of a photograph: label, score, box.
fn litert_detections(name: &str) -> Vec<(String, f32, Corners)> {
    let file = std::fs::read(data("mobilenet/golden-detections.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let found = golden[name].as_array().unwrap().iter().map(|found| {
        let side = |index: usize| found["box"][index].as_f64().unwrap() as f32;
        let [x1, y1, x2, y2] = [0, 1, 2, 3].map(side);
        let label = found["label"].as_str().unwrap().to_owned();
        let score = found["probability"].as_f64().unwrap() as f32;
        (label, score, Corners { x1, y1, x2, y2 })
    });
    found.collect()
}

#[track_caller]
fn assert_detections(model: &Model, output: &RawOutput, name: &str, tolerance: f32) {
    let criteria = Criteria {
        threshold: 0.3,
        ..CRITERIA
    };
    let ours = model.detections(output, &criteria, photograph(name).dimensions());
    let theirs = litert_detections(name);
    assert_eq!(ours.len(), theirs.len(), "{name}: {ours:?}");
    for (ours, (label, score, corners)) in ours.iter().zip(&theirs) {
        assert_eq!(ours.label, *label, "{name}");
        assert!((ours.score - score).abs() <= tolerance, "{ours:?}");
        assert!(ours.corners.iou(corners) >= 0.99, "{ours:?}");
    }
}

#[test]
fn the_model_that_ships_gives_litert_s_outputs_and_detections() {
    let golden = StateDict::open(&data("mobilenet/golden.safetensors")).unwrap();
    let (model, network) = shipped();
    for name in PHOTOGRAPHS {
        let of = |part: &str| golden.get(&format!("{name}.{part}")).unwrap().to_f32();
        let input = tch::Tensor::from_slice(&of("input"))
            .view([1, 300, 300, 3])
            .permute([0, 3, 1, 2]);
        let (offsets, logits) = tch::no_grad(|| network.outputs(&input)).unwrap();
        let numbers = |tensor: &tch::Tensor| Vec::<f32>::try_from(tensor.view([-1])).unwrap();
        let output = RawOutput {
            offsets: numbers(&offsets),
            scores: numbers(&logits.sigmoid()),
            classes: network.classes(),
        };
        assert!(worst(&output.offsets, &of("boxes")) <= 1e-3, "{name}");
        assert!(worst(&numbers(&logits), &of("logits")) <= 1e-3, "{name}");
        assert_detections(&model, &output, name, 1e-3);
    }
}

#[test]
fn the_model_that_ships_detects_in_photographs_what_litert_detects() {
    let (model, network) = shipped();
    let (inference, _) = inference::prepare(network, None, Requested::REFERENCE).unwrap();
    let golden = StateDict::open(&data("mobilenet/golden.safetensors")).unwrap();
    for name in PHOTOGRAPHS {
        let input = model.input(&photograph(name));
        let theirs = golden.get(&format!("{name}.input")).unwrap().to_f32();
        // One level of 8 bits: decoders and resizers may round differently.
        assert!(worst(input.values(), &theirs) <= 1.01 / 127.5, "{name}");
        let output = inference.forward_one(&input).unwrap();
        assert_detections(&model, &output, name, 0.02);
    }
}
