//! The safetensors format: a JSON header, then the tensors' bytes.
//!
//! <https://github.com/huggingface/safetensors#format> describes it. The `safetensors` crate checks files on reading.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, SafeTensorError, TensorInfo};

use super::dtype::Dtype;
use super::error::{Error, ErrorKind};
use super::layout;
use super::limits;
use super::state_dict::{Entries, Entry};
use super::tensor::Tensor;
use crate::files;
use crate::quote::quote;

/// Bytes before the header, with its length.
const LENGTH: usize = 8;

/// Reads a whole file. Returns its tensors in the order of their bytes, and its metadata.
pub(super) fn read(file: &[u8]) -> Result<(Entries, BTreeMap<String, String>), ErrorKind> {
    check_header_length(file)?;
    let (header, metadata) =
        SafeTensors::read_metadata(file).map_err(|error| explain(file, &error))?;
    let names = metadata.offset_keys();
    if names.len() > limits::TENSORS {
        let most = limits::TENSORS;
        return Err(ErrorKind::Contents(format!(
            "more than {most} tensors, the limit"
        )));
    }
    let mut entries = Entries::with_capacity(names.len());
    for name in names {
        let info = metadata.info(&name).expect("its name is in the header");
        let entry = entry(&name, info, LENGTH + header)?;
        entries.insert(name, entry);
    }
    Ok((
        entries,
        metadata
            .metadata()
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    ))
}

/// The entry of a tensor. The tensors' bytes begin at `data` in the file.
fn entry(name: &str, info: &TensorInfo, data: usize) -> Result<Entry, ErrorKind> {
    let wrong = |problem: String| ErrorKind::tensor(name, problem);
    if name.len() > limits::NAME {
        return Err(wrong(format!(
            "its name is longer than {} bytes, the limit",
            limits::NAME
        )));
    }
    if info.shape.len() > limits::DIMENSIONS {
        return Err(wrong(format!(
            "it has {} axes; the limit is {}",
            info.shape.len(),
            limits::DIMENSIONS
        )));
    }
    let dtype = Dtype::from_safetensors_name(&info.dtype.to_string()).ok_or_else(|| {
        wrong(format!(
            "its element type is {}; BOOL, integers of 8 to 64 bits, F16, BF16, F32 and F64 are \
             accepted",
            info.dtype
        ))
    })?;
    let strides = layout::contiguous_strides(&info.shape)
        .ok_or_else(|| wrong(format!("its shape {:?} overflows", info.shape)))?;
    let (start, end) = info.data_offsets;
    Ok(Entry {
        dtype,
        shape: info.shape.clone(),
        strides,
        bytes: data + start..data + end,
        container: 0,
    })
}

/// The `safetensors` crate would parse up to 100 MB of JSON.
fn check_header_length(file: &[u8]) -> Result<(), ErrorKind> {
    match header_length(file) {
        Some(length) if length > limits::SAFETENSORS_HEADER as u64 => {
            let most = limits::SAFETENSORS_HEADER;
            Err(ErrorKind::Safetensors(format!(
                "its header has {length} bytes; the limit is {most}"
            )))
        }
        _ => Ok(()),
    }
}

fn header_length(file: &[u8]) -> Option<u64> {
    file.first_chunk().map(|length| u64::from_le_bytes(*length))
}

