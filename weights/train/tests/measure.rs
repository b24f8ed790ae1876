//! Compares COCO's average precision with that of pycocotools, see `tests/data/make_coco_cases.py`.

use serde::Deserialize;
use ssd_train::measure::{Detection, GroundTruth, coco};

#[derive(Deserialize)]
struct Case {
    classes: usize,
    truths: Vec<[f64; 7]>,
    found: Vec<[f64; 7]>,
    expected: Vec<Option<[f64; 10]>>,
}

fn corners([_, _, x, y, w, h, _]: [f64; 7]) -> [f64; 4] {
    [x, y, x + w, y + h]
}

#[test]
fn average_precisions_equal_those_of_pycocotools() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/coco-cases.json")).unwrap();
    assert!(cases.len() > 3);
    for (number, case) in cases.iter().enumerate() {
        let truths: Vec<GroundTruth> = case
            .truths
            .iter()
            .map(|&t| GroundTruth {
                picture: t[0] as usize,
                class: t[1] as usize,
                corners: corners(t),
                ignored: t[6] > 0.0,
            })
            .collect();
        let detections: Vec<Detection> = case
            .found
            .iter()
            .map(|&f| Detection {
                picture: f[0] as usize,
                class: f[1] as usize,
                corners: corners(f),
                score: f[6],
            })
            .collect();
        for class in 0..case.classes {
            let ours = coco::average_precisions(&truths, &detections, class);
            let theirs = case.expected[class];
            assert_eq!(
                ours.is_some(),
                theirs.is_some(),
                "case {number} class {class}"
            );
            let pairs = ours.into_iter().flatten().zip(theirs.into_iter().flatten());
            for (threshold, (ours, theirs)) in coco::iou_thresholds().into_iter().zip(pairs) {
                assert!(
                    (ours - theirs).abs() < 1e-6,
                    "case {number} class {class} at IoU {threshold}: {ours} instead of {theirs}"
                );
            }
        }
    }
}
