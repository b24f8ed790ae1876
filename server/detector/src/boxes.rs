//! Turns the network's outputs into detections: decodes offsets with the prior boxes, and runs NMS for each
//! label.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::family::{self, BoxCoder, Family};
use super::priors::Prior;

/// Factors of the offsets of the centre, and of the logarithm of the size (Liu et al. 2016; "variances" in the
/// original code).
const CENTRE_VARIANCE: f32 = 0.1;
const SIZE_VARIANCE: f32 = 0.2;

/// Boxes with this score or less never enter NMS, as in the paper.
pub const SCORE_FLOOR: f32 = 0.01;

/// A bounding box by two corners. The unit is the caller's: fractions of the picture's sides, or pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corners {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

impl Corners {
    fn area(&self) -> f32 {
        (self.x2 - self.x1) * (self.y2 - self.y1)
    }

    /// From fractions of a picture's sides to pixels.
    #[must_use]
    pub fn scale(&self, width: f32, height: f32) -> Self {
        Self {
            x1: self.x1 * width,
            y1: self.y1 * height,
            x2: self.x2 * width,
            y2: self.y2 * height,
        }
    }

    /// The part of the box inside a picture of these sides.
    #[must_use]
    pub fn clip(&self, width: f32, height: f32) -> Self {
        Self {
            x1: self.x1.clamp(0.0, width),
            y1: self.y1.clamp(0.0, height),
            x2: self.x2.clamp(0.0, width),
            y2: self.y2.clamp(0.0, height),
        }
    }

    /// Whether it has no area, or an edge is NaN.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !(self.x1 < self.x2 && self.y1 < self.y2)
    }

    /// Intersection over union. NaN if both boxes are empty.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let w = (self.x2.min(other.x2) - self.x1.max(other.x1)).max(0.0);
        let h = (self.y2.min(other.y2) - self.y1.max(other.y1)).max(0.0);
        let intersection = w * h;
        intersection / ((self.area() - intersection) + other.area())
    }
}

/// The bounding box of a prior box and its four offsets, in fractions of the picture's sides.
#[must_use]
pub fn decode(prior: &Prior, offsets: &[f32; 4], coder: BoxCoder) -> Corners {
    let [dx, dy, dw, dh] = coder.order.map(|at| offsets[at]);
    let cx = prior.cx + dx * CENTRE_VARIANCE * prior.w;
    let cy = prior.cy + dy * CENTRE_VARIANCE * prior.h;
    let bound = coder.log_size_bound.unwrap_or(f32::INFINITY);
    let growth = |offset: f32| (offset * SIZE_VARIANCE).min(bound).exp();
    let (w, h) = (prior.w * growth(dw), prior.h * growth(dh));
    let (x1, y1) = (cx - w / 2.0, cy - h / 2.0);
    Corners {
        x1,
        y1,
        x2: x1 + w,
        y2: y1 + h,
    }
}

/// Greedy non-maximum suppression over the `top_k` best scores. Returns the indexes of the kept boxes, best
/// first. A box is dropped if its `IoU` with a kept box exceeds `iou`, or is NaN because both are empty. If
/// scores are equal, the later index comes first, as in the reference, which reads an ascending sort backwards.
#[must_use]
pub fn nms(boxes: &[Corners], scores: &[f32], iou: f32, top_k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(b.cmp(&a)));
    order.truncate(top_k);
    let mut kept: Vec<usize> = Vec::new();
    for candidate in order {
        if kept
            .iter()
            .all(|&best| boxes[best].iou(&boxes[candidate]) <= iou)
        {
            kept.push(candidate);
        }
    }
    kept
}

/// The network's output for one picture, in the order of the prior boxes.
#[derive(Debug, Clone)]
pub struct RawOutput {
    /// Offsets, 4 per prior.
    pub offsets: Vec<f32>,
    /// Scores from 0 to 1, `classes` per prior; class 0 is the background.
    pub scores: Vec<f32>,
    /// The number of classes, the background included.
    pub classes: usize,
}

/// A detection before it gets a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Class index, 1 or more.
    pub class: usize,
    /// 0 to 1.
    pub score: f32,
    /// In fractions of the picture's sides, not clipped to it.
    pub corners: Corners,
}

/// Which detections to return.
#[derive(Debug, Clone, PartialEq)]
pub struct Criteria {
    /// Minimum score, 0 to 1. No detection has a score of [`SCORE_FLOOR`] or less.
    pub threshold: f32,
    /// NMS drops the worse of two boxes of one class whose `IoU` exceeds this, 0 to 1.
    pub iou: f32,
    /// Maximum number of detections in a picture.
    pub top_k: usize,
    /// The classes of each label to detect; `None` for all labels.
    pub classes_by_label: Option<Arc<[Vec<usize>]>>,
}

impl Criteria {
    /// The range of `threshold`.
    pub const THRESHOLD: RangeInclusive<f32> = 0.0..=1.0;
    /// The range of `iou`.
    pub const IOU: RangeInclusive<f32> = 0.0..=1.0;

    /// The range of `top_k`: no network has more detections than prior boxes.
    #[must_use]
    pub fn top_k() -> RangeInclusive<usize> {
        1..=family::max_priors()
    }
}

/// Each class in its own group, for [`detect`] if all classes have different labels. `classes` includes the
/// background.
#[must_use]
pub fn each_class(classes: usize) -> Vec<Vec<usize>> {
    (1..classes).map(|class| vec![class]).collect()
}

/// The detections in one picture, best first, selected as in the family's own implementation. NMS runs for each
/// label over the boxes of its classes, so that an object appears once per label. Boxes entirely outside the
/// picture are left out.
///
/// The reference runs NMS over all boxes above 0.01, then applies the threshold. A box never suppresses a
/// better one, so applying the threshold first gives the same result with less work.
#[must_use]
pub fn detect(
    output: &RawOutput,
    priors: &[Prior],
    family: &Family,
    classes_by_label: &[Vec<usize>],
    criteria: &Criteria,
) -> Vec<Scored> {
    let classes_by_label = criteria
        .classes_by_label
        .as_deref()
        .unwrap_or(classes_by_label);
    let mut found = Vec::new();
    let (mut candidates, mut boxes, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    let (offsets, _) = output.offsets.as_chunks::<4>();
    for classes in classes_by_label {
        candidates.clear();
        boxes.clear();
        scores.clear();
        for &class in classes {
            let column = output.scores.iter().skip(class).step_by(output.classes);
            for ((&score, offset), prior) in column.zip(offsets).zip(priors) {
                if score >= criteria.threshold && score > SCORE_FLOOR {
                    let mut corners = decode(prior, offset, family.coder);
                    if family.clips_before_nms {
                        corners = corners.clip(1.0, 1.0);
                    }
                    candidates.push(Scored {
                        class,
                        score,
                        corners,
                    });
                    boxes.push(corners);
                    scores.push(score);
                }
            }
        }
        let kept = nms(&boxes, &scores, criteria.iou, family.candidates);
        found.extend(kept.into_iter().map(|index| candidates[index]));
    }
    // Boxes outside the picture must not count towards `top_k`.
    found.retain(|found: &Scored| !found.corners.clip(1.0, 1.0).is_empty());
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(criteria.top_k);
    found
}
