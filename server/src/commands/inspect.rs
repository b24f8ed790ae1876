//! `ssd inspect`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use ssd_detector::{describe, notes};
use state_dict::StateDict;

use super::{STANDARD_INPUT, contents, print};

#[derive(Debug, Args)]
pub struct Inspect {
    /// The file: .pth (current, or from before PyTorch 1.6) or .safetensors; - for standard input. #NAME after it
    /// selects an entry
    weights: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    format: &'static str,
    /// The format and the version of its writer, for people.
    dialect: String,
    family: Option<&'static str>,
    classes: Option<Vec<String>>,
    metadata: &'a std::collections::BTreeMap<String, String>,
    /// What was selected, ignored or skipped in the file.
    notes: Vec<String>,
    tensors: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    shape: &'a [usize],
    #[serde(skip)]
    values: usize,
    dtype: &'static str,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    non_finite: usize,
}

impl Inspect {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let weights = if self.weights == Path::new(STANDARD_INPUT) {
            StateDict::from_bytes(contents(&self.weights)?)
                .map_err(|error| anyhow!("standard input: {}", error.kind()))?
        } else {
            StateDict::open(&self.weights)?
        };
        let known = describe(&weights);
        let tensors = weights.tensors().map(|tensor| {
            let stats = tensor.stats();
            Row {
                name: tensor.name(),
                shape: tensor.shape(),
                values: tensor.element_count(),
                dtype: tensor.dtype().name(),
                min: stats.min,
                max: stats.max,
                mean: stats.mean,
                non_finite: stats.non_finite,
            }
        });
        let report = Report {
            format: weights.format().name(),
            dialect: weights.format().to_string(),
            family: known.as_ref().map(|known| known.family.name),
            classes: known.and_then(|known| known.classes),
            metadata: weights.metadata(),
            notes: notes(&weights),
            tensors: tensors.collect(),
        };
        if self.json {
            print(&(serde_json::to_string_pretty(&report)? + "\n"))
        } else {
            print(&report.text())
        }
    }
}

impl Report<'_> {
    fn text(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["tensor", "shape", "dtype", "min", "max", "mean"]);
        for row in &self.tensors {
            let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.6}"));
            let shape: Vec<String> = row.shape.iter().map(ToString::to_string).collect();
            table.add_row([
                // A name from a file may contain control characters.
                row.name.escape_debug().to_string(),
                shape.join(" x "),
                row.dtype.to_owned(),
                number(row.min),
                number(row.max),
                number(row.mean),
            ]);
        }
        for column in 3..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = format!("format: {}\n", self.dialect);
        text += &format!("family: {}\n", self.family.unwrap_or("unknown"));
        if let Some(classes) = &self.classes {
            let names: Vec<String> = classes
                .iter()
                .map(|name| name.escape_debug().to_string())
                .collect();
            text += &format!("classes: {}: {}\n", names.len(), names.join(", "));
        }
        let shown = |key: &str| ["classes", "family"].contains(&key);
        for (key, value) in self.metadata.iter().filter(|(key, _)| !shown(key)) {
            text += &format!("{}: {}\n", key.escape_debug(), value.escape_debug());
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        let values: usize = self.tensors.iter().map(|row| row.values).sum();
        text += &format!("tensors: {}, {values} values\n", self.tensors.len());
        let broken: usize = self.tensors.iter().map(|row| row.non_finite).sum();
        if broken > 0 {
            text += &format!("NOT FINITE: {broken} values are NaN or infinite\n");
        }
        text + "\n" + &table.trim_fmt() + "\n"
    }
}
