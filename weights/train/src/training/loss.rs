//! The `MultiBox` loss of Liu et al. 2016, section 2.2: smooth L1 on the offsets of the priors that
//! answer for objects, cross entropy on those and on the hardest three times as many that do not.

use tch::{Kind, Reduction, TchError, Tensor};

/// Background priors for each that answers for an object.
const NEGATIVES: i64 = 3;
/// At least so many a picture, so that a batch without objects teaches something too.
const LEAST_NEGATIVES: i64 = 6;

/// The loss of a batch, each part divided by the number of priors that answer for objects.
#[derive(Debug)]
pub struct Loss {
    /// Of the offsets.
    pub localisation: Tensor,
    /// Of the classes.
    pub classification: Tensor,
}

impl Loss {
    /// Both parts, weighed equally, as in the paper.
    ///
    /// # Errors
    /// Where libtorch fails.
    pub fn total(&self) -> Result<Tensor, TchError> {
        self.localisation.f_add(&self.classification)
    }
}

/// The loss of the network's outputs `offsets` (N x priors x 4) and `logits` (N x priors x
/// classes) against the targets `classes` (N x priors, i64; -1 is left out) and `boxes` (N x
/// priors x 4).
///
/// The hardest background priors are sought over all the N pictures rather than one by one:
/// a picture full of distractors then gives more of them than an empty wall.
///
/// # Errors
/// Where libtorch fails.
pub fn multibox(
    offsets: &Tensor,
    logits: &Tensor,
    classes: &Tensor,
    boxes: &Tensor,
) -> Result<Loss, TchError> {
    let pictures = classes.size()[0];
    let classes = classes.f_reshape([-1])?;
    let answers = classes.f_gt(0)?;
    let count = answers.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    let rows = answers.f_nonzero()?.f_squeeze_dim(1)?;
    let divisor = count.max(1) as f64;
    let localisation = offsets
        .f_reshape([-1, 4])?
        .f_index_select(0, &rows)?
        .f_smooth_l1_loss(
            &boxes.f_reshape([-1, 4])?.f_index_select(0, &rows)?,
            Reduction::Sum,
            1.0,
        )?
        .f_div_scalar(divisor)?;

    let logits = logits.f_reshape([classes.size()[0], -1])?;
    let named = classes.f_clamp_min(0)?;
    let entropy = logits
        .f_log_softmax(-1, Kind::Float)?
        .f_gather(1, &named.f_unsqueeze(1)?, false)?
        .f_squeeze_dim(1)?
        .f_neg()?;
    let background = classes.f_eq(0)?;
    let hardness = entropy
        .f_detach()?
        .f_masked_fill(&background.f_logical_not()?, f64::NEG_INFINITY)?;
    let available = background.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    let wanted = (NEGATIVES * count)
        .max(LEAST_NEGATIVES * pictures)
        .min(available);
    let (_, hardest) = hardness.f_topk(wanted, 0, true, false)?;
    let classification = entropy
        .f_index_select(0, &rows)?
        .f_sum(Kind::Float)?
        .f_add(&entropy.f_index_select(0, &hardest)?.f_sum(Kind::Float)?)?
        .f_div_scalar(divisor.max((LEAST_NEGATIVES * pictures / NEGATIVES) as f64))?;
    Ok(Loss {
        localisation,
        classification,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(tensor: &Tensor) -> f64 {
        tensor.double_value(&[])
    }

    /// One picture of twelve priors and two classes: all logits say background and object are as
    /// likely, except those given as (prior, logit of the object).
    fn case(targets: [i64; 12], loud: &[(usize, f32)]) -> Loss {
        let mut logits = [0.0f32; 24];
        for &(prior, logit) in loud {
            logits[prior * 2 + 1] = logit;
        }
        let mut offsets = [0.0f32; 48];
        // Two of the first prior's offsets are wrong, by 0.5 and by 3.
        offsets[0] = 0.5;
        offsets[1] = 3.0;
        multibox(
            &Tensor::from_slice(&offsets).view([1, 12, 4]),
            &Tensor::from_slice(&logits).view([1, 12, 2]),
            &Tensor::from_slice(&targets).view([1, 12]),
            &Tensor::zeros([1, 12, 4], (Kind::Float, tch::Device::Cpu)),
        )
        .unwrap()
    }

    #[test]
    fn only_priors_that_answer_for_objects_count_for_the_offsets() {
        let mut targets = [0; 12];
        targets[0] = 1;
        targets[5] = 1;
        let loss = case(targets, &[]);
        // Smooth L1: 0.5 * 0.5^2, and 3 - 0.5; over two priors.
        assert!((number(&loss.localisation) - f64::midpoint(0.125, 2.5)).abs() < 1e-6);
    }

    #[test]
    fn the_hardest_background_priors_are_taken_three_for_each_object() {
        let mut targets = [0; 12];
        for target in targets.iter_mut().take(3) {
            *target = 1;
        }
        // All twelve would be wanted nine times over: nine remain, all are taken.
        let all = number(&case(targets, &[(4, 3.0)]).classification);
        let even = std::f64::consts::LN_2;
        let hard = (1.0 + 3.0f64.exp()).ln();
        assert!((all - (3.0 * even + 8.0 * even + hard) / 3.0).abs() < 1e-5);
        // Two objects: six of ten, the two loud ones among them.
        targets[2] = 0;
        let some = number(&case(targets, &[(4, 3.0), (7, 3.0)]).classification);
        assert!((some - (2.0 * even + 4.0 * even + 2.0 * hard) / 2.0).abs() < 1e-5);
    }

    #[test]
    fn priors_near_difficult_objects_count_for_nothing() {
        let mut targets = [-1; 12];
        targets[0] = 1;
        let loss = number(&case(targets, &[(4, 9.0)]).classification);
        // The only answer, and no background at all, over the least divisor of two.
        assert!((loss - std::f64::consts::LN_2 / 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_picture_without_objects_still_teaches_its_hardest_background() {
        let loss = number(&case([0; 12], &[(4, 9.0)]).classification);
        let (even, hard) = (std::f64::consts::LN_2, (1.0 + 9.0f64.exp()).ln());
        assert!((loss - f64::midpoint(5.0 * even, hard)).abs() < 1e-4);
    }
}
