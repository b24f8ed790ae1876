//! Compares detections with ground truth, and computes average precision, precision and recall.
//!
//! ```text
//! voc   average precision like in the PASCAL VOC devkits; precision and recall
//! coco  average precision like in pycocotools
//! ```
//!
//! Boxes are continuous: the width of a box from 3 to 4 is 1. In the integer arithmetic of the VOC devkits it is 2, which
//! changes overlaps by a few thousandths.

pub mod coco;
pub mod voc;

/// A bounding box in pixels: left, top, right, bottom.
pub type Box4 = [f64; 4];

/// A labelled object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroundTruth {
    /// The index of its picture.
    pub picture: usize,
    /// The index of its class.
    pub class: usize,
    /// Its bounding box.
    pub corners: Box4,
    /// Whether it is difficult (VOC) or a crowd (COCO): it counts neither as found nor as missed.
    pub ignored: bool,
}

/// An object that a detector reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// The index of its picture.
    pub picture: usize,
    /// The index of its class.
    pub class: usize,
    /// Its bounding box.
    pub corners: Box4,
    /// Its score, 0 to 1.
    pub score: f64,
}

fn area(b: &Box4) -> f64 {
    (b[2] - b[0]) * (b[3] - b[1])
}

/// The area of the intersection.
fn intersection(a: &Box4, b: &Box4) -> f64 {
    let w = a[2].min(b[2]) - a[0].max(b[0]);
    let h = a[3].min(b[3]) - a[1].max(b[1]);
    w.max(0.0) * h.max(0.0)
}

/// Intersection over union; 0 if both boxes are empty.
fn iou(a: &Box4, b: &Box4) -> f64 {
    let shared = intersection(a, b);
    let union = area(a) + area(b) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

/// The indexes of the detections of a class, by falling score. Equal scores keep their order.
fn ranked(detections: &[Detection], class: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..detections.len())
        .filter(|&i| detections[i].class == class)
        .collect();
    order.sort_by(|&a, &b| detections[b].score.total_cmp(&detections[a].score));
    order
}

/// The mean of the values that are not `None`; `None` if there are none.
#[must_use]
pub fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let present: Vec<f64> = values.into_iter().flatten().collect();
    (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64)
}
