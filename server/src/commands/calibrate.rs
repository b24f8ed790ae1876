//! `ssd calibrate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use indicatif::{ProgressBar, ProgressStyle};
use ssd_detector::inference::{Arithmetic, Inference, LayerError};
use ssd_detector::network::Network;
use ssd_detector::notes;
use ssd_detector::precision::Processor;
use ssd_detector::preprocess::Input;
use ssd_detector::quantise::{self, Scales};
use state_dict::StateDict;
use tch::Device;

use super::{SettingsFile, contents, output, print, print_error};

#[derive(Debug, Args)]
pub struct Calibrate {
    /// The weights: .pth (current, or from before PyTorch 1.6) or .safetensors. #NAME after it selects an entry
    #[arg(value_name = "WEIGHTS")]
    weights: PathBuf,
    /// Pictures like those to be detected in; a few dozen are enough, and they need no labels
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// The safetensors file to write
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    settings: SettingsFile,
}

impl Calibrate {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        output::check(&self.output, self.force)?;
        let settings = self.settings.load()?;
        let state = StateDict::open(&self.weights)?;
        let network = Network::new(&state)?;
        for note in notes(&state) {
            print_error(&note);
        }
        network.check_int8()?;
        let read = |path: &PathBuf| -> anyhow::Result<Input> {
            let picture =
                read(path, settings.pixel_limit).with_context(|| path.display().to_string())?;
            Ok(network.family().preprocessing.input(&picture))
        };
        let inputs = self.pictures.iter().map(read);
        let inputs = inputs.collect::<anyhow::Result<Vec<_>>>()?;
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} passes, {eta} left");
        let bar = ProgressBar::new(2 * inputs.len() as u64)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let scales = quantise::calibrate(&network, &inputs, || bar.inc(1))?;
        bar.finish_and_clear();
        let errors = if Processor::of_this_machine().x86 {
            errors(&state, &inputs[0], &scales)?.to_string()
        } else {
            "int8 runs on x86-64 CPUs only, so the errors of its layers are not measured here"
                .to_owned()
        };
        let scales = (quantise::METADATA.to_owned(), scales.to_metadata());
        let count = output::write(&state, &self.output, [scales])?;
        print(&format!(
            "{errors}\n{}: {count} tensors, calibrated for int8 on {} pictures\n",
            self.output.display(),
            inputs.len()
        ))
    }
}

/// The error of each layer's output against single precision on one input, as a table.
fn errors(state: &StateDict, input: &Input, scales: &Scales) -> anyhow::Result<Table> {
    let exact = Network::new(state)?;
    let how = Arithmetic::Int8(scales.clone());
    let inference = Inference::new(exact.shallow_clone(), &how, Device::Cpu)?;
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["layer", "mean error on the first picture"]);
    for LayerError { layer, error } in inference.errors(&exact, input)? {
        table.add_row([layer, format!("{:.2} %", error * 100.0)]);
    }
    Ok(table)
}

fn read(path: &Path, pixels: u64) -> anyhow::Result<image::RgbImage> {
    let bytes = contents(path)?;
    Ok(ssd_detector::picture::Header::read(&bytes, pixels)?
        .decode(&bytes)?
        .picture)
}
