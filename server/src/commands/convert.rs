//! `ssd convert`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;
use ssd_server::detector::describe;
use ssd_server::weights::{NewTensor, StateDict, write_safetensors};

use super::print;

#[derive(Debug, Args)]
pub struct Convert {
    /// The file to read: .pth (of either age) or .safetensors
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The safetensors file to write
    #[arg(value_name = "OUT.safetensors")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Convert {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let output = self.output.display();
        ensure!(
            self.output
                .extension()
                .is_some_and(|extension| extension == "safetensors"),
            "{output}: what is written is safetensors; give it a name that ends in .safetensors"
        );
        ensure!(
            self.force || self.output.symlink_metadata().is_err(),
            "{output} exists; give --force to replace it"
        );
        let state = StateDict::open(&self.input)?;
        let mut metadata = state.metadata().clone();
        if let Some(known) = describe(&state) {
            metadata.insert("family".to_owned(), known.family.name.to_owned());
            if let Some(classes) = known.classes {
                metadata.insert("classes".to_owned(), serde_json::to_string(&classes)?);
            }
        }
        let tensors: Vec<NewTensor> = state.tensors().map(NewTensor::from).collect();
        let count = tensors.len();
        write_safetensors(&self.output, tensors, &metadata)?;
        print(&format!("{output}: {count} tensors\n"))
    }
}
