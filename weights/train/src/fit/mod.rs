//! Fine-tuning: a network that somebody trained learns other classes from labelled pictures.
//!
//! ```text
//! heads       the network to begin with: other weights, heads for the new classes
//! batches     pictures read, augmented and matched on a thread of their own
//! augment     crops, zooms, mirror images and light
//! targets     which prior box is matched with which object
//! loss        focal loss for sigmoids, MultiBox loss for softmax
//! optimiser   AdamW, whose state can be kept
//! run         epochs, validation, the best weights so far
//! checkpoint  everything a run needs to go on, in one file
//! random      numbers that follow from a seed
//! ```

pub mod augment;
pub mod batches;
pub mod checkpoint;
pub mod heads;
pub mod loss;
pub mod optimiser;
pub mod random;
pub mod run;
pub mod targets;

use std::thread::JoinHandle;

use state_dict::{Dtype, NewTensor};
use tch::{Kind, Tensor};

/// Waits for the end of a thread when it is dropped. A program that ends beside a thread with tensors tears libtorch down
/// under it, and crashes. Whatever the thread waits for must be dropped before.
#[derive(Debug)]
struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // What a panic said has been printed.
            let _ = thread.join();
        }
    }
}

/// A tensor as it is written into a file, in single or (`F16`) half precision.
///
/// # Errors
/// Where libtorch fails.
pub fn stored(name: String, tensor: &Tensor, dtype: Dtype) -> anyhow::Result<NewTensor<'static>> {
    let kind = if dtype == Dtype::F16 {
        Kind::Half
    } else {
        Kind::Float
    };
    let tensor = tensor
        .f_detach()?
        .f_to_device(tch::Device::Cpu)?
        .f_to_kind(kind)?
        .f_contiguous()?;
    let count = tensor.numel();
    let mut bytes = vec![0; count * kind.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, count)?;
    Ok(NewTensor {
        name: name.into(),
        dtype,
        shape: tensor.size().iter().map(|&side| side as usize).collect(),
        bytes: bytes.into(),
    })
}
