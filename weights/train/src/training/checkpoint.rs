//! Everything a run needs to go on, in one safetensors file: parameters, moments, the step, and
//! the settings. The dice need no state of their own: they are numbered by the step.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use ssd_server::weights::{Dtype, NewTensor, StateDict, write_safetensors};
use tch::{Device, Kind, Tensor};

use super::batches::Diet;

/// What a run is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The pictures.
    #[serde(flatten)]
    pub diet: Diet,
    /// Steps in all.
    pub steps: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Of the network's first layer; the published network has 64, and the others follow.
    pub channels: usize,
    /// Whether the network computes in bfloat16, which halves the time on processors that have it
    /// and lengthens it manifold on others. The steps add up in single precision all the same.
    pub bfloat16: bool,
    /// Replicas of the network, each of which learns from its part of every batch on a thread.
    #[serde(default = "one")]
    pub replicas: usize,
}

/// What checkpoints that do not say were made with.
fn one() -> usize {
    1
}

/// The state of a run.
#[derive(Debug)]
pub struct Checkpoint {
    /// The settings it was begun with.
    pub settings: Settings,
    /// Steps made.
    pub step: usize,
    /// Parameters and moments by name.
    pub state: BTreeMap<String, Tensor>,
}

/// The numbers of a tensor in row-major order.
///
/// # Errors
/// Where libtorch fails.
pub fn numbers(tensor: &Tensor) -> anyhow::Result<Vec<f32>> {
    let flat = tensor
        .f_detach()?
        .f_to_kind(Kind::Float)?
        .f_contiguous()?
        .f_view([-1])?;
    Ok(Vec::try_from(&flat)?)
}

/// The shape of a tensor.
#[must_use]
pub fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.size().iter().map(|&side| side as usize).collect()
}

impl Checkpoint {
    /// Writes the file; an earlier one is replaced when the new one is whole.
    ///
    /// # Errors
    /// Where it cannot be written, or holds a number that is not finite: an earlier file stays then.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let tensors = self
            .state
            .iter()
            .map(|(name, tensor)| {
                let numbers = numbers(tensor)?;
                ensure!(
                    numbers.iter().all(|number| number.is_finite()),
                    "{} is not written: the run has diverged, and {name} is not finite any more. Begin again \
                     with a lower learning rate",
                    path.display()
                );
                let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
                Ok(NewTensor {
                    name: name.into(),
                    dtype: Dtype::F32,
                    shape: shape(tensor).into(),
                    bytes: bytes.into(),
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let metadata = BTreeMap::from([
            ("step".to_owned(), self.step.to_string()),
            (
                "settings".to_owned(),
                serde_json::to_string(&self.settings)?,
            ),
        ]);
        Ok(write_safetensors(path, tensors, &metadata)?)
    }

    /// Reads a file that [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// Where it cannot be read or is no checkpoint.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = StateDict::open(path)?;
        let fact = |name: &str| {
            let fact = file.metadata().get(name);
            fact.with_context(|| format!("{} is no checkpoint: no {name}", path.display()))
        };
        let settings = serde_json::from_str(fact("settings")?)
            .with_context(|| format!("{}: its settings", path.display()))?;
        let step = fact("step")?
            .parse()
            .with_context(|| format!("{}: its step", path.display()))?;
        let state = file
            .tensors()
            .map(|tensor| {
                let size: Vec<i64> = tensor.shape().iter().map(|&side| side as i64).collect();
                let values = Tensor::f_from_slice(&tensor.to_f32())?.f_view(size.as_slice())?;
                Ok((tensor.name().to_owned(), values.f_to_device(Device::Cpu)?))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            settings,
            step,
            state,
        })
    }

    /// Refuses to continue another run's state. The number of steps may be changed on the way (the
    /// learning rate follows the new one), and the replicas.
    ///
    /// # Errors
    /// Where the other settings differ.
    pub fn check(&self, settings: &Settings) -> anyhow::Result<()> {
        let changed = Settings {
            steps: settings.steps,
            replicas: settings.replicas,
            ..self.settings
        };
        ensure!(
            changed == *settings,
            "the checkpoint is of a run with other settings ({}); repeat those, or choose another \
             checkpoint file",
            serde_json::to_string(&self.settings)?
        );
        Ok(())
    }
}
