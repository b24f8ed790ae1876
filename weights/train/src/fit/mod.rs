//! Fine-tuning: a trained network learns other classes from labelled pictures.
//!
//! ```text
//! heads       the network that a run starts from: the layers of the pretrained weights, with new classification heads
//! batches     decodes, augments and matches pictures on a separate thread
//! augment     crops, zooms out, mirrors, and changes colours
//! targets     matches prior boxes with objects
//! loss        focal loss for sigmoids, MultiBox loss for softmax
//! optimiser   AdamW, with a state that can be stored
//! run         epochs, validation, and the best weights
//! checkpoint  stores everything that is needed to resume a run
//! random      random numbers from a seed
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

/// Joins a thread when dropped. If the program ended while a thread still used tensors, libtorch would be unloaded and
/// the thread would crash. The channel that the thread waits for must be dropped first.
#[derive(Debug)]
struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // The message of a panic has been printed.
            let _ = thread.join();
        }
    }
}

/// A tensor as a weights file stores it: in half precision for `F16`, else in single precision.
///
/// # Errors
/// If libtorch fails.
pub fn stored(name: String, tensor: &Tensor, dtype: Dtype) -> anyhow::Result<NewTensor<'static>> {
    let kind = if dtype == Dtype::F16 {
        Kind::Half
    } else {
        Kind::Float
    };
    let converted = tensor
        .f_detach()?
        .f_to_device(tch::Device::Cpu)?
        .f_to_kind(kind)?
        .f_contiguous()?;
    let count = tensor.numel();
    let mut bytes = vec![0; count * kind.elt_size_in_bytes()];
    converted.f_copy_data_u8(&mut bytes, count)?;
    Ok(NewTensor {
        name: name.into(),
        dtype,
        shape: tensor.size().iter().map(|&side| side as usize).collect(),
        bytes: bytes.into(),
    })
}
