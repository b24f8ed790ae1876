//! Stores in one safetensors file everything that is needed to resume a run: parameters, moments, the best weights, and
//! the settings. Random numbers need no state, since the step determines their stream.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use state_dict::{Dtype, StateDict, write_safetensors};
use tch::Tensor;

use super::run::Schedule;
use super::stored;
use crate::evaluation::report::EpochMetrics;

/// The prefix of the names of the best weights.
const BEST: &str = "best.";

/// The settings of a run. A run with other settings cannot continue from its checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How the network is trained.
    pub schedule: Schedule,
    /// The number of pictures in a batch.
    pub batch: usize,
    /// The seed of the heads, shuffling and augmentation.
    pub seed: u64,
    /// The number of training pictures.
    pub pictures: usize,
    /// The class names.
    pub classes: Vec<String>,
}

/// The state of a run after an epoch.
#[derive(Debug)]
pub struct Checkpoint {
    /// The settings of the run.
    pub settings: Settings,
    /// The completed epochs.
    pub history: Vec<EpochMetrics>,
    /// Parameters and moments by name.
    pub state: BTreeMap<String, Tensor>,
    /// The weights of the best epoch by name.
    pub best: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Writes the file. Replaces an earlier file only when the new file is complete.
    ///
    /// # Errors
    /// If the file cannot be written, or libtorch fails.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let state = self
            .state
            .iter()
            .map(|(name, tensor)| stored(name.clone(), tensor, Dtype::F32));
        let best = self
            .best
            .iter()
            .map(|(name, tensor)| stored(format!("{BEST}{name}"), tensor, Dtype::F32));
        let tensors = state.chain(best).collect::<anyhow::Result<Vec<_>>>()?;
        let metadata = BTreeMap::from([
            ("history".to_owned(), serde_json::to_string(&self.history)?),
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
    /// If the file cannot be read, or is not a checkpoint.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = StateDict::open(path)?;
        let refusal = || format!("{} is not a checkpoint of `ssd-train fit`", path.display());
        let entry = |name: &str| file.metadata().get(name).with_context(refusal);
        let settings = serde_json::from_str(entry("settings")?).with_context(refusal)?;
        let history = serde_json::from_str(entry("history")?).with_context(refusal)?;
        let (mut state, mut best) = (BTreeMap::new(), BTreeMap::new());
        for tensor in file.tensors() {
            let size: Vec<i64> = tensor.shape().iter().map(|&side| side as i64).collect();
            let values = Tensor::f_from_slice(&tensor.to_f32())?.f_view(size.as_slice())?;
            match tensor.name().strip_prefix(BEST) {
                Some(name) => best.insert(name.to_owned(), values),
                None => state.insert(tensor.name().to_owned(), values),
            };
        }
        Ok(Self {
            settings,
            history,
            state,
            best,
        })
    }

    /// Refuses to continue a run with other settings, classes or numbers of pictures.
    pub(super) fn check(&self, settings: &Settings) -> anyhow::Result<()> {
        ensure!(
            self.settings == *settings,
            "the checkpoint belongs to a run with other settings or pictures ({}); use the same settings and pictures, \
             or delete the checkpoint",
            serde_json::to_string(&self.settings)?
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_history_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let number = |epoch: usize| (epoch as f64).sqrt().recip();
        let history: Vec<EpochMetrics> = (1..2000)
            .map(|epoch| EpochMetrics {
                epoch,
                loss: number(epoch),
                map: number(epoch + 2000),
                map_strict: number(epoch + 4000),
            })
            .collect();
        let written = Checkpoint {
            settings: Settings {
                schedule: Schedule {
                    epochs: 2000,
                    learning_rate: number(7),
                    freeze: 0,
                    replicas: 1,
                    patience: 1000,
                },
                batch: 8,
                seed: 1,
                pictures: 9,
                classes: vec!["cat".to_owned()],
            },
            history,
            state: [("bias".to_owned(), Tensor::from_slice(&[1.0f32]))].into(),
            best: BTreeMap::new(),
        };
        written.write(&path).unwrap();
        let read = Checkpoint::read(&path).unwrap();
        // Otherwise a resumed run could choose another best epoch.
        assert!(read.history == written.history);
        assert_eq!(read.settings, written.settings);
    }
}
