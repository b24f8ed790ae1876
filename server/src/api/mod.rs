//! HTTP: routes, and their OpenAPI document.
//!
//! ```text
//! context       the state that all requests share
//! routes        the table of routes
//! predict       POST /predict
//! auth          basic authentication, before the body is read
//! query         the query parameters, each within its range
//! accept        the representation that the client prefers
//! body          the picture in the body, bounded in size and time
//! response      the detections as JSON, or as an annotated picture
//! refusal       rejects invalid HTTP, and requests that a proxy could interpret differently
//! problem       errors as RFC 9457 problem details
//! document      the OpenAPI document, and a page that shows it
//! health        liveness and readiness
//! playground    a page to try /predict
//! request_log   a log line, a span, metrics and an id for each request
//! ```

mod accept;
mod auth;
mod body;
mod context;
mod document;
mod health;
mod playground;
mod predict;
mod problem;
mod query;
mod refusal;
mod request_log;
mod response;
mod routes;

pub use context::{Context, Options};
pub(crate) use document::decimal;
pub use document::document;
pub use health::Readiness;
pub(crate) use refusal::{HEAD_LIMIT, refused};
pub use response::Prediction;
pub use routes::{management, routes};
