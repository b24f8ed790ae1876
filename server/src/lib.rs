//! SSD object detection over HTTP, on libtorch, without Python.
//!
//! A request comes in through [`api`], waits in [`engine`], is seen by [`detector`], and leaves
//! through [`api`]. Files come in once, at start-up, through [`weights`]. Nothing points back.
//!
//! - [`weights`]: state dicts from files; nothing in a file is ever executed.
//! - [`detector`]: pictures, preprocessing, the network, prior boxes, decoding and NMS, labels,
//!   annotated pictures.
//! - [`engine`]: decoding, the model threads, the order of the work.
//! - [`api`]: routes, authentication, bodies, answers, errors, the OpenAPI document.
//! - [`server`]: sockets, TLS, readiness, draining.
//! - [`config`]: settings. [`telemetry`]: logs, metrics, traces. [`files`]: whole files or none.

/// The version of libtorch that this was built with.
pub const LIBTORCH_VERSION: &str = env!("LIBTORCH_VERSION");

/// The maximum number of detections per picture.
fn max_detections() -> u64 {
    *ssd_detector::boxes::Criteria::top_k().end() as u64
}

pub mod api;
pub mod config;
pub mod engine;
pub mod server;
pub mod telemetry;
