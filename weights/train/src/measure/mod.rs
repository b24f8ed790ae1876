//! Measuring detections against the truth.
//!
//! ```text
//! voc   average precision as the PASCAL VOC devkits define it, and precision and recall
//! coco  average precision as pycocotools computes it
//! ```
//!
//! Boxes are continuous: a box one pixel wide spans 1, not 2 as in the VOC devkits' integer
//! arithmetic, which moves overlaps by a few thousandths.

pub mod coco;
pub mod voc;

/// A box: left, top, right, bottom.
pub type Box4 = [f64; 4];

/// An object that is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// Which picture, from 0.
    pub picture: usize,
    /// Which class, from 0.
    pub class: usize,
    /// Where.
    pub corners: Box4,
    /// VOC's difficult, COCO's crowd: neither missed nor wrong.
    pub ignored: bool,
}

/// An object that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Which picture, from 0.
    pub picture: usize,
    /// Which class, from 0.
    pub class: usize,
    /// Where.
    pub corners: Box4,
    /// How sure, more is surer.
    pub score: f64,
}

/// Area of a box.
fn area(b: &Box4) -> f64 {
    (b[2] - b[0]) * (b[3] - b[1])
}

/// Area of what two boxes share.
fn intersection(a: &Box4, b: &Box4) -> f64 {
    let w = a[2].min(b[2]) - a[0].max(b[0]);
    let h = a[3].min(b[3]) - a[1].max(b[1]);
    w.max(0.0) * h.max(0.0)
}

/// Intersection over union; 0 where both are empty.
pub(crate) fn iou(a: &Box4, b: &Box4) -> f64 {
    let shared = intersection(a, b);
    let union = area(a) + area(b) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

/// Indexes of the detections of a class, best first; equal scores in the order given.
fn ranked(found: &[Found], class: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..found.len())
        .filter(|&i| found[i].class == class)
        .collect();
    order.sort_by(|&a, &b| found[b].score.total_cmp(&found[a].score));
    order
}

/// The mean of what there is.
#[must_use]
pub fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let there: Vec<f64> = values.into_iter().flatten().collect();
    (!there.is_empty()).then(|| there.iter().sum::<f64>() / there.len() as f64)
}