/// An error of the `safetensors` crate, with sizes added.
fn explain(file: &[u8], error: &SafeTensorError) -> ErrorKind {
    let header = header_length(file)
        .and_then(|length| usize::try_from(length).ok())
        .unwrap_or(0);
    let truncated = |needs: usize, missing: &str| ErrorKind::Truncated {
        has: file.len() as u64,
        needs: Some(needs as u64),
        missing: missing.to_owned(),
    };
    match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            truncated(LENGTH.saturating_add(header), "part of the header")
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            let parsed = serde_json::from_slice::<Metadata>(&file[LENGTH..LENGTH + header]);
            let data = parsed.map_or(0, |metadata| metadata.data_len());
            let needs = LENGTH + header + data;
            if needs > file.len() {
                truncated(needs, "the tensors' data, or its end,")
            } else {
                ErrorKind::trailing(file, needs)
            }
        }
        SafeTensorError::InvalidOffset(name) => ErrorKind::tensor(
            name,
            "its bytes do not begin where the bytes of the previous tensor end",
        ),
        other => ErrorKind::Safetensors(quote(&other.to_string())),
    }
}

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct NewTensor<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its size along each axis; empty for a scalar.
    pub shape: Cow<'a, [usize]>,
    /// Its elements, little-endian, in row-major order.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> From<Tensor<'a>> for NewTensor<'a> {
    fn from(tensor: Tensor<'a>) -> Self {
        Self {
            name: Cow::Borrowed(tensor.name()),
            dtype: tensor.dtype(),
            shape: Cow::Borrowed(tensor.shape()),
            bytes: tensor.to_bytes(),
        }
    }
}

/// Writes or replaces a safetensors file. Readers see the old file or the complete new file.
///
/// Tensors keep their types and their order, but wider types come before narrower ones, so that every tensor's
/// bytes are aligned. The same input gives the same bytes.
///
/// # Errors
///
/// If a name is used twice or is `__metadata__`, a shape does not fit its bytes, or the file cannot be written.
pub fn write_safetensors(
    path: &Path,
    mut tensors: Vec<NewTensor<'_>>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let header = header(path, &mut tensors, metadata)?;
    files::replace(path, |file| write(file, &header, &tensors)).map_err(|cause| {
        let action = "write the file";
        Error::new(path, ErrorKind::Io { action, cause })
    })
}

/// Like [`write_safetensors`], in memory.
///
/// # Errors
///
/// If a name is used twice or is `__metadata__`, or a shape does not fit its bytes.
pub fn safetensors_bytes(
    mut tensors: Vec<NewTensor<'_>>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Error> {
    let header = header(Path::new("<memory>"), &mut tensors, metadata)?;
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = write(&mut bytes, &header, &tensors);
    Ok(bytes)
}

fn write(
    file: &mut (impl Write + ?Sized),
    header: &str,
    tensors: &[NewTensor<'_>],
) -> std::io::Result<()> {
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    tensors
        .iter()
        .try_for_each(|tensor| file.write_all(&tensor.bytes))
}

/// Puts the tensors in the order of the file, and returns its header.
fn header(
    path: &Path,
    tensors: &mut [NewTensor<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<String, Error> {
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.size()));
    check_new(tensors).map_err(|kind| Error::new(path, kind))?;
    Ok(header_of(tensors, metadata))
}

fn check_new(tensors: &[NewTensor<'_>]) -> Result<(), ErrorKind> {
    let mut names = HashSet::new();
    for tensor in tensors {
        let wrong = |problem: String| Err(ErrorKind::tensor(&tensor.name, problem));
        if tensor.name == "__metadata__" || !names.insert(&tensor.name) {
            return wrong("its name is taken".to_owned());
        }
        let described = layout::element_count(&tensor.shape)
            .and_then(|count| count.checked_mul(tensor.dtype.size()));
        if described != Some(tensor.bytes.len()) {
            let (shape, dtype, has) = (&tensor.shape, tensor.dtype, tensor.bytes.len());
            return wrong(format!(
                "{has} bytes do not fit the shape {shape:?} of {dtype}"
            ));
        }
    }
    Ok(())
}

/// The JSON header, padded so that the tensors' bytes are aligned.
fn header_of(tensors: &[NewTensor<'_>], metadata: &BTreeMap<String, String>) -> String {
    let mut entries = serde_json::Map::new();
    if !metadata.is_empty() {
        entries.insert("__metadata__".to_owned(), serde_json::json!(metadata));
    }
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.bytes.len();
        let entry = serde_json::json!({
            "dtype": tensor.dtype.safetensors_name(),
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        });
        entries.insert(tensor.name.to_string(), entry);
        offset = end;
    }
    let mut header = serde_json::Value::Object(entries).to_string();
    while !header.len().is_multiple_of(LENGTH) {
        header.push(' ');
    }
    header
}
