//! Tensors from `.pth` and `.safetensors` files, without Python.
//!
//! [`StateDict::open`] recognises a file by its bytes, checks its whole structure, and returns tensors that are
//! views into the mapped file. [`write_safetensors`] writes tensors to a safetensors file.
//!
//! The crate knows nothing about networks, and opens no connections. It executes nothing from a file: the pickles
//! in `.pth` files are read as data, and objects that are not data are skipped. Files are untrusted: every declared
//! number is compared with the bytes in the file before anything is allocated, nothing recurses, and `limits` has all
//! other limits.
//!
//! ```text
//! state_dict    maps a file, recognises it, reads it, looks up tensors
//! sniff         recognises the format, and files that people often download by mistake
//! pth           the two formats of torch.save: the stream before PyTorch 1.6 (legacy), and zip
//! pickle        an unpickler that knows a short list of names and calls nothing
//! skipped       the report of what the unpickler skipped
//! archive       the directory of a zip file whose records are stored, not compressed
//! safetensors   reads and writes safetensors files
//! tensor        one tensor: shape, strides, conversion, statistics
//! layout dtype  the arithmetic of shapes and strides; element types
//! mapped        the file's bytes; the only `unsafe` code
//! limits        all limits on the contents of a file
//! error         what can be wrong with a file, and what to do about it
//! files         replaces whole files
//! quote         makes untrusted text safe for an error
//! ```
//!
//! [`files`] and [`quote()`] are not specific to state dicts. They are here because this crate needs them and depends
//! on no other crate of the workspace; the other crates use them too.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use state_dict::{Dtype, NewTensor, StateDict, write_safetensors};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("weights.safetensors");
//! let bias = NewTensor {
//!     name: "conv.bias".into(),
//!     dtype: Dtype::F32,
//!     shape: vec![2].into(),
//!     bytes: [0.5_f32, -1.0].map(f32::to_le_bytes).concat().into(),
//! };
//! write_safetensors(&path, vec![bias], &BTreeMap::new())?;
//!
//! let weights = StateDict::open(&path)?;
//! assert_eq!(weights.format().name(), "safetensors");
//! assert_eq!(weights.get("conv.bias").unwrap().to_f32(), [0.5, -1.0]);
//!
//! // Not weights: the error says what it is, and what to do.
//! let error = StateDict::from_bytes(b"<html><title>Not found</title>".to_vec()).unwrap_err();
//! assert!(error.to_string().contains("an HTML page"));
//! # Ok(())
//! # }
//! ```

mod archive;
mod dtype;
mod error;
pub mod files;
mod layout;
mod limits;
mod mapped;
mod pickle;
mod pth;
mod quote;
mod safetensors;
mod skipped;
mod sniff;
mod state_dict;
mod tensor;

pub use dtype::Dtype;
pub use error::{Error, ErrorKind};
pub use quote::quote;
pub use safetensors::{NewTensor, safetensors_bytes, write_safetensors};
pub use skipped::Skipped;
pub use state_dict::{Dialect, Format, StateDict, split_entry};
pub use tensor::{Stats, Tensor};
