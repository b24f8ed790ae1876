//! Everything a run needs to go on, in one safetensors file: parameters, moments, the best weights so
//! far, and the settings. Random numbers need no state: their streams are numbered by the step.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use ssd_server::detector::network::Network;
use ssd_server::weights::{Dtype, StateDict, write_safetensors};
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
    /// The epoch of the best weights.
    pub best_epoch: usize,
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
            ("best".to_owned(), self.best_epoch.to_string()),
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
        let best_epoch = fact("best")?.parse().with_context(no_checkpoint)?;
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
            best_epoch,
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

    /// Gives a network the best weights.
    pub(super) fn put_best(&self, network: &Network) -> anyhow::Result<()> {
        tch::no_grad(|| {
            for (name, mut own) in network.parameters() {
                let saved = self
                    .best
                    .get(&name)
                    .filter(|saved| saved.size() == own.size());
                let saved = saved.with_context(|| format!("the checkpoint lacks {name}"))?;
                own.f_copy_(saved)?;
            }
            Ok(())
        })
    }
}
