//! HTTP: routes, and their OpenAPI document.
//!
//! ```text
//! context       the state that all requests share
//! routes        the table of routes
//! predict       POST /predict
//! auth          basic authentication, before the body is read
//! criteria      the criteria in the query or the form, each within its range
//! accept        the representation that the client prefers
//! media         what the headers say about the body
//! body          the body, bounded in size and time
//! form          the picture and the criteria in a form
//! parameters    header values with parameters
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
mod criteria;
mod document;
mod form;
mod health;
mod media;
mod parameters;
mod playground;
mod predict;
mod problem;
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
