//! The detector against a plain `PyTorch` implementation of SSD300 and against torchvision's
//! (tests/data, seeded weights; tests/reference, how they were made).

use std::path::PathBuf;

use ssd_server::detector::Model;
use ssd_server::detector::boxes::{self, Corners, Criteria};
use ssd_server::detector::family::{TORCHVISION, VOC};
use ssd_server::detector::inference;
use ssd_server::detector::labels::Labels;
use ssd_server::detector::network::Network;
use ssd_server::detector::precision::Wanted;
use ssd_server::detector::priors::{self, Sizes};
use ssd_server::weights::StateDict;

const CRITERIA: Criteria = Criteria {
    threshold: 0.6,
    iou: 0.45,
    top_k: 200,
};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
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
fn priors_equal_the_reference() {
    for (sizes, file, name) in [
        (Sizes::VOC, "golden.safetensors", "priors.voc"),
        (Sizes::COCO, "golden.safetensors", "priors.coco"),
        (
            Sizes::TORCHVISION,
            "torchvision-priors.safetensors",
            "priors",
        ),
    ] {
        let ours: Vec<f32> = priors::priors(&sizes)
            .iter()
            .flat_map(|p| [p.cx, p.cy, p.w, p.h])
            .collect();
        let theirs = StateDict::open(&data(file)).unwrap();
        let theirs = theirs.get(name).unwrap().to_f32();
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
        let (network, family) = Network::new(&StateDict::open(&data(file)).unwrap()).unwrap();
        assert_eq!((network.classes(), family), (21, &VOC));
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
fn the_detections_of_the_cat_equal_the_reference() {
    let state = StateDict::open(&data("small.safetensors")).unwrap();
    let (network, family) = Network::new(&state).unwrap();
    let (inference, _) = inference::prepare(network, family, None, Wanted::REFERENCE).unwrap();
    let picture = cat();
    let output = inference
        .forward_one(&family.preprocessing.input(&picture))
        .unwrap();
    let mut ours = boxes::detect(&output, &priors::priors(&family.sizes), family, &CRITERIA);
    ours.sort_by(|a, b| {
        a.class
            .cmp(&b.class)
            .then(b.probability.total_cmp(&a.probability))
    });
    let reference: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data("golden-detections.json")).unwrap()).unwrap();
    let theirs = reference["detections"].as_array().unwrap();
    assert_eq!(ours.len(), theirs.len());
    let (w, h) = (picture.width() as f32, picture.height() as f32);
    for (a, b) in ours.iter().zip(theirs) {
        assert_eq!(a.class as u64, b["class_index"].as_u64().unwrap());
        assert!((f64::from(a.probability) - b["probability"].as_f64().unwrap()).abs() <= 1e-3);
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

#[test]
fn torchvision_s_weights_give_torchvision_s_detections() {
    let state = StateDict::open(&data("torchvision.safetensors")).unwrap();
    let labels = Labels::parse(include_bytes!("../../data/coco_labels.txt")).unwrap();
    let (model, network) = Model::new(&state, &labels).unwrap();
    assert_eq!((model.family(), network.classes()), (&TORCHVISION, 91));
    assert_eq!(model.labels()[12], "stop sign");
    let picture = cat();
    let (inference, _) =
        inference::prepare(network, model.family(), None, Wanted::REFERENCE).unwrap();
    let output = inference.forward_one(&model.input(&picture)).unwrap();
    let ours = model.detections(&output, &CRITERIA, picture.dimensions());
    let theirs: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data("torchvision-detections.json")).unwrap())
            .unwrap();
    let theirs = theirs["detections"].as_array().unwrap();
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.len() > 20);
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.class as u64, theirs["class_index"].as_u64().unwrap());
        let probability = theirs["probability"].as_f64().unwrap();
        assert!((f64::from(ours.probability) - probability).abs() <= 1e-3);
        let side = |index: usize| theirs["box"][index].as_f64().unwrap() as f32;
        let [x1, y1, x2, y2] = [0, 1, 2, 3].map(side);
        assert!(ours.corners.iou(&Corners { x1, y1, x2, y2 }) >= 0.99);
    }
}
