//! `ssd convert`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use state_dict::StateDict;

use super::{output, print, print_error};

#[derive(Debug, Args)]
pub struct Convert {
    /// The file to read: .pth (current, or from before PyTorch 1.6) or .safetensors. #NAME after it selects an entry
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
        output::check(&self.output, self.force)?;
        let state = StateDict::open(&self.input)?;
        if !state.skipped().is_empty() {
            print_error(state.skipped());
        }
        let count = output::write(&state, &self.output, [])?;
        print(&format!("{}: {count} tensors\n", self.output.display()))
    }
}
