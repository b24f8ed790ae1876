//! SSD object detection: pixels in, labelled bounding boxes out.
//!
//! A [`Model`] and its [`Network`](network::Network) come from a [`StateDict`](state_dict::StateDict).
//! [`prepare`](inference::prepare) turns the network into an [`Inference`](inference::Inference). The model turns a
//! picture into the network's [`input`](Model::input), and the network's output into
//! [`detections`](Model::detections).
//!
//! The crate knows nothing about HTTP, settings, async or metrics, and opens no files. It gets pictures and labels as
//! bytes, and weights as a state dict.
//!
//! ```text
//! model         everything of a detector except its network: family, prior boxes, labels
//! family        the families of weights
//! architecture  the operations of a network, as data
//! graph         the order of operations, and the loop that runs them
//! network       a network with its weights, for training
//! inference     a network prepared for serving, in one precision on one device
//! fuse          operations that run as one
//! heads         the outputs of a network's last convolutions, in the order of the prior boxes
//! precision     the precision and the device of a forward pass
//! quantise      the scales of int8
//! onednn        libtorch's operators that tch has no functions for
//! kernels       operations on feature maps on the CPU that are faster than libtorch's
//! allocator     how much free memory glibc's allocator keeps
//! picture       decodes pictures upright and within limits; encodes pictures
//! samples       bundled pictures
//! preprocess    pixels to the network's input
//! priors        prior boxes
//! boxes         the network's output to detections: decoding, NMS
//! labels        the names of classes
//! annotate      draws detections into their picture
//! ```
//!
//! Non-maximum suppression keeps the best one of overlapping boxes:
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
mod heads;
pub mod inference;
mod kernels;
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

pub use model::{
    Defaults, Description, Detection, Error, Model, UnknownClass, describe, notes, scales,
};
