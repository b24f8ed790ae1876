//! The detector: picture, network, boxes. It knows no HTTP and opens no files.
//!
//! ```text
//! model         what a network's numbers mean: its family, priors and labels
//! family        the published families of weights and what differs between them
//! picture       bytes to pixels: recognised, bounded, decoded, upright
//! preprocess    pixels to the network's input
//! network       SSD300 on libtorch
//! priors        the 8,732 prior boxes
//! boxes         outputs to detections: decoding, NMS
//! labels        what classes are called
//! ```

pub mod boxes;
pub mod family;
pub mod labels;
mod model;
pub mod network;
pub mod picture;
pub mod preprocess;
pub mod priors;

pub use model::{Description, Detection, Error, Model, describe};
