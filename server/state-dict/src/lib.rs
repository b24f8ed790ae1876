//! State dicts from files: names and tensors, without Python and without running anything.
//!
//! [`StateDict::open`] recognises the file from its bytes, checks everything that can be checked,
//! and hands out tensors that are views into the mapped file. It knows nothing of networks or of
//! HTTP.
//!
//! ```text
//! state_dict    the way in: map the file, recognise it, read it, look tensors up
//! sniff         which format the first bytes announce, and what people download by mistake
//! pth           the two files torch.save writes: the pre-1.6 stream (legacy) and today's zip
//! pickle        an unpickler that knows a short list of names and calls nothing
//! archive       the directory of a zip file whose records are stored, not compressed
//! safetensors   read and write
//! tensor        one tensor: shape, strides, conversion, statistics
//! layout dtype  the arithmetic of shapes and strides; element types
//! mapped        the file's bytes; the only `unsafe`
//! limits        every bound on what a file may ask for
//! error         what can be wrong with a file, said so that it can be put right
//! quote         text from a file, made fit for an error
//! files         written whole or not at all
//! ```
//!
//! A file is hostile until it has been read: nothing is allocated from a number it declares before
//! that number is compared with the bytes that are there, nothing recurses, and `limits` lists
//! every other bound.

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
mod sniff;
mod state_dict;
mod tensor;

pub use dtype::Dtype;
pub use error::{Error, ErrorKind};
pub use quote::quote;
pub use safetensors::{NewTensor, safetensors_bytes, write_safetensors};
pub use state_dict::{Dialect, Format, StateDict};
pub use tensor::{Stats, Tensor};
