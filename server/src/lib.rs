//! SSD object detection over HTTP, on libtorch, without Python.
//!
//! [`api`] receives a request, [`engine`] queues it and runs [`ssd_detector`] on it, and [`api`] sends the
//! response. Weights are read once, at start-up, through [`state_dict`]. The modules have no circular
//! dependencies.
//!
//! ```text
//! server      sockets, TLS, loading the model, draining; converts the settings into the modules' options
//! api         routes, authentication, bodies, responses, errors, the OpenAPI document
//! engine      the queue, decoding, the model threads, their health
//! config      settings
//! telemetry   logs, metrics, traces
//! ```

/// The version of libtorch that this program was built with.
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
