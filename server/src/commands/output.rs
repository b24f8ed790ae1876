//! The safetensors files that commands write.

use std::path::Path;

use anyhow::ensure;
use ssd_detector::describe;
use state_dict::{NewTensor, StateDict, write_safetensors};

/// Checks that the path may be written.
pub fn check(path: &Path, force: bool) -> anyhow::Result<()> {
    let output = path.display();
    ensure!(
        path.extension()
            .is_some_and(|extension| extension == "safetensors"),
        "{output}: the output format is safetensors; give it a name that ends in .safetensors"
    );
    ensure!(
        force || path.symlink_metadata().is_err(),
        "{output} exists; give --force to replace it"
    );
    Ok(())
}

/// Writes every tensor of `state`, its metadata, family and classes, and `more` metadata. Returns the
/// number of tensors.
pub fn write(
    state: &StateDict,
    path: &Path,
    more: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<usize> {
    let mut metadata = state.metadata().clone();
    if let Some(known) = describe(state) {
        metadata.insert("family".to_owned(), known.family.name.to_owned());
        if let Some(classes) = known.classes {
            metadata.insert("classes".to_owned(), serde_json::to_string(&classes)?);
        }
    }
    metadata.extend(more);
    let tensors: Vec<NewTensor> = state.tensors().map(NewTensor::from).collect();
    let count = tensors.len();
    write_safetensors(path, tensors, &metadata)?;
    Ok(count)
}
