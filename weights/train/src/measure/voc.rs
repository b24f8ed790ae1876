//! Matches detections with objects by the rules of PASCAL VOC (Everingham et al. 2010): the best detection with an IoU
//! of 0.5 or more with an object of its class is a true positive. Difficult objects are ignored.

use std::collections::{HashMap, HashSet};

use super::{Detection, GroundTruth, iou, ranked};

/// The minimum IoU of a true positive with its object.
const MIN_IOU: f64 = 0.5;

/// How a detection counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It matches the object with this index.
    TruePositive(usize),
    /// It matches no object, or an object that a better detection matches.
    FalsePositive,
    /// It matches a difficult object.
    Ignored,
}

/// Precision and recall of the detections of a class: entry `i` counts the detections up to the `i`-th best.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// The scores of the detections, falling.
    pub scores: Vec<f64>,
    /// The share of the detections that are true positives, 0 to 1.
    pub precision: Vec<f64>,
    /// The share of the objects that are found, 0 to 1.
    pub recall: Vec<f64>,
    /// The number of objects, difficult ones not counted.
    pub objects: usize,
}

/// Judges the detections of a class. Returns their indexes in `detections`, by falling score, and their verdicts.
#[must_use]
pub fn judge(
    ground_truths: &[GroundTruth],
    detections: &[Detection],
    class: usize,
) -> Vec<(usize, Verdict)> {
    let mut objects: HashMap<usize, Vec<(usize, bool)>> = HashMap::new();
    for (index, truth) in ground_truths.iter().enumerate() {
        if truth.class == class {
            let of_picture = objects.entry(truth.picture).or_default();
            of_picture.push((index, false));
        }
    }
    let mut verdict = |detection: &Detection| {
        let of_picture = objects.get_mut(&detection.picture);
        let mut best: Option<(f64, &mut (usize, bool))> = None;
        for object in of_picture.into_iter().flatten() {
            let overlap = iou(&ground_truths[object.0].corners, &detection.corners);
            if best.as_ref().is_none_or(|(most, _)| overlap > *most) {
                best = Some((overlap, object));
            }
        }
        match best {
            Some((overlap, (truth, _))) if overlap >= MIN_IOU && ground_truths[*truth].ignored => {
                Verdict::Ignored
            }
            Some((overlap, (truth, is_matched))) if overlap >= MIN_IOU && !*is_matched => {
                *is_matched = true;
                Verdict::TruePositive(*truth)
            }
            _ => Verdict::FalsePositive,
        }
    };
    ranked(detections, class)
        .into_iter()
        .map(|index| (index, verdict(&detections[index])))
        .collect()
}

/// The precision-recall curve of a class.
#[must_use]
pub fn curve(ground_truths: &[GroundTruth], detections: &[Detection], class: usize) -> Curve {
    let counts = |truth: &&GroundTruth| truth.class == class && !truth.ignored;
    let mut curve = Curve {
        objects: ground_truths.iter().filter(counts).count(),
        ..Curve::default()
    };
    let (mut true_positives, mut judged) = (0.0, 0.0);
    for (index, verdict) in judge(ground_truths, detections, class) {
        match verdict {
            Verdict::Ignored => continue,
            Verdict::TruePositive(_) => true_positives += 1.0,
            Verdict::FalsePositive => {}
        }
        judged += 1.0;
        curve.scores.push(detections[index].score);
        curve.precision.push(true_positives / judged);
        curve
            .recall
            .push(true_positives / (curve.objects as f64).max(1.0));
    }
    curve
}

impl Curve {
    /// The area under the curve, with precision made monotonic, as in VOC 2010 to 2012. `None` without objects.
    #[must_use]
    pub fn area(&self) -> Option<f64> {
        if self.objects == 0 {
            return None;
        }
        let mut best = 0.0f64;
        let mut sum = 0.0;
        for i in (0..self.recall.len()).rev() {
            best = best.max(self.precision[i]);
            let before = if i == 0 { 0.0 } else { self.recall[i - 1] };
            sum += (self.recall[i] - before) * best;
        }
        Some(sum)
    }

    /// The mean of the best precision at or beyond the recalls 0, 0.1 ... 1, as in VOC 2007. `None` without objects.
    #[must_use]
    pub fn eleven_points(&self) -> Option<f64> {
        if self.objects == 0 {
            return None;
        }
        let at = |point: f64| {
            self.recall
                .iter()
                .zip(&self.precision)
                .filter(|(recall, _)| **recall >= point)
                .map(|(_, precision)| *precision)
                .fold(0.0, f64::max)
        };
        // The devkit's 0:0.1:1 in double precision.
        Some((0..=10).map(|i| at(f64::from(i) * 0.1)).sum::<f64>() / 11.0)
    }
}

