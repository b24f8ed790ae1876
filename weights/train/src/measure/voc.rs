//! PASCAL VOC (Everingham et al. 2010): a detection is right where it overlaps an object of its
//! class by half or more, and is the first to do so. Difficult objects are left out.

use super::{Found, Truth, iou, ranked};

/// Least overlap of a right detection.
pub(crate) const OVERLAP: f64 = 0.5;

/// What became of a detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It found the object with this index.
    Right(usize),
    /// It found none, or one that was found already.
    Wrong,
    /// It found a difficult one.
    Left,
}

/// Precision and recall after each detection of a class, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// Scores, falling.
    pub scores: Vec<f64>,
    /// Share of the detections so far that are right.
    pub precision: Vec<f64>,
    /// Share of the objects found so far.
    pub recall: Vec<f64>,
    /// Objects to be found.
    pub objects: usize,
}

/// Judges the detections of a class: their indexes in `found`, best first, with verdicts.
#[must_use]
pub fn judge(truths: &[Truth], found: &[Found], class: usize) -> Vec<(usize, Verdict)> {
    let mut objects: std::collections::HashMap<usize, Vec<(usize, bool)>> =
        std::collections::HashMap::new();
    for (index, truth) in truths.iter().enumerate() {
        if truth.class == class {
            let objects = objects.entry(truth.picture).or_default();
            objects.push((index, false));
        }
    }
    let mut verdict = |index: usize| {
        let detection = &found[index];
        let there = objects.get_mut(&detection.picture);
        let mut best: Option<(f64, &mut (usize, bool))> = None;
        for object in there.into_iter().flatten() {
            let overlap = iou(&truths[object.0].corners, &detection.corners);
            if best.as_ref().is_none_or(|(most, _)| overlap > *most) {
                best = Some((overlap, object));
            }
        }
        match best {
            Some((overlap, (truth, _))) if overlap >= OVERLAP && truths[*truth].ignored => {
                Verdict::Left
            }
            Some((overlap, (truth, taken))) if overlap >= OVERLAP && !*taken => {
                *taken = true;
                Verdict::Right(*truth)
            }
            _ => Verdict::Wrong,
        }
    };
    ranked(found, class)
        .into_iter()
        .map(|index| (index, verdict(index)))
        .collect()
}

/// The precision-recall curve of a class.
#[must_use]
pub fn curve(truths: &[Truth], found: &[Found], class: usize) -> Curve {
    let asked = |truth: &&Truth| truth.class == class && !truth.ignored;
    let mut curve = Curve {
        objects: truths.iter().filter(asked).count(),
        ..Curve::default()
    };
    let (mut right, mut judged) = (0.0, 0.0);
    for (index, verdict) in judge(truths, found, class) {
        match verdict {
            Verdict::Left => continue,
            Verdict::Right(_) => right += 1.0,
            Verdict::Wrong => {}
        }
        judged += 1.0;
        curve.scores.push(found[index].score);
        curve.precision.push(right / judged);
        curve.recall.push(right / (curve.objects as f64).max(1.0));
    }
    curve
}

impl Curve {
    /// The area under the curve, made monotonic: VOC 2010 to 2012. `None` without objects.
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

    /// The mean of the best precision at or beyond the recalls 0, 0.1 ... 1: VOC 2007. `None`
    /// without objects.
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
        // As the devkit counts: 0:0.1:1 in double precision.
        Some((0..=10).map(|i| at(f64::from(i) * 0.1)).sum::<f64>() / 11.0)
    }
}

/// How good the detections at or above a threshold are, over all classes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct AtThreshold {
    /// Share of the detections that are right; `None` where there is none.
    pub precision: Option<f64>,
    /// Share of the objects that are found; `None` where there is none.
    pub recall: Option<f64>,
    /// Share of the pictures in which anything is found.
    pub raised: f64,
}

