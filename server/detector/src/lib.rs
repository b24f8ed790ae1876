//! SSD object detection: pixels in, labelled bounding boxes out.
//!
//! A [`Model`] and its [`Network`](network::Network) come from a [`StateDict`](state_dict::StateDict).
//! [`prepare`](inference::prepare) turns the network into an [`Inference`](inference::Inference). The model makes
//! its input of a picture, and [`detections`](Model::detections) of its output.
//!
//! The crate knows nothing of HTTP, settings, async or metrics, and opens no files: pictures and labels come as
//! bytes, weights as a state dict.
//!
//! ```text
//! model         what a network's numbers mean: its family, prior boxes, labels
//! family        the families of weights, a file each
//! architecture  what a network is made of, as data
//! graph         the order of its operations, and the loop that runs them
//! network       a network with its weights, as it is trained
//! inference     a network prepared for serving, in one precision on one device
//! fuse          operations that run as one
//! precision     the precision and the device of a forward pass
//! quantise      the scales of int8
//! onednn        the operators of libtorch for which tch has no function
//! allocator     what glibc does with freed memory
//! picture       bytes to pixels: recognised, limited, decoded, upright; and back
//! samples       the pictures that ship
//! preprocess    pixels to the network's input
//! priors        prior boxes
//! boxes         outputs to detections: decoding, NMS
//! labels        the names of classes
//! annotate      detections drawn into their picture
//! ```
//!
//! Non-maximum suppression keeps the best of boxes that overlap:
//!
//! ```
//! use ssd_detector::boxes::{Corners, nms};
//!
//! let boxes = [0.0, 0.1, 0.6].map(|x1| Corners { x1, y1: 0.2, x2: x1 + 0.4, y2: 0.8 });
//! assert_eq!(nms(&boxes, &[0.7, 0.9, 0.8], 0.45, 200), [1, 2]);
//! ```

pub mod allocator;
pub mod annotate;
mod architecture;
pub mod boxes;
pub mod family;
mod fuse;
mod graph;
pub mod inference;
pub mod labels;
mod model;
pub mod network;
mod onednn;
pub mod picture;
pub mod precision;
pub mod preprocess;
pub mod priors;
pub mod quantise;
pub mod samples;

pub use model::{Defaults, Description, Detection, Error, Model, describe, scales};
