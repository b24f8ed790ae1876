//! The training loss: a localisation loss, and a confidence loss that depends on how the network computes its scores.

use ssd_detector::family::Scores;
use tch::{Kind, Reduction, TchError, Tensor};

/// The focusing exponent of focal loss (Lin et al. 2017, equation 5).
const GAMMA: f64 = 2.0;
/// The weight of objects in focal loss; the background has `1 - ALPHA` (Lin et al. 2017, section 3.2).
const ALPHA: f64 = 0.25;
/// Hard negatives for each matched prior box in `MultiBox` loss (Liu et al. 2016, section 2.2).
const NEGATIVES_PER_MATCH: i64 = 3;
/// The minimum number of hard negatives per picture, so that the network also learns from pictures without objects.
const MIN_NEGATIVES: i64 = 6;

/// The loss of a batch or of a part of a batch, a scalar. The network's output is `offsets`, N x priors x 4, and
/// `logits`, N x priors x classes. The targets are `boxes`, N x priors x 4, and `classes`, N x priors (i64; 0 is the
/// background, -1 is ignored). `matched` is the number of matched prior boxes in the whole batch, so that the losses of
/// its parts add up to the loss of the batch.
///
/// The localisation loss is smooth L1 on the offsets of the matched prior boxes. The confidence loss is focal loss for
/// sigmoids (Lin et al. 2017), and cross entropy with hard negative mining for softmax (Liu et al. 2016).
///
/// # Errors
/// If libtorch fails.
pub fn loss(
    scores: Scores,
    (offsets, logits): (&Tensor, &Tensor),
    (boxes, classes): (&Tensor, &Tensor),
    matched: f64,
) -> Result<Tensor, TchError> {
    let pictures = classes.size()[0];
    let logit_rows = logits.f_reshape([pictures * classes.size()[1], -1])?;
    let class_rows = classes.f_reshape([-1])?;
    let matched_rows = class_rows.f_gt(0)?.f_nonzero()?.f_squeeze_dim(1)?;
    let localisation = offsets
        .f_reshape([-1, 4])?
        .f_index_select(0, &matched_rows)?
        .f_smooth_l1_loss(
            &boxes.f_reshape([-1, 4])?.f_index_select(0, &matched_rows)?,
            Reduction::Sum,
            1.0,
        )?;
    let confidence = match scores {
        Scores::Sigmoid => focal(&logit_rows, &class_rows)?,
        Scores::Softmax => multibox(&logit_rows, &class_rows, &matched_rows, pictures)?,
    };
    localisation.f_add(&confidence)?.f_div_scalar(matched)
}

/// Focal loss, summed over the prior boxes that are not ignored, and over the classes except the background: its score is
/// unused.
fn focal(logits: &Tensor, classes: &Tensor) -> Result<Tensor, TchError> {
    let objects = logits.size()[1] - 1;
    let object_logits = logits.f_narrow(1, 1, objects)?;
    let targets = classes
        .f_clamp_min(0)?
        .f_one_hot(objects + 1)?
        .f_narrow(1, 1, objects)?
        .f_to_kind(Kind::Float)?;
    let entropy = object_logits.f_binary_cross_entropy_with_logits::<Tensor>(
        &targets,
        None,
        None,
        Reduction::None,
    )?;
    // 1 - p for the class of the object, else p.
    let error = object_logits.f_sigmoid()?.f_sub(&targets)?.f_abs()?;
    let weight = targets
        .f_mul_scalar(2.0 * ALPHA - 1.0)?
        .f_add_scalar(1.0 - ALPHA)?;
    let counts = classes.f_ge(0)?.f_to_kind(Kind::Float)?.f_unsqueeze(1)?;
    entropy
        .f_mul(&error.f_pow_tensor_scalar(GAMMA)?)?
        .f_mul(&weight)?
        .f_mul(&counts)?
        .f_sum(Kind::Float)
}

