//! Computes COCO's average precision like pycocotools for boxes of every area. There are ten IoU thresholds, from 0.50 to
//! 0.95. Precision is averaged over 101 recalls. The best 100 detections of each class and picture count, and crowds are
//! ignored.

use std::collections::BTreeMap;

use super::{Detection, GroundTruth, area, intersection, iou, ranked};

/// The maximum number of detections of a class in a picture that count.
const MAX_DETECTIONS: usize = 100;
/// The number of recalls at which precision is read: 0, 0.01 ... 1.
const RECALLS: usize = 101;

/// The ten IoU thresholds, 0.50 to 0.95.
#[must_use]
pub fn iou_thresholds() -> [f64; 10] {
    // Exactly the values of numpy's linspace, which pycocotools uses.
    let step = (0.95 - 0.5) / 9.0;
    std::array::from_fn(|i| if i < 9 { i as f64 * step + 0.5 } else { 0.95 })
}

/// The average precision of a class at each of the ten IoU thresholds, 0 to 1; `None` without objects.
#[must_use]
pub fn average_precisions(
    ground_truths: &[GroundTruth],
    detections: &[Detection],
    class: usize,
) -> Option<[f64; 10]> {
    let of_class = || ground_truths.iter().filter(|truth| truth.class == class);
    let objects = of_class().filter(|truth| !truth.ignored).count();
    if objects == 0 {
        return None;
    }
    let mut pictures: BTreeMap<usize, (Vec<&GroundTruth>, Vec<&Detection>)> = BTreeMap::new();
    for truth in of_class() {
        pictures.entry(truth.picture).or_default().0.push(truth);
    }
    for detection in ranked(detections, class)
        .into_iter()
        .map(|i| &detections[i])
    {
        let best = &mut pictures.entry(detection.picture).or_default().1;
        if best.len() < MAX_DETECTIONS {
            best.push(detection);
        }
    }
    for (truths, _) in pictures.values_mut() {
        truths.sort_by_key(|truth| truth.ignored);
    }
    Some(iou_thresholds().map(|threshold| {
        let mut judged: Vec<(f64, bool)> = pictures
            .values()
            .flat_map(|(truths, detections)| judge(truths, detections, threshold))
            .collect();
        // Stable, like numpy's mergesort: equal scores stay in the order of the pictures.
        judged.sort_by(|a, b| b.0.total_cmp(&a.0));
        interpolated(&judged, objects)
    }))
}

/// The detections of a picture that count: score, and whether it is a true positive. Crowds must be last in `truths`.
fn judge(truths: &[&GroundTruth], detections: &[&Detection], threshold: f64) -> Vec<(f64, bool)> {
    let mut matched = vec![false; truths.len()];
    let mut judged = Vec::new();
    for detection in detections {
        let mut best: Option<usize> = None;
        let mut highest = threshold.min(1.0 - 1e-10);
        for (index, truth) in truths.iter().enumerate() {
            if matched[index] && !truth.ignored {
                continue;
            }
            // A match with an object takes precedence over every match with a crowd.
            if truth.ignored && best.is_some_and(|b| !truths[b].ignored) {
                break;
            }
            let overlap = if truth.ignored {
                let whole = area(&detection.corners);
                if whole > 0.0 {
                    intersection(&detection.corners, &truth.corners) / whole
                } else {
                    0.0
                }
            } else {
                iou(&detection.corners, &truth.corners)
            };
            if overlap >= highest {
                highest = overlap;
                best = Some(index);
            }
        }
        match best {
            Some(index) if truths[index].ignored => {}
            Some(index) => {
                matched[index] = true;
                judged.push((detection.score, true));
            }
            None => judged.push((detection.score, false)),
        }
    }
    judged
}

/// The mean precision at the 101 recalls. `judged` is sorted by score.
fn interpolated(judged: &[(f64, bool)], objects: usize) -> f64 {
    let (mut recall, mut precision) = (Vec::new(), Vec::new());
    let mut true_positives = 0.0;
    for (index, &(_, is_true)) in judged.iter().enumerate() {
        true_positives += f64::from(u8::from(is_true));
        recall.push(true_positives / objects as f64);
        precision.push(true_positives / ((index + 1) as f64 + f64::EPSILON));
    }
    for i in (1..precision.len()).rev() {
        precision[i - 1] = precision[i - 1].max(precision[i]);
    }
    let at = |point: f64| {
        let first = recall.partition_point(|&r| r < point);
        precision.get(first).copied().unwrap_or(0.0)
    };
    (0..RECALLS).map(|i| at(i as f64 * 0.01)).sum::<f64>() / RECALLS as f64
}
