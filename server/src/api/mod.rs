//! HTTP: routes, and their OpenAPI document.
//!
//! ```text
//! context       what every request is served with
//! routes        the table of routes
//! predict       POST /predict
//! auth          basic authentication, before the body is read
//! query         the query parameters, each within its range
//! accept        the representation that the client prefers
//! body          the picture in the body, bounded in size and time
//! response      the detections as JSON, or as an annotated picture
//! refusal       requests that come to no route: what is not HTTP, what a proxy may read in another way
//! problem       errors as RFC 9457 problem details
//! document      the OpenAPI document, and the page made from it
//! health        liveness and readiness
//! playground    a page that tries /predict
//! request_log   one line per request, request ids
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
pub use document::document;
pub use health::Readiness;
pub(crate) use refusal::{HEAD_LIMIT, refused};
pub use response::Prediction;
pub use routes::{management, routes};
