//! What a network is trained to make small.

use ssd_detector::family::Scores;
use tch::{Kind, Reduction, TchError, Tensor};

/// Focal loss: how much less a prior counts that is right already (Lin et al. 2017, equation 5).
const GAMMA: f64 = 2.0;
/// How much an object counts against background (same, section 3.2).
const ALPHA: f64 = 0.25;
/// `MultiBox` loss: background priors for each prior that is matched (Liu et al. 2016, section 2.2).
const NEGATIVES: i64 = 3;
/// At least so many a picture, so that a batch without objects teaches something too.
const LEAST_NEGATIVES: i64 = 6;

/// The loss of a batch or of a part of one, as one number: `offsets` and `boxes` are N x priors x 4, `logits` N x
/// priors x classes, `classes` N x priors (i64; 0 is background, -1 is left out). `matched` is the number of matched
/// prior boxes of the whole batch: the losses of its parts add up to its own.
///
/// A network of sigmoids is trained by focal loss, one of softmax by the cross entropy of the `MultiBox` paper; both
/// with smooth L1 on the offsets of the matched prior boxes.
///
/// # Errors
/// Where libtorch fails.
pub fn loss(
    scores: Scores,
    (offsets, logits): (&Tensor, &Tensor),
    (boxes, classes): (&Tensor, &Tensor),
    matched: f64,
) -> Result<Tensor, TchError> {
    let pictures = classes.size()[0];
    let logits = logits.f_reshape([pictures * classes.size()[1], -1])?;
    let classes = classes.f_reshape([-1])?;
    let rows = classes.f_gt(0)?.f_nonzero()?.f_squeeze_dim(1)?;
    let localisation = offsets
        .f_reshape([-1, 4])?
        .f_index_select(0, &rows)?
        .f_smooth_l1_loss(
            &boxes.f_reshape([-1, 4])?.f_index_select(0, &rows)?,
            Reduction::Sum,
            1.0,
        )?;
    let classification = match scores {
        Scores::Sigmoid => focal(&logits, &classes)?,
        Scores::Softmax => hardest(&logits, &classes, &rows, pictures)?,
    };
    localisation.f_add(&classification)?.f_div_scalar(matched)
}

/// Focal loss, summed over every prior that is not left out and every class but the background, whose score nobody
/// reads.
fn focal(logits: &Tensor, classes: &Tensor) -> Result<Tensor, TchError> {
    let outputs = logits.size()[1];
    let logits = logits.f_narrow(1, 1, outputs - 1)?;
    let wanted = classes
        .f_clamp_min(0)?
        .f_one_hot(outputs)?
        .f_narrow(1, 1, outputs - 1)?
        .f_to_kind(Kind::Float)?;
    let entropy = logits.f_binary_cross_entropy_with_logits::<Tensor>(
        &wanted,
        None,
        None,
        Reduction::None,
    )?;
    // What is missing to certainty: 1 - p where an object is wanted, else p.
    let missing = logits.f_sigmoid()?.f_sub(&wanted)?.f_abs()?;
    let weight = wanted
        .f_mul_scalar(2.0 * ALPHA - 1.0)?
        .f_add_scalar(1.0 - ALPHA)?;
    let counts = classes.f_ge(0)?.f_to_kind(Kind::Float)?.f_unsqueeze(1)?;
    entropy
        .f_mul(&missing.f_pow_tensor_scalar(GAMMA)?)?
        .f_mul(&weight)?
        .f_mul(&counts)?
        .f_sum(Kind::Float)
}

