//! Which prior answers for which object: the matching of Liu et al. 2016, section 2.2.

use ssd_server::detector::boxes::Corners;
use ssd_server::detector::priors::Prior;

/// Least overlap at which a prior answers for an object.
const MATCH: f32 = 0.5;
/// A prior that overlaps an object this much and less than [`MATCH`] is not background. For the paper it
/// is; then most of the hardest background lies on objects, and what resembles objects is hardly learnt.
const NEAR: f32 = 0.4;
/// A prior that overlaps a difficult object this much is not background either.
const NEAR_DIFFICULT: f32 = 0.35;
/// The class of a prior that is left out of the loss.
pub const IGNORED: i64 = -1;
/// The offsets' scales, the reciprocals of what `decode` multiplies by.
const CENTRE_SCALE: f32 = 1.0 / 0.1;
const SIZE_SCALE: f32 = 1.0 / 0.2;

/// An object to be found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// Class index, 1 or more.
    pub class: usize,
    /// Where, in fractions of the picture's sides.
    pub corners: Corners,
    /// Neither asked for nor punished.
    pub difficult: bool,
}

/// What the network should say of one picture, prior by prior.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// The class: 0 for the background, [`IGNORED`] for neither.
    pub classes: Vec<i64>,
    /// The offsets; zeros where the class is not 1 or more.
    pub offsets: Vec<[f32; 4]>,
}

/// The two corners of a prior.
#[must_use]
pub fn corners(prior: &Prior) -> Corners {
    Corners {
        x1: prior.cx - prior.w / 2.0,
        y1: prior.cy - prior.h / 2.0,
        x2: prior.cx + prior.w / 2.0,
        y2: prior.cy + prior.h / 2.0,
    }
}

/// The offsets that `decode` turns into `corners`, which must not be empty.
#[must_use]
pub fn encode(prior: &Prior, corners: &Corners) -> [f32; 4] {
    let (w, h) = (corners.x2 - corners.x1, corners.y2 - corners.y1);
    let (cx, cy) = (corners.x1 + w / 2.0, corners.y1 + h / 2.0);
    [
        (cx - prior.cx) / prior.w * CENTRE_SCALE,
        (cy - prior.cy) / prior.h * CENTRE_SCALE,
        (w / prior.w).ln() * SIZE_SCALE,
        (h / prior.h).ln() * SIZE_SCALE,
    ]
}

/// Matches: each prior with the object it overlaps most, where that is half of their union or
/// more; and each object with its best prior, whatever the overlap, so that none goes unanswered.
/// Priors that miss the half by little are left out.
#[must_use]
pub fn assign(truths: &[Truth], priors: &[Prior]) -> Targets {
    let boxes: Vec<Corners> = priors.iter().map(corners).collect();
    let mut best = vec![(0.0f32, None); priors.len()];
    let mut near_difficult = vec![false; priors.len()];
    let mut owned = vec![None; priors.len()];
    for (index, truth) in truths.iter().enumerate() {
        let mut own = (0.0, 0);
        for (place, candidate) in boxes.iter().enumerate() {
            let iou = candidate.iou(&truth.corners);
            if truth.difficult {
                near_difficult[place] |= iou >= NEAR_DIFFICULT;
                continue;
            }
            if iou > best[place].0 {
                best[place] = (iou, Some(index));
            }
            if iou > own.0 && owned[place].is_none() {
                own = (iou, place);
            }
        }
        if own.0 > 0.0 {
            owned[own.1] = Some(index);
        }
    }
    let mut targets = Targets {
        classes: vec![0; priors.len()],
        offsets: vec![[0.0; 4]; priors.len()],
    };
    for (place, prior) in priors.iter().enumerate() {
        let (iou, candidate) = best[place];
        let matched = owned[place].or(candidate.filter(|_| iou >= MATCH));
        if let Some(index) = matched {
            targets.classes[place] = truths[index].class as i64;
            targets.offsets[place] = encode(prior, &truths[index].corners);
        } else if iou >= NEAR || near_difficult[place] {
            targets.classes[place] = IGNORED;
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssd_server::detector::boxes::decode;
    use ssd_server::detector::family;

    fn square(cx: f32, cy: f32, side: f32) -> Prior {
        Prior {
            cx,
            cy,
            w: side,
            h: side,
        }
    }

    fn truth(class: usize, prior: &Prior, difficult: bool) -> Truth {
        Truth {
            class,
            corners: corners(prior),
            difficult,
        }
    }

    #[test]
    fn decoding_what_was_encoded_gives_the_box_back() {
        let object = Corners {
            x1: 0.2,
            y1: 0.3,
            x2: 0.55,
            y2: 0.5,
        };
        for prior in family::VOC.priors().iter().step_by(997) {
            let back = decode(prior, &encode(prior, &object), family::VOC.coder);
            for (a, b) in [
                (back.x1, object.x1),
                (back.y1, object.y1),
                (back.x2, object.x2),
                (back.y2, object.y2),
            ] {
                assert!((a - b).abs() < 1e-5, "{prior:?}: {a} for {b}");
            }
        }
    }

    #[test]
    fn a_prior_that_overlaps_by_half_answers_one_near_that_is_left_out_and_others_are_background() {
        // Squares of side 0.3, shifted by 0.05, 0.12 and 0.15: overlaps of 5/7, 3/7 and 1/3.
        let object = truth(3, &square(0.5, 0.5, 0.3), false);
        let candidates = [
            square(0.5, 0.5, 0.3),
            square(0.55, 0.5, 0.3),
            square(0.62, 0.5, 0.3),
            square(0.65, 0.5, 0.3),
        ];
        let targets = assign(&[object], &candidates);
        assert_eq!(targets.classes, [3, 3, IGNORED, 0]);
        assert!(targets.offsets[0].iter().all(|offset| offset.abs() < 1e-5));
        let shift = -0.05 / 0.3 / 0.1;
        assert!((targets.offsets[1][0] - shift).abs() < 1e-4);
    }

    #[test]
    fn an_object_that_no_prior_overlaps_by_half_still_gets_its_best_one() {
        let object = truth(2, &square(0.5, 0.5, 0.1), false);
        let targets = assign(&[object], &[square(0.5, 0.5, 0.3), square(0.56, 0.5, 0.3)]);
        assert_eq!(targets.classes, [2, 0]);
    }

    #[test]
    fn two_objects_with_one_best_prior_get_a_prior_each() {
        let objects = [
            truth(1, &square(0.5, 0.5, 0.1), false),
            truth(2, &square(0.5, 0.5, 0.12), false),
        ];
        let targets = assign(&objects, &[square(0.5, 0.5, 0.3), square(0.56, 0.5, 0.3)]);
        assert_eq!(targets.classes, [1, 2]);
    }

    #[test]
    fn a_prior_near_a_difficult_object_is_left_out() {
        let object = truth(1, &square(0.5, 0.5, 0.3), true);
        let targets = assign(&[object], &[square(0.5, 0.5, 0.3), square(0.9, 0.9, 0.1)]);
        assert_eq!(targets.classes, [IGNORED, 0]);
    }
}
