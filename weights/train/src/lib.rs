//! Fine-tunes a detector on labelled pictures, and measures the accuracy of weights.
//!
//! - [`data`]: reads and checks data sets of labelled pictures.
//! - [`fit`]: trains a network on a data set.
//! - [`evaluation`]: runs a detector over labelled pictures, and reports its accuracy.
//! - [`measure`]: computes average precision, precision and recall from boxes.
//!
//! The program `ssd-train` in `main.rs` and `commands` parses arguments and prints results.

pub mod data;
pub mod evaluation;
pub mod fit;
pub mod measure;
