//! Matches prior boxes with the objects of a picture (Liu et al. 2016, section 2.2), and encodes the boxes of the
//! objects as offsets.

use ssd_detector::boxes::Corners;
use ssd_detector::priors::Prior;

use crate::data::Object;

/// The minimum IoU at which a prior box is matched with an object.
const MATCH_IOU: f32 = 0.5;
/// A prior box with an IoU with an object from this to [`MATCH_IOU`] is ignored. In the paper it is background; but then
/// most hard negatives lie on objects, and few on background that resembles objects.
const IGNORE_IOU: f32 = 0.4;
/// The minimum number of prior boxes for an object, if enough of them have an IoU of [`EXTRA_IOU`] with it. Few prior
/// boxes have an IoU of 0.5 with a small object (Zhang et al. 2017, "S3FD", section 3.2).
const MIN_MATCHES: usize = 5;
const EXTRA_IOU: f32 = 0.3;
/// From this IoU with a difficult object, a prior box is ignored.
const DIFFICULT_IOU: f32 = 0.35;
/// The class of a prior box that the loss ignores.
const IGNORED: i64 = -1;
/// The scales of the offsets, the reciprocals of the variances in `decode`.
const CENTRE_SCALE: f32 = 1.0 / 0.1;
const SIZE_SCALE: f32 = 1.0 / 0.2;

/// What the network should predict for each prior box of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// 0 for the background, the class of the matched object plus 1, or -1 if the loss ignores the prior box.
    pub classes: Vec<i64>,
    /// The offsets: centre x and y, width and height. Zeros if the prior box is not matched.
    pub offsets: Vec<[f32; 4]>,
}

/// The corners of a prior box, in fractions of the picture's sides.
fn corners(prior: &Prior) -> Corners {
    Corners {
        x1: prior.cx - prior.w / 2.0,
        y1: prior.cy - prior.h / 2.0,
        x2: prior.cx + prior.w / 2.0,
        y2: prior.cy + prior.h / 2.0,
    }
}

/// The offsets that `decode` turns back into `corners`, which must not be empty.
fn encode(prior: &Prior, corners: &Corners) -> [f32; 4] {
    let (w, h) = (corners.x2 - corners.x1, corners.y2 - corners.y1);
    let (cx, cy) = (corners.x1 + w / 2.0, corners.y1 + h / 2.0);
    [
        (cx - prior.cx) / prior.w * CENTRE_SCALE,
        (cy - prior.cy) / prior.h * CENTRE_SCALE,
        (w / prior.w).ln() * SIZE_SCALE,
        (h / prior.h).ln() * SIZE_SCALE,
    ]
}

/// Matches prior boxes with objects. Each object is matched with its best prior box, even at a low IoU; each other prior
/// box with its best object, if their IoU is 0.5 or more. Objects with fewer than five prior boxes are also matched with
/// their next best prior boxes, down to an IoU of 0.3. Difficult objects are not matched.
#[must_use]
pub fn assign(objects: &[Object], priors: &[Prior]) -> Targets {
    let mut best = vec![(0.0f32, None); priors.len()];
    let mut is_near_difficult = vec![false; priors.len()];
    let mut matched = vec![None; priors.len()];
    let mut candidates = vec![Vec::new(); objects.len()];
    for (index, object) in objects.iter().enumerate() {
        let mut best_prior = (0.0, 0);
        for (at, prior) in priors.iter().enumerate() {
            let iou = corners(prior).iou(&object.corners);
            if object.difficult {
                is_near_difficult[at] |= iou >= DIFFICULT_IOU;
                continue;
            }
            if iou > best[at].0 {
                best[at] = (iou, Some(index));
            }
            if iou > best_prior.0 && matched[at].is_none() {
                best_prior = (iou, at);
            }
            if iou >= EXTRA_IOU {
                candidates[index].push((iou, at));
            }
        }
        if best_prior.0 > 0.0 {
            matched[best_prior.1] = Some(index);
        }
    }
    for (object, (iou, candidate)) in matched.iter_mut().zip(&best) {
        *object = object.or(candidate.filter(|_| *iou >= MATCH_IOU));
    }
    for (index, of_object) in candidates.into_iter().enumerate() {
        add_matches(&mut matched, index, of_object);
    }
    let mut targets = Targets {
        classes: vec![0; priors.len()],
        offsets: vec![[0.0; 4]; priors.len()],
    };
    for (at, prior) in priors.iter().enumerate() {
        if let Some(index) = matched[at] {
            targets.classes[at] = objects[index].class as i64 + 1;
            targets.offsets[at] = encode(prior, &objects[index].corners);
        } else if best[at].0 >= IGNORE_IOU || is_near_difficult[at] {
            targets.classes[at] = IGNORED;
        }
    }
    targets
}

