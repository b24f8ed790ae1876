//! SSD object detection over HTTP, on libtorch, without Python.
//!
//! A request enters [`api`], waits in [`engine`], is seen by [`ssd_detector`], and leaves through [`api`].
//! Files come in once, at start-up, through [`state_dict`]. No module depends on one that uses it.
//!
//! ```text
//! server      sockets, TLS, loading the model, draining; settings become options here
//! api         routes, authentication, bodies, responses, errors, the OpenAPI document
//! engine      the queue, decoding, the model threads, their health
//! config      settings
//! telemetry   logs, metrics, traces
//! ```

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
