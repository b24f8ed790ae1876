//! Fine-tuning: a network that somebody trained learns other classes from labelled pictures.
//!
//! ```text
//! heads       the network to begin with: other weights, heads for the new classes
//! batches     pictures read, varied and matched on a thread of their own
//! augment     crops, zooms, mirror images and light
//! loss        focal loss for sigmoids, MultiBox loss for softmax
//! course      epochs, validation, the best weights so far
//! checkpoint  everything a run needs to go on, in one file
//! ```

pub mod augment;
pub mod batches;
pub mod checkpoint;
pub mod course;
pub mod heads;
pub mod loss;
