//! `ssd man`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use super::{Arguments, print};

#[derive(Debug, Args)]
#[command(after_help = "For example: ssd man predict | man -l -")]
pub struct Man {
    /// The command to show the page of; if none, ssd itself
    command: Option<String>,
}

impl Man {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut ssd = Arguments::command();
        // Gives each page its full name, for example ssd-predict.
        ssd.build();
        let command = match &self.command {
            None => ssd,
            Some(name) => ssd
                .find_subcommand(name)
                .with_context(|| format!("there is no command `{name}`; see ssd --help"))?
                .clone(),
        };
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .source(concat!("ssd ", env!("CARGO_PKG_VERSION")))
            .render(&mut page)?;
        print(&String::from_utf8(page)?)
    }
}
