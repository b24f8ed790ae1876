//! How the demo model was made, and how the accuracy of any SSD300 weights is measured.
//!
//! - [`scenes`]: pictures drawn by the thousand, with the true boxes of what is in them.
//! - [`training`]: from scenes to weights, with the server's own network.
//! - [`evaluation`]: any weights against pictures in VOC's or COCO's layout, or against scenes.
//! - [`measure`]: the arithmetic of average precision.

pub mod evaluation;
pub mod measure;
pub mod scenes;
pub mod training;
