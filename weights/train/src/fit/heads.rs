//! The network to begin with: the layers of other weights, and classification heads for new classes.

use anyhow::Context as _;
use ssd_detector::family::{Family, Scores};
use state_dict::{Dtype, NewTensor, StateDict, safetensors_bytes};

use super::random::Random;

/// Deviation of the new heads' weights (Lin et al. 2017, section 4.1).
const DEVIATION: f32 = 0.01;
/// The score that a head with sigmoids gives everything at first, so that the many background priors do
/// not drown the few others (Lin et al. 2017, section 3.3).
const FIRST_SCORE: f32 = 0.01;
/// The background's first logit of a head with softmax, for the same reason.
const FIRST_BACKGROUND: f32 = 3.0;
/// The stream of random numbers that initialisation uses.
const STREAM: u64 = u64::MAX;

/// `weights` with classification heads of `classes`, the background not counted, and nothing else that
/// the file says of itself but its family.
///
/// # Errors
/// Where the weights are of no family, or lack a head.
pub fn replace(weights: &StateDict, classes: usize, seed: u64) -> anyhow::Result<StateDict> {
    let recognised = Family::recognise(weights).with_context(|| {
        format!(
            "{}: no weights of a known network",
            weights.path().display()
        )
    })?;
    let (family, prefix) = (recognised.family, &recognised.prefix);
    let heads = family.classification_heads();
    let outputs = classes + 1;
    let random = &mut Random::new(seed, STREAM);
    let mut tensors = Vec::new();
    for tensor in weights.tensors() {
        let Some(name) = tensor.name().strip_prefix(prefix.as_str()) else {
            continue;
        };
        let head = heads.iter().find_map(|(head, boxes)| {
            let part = name.strip_prefix(head.as_str())?;
            Some((*boxes, part == ".weight"))
        });
        let (shape, values) = match head {
            None => (tensor.shape().to_vec(), tensor.to_f32()),
            Some((boxes, true)) => {
                let mut shape = tensor.shape().to_vec();
                if let Some(rows) = shape.first_mut() {
                    *rows = boxes * outputs;
                }
                let count = shape.iter().product::<usize>();
                let values = (0..count).map(|_| random.normal() * DEVIATION);
                (shape, values.collect())
            }
            Some((boxes, false)) => {
                let of_class = |class: usize| match family.scores {
                    Scores::Sigmoid => (FIRST_SCORE / (1.0 - FIRST_SCORE)).ln(),
                    Scores::Softmax if class == 0 => FIRST_BACKGROUND,
                    Scores::Softmax => 0.0,
                };
                let values = (0..boxes * outputs).map(|output| of_class(output % outputs));
                (vec![boxes * outputs], values.collect())
            }
        };
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        tensors.push(NewTensor {
            name: name.to_owned().into(),
            dtype: Dtype::F32,
            shape: shape.into(),
            bytes: bytes.into(),
        });
    }
    let metadata = [("family".to_owned(), family.name.to_owned())].into();
    Ok(StateDict::from_bytes(safetensors_bytes(
        tensors, &metadata,
    )?)?)
}
