//! Batch normalisation while training (Ioffe and Szegedy 2015), folded into the convolutions when the
//! network is taken out of the run: what is published is the plain SSD300 that the server runs.
//!
//! Fifteen layers of VGG without normalisation are hard to train from nothing, and SSD most of all
//! (Zhu et al. 2019, `ScratchDet`): the published weights began with ones trained on `ImageNet`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use ssd_server::detector::network::Network;
use tch::{Device, Kind, TchError, Tensor};

const EPSILON: f64 = 1e-5;
/// The share of a batch's statistics in the running ones.
const MOMENTUM: f64 = 0.02;
/// What stands before the names of the learned scales and shifts among the parameters.
const LEARNED: &str = "norm.";
/// What stands before the names of the running statistics in a checkpoint.
const RUNNING: &str = "running.";

/// The normalisation after each convolution of a network but the heads, by the layer's name.
#[derive(Debug)]
pub(super) struct Norms(BTreeMap<String, Norm>);

#[derive(Debug)]
struct Norm {
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
}

/// Whether a network's parameter of that name is a normalised layer's, and the layer's name.
fn normalised(parameter: &str) -> Option<&str> {
    let layer = parameter.strip_suffix(".weight")?;
    (layer.starts_with("vgg.") || layer.starts_with("extras.")).then_some(layer)
}

impl Norms {
    /// For a network, as it begins: scales of 1, shifts of 0.
    pub(super) fn new(network: &Network) -> Self {
        let norms = network
            .parameters()
            .into_iter()
            .filter_map(|(name, weight)| {
                let layer = normalised(&name)?;
                let filled = |value: f64| {
                    Tensor::full([weight.size()[0]], value, (Kind::Float, Device::Cpu))
                };
                let norm = Norm {
                    scale: filled(1.0),
                    shift: filled(0.0),
                    mean: filled(0.0),
                    variance: filled(1.0),
                };
                Some((layer.to_owned(), norm))
            });
        Self(norms.collect())
    }

    /// The same tensors, for another thread to look at.
    pub(super) fn shared(&self) -> Self {
        let norms = self.0.iter().map(|(layer, norm)| {
            let shared = Norm {
                scale: norm.scale.shallow_clone(),
                shift: norm.shift.shallow_clone(),
                mean: norm.mean.shallow_clone(),
                variance: norm.variance.shallow_clone(),
            };
            (layer.clone(), shared)
        });
        Self(norms.collect())
    }

    /// The learned scales and shifts, for the optimiser.
    pub(super) fn parameters(&self) -> Vec<(String, Tensor)> {
        let learned = self.0.iter().flat_map(|(layer, norm)| {
            [
                (
                    format!("{LEARNED}{layer}.scale"),
                    norm.scale.shallow_clone(),
                ),
                (
                    format!("{LEARNED}{layer}.shift"),
                    norm.shift.shallow_clone(),
                ),
            ]
        });
        learned.collect()
    }

    /// Normalises a layer's output by the batch's own statistics, and remembers those.
    pub(super) fn apply(&self, layer: &str, output: &Tensor) -> Result<Tensor, TchError> {
        let norm = &self.0[layer];
        Tensor::f_batch_norm(
            output,
            Some(&norm.scale),
            Some(&norm.shift),
            Some(&norm.mean),
            Some(&norm.variance),
            true,
            MOMENTUM,
            EPSILON,
            false,
        )
    }

    /// The running statistics, for a checkpoint; `replica` tells whose they are.
    pub(super) fn state(&self, replica: usize) -> Vec<(String, Tensor)> {
        let running = self.0.iter().flat_map(|(layer, norm)| {
            [
                (format!("{RUNNING}{replica}.{layer}.mean"), norm.mean.copy()),
                (
                    format!("{RUNNING}{replica}.{layer}.variance"),
                    norm.variance.copy(),
                ),
            ]
        });
        running.collect()
    }

    /// Puts back what [`state`](Self::state) gave.
    pub(super) fn restore(
        &self,
        state: &BTreeMap<String, Tensor>,
        replica: usize,
    ) -> anyhow::Result<()> {
        for (layer, norm) in &self.0 {
            for (tensor, part) in [(&norm.mean, "mean"), (&norm.variance, "variance")] {
                // Replicas may have been added: they begin with the first one's.
                let saved = state
                    .get(&format!("{RUNNING}{replica}.{layer}.{part}"))
                    .or_else(|| state.get(&format!("{RUNNING}0.{layer}.{part}")));
                let saved = saved.with_context(|| format!("no running {part} of {layer}"))?;
                tensor.shallow_clone().f_copy_(saved)?;
            }
        }
        Ok(())
    }
}

/// Whether a tensor of a checkpoint is no parameter of the network.
pub(super) fn is_of_training(name: &str) -> bool {
    name.starts_with(LEARNED) || name.starts_with(RUNNING)
}

/// The network's own parameters out of a run's state: every convolution with its normalisation
/// folded into it, by the mean of the replicas' running statistics.
///
/// # Errors
/// Where the state lacks a tensor.
pub fn fold(state: &BTreeMap<String, Tensor>) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let own = state
        .iter()
        .filter(|(name, _)| !is_of_training(name) && !name.starts_with("adam."));
    let mut folded: BTreeMap<String, Tensor> = own
        .map(|(name, tensor)| (name.clone(), tensor.detach().copy()))
        .collect();
    let layers: Vec<String> = folded
        .keys()
        .filter_map(|name| normalised(name).map(str::to_owned))
        .collect();
    for layer in layers {
        let get = |name: String| {
            state
                .get(&name)
                .with_context(|| format!("no tensor {name}"))
        };
        let scale = get(format!("{LEARNED}{layer}.scale"))?;
        let shift = get(format!("{LEARNED}{layer}.shift"))?;
        let mean = mean_of_replicas(state, &format!("{layer}.mean"))?;
        let variance = mean_of_replicas(state, &format!("{layer}.variance"))?;
        let gain = scale.f_div(&variance.f_add_scalar(EPSILON)?.f_sqrt()?)?;
        let weight = get(format!("{layer}.weight"))?.f_mul(&gain.f_view([-1, 1, 1, 1])?)?;
        let bias = get(format!("{layer}.bias"))?
            .f_sub(&mean)?
            .f_mul(&gain)?
            .f_add(shift)?;
        folded.insert(format!("{layer}.weight"), weight.detach());
        folded.insert(format!("{layer}.bias"), bias.detach());
    }
    Ok(folded)
}

fn mean_of_replicas(state: &BTreeMap<String, Tensor>, name: &str) -> anyhow::Result<Tensor> {
    let found: Vec<&Tensor> = (0..)
        .map_while(|replica| state.get(&format!("{RUNNING}{replica}.{name}")))
        .collect();
    anyhow::ensure!(!found.is_empty(), "no running statistics {name}");
    Ok(Tensor::f_stack(&found, 0)?.f_mean_dim([0i64].as_slice(), false, Kind::Float)?)
}
