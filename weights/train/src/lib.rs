//! Fine-tuning a detector on labelled pictures, and measuring the accuracy of any weights.
//!
//! - [`data`]: labelled pictures of a user's own, read and checked.
//! - [`fit`]: other weights learn their classes.
//! - [`evaluation`]: any weights against labelled pictures.
//! - [`measure`]: the arithmetic of average precision.

pub mod data;
pub mod evaluation;
pub mod fit;
pub mod measure;