/// The accuracy of the detections at or above a threshold, over all classes. Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct AtThreshold {
    /// The share of the detections that are true positives; `None` without detections.
    pub precision: Option<f64>,
    /// The share of the objects that are found; `None` without objects.
    pub recall: Option<f64>,
    /// The share of the pictures with a detection.
    pub pictures_with_detections: f64,
}

/// Precision, recall and the share of pictures with detections at or above `threshold`.
#[must_use]
pub fn at_threshold(
    ground_truths: &[GroundTruth],
    detections: &[Detection],
    (classes, pictures): (usize, usize),
    threshold: f64,
) -> AtThreshold {
    let kept: Vec<Detection> = detections
        .iter()
        .copied()
        .filter(|detection| detection.score >= threshold)
        .collect();
    let (mut true_positives, mut false_positives) = (0, 0);
    for class in 0..classes {
        for (_, verdict) in judge(ground_truths, &kept, class) {
            true_positives += usize::from(matches!(verdict, Verdict::TruePositive(_)));
            false_positives += usize::from(verdict == Verdict::FalsePositive);
        }
    }
    let objects = ground_truths.iter().filter(|truth| !truth.ignored).count();
    let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
    let with_detections: HashSet<usize> = kept.iter().map(|d| d.picture).collect();
    AtThreshold {
        precision: share(true_positives, true_positives + false_positives),
        recall: share(true_positives, objects),
        pictures_with_detections: share(with_detections.len(), pictures).unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(picture: usize, x: f64, ignored: bool) -> GroundTruth {
        GroundTruth {
            picture,
            class: 0,
            corners: [x, 0.0, x + 10.0, 10.0],
            ignored,
        }
    }

    fn detection((picture, x, score): (usize, f64, f64)) -> Detection {
        Detection {
            picture,
            class: 0,
            corners: [x, 0.0, x + 10.0, 10.0],
            score,
        }
    }

    #[test]
    fn a_repeated_detection_is_a_false_positive_and_that_of_a_difficult_object_is_ignored() {
        let truths = [truth(0, 0.0, false), truth(0, 50.0, true)];
        let detections = [(0, 1.0, 0.9), (0, 0.0, 0.8), (0, 50.0, 0.7)].map(detection);
        let verdicts: Vec<_> = judge(&truths, &detections, 0)
            .into_iter()
            .map(|(_, v)| v)
            .collect();
        assert_eq!(
            verdicts,
            [
                Verdict::TruePositive(0),
                Verdict::FalsePositive,
                Verdict::Ignored
            ]
        );
    }

    #[test]
    fn an_iou_of_one_half_is_enough_and_less_is_not() {
        // Ten wide, shifted by a third: the IoU is 2/3 over 4/3.
        let shift = 10.0 / 3.0;
        let verdict = |x: f64| judge(&[truth(0, 0.0, false)], &[detection((0, x, 1.0))], 0)[0].1;
        assert_eq!(verdict(shift - 1e-9), Verdict::TruePositive(0));
        assert_eq!(verdict(shift + 0.01), Verdict::FalsePositive);
    }

    /// Computed by hand: three objects; a true, a false, a true and a false positive. Precision 1, 1/2, 2/3, 1/2 at
    /// recall 1/3, 1/3, 2/3, 2/3.
    #[test]
    fn both_averages_of_a_hand_computed_curve_are_those_of_the_devkits() {
        let truths = [
            truth(0, 0.0, false),
            truth(1, 0.0, false),
            truth(2, 0.0, false),
        ];
        let detections =
            [(0, 0.0, 0.9), (0, 90.0, 0.8), (1, 0.0, 0.7), (1, 90.0, 0.6)].map(detection);
        let curve = curve(&truths, &detections, 0);
        assert!((curve.area().unwrap() - (1.0 / 3.0 + 2.0 / 3.0 / 3.0)).abs() < 1e-12);
        // Precision 1 at recalls 0 to 0.3, 2/3 at 0.4 to 0.6, nothing beyond.
        let points = (4.0 + 3.0 * 2.0 / 3.0) / 11.0;
        assert!((curve.eleven_points().unwrap() - points).abs() < 1e-12);
    }

    #[test]
    fn precision_recall_and_pictures_with_detections_are_those_at_the_threshold() {
        let truths = [truth(0, 0.0, false), truth(1, 0.0, false)];
        let detections = [(0, 0.0, 0.9), (2, 0.0, 0.7), (1, 0.0, 0.3)].map(detection);
        let at = at_threshold(&truths, &detections, (1, 4), 0.6);
        assert_eq!(at.precision, Some(0.5));
        assert_eq!(at.recall, Some(0.5));
        assert!((at.pictures_with_detections - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_class_without_objects_has_no_average() {
        let empty = curve(&[], &[detection((0, 0.0, 0.5))], 0);
        assert_eq!((empty.area(), empty.eleven_points()), (None, None));
    }
}
