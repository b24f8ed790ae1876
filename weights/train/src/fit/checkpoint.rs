//! Everything a run needs to go on, in one safetensors file: parameters, moments, the best weights so
//! far, and the settings. Random numbers need no state: their streams are numbered by the step.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use state_dict::{Dtype, StateDict, write_safetensors};
use tch::Tensor;

use super::run::Schedule;
use super::stored;
use crate::evaluation::report::EpochLine;

/// What stands before the best weights' names.
const BEST: &str = "best.";

/// What a run is; another one cannot go on from its checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How the network is trained.
    pub schedule: Schedule,
    /// Pictures in a batch.
    pub batch: usize,
    /// Of everything that is left to chance.
    pub seed: u64,
    /// How many pictures there are to learn from.
    pub pictures: usize,
    /// The names of the classes.
    pub classes: Vec<String>,
}

/// The state of a run after an epoch.
#[derive(Debug)]
pub struct Checkpoint {
    /// What run it is.
    pub settings: Settings,
    /// The epochs that are over.
    pub history: Vec<EpochLine>,
    /// Parameters and moments by name.
    pub state: BTreeMap<String, Tensor>,
    /// The best weights by name.
    pub best: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Writes the file; an earlier one is replaced when the new one is whole.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let best = self.best.iter();
        let best = best.map(|(name, tensor)| (format!("{BEST}{name}"), tensor));
        let state = self
            .state
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor));
        let tensors = state
            .chain(best)
            .map(|(name, tensor)| stored(name, tensor, Dtype::F32));
        let tensors = tensors.collect::<anyhow::Result<Vec<_>>>()?;
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
    /// Where it cannot be read or is no checkpoint.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = StateDict::open(path)?;
        let no_checkpoint = || format!("{} is no checkpoint of `ssd-train fit`", path.display());
        let fact = |name: &str| file.metadata().get(name).with_context(no_checkpoint);
        let settings = serde_json::from_str(fact("settings")?).with_context(no_checkpoint)?;
        let history = serde_json::from_str(fact("history")?).with_context(no_checkpoint)?;
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

    /// Refuses to continue another run.
    ///
    /// # Errors
    /// Where the settings, the classes or the number of pictures differ.
    pub(super) fn check(&self, settings: &Settings) -> anyhow::Result<()> {
        ensure!(
            self.settings == *settings,
            "the checkpoint is of a run with other settings or pictures ({}): repeat those, or delete it",
            serde_json::to_string(&self.settings)?
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_the_history_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let figure = |epoch: usize| (epoch as f64).sqrt().recip();
        let history: Vec<EpochLine> = (1..2000)
            .map(|epoch| EpochLine {
                epoch,
                loss: figure(epoch),
                map: figure(epoch + 2000),
                map_strict: figure(epoch + 4000),
            })
            .collect();
        let written = Checkpoint {
            settings: Settings {
                schedule: Schedule {
                    epochs: 2000,
                    learning_rate: figure(7),
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
        // Equal figures must stay equal, or a resumed run chooses another best epoch.
        assert!(read.history == written.history);
        assert_eq!(read.settings, written.settings);
    }
}
