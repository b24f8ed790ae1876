//! SSD300 object detection on libtorch, without Python.
//!
//! - [`weights`]: state dicts from files; nothing in a file is ever executed.
//! - [`detector`]: preprocessing, the network, prior boxes, decoding and NMS.

pub mod detector;
pub mod weights;
