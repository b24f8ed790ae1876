//! What a network is trained to make small.

use ssd_server::detector::family::Scores;
use tch::{Kind, Reduction, TchError, Tensor};

use crate::training::loss::multibox;

/// Focal loss: how much less a prior counts that is right already (Lin et al. 2017, equation 5).
const GAMMA: f64 = 2.0;
/// How much an object counts against background.
const ALPHA: f64 = 0.25;

/// The loss of a batch, as one number: `offsets` and `boxes` are N x priors x 4, `logits` N x priors x
/// classes, `classes` N x priors (i64; 0 is background, -1 is left out).
///
/// A network of sigmoids is trained by focal loss and smooth L1, each over the number of priors that
/// answer for objects; one of softmax by the paper's `MultiBox` loss.
///
/// # Errors
/// Where libtorch fails.
pub fn loss(
    scores: Scores,
    (offsets, logits): (&Tensor, &Tensor),
    (boxes, classes): (&Tensor, &Tensor),
) -> Result<Tensor, TchError> {
    match scores {
        Scores::Softmax => multibox(offsets, logits, classes, boxes)?.total(),
        Scores::Sigmoid => focal(offsets, logits, classes, boxes),
    }
}

fn focal(
    offsets: &Tensor,
    logits: &Tensor,
    classes: &Tensor,
    boxes: &Tensor,
) -> Result<Tensor, TchError> {
    let outputs = logits.size()[2];
    let classes = classes.f_reshape([-1])?;
    let answers = classes.f_gt(0)?;
    let count = answers.f_sum(Kind::Int64)?.f_int64_value(&[])?.max(1) as f64;
    let rows = answers.f_nonzero()?.f_squeeze_dim(1)?;
    let localisation = offsets
        .f_reshape([-1, 4])?
        .f_index_select(0, &rows)?
        .f_smooth_l1_loss(
            &boxes.f_reshape([-1, 4])?.f_index_select(0, &rows)?,
            Reduction::Sum,
            1.0,
        )?;
    // Class 0 has a score too, which nobody reads: it is not trained.
    let logits = logits
        .f_reshape([-1, outputs])?
        .f_narrow(1, 1, outputs - 1)?;
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
    let classification = entropy
        .f_mul(&missing.f_pow_tensor_scalar(GAMMA)?)?
        .f_mul(&weight)?
        .f_mul(&counts)?
        .f_sum(Kind::Float)?;
    localisation.f_add(&classification)?.f_div_scalar(count)
}

#[cfg(test)]
mod tests {
    use super::*;

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
