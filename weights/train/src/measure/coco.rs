//! COCO's average precision, as pycocotools computes it for boxes of every area: ten overlaps from
//! 0.50 to 0.95, precision at 101 recalls, the best 100 detections of a picture and class, and
//! crowds left out.

use std::collections::BTreeMap;

use super::{Found, Truth, area, intersection, iou, ranked};

/// The most detections of a class in a picture that count.
const MOST: usize = 100;
/// Recalls at which precision is read: 0, 0.01 ... 1.
const POINTS: usize = 101;

/// The ten overlaps, 0.50 to 0.95.
#[must_use]
pub fn overlaps() -> [f64; 10] {
    // To the bit those of numpy's linspace, which pycocotools asks.
    let step = (0.95 - 0.5) / 9.0;
    std::array::from_fn(|i| if i < 9 { i as f64 * step + 0.5 } else { 0.95 })
}

/// The average precision of a class at each of the ten overlaps; `None` without objects.
#[must_use]
pub fn average_precisions(truths: &[Truth], found: &[Found], class: usize) -> Option<[f64; 10]> {
    let objects = truths
        .iter()
        .filter(|t| t.class == class && !t.ignored)
        .count();
    if objects == 0 {
        return None;
    }
    let mut pictures: BTreeMap<usize, (Vec<&Truth>, Vec<&Found>)> = BTreeMap::new();
    for truth in truths.iter().filter(|truth| truth.class == class) {
        pictures.entry(truth.picture).or_default().0.push(truth);
    }
    for index in ranked(found, class) {
        let detections = &mut pictures.entry(found[index].picture).or_default().1;
        if detections.len() < MOST {
            detections.push(&found[index]);
        }
    }
    for (there, _) in pictures.values_mut() {
        there.sort_by_key(|truth| truth.ignored);
    }
    Some(overlaps().map(|overlap| {
        let mut judged: Vec<(f64, bool)> = pictures
            .values()
            .flat_map(|(there, detections)| judge(there, detections, overlap))
            .collect();
        // Stable: equal scores stay in the order of the pictures, as numpy's mergesort leaves them.
        judged.sort_by(|a, b| b.0.total_cmp(&a.0));
        interpolated(&judged, objects)
    }))
}

/// The detections of a picture that count, as (score, whether right). `there` has the crowds last.
fn judge(there: &[&Truth], detections: &[&Found], overlap: f64) -> Vec<(f64, bool)> {
    let mut taken = vec![false; there.len()];
    let mut judged = Vec::new();
    for detection in detections {
        let mut best: Option<usize> = None;
        let mut most = overlap.min(1.0 - 1e-10);
        for (index, truth) in there.iter().enumerate() {
            if taken[index] && !truth.ignored {
                continue;
            }
            // Once a real object is matched, crowds are not looked at.
            if truth.ignored && best.is_some_and(|b| !there[b].ignored) {
                break;
            }
            let shared = if truth.ignored {
                let whole = area(&detection.corners);
                if whole > 0.0 {
                    intersection(&detection.corners, &truth.corners) / whole
                } else {
                    0.0
                }
            } else {
                iou(&detection.corners, &truth.corners)
            };
            if shared >= most {
                most = shared;
                best = Some(index);
            }
        }
        match best {
            Some(index) if there[index].ignored => {}
            Some(index) => {
                taken[index] = true;
                judged.push((detection.score, true));
            }
            None => judged.push((detection.score, false)),
        }
    }
    judged
}

/// The mean precision at the recall points of detections sorted by score.
fn interpolated(judged: &[(f64, bool)], objects: usize) -> f64 {
    let (mut recall, mut precision) = (Vec::new(), Vec::new());
    let mut right = 0.0;
    for (index, &(_, is_right)) in judged.iter().enumerate() {
        right += f64::from(u8::from(is_right));
        recall.push(right / objects as f64);
        precision.push(right / ((index + 1) as f64 + f64::EPSILON));
    }
    for i in (1..precision.len()).rev() {
        precision[i - 1] = precision[i - 1].max(precision[i]);
    }
    let at = |point: f64| {
        let first = recall.partition_point(|&r| r < point);
        precision.get(first).copied().unwrap_or(0.0)
    };
    (0..POINTS).map(|i| at(i as f64 * 0.01)).sum::<f64>() / POINTS as f64
}