/// Cross entropy, summed over the matched prior boxes and the hard negatives: the background prior boxes with the
/// highest loss.
fn multibox(
    logits: &Tensor,
    classes: &Tensor,
    matched_rows: &Tensor,
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
    let count = (NEGATIVES_PER_MATCH * matched_rows.size()[0])
        .max(MIN_NEGATIVES * pictures)
        .min(available);
    let (_, negative_rows) = hardness.f_topk(count, 0, true, false)?;
    let positive = entropy
        .f_index_select(0, matched_rows)?
        .f_sum(Kind::Float)?;
    let negative = entropy
        .f_index_select(0, &negative_rows)?
        .f_sum(Kind::Float)?;
    positive.f_add(&negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `MultiBox` loss of one picture with twelve prior boxes, one class and the background. All logits are 0
    /// except those given, as (prior box, logit of the object). The target offsets are 0.
    fn multibox_loss(
        targets: [i64; 12],
        object_logits: &[(usize, f32)],
        offsets: &[f32; 48],
    ) -> f64 {
        let mut logits = [0.0f32; 24];
        for &(prior, logit) in object_logits {
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

    fn confidence(targets: [i64; 12], object_logits: &[(usize, f32)]) -> f64 {
        multibox_loss(targets, object_logits, &[0.0; 48])
    }

    #[test]
    fn the_localisation_loss_counts_only_matched_prior_boxes() {
        let mut targets = [0; 12];
        targets[0] = 1;
        targets[5] = 1;
        let mut offsets = [0.0f32; 48];
        (offsets[0], offsets[1]) = (0.5, 3.0);
        // An offset of a background prior box.
        offsets[9] = 7.0;
        let localisation = multibox_loss(targets, &[], &offsets) - confidence(targets, &[]);
        // Smooth L1: 0.5 * 0.5^2, and 3 - 0.5; divided by two matched prior boxes.
        assert!((localisation - f64::midpoint(0.125, 2.5)).abs() < 1e-6);
    }

    #[test]
    fn three_hard_negatives_are_mined_for_each_object() {
        let mut targets = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        // Three objects: nine negatives, which is all of the background.
        let all = confidence(targets, &[(4, 3.0)]);
        let even = std::f64::consts::LN_2;
        let hard = (1.0 + 3.0f64.exp()).ln();
        assert!((all - (3.0 * even + 8.0 * even + hard) / 3.0).abs() < 1e-5);
        // Two objects: six negatives of ten, among them the two hard ones.
        targets[2] = 0;
        let some = confidence(targets, &[(4, 3.0), (7, 3.0)]);
        assert!((some - (2.0 * even + 4.0 * even + 2.0 * hard) / 2.0).abs() < 1e-5);
    }

    #[test]
    fn ignored_prior_boxes_do_not_count() {
        let mut targets = [-1; 12];
        targets[0] = 1;
        // One match, and no background.
        let loss = confidence(targets, &[(4, 9.0)]);
        assert!((loss - std::f64::consts::LN_2).abs() < 1e-6);
    }

    #[test]
    fn hard_negatives_are_mined_in_a_picture_without_objects() {
        let loss = confidence([0; 12], &[(4, 9.0)]);
        let (even, hard) = (std::f64::consts::LN_2, (1.0 + 9.0f64.exp()).ln());
        assert!((loss - (5.0 * even + hard)).abs() < 1e-4);
    }

    #[test]
    fn focal_loss_follows_the_formula_for_each_class_and_prior_box_that_counts() {
        // Three prior boxes, two classes and the background: an object of class 2, background, ignored.
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
        let positive = |x: f64| -0.25 * (1.0 - sigmoid(x)).powi(2) * sigmoid(x).ln();
        let negative = |x: f64| -0.75 * sigmoid(x).powi(2) * (1.0 - sigmoid(x)).ln();
        let confidence = negative(0.5) + positive(1.0) + negative(-2.0) + negative(0.0);
        // Smooth L1: half the square below 1, the distance minus a half above.
        let expected = confidence + 0.125 + 2.5;
        assert!((found.unwrap().double_value(&[]) - expected).abs() < 1e-5);
    }
}
