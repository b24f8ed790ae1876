//! Which prior box is matched with which object: the matching of Liu et al. 2016, section 2.2.

use ssd_detector::boxes::Corners;
use ssd_detector::priors::Prior;

/// Least overlap at which a prior answers for an object.
const MATCH: f32 = 0.5;
/// A prior that overlaps an object this much and less than [`MATCH`] is not background. For the paper it
/// is; then most of the hardest background lies on objects, and what resembles objects is hardly learnt.
const NEAR: f32 = 0.4;
/// A small object overlaps hardly any prior box by half, and would be learnt by one of them only: it is matched with
/// this many (Zhang et al. 2017, "S3FD", section 3.2),
const FEWEST: usize = 5;
/// which overlap it this much at least.
const COMPENSATED: f32 = 0.3;
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

/// Matches each prior box with the object that it overlaps most, if that is half of their union or more; each object
/// with its best prior box, whatever the overlap; and each object that has fewer than five prior boxes then with the
/// next best ones, down to an overlap of 0.3. Other prior boxes that miss the half by little are left out.
#[must_use]
pub fn assign(truths: &[Truth], priors: &[Prior]) -> Targets {
    let boxes: Vec<Corners> = priors.iter().map(corners).collect();
    let mut best = vec![(0.0f32, None); priors.len()];
    let mut near_difficult = vec![false; priors.len()];
    let mut matched = vec![None; priors.len()];
    let mut candidates = vec![Vec::new(); truths.len()];
    for (index, truth) in truths.iter().enumerate() {
        let mut own = (0.0, 0);
        for (place, prior) in boxes.iter().enumerate() {
            let iou = prior.iou(&truth.corners);
            if truth.difficult {
                near_difficult[place] |= iou >= NEAR_DIFFICULT;
                continue;
            }
            if iou > best[place].0 {
                best[place] = (iou, Some(index));
            }
            if iou > own.0 && matched[place].is_none() {
                own = (iou, place);
            }
            if iou >= COMPENSATED {
                candidates[index].push((iou, place));
            }
        }
        if own.0 > 0.0 {
            matched[own.1] = Some(index);
        }
    }
    for (matched, (iou, candidate)) in matched.iter_mut().zip(&best) {
        *matched = matched.or(candidate.filter(|_| *iou >= MATCH));
    }
    for (index, mut candidates) in candidates.into_iter().enumerate() {
        candidates.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let has = matched.iter().filter(|of| **of == Some(index)).count();
        let mut free = candidates.into_iter().map(|(_, place)| place);
        for _ in has..FEWEST {
            let Some(place) = free.find(|&place| matched[place].is_none()) else {
                break;
            };
            matched[place] = Some(index);
        }
    }
    let mut targets = Targets {
        classes: vec![0; priors.len()],
        offsets: vec![[0.0; 4]; priors.len()],
    };
    for (place, prior) in priors.iter().enumerate() {
        if let Some(index) = matched[place] {
            targets.classes[place] = truths[index].class as i64;
            targets.offsets[place] = encode(prior, &truths[index].corners);
        } else if best[place].0 >= NEAR || near_difficult[place] {
            targets.classes[place] = IGNORED;
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssd_detector::boxes::decode;
    use ssd_detector::family;

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
    fn a_prior_box_that_overlaps_by_half_is_matched_one_near_that_is_left_out_and_others_are_background()
     {
        // Squares of side 0.3, shifted by 0.05, 0.12 and 0.15: overlaps of 5/7, 3/7 and 1/3.
        let object = truth(3, &square(0.5, 0.5, 0.3), false);
        let mut candidates = vec![
            square(0.5, 0.5, 0.3),
            square(0.55, 0.5, 0.3),
            square(0.62, 0.5, 0.3),
            square(0.65, 0.5, 0.3),
        ];
        // The object has as many as it needs.
        candidates.extend([square(0.5, 0.5, 0.3); FEWEST]);
        let targets = assign(&[object], &candidates);
        assert_eq!(targets.classes[..4], [3, 3, IGNORED, 0]);
        assert!(targets.offsets[0].iter().all(|offset| offset.abs() < 1e-5));
        let shift = -0.05 / 0.3 / 0.1;
        assert!((targets.offsets[1][0] - shift).abs() < 1e-4);
    }

    #[test]
    fn an_object_with_few_prior_boxes_is_matched_with_the_next_best_ones() {
        let object = truth(3, &square(0.5, 0.5, 0.3), false);
        // Shifts of 0.12, 0.15 and 0.2 are overlaps of 3/7, 1/3 and 1/5.
        let shifted = |shift: f32| square(0.5 + shift, 0.5, 0.3);
        let targets = assign(&[object], &[0.2, 0.15, 0.12, 0.0].map(shifted));
        assert_eq!(targets.classes, [0, 3, 3, 3]);
        // No more than are needed: the best ones.
        let mut many = vec![shifted(0.15); FEWEST];
        many.push(shifted(0.0));
        many.push(shifted(0.12));
        let classes = assign(&[object], &many).classes;
        assert_eq!(classes.iter().filter(|class| **class == 3).count(), FEWEST);
        assert_eq!(classes[FEWEST..], [3, 3]);
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
