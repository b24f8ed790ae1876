//! The detector: picture, network, boxes. It knows no HTTP and opens no files.
//!
//! ```text
//! model         what a network's numbers mean: its family, priors and labels
//! family        the families of weights: what differs from one to another, a file each
//! picture       bytes to pixels: recognised, bounded, decoded, upright
//! preprocess    pixels to the network's input
//! architecture  what a network is made of, as data
//! graph         the order of its operations, and the loop that runs them
//! network       a network with its weights, as it is trained
//! inference     the network made ready to serve, in one precision on one device
//! precision     which of them suits this machine
//! quantise      what eight bits stand for
//! samples       the pictures that ship
//! onednn        the operators of libtorch that tch does not know
//! priors        the prior boxes
//! boxes         outputs to detections: decoding, NMS
//! labels        what classes are called
//! annotate      detections drawn into their picture
//! ```

pub mod allocator;
pub mod annotate;
mod architecture;
pub mod boxes;
pub mod family;
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
