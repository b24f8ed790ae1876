//! Training: from scenes to weights.
//!
//! ```text
//! course      the whole of a run: batches, steps, log, checkpoints
//! batches     scenes drawn, varied and matched on a thread of their own
//! vary        crops, zooms, mirror images and light
//! targets     which prior answers for which object
//! loss        the paper's MultiBox loss
//! optimiser   AdamW, with its state in the open
//! norms       batch normalisation while training, folded away afterwards
//! replica     a network on a thread, learning from its part of a batch
//! initial     a network that has seen nothing
//! doubt       how sure the model must be that ships
//! checkpoint  everything a run needs to go on, in one file
//! ```

pub mod batches;
pub mod checkpoint;
pub mod course;
pub mod doubt;
pub mod initial;
pub mod loss;
pub mod norms;
pub mod optimiser;
mod replica;
pub mod targets;
mod vary;

/// Classes of the demo model, the background included.
#[must_use]
pub fn classes() -> usize {
    crate::scenes::CLASSES.len() + 1
}
