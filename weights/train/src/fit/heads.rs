//! Makes the network that a run starts from: the layers of the pretrained weights, with new classification heads.

use anyhow::Context as _;
use ssd_detector::family::{Family, Scores};
use state_dict::{Dtype, NewTensor, StateDict, safetensors_bytes};

use super::random::Random;

/// The standard deviation of the new heads' weights (Lin et al. 2017, section 4.1).
const DEVIATION: f32 = 0.01;
/// The initial score of every class and prior box in a head with sigmoids. With a low score, the loss of the many
/// background prior boxes does not dominate (Lin et al. 2017, section 3.3).
const INITIAL_SCORE: f32 = 0.01;
/// The initial logit of the background in a head with softmax, for the same reason.
const INITIAL_BACKGROUND_LOGIT: f32 = 3.0;
/// The stream of random numbers for the initial weights.
const STREAM: u64 = u64::MAX;

/// Returns `weights` in single precision with random classification heads for `classes` classes and the background.
/// Keeps only the family of the metadata.
///
/// # Errors
/// If the weights belong to no known family.
pub fn replace(weights: &StateDict, classes: usize, seed: u64) -> anyhow::Result<StateDict> {
    let recognised = Family::recognise(weights).with_context(|| {
        format!(
            "{}: not the weights of a known network",
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
            Some((boxes * outputs, part))
        });
        let (shape, values) = match head {
            None => (tensor.shape().to_vec(), tensor.to_f32()),
            Some((channels, ".weight")) => {
                let mut shape = tensor.shape().to_vec();
                if let Some(rows) = shape.first_mut() {
                    *rows = channels;
                }
                let count = shape.iter().product::<usize>();
                let values = (0..count).map(|_| random.normal() * DEVIATION);
                (shape, values.collect())
            }
            Some((channels, _)) => {
                let bias = |class: usize| match family.scores {
                    Scores::Sigmoid => (INITIAL_SCORE / (1.0 - INITIAL_SCORE)).ln(),
                    Scores::Softmax if class == 0 => INITIAL_BACKGROUND_LOGIT,
                    Scores::Softmax => 0.0,
                };
                let values = (0..channels).map(|channel| bias(channel % outputs));
                (vec![channels], values.collect())
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
