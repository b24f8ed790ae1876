//! `ssd completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{Arguments, print};

#[derive(Debug, Args)]
#[command(
    after_help = "For example: ssd completions bash >~/.local/share/bash-completion/completions/ssd"
)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        generate(self.shell, &mut Arguments::command(), "ssd", &mut script);
        print(&String::from_utf8(script)?)
    }
}