/// Matches an object with its best candidates, pairs of an IoU and a free prior box, up to [`MIN_MATCHES`].
fn add_matches(matched: &mut [Option<usize>], object: usize, mut candidates: Vec<(f32, usize)>) {
    let count = matched.iter().filter(|m| **m == Some(object)).count();
    candidates.retain(|&(_, at)| matched[at].is_none());
    candidates.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    for (_, at) in candidates
        .into_iter()
        .take(MIN_MATCHES.saturating_sub(count))
    {
        matched[at] = Some(object);
    }
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

    fn object(class: usize, prior: &Prior, difficult: bool) -> Object {
        Object {
            class,
            corners: corners(prior),
            difficult,
        }
    }

    #[test]
    fn decoding_the_encoded_offsets_returns_the_box() {
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
                assert!((a - b).abs() < 1e-5, "{prior:?}: {a} instead of {b}");
            }
        }
    }

    #[test]
    fn a_prior_box_is_matched_from_an_iou_of_one_half_ignored_somewhat_below_and_else_background() {
        // Squares of side 0.3, shifted by 0.05, 0.12 and 0.15: IoUs of 5/7, 3/7 and 1/3.
        let object = object(2, &square(0.5, 0.5, 0.3), false);
        let mut candidates = vec![
            square(0.5, 0.5, 0.3),
            square(0.55, 0.5, 0.3),
            square(0.62, 0.5, 0.3),
            square(0.65, 0.5, 0.3),
        ];
        // The object has the minimum number of matches.
        candidates.extend([square(0.5, 0.5, 0.3); MIN_MATCHES]);
        let targets = assign(&[object], &candidates);
        assert_eq!(targets.classes[..4], [3, 3, IGNORED, 0]);
        assert!(targets.offsets[0].iter().all(|offset| offset.abs() < 1e-5));
        let shift = -0.05 / 0.3 / 0.1;
        assert!((targets.offsets[1][0] - shift).abs() < 1e-4);
    }

    #[test]
    fn an_object_with_few_prior_boxes_is_matched_with_the_next_best_ones() {
        let object = object(2, &square(0.5, 0.5, 0.3), false);
        // Shifts of 0.12, 0.15 and 0.2 give IoUs of 3/7, 1/3 and 1/5.
        let shifted = |shift: f32| square(0.5 + shift, 0.5, 0.3);
        let targets = assign(&[object], &[0.2, 0.15, 0.12, 0.0].map(shifted));
        assert_eq!(targets.classes, [0, 3, 3, 3]);
        // Of more than the minimum, the best are matched.
        let mut many = vec![shifted(0.15); MIN_MATCHES];
        many.push(shifted(0.0));
        many.push(shifted(0.12));
        let classes = assign(&[object], &many).classes;
        assert_eq!(
            classes.iter().filter(|class| **class == 3).count(),
            MIN_MATCHES
        );
        assert_eq!(classes[MIN_MATCHES..], [3, 3]);
    }

    #[test]
    fn an_object_without_a_prior_box_of_an_iou_of_one_half_is_matched_with_its_best_one() {
        let object = object(1, &square(0.5, 0.5, 0.1), false);
        let targets = assign(&[object], &[square(0.5, 0.5, 0.3), square(0.56, 0.5, 0.3)]);
        assert_eq!(targets.classes, [2, 0]);
    }

    #[test]
    fn two_objects_with_the_same_best_prior_box_are_matched_with_one_each() {
        let objects = [
            object(0, &square(0.5, 0.5, 0.1), false),
            object(1, &square(0.5, 0.5, 0.12), false),
        ];
        let targets = assign(&objects, &[square(0.5, 0.5, 0.3), square(0.56, 0.5, 0.3)]);
        assert_eq!(targets.classes, [1, 2]);
    }

    #[test]
    fn a_prior_box_near_a_difficult_object_is_ignored() {
        let object = object(0, &square(0.5, 0.5, 0.3), true);
        let targets = assign(&[object], &[square(0.5, 0.5, 0.3), square(0.9, 0.9, 0.1)]);
        assert_eq!(targets.classes, [IGNORED, 0]);
    }
}