/// Cross entropy, summed over the matched prior boxes and the hardest of the background.
fn hardest(
    logits: &Tensor,
    classes: &Tensor,
    rows: &Tensor,
    pictures: i64,
) -> Result<Tensor, TchError> {
    let entropy = logits
        .f_log_softmax(-1, Kind::Float)?
        .f_gather(1, &classes.f_clamp_min(0)?.f_unsqueeze(1)?, false)?
        .f_squeeze_dim(1)?
        .f_neg()?;
    let background = classes.f_eq(0)?;
    let hardness = entropy
        .f_detach()?
        .f_masked_fill(&background.f_logical_not()?, f64::NEG_INFINITY)?;
    let available = background.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    let wanted = (NEGATIVES * rows.size()[0])
        .max(LEAST_NEGATIVES * pictures)
        .min(available);
    let (_, hardest) = hardness.f_topk(wanted, 0, true, false)?;
    let of_matched = entropy.f_index_select(0, rows)?.f_sum(Kind::Float)?;
    let of_background = entropy.f_index_select(0, &hardest)?.f_sum(Kind::Float)?;
    of_matched.f_add(&of_background)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `MultiBox` loss of one picture of twelve priors and two classes: all logits say background and object
    /// are as likely, except those given as (prior, logit of the object).
    fn case(targets: [i64; 12], loud: &[(usize, f32)], offsets: &[f32; 48]) -> f64 {
        let mut logits = [0.0f32; 24];
        for &(prior, logit) in loud {
            logits[prior * 2 + 1] = logit;
        }
        let loss = loss(
            Scores::Softmax,
            (
                &Tensor::from_slice(offsets).view([1, 12, 4]),
                &Tensor::from_slice(&logits).view([1, 12, 2]),
            ),
            (
                &Tensor::zeros([1, 12, 4], (Kind::Float, tch::Device::Cpu)),
                &Tensor::from_slice(&targets).view([1, 12]),
            ),
            targets.iter().filter(|&&class| class > 0).count().max(1) as f64,
        );
        loss.unwrap().double_value(&[])
    }

    fn quiet(targets: [i64; 12], loud: &[(usize, f32)]) -> f64 {
        case(targets, loud, &[0.0; 48])
    }

    #[test]
    fn only_matched_priors_count_for_the_offsets() {
        let mut targets = [0; 12];
        targets[0] = 1;
        targets[5] = 1;
        let mut offsets = [0.0f32; 48];
        (offsets[0], offsets[1]) = (0.5, 3.0);
        // Of a prior that is background.
        offsets[9] = 7.0;
        let more = case(targets, &[], &offsets) - quiet(targets, &[]);
        // Smooth L1: 0.5 * 0.5^2, and 3 - 0.5; over two priors.
        assert!((more - f64::midpoint(0.125, 2.5)).abs() < 1e-6);
    }

    #[test]
    fn the_hardest_background_priors_are_taken_three_for_each_object() {
        let mut targets = [0; 12];
        for target in targets.iter_mut().take(3) {
            *target = 1;
        }
        // All twelve would be wanted nine times over: nine remain, all are taken.
        let all = quiet(targets, &[(4, 3.0)]);
        let even = std::f64::consts::LN_2;
        let hard = (1.0 + 3.0f64.exp()).ln();
        assert!((all - (3.0 * even + 8.0 * even + hard) / 3.0).abs() < 1e-5);
        // Two objects: six of ten, the two loud ones among them.
        targets[2] = 0;
        let some = quiet(targets, &[(4, 3.0), (7, 3.0)]);
        assert!((some - (2.0 * even + 4.0 * even + 2.0 * hard) / 2.0).abs() < 1e-5);
    }

    #[test]
    fn priors_near_difficult_objects_count_for_nothing() {
        let mut targets = [-1; 12];
        targets[0] = 1;
        // The only match, and no background at all.
        let loss = quiet(targets, &[(4, 9.0)]);
        assert!((loss - std::f64::consts::LN_2).abs() < 1e-6);
    }

    #[test]
    fn a_picture_without_objects_still_teaches_its_hardest_background() {
        let loss = quiet([0; 12], &[(4, 9.0)]);
        let (even, hard) = (std::f64::consts::LN_2, (1.0 + 9.0f64.exp()).ln());
        assert!((loss - (5.0 * even + hard)).abs() < 1e-4);
    }

    #[test]
    fn focal_loss_is_the_formula_s_for_each_class_and_prior_that_counts() {
        // Three priors, two classes and the background: an object of class 2, background, left out.
        let logits = Tensor::from_slice(&[9.0f32, 0.5, 1.0, 9.0, -2.0, 0.0, 9.0, 5.0, 5.0]);
        let classes = Tensor::from_slice(&[2i64, 0, -1]).view([1, 3]);
        let offsets = Tensor::from_slice(&[
            0.5f32, 0.0, 0.0, 3.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0,
        ]);
        let zeros = Tensor::zeros([1, 3, 4], (Kind::Float, tch::Device::Cpu));
        let found = loss(
            Scores::Sigmoid,
            (&offsets.view([1, 3, 4]), &logits.view([1, 3, 3])),
            (&zeros, &classes),
            1.0,
        );
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let wanted = |x: f64| -0.25 * (1.0 - sigmoid(x)).powi(2) * sigmoid(x).ln();
        let unwanted = |x: f64| -0.75 * sigmoid(x).powi(2) * (1.0 - sigmoid(x)).ln();
        let expected = unwanted(0.5) + wanted(1.0) + unwanted(-2.0) + unwanted(0.0);
        // Smooth L1: half of the square below 1, the distance less a half above.
        let expected = expected + 0.125 + 2.5;
        assert!((found.unwrap().double_value(&[]) - expected).abs() < 1e-5);
    }
}
