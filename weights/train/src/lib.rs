//! Fine-tuning a detector on labelled pictures, and measuring the accuracy of any weights.
//!
//! - [`data`]: labelled pictures of a user's own, read and checked.
//! - [`fit`]: other weights learn their classes.
//! - [`scenes`]: pictures drawn by the thousand, with the true boxes of what is in them.
//! - [`training`]: from scenes to weights, with the server's own network.
//! - [`evaluation`]: any weights against pictures in VOC's or COCO's layout, or against scenes.
//! - [`measure`]: the arithmetic of average precision.

pub mod data;
pub mod evaluation;
pub mod fit;
pub mod measure;
pub mod scenes;
pub mod training;
