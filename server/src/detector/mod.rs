//! The detector: picture, network, boxes. It knows no HTTP and no files.

pub mod boxes;
pub mod network;
pub mod preprocess;
pub mod priors;
