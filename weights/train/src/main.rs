//! The command line of `ssd-train`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ssd_train::training::batches::Diet;
use ssd_train::training::checkpoint::Settings;
use ssd_train::training::course::{self, Files};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train the demo model on drawn scenes, or go on from the checkpoint
    Train(Train),
}

#[derive(Args)]
struct Train {
    /// Written as the run goes; where it exists, the run goes on from it
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/demo-checkpoint.safetensors"
    )]
    checkpoint: PathBuf,
    /// The log, as CSV
    #[arg(long, value_name = "FILE", default_value = "weights/training.csv")]
    log: PathBuf,
    /// Of everything that is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Steps in all
    #[arg(long, default_value_t = 6500)]
    steps: usize,
    /// Pictures in a step
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Different scenes; each is drawn once and varied afterwards
    #[arg(long, default_value_t = 12_000)]
    pool: usize,
    /// The highest learning rate
    #[arg(long, default_value_t = 0.001)]
    learning_rate: f64,
    /// How many times narrower than the published network
    #[arg(long, default_value_t = 8)]
    narrower: usize,
    /// Steps between two checkpoints
    #[arg(long, default_value_t = 250)]
    checkpoint_every: usize,
    /// Steps between two measurements of mAP on validation scenes; 0 for none
    #[arg(long, default_value_t = 500)]
    validate_every: usize,
    /// Validation scenes
    #[arg(long, default_value_t = 200)]
    validation_scenes: usize,
}

impl Train {
    fn run(self) -> anyhow::Result<()> {
        let settings = Settings {
            diet: Diet {
                seed: self.seed,
                batch: self.batch,
                pool: self.pool,
            },
            steps: self.steps,
            learning_rate: self.learning_rate,
            narrower: self.narrower,
        };
        let files = Files {
            checkpoint: self.checkpoint,
            log: self.log,
            checkpoint_every: self.checkpoint_every,
            validate_every: self.validate_every,
            validation_scenes: self.validation_scenes,
        };
        course::train(settings, &files)
    }
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Train(train) => train.run(),
    }
}