/// Precision, recall and the share of pictures with detections at or above `threshold`.
#[must_use]
pub fn at_threshold(
    truths: &[Truth],
    found: &[Found],
    (classes, pictures): (usize, usize),
    threshold: f64,
) -> AtThreshold {
    let sure: Vec<Found> = found
        .iter()
        .copied()
        .filter(|f| f.score >= threshold)
        .collect();
    let (mut right, mut wrong) = (0, 0);
    for class in 0..classes {
        for (_, verdict) in judge(truths, &sure, class) {
            right += usize::from(matches!(verdict, Verdict::Right(_)));
            wrong += usize::from(verdict == Verdict::Wrong);
        }
    }
    let objects = truths.iter().filter(|truth| !truth.ignored).count();
    let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
    let raised: std::collections::HashSet<usize> = sure.iter().map(|f| f.picture).collect();
    AtThreshold {
        precision: share(right, right + wrong),
        recall: share(right, objects),
        raised: share(raised.len(), pictures).unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(picture: usize, x: f64, ignored: bool) -> Truth {
        Truth {
            picture,
            class: 0,
            corners: [x, 0.0, x + 10.0, 10.0],
            ignored,
        }
    }

    fn found(picture: usize, x: f64, score: f64) -> Found {
        Found {
            picture,
            class: 0,
            corners: [x, 0.0, x + 10.0, 10.0],
            score,
        }
    }

    #[test]
    fn a_second_detection_of_an_object_is_wrong_and_a_difficult_object_counts_for_nothing() {
        let truths = [truth(0, 0.0, false), truth(0, 50.0, true)];
        let finds = [found(0, 1.0, 0.9), found(0, 0.0, 0.8), found(0, 50.0, 0.7)];
        let verdicts: Vec<_> = judge(&truths, &finds, 0)
            .into_iter()
            .map(|(_, v)| v)
            .collect();
        assert_eq!(verdicts, [Verdict::Right(0), Verdict::Wrong, Verdict::Left]);
    }

    #[test]
    fn half_an_overlap_is_enough_and_less_is_not() {
        // Ten wide, shifted by a third: the overlap is 2/3 over 4/3, a half.
        let shift = 10.0 / 3.0;
        let verdict = |x: f64| judge(&[truth(0, 0.0, false)], &[found(0, x, 1.0)], 0)[0].1;
        assert_eq!(verdict(shift - 1e-9), Verdict::Right(0));
        assert_eq!(verdict(shift + 0.01), Verdict::Wrong);
    }

    /// Worked by hand: three objects; right, wrong, right, wrong. Precision 1, 1/2, 2/3, 1/2 at
    /// recall 1/3, 1/3, 2/3, 2/3.
    #[test]
    fn both_averages_of_a_hand_worked_curve_are_those_of_the_devkits() {
        let truths = [
            truth(0, 0.0, false),
            truth(1, 0.0, false),
            truth(2, 0.0, false),
        ];
        let finds = [
            found(0, 0.0, 0.9),
            found(0, 90.0, 0.8),
            found(1, 0.0, 0.7),
            found(1, 90.0, 0.6),
        ];
        let curve = curve(&truths, &finds, 0);
        assert!((curve.area().unwrap() - (1.0 / 3.0 + 2.0 / 3.0 / 3.0)).abs() < 1e-12);
        // Precision 1 at recalls 0 to 0.3, 2/3 at 0.4 to 0.6, nothing beyond.
        let points = (4.0 + 3.0 * 2.0 / 3.0) / 11.0;
        assert!((curve.eleven_points().unwrap() - points).abs() < 1e-12);
    }

    #[test]
    fn precision_recall_and_raised_pictures_are_counted_at_the_threshold() {
        let truths = [truth(0, 0.0, false), truth(1, 0.0, false)];
        let finds = [found(0, 0.0, 0.9), found(2, 0.0, 0.7), found(1, 0.0, 0.3)];
        let counted = at_threshold(&truths, &finds, (1, 4), 0.6);
        assert_eq!(counted.precision, Some(0.5));
        assert_eq!(counted.recall, Some(0.5));
        assert!((counted.raised - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_class_without_objects_has_no_average() {
        let empty = curve(&[], &[found(0, 0.0, 0.5)], 0);
        assert_eq!((empty.area(), empty.eleven_points()), (None, None));
    }
}
