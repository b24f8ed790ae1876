//! HTTP: routes, and their OpenAPI document.
//!
//! ```text
//! context         the state that all requests share
//! routes          the table of routes
//! predict         POST /predict
//! model           GET /model
//! health          GET /livez and GET /readyz
//! open_inference  the Open Inference Protocol v2, of KServe and Triton
//! deepstack       DeepStack's API, of Frigate and Home Assistant
//! call            what every request for detections needs
//! auth            basic authentication, before the body is read
//! criteria        the criteria in the query or the form, each within its range
//! accept          the representation that the client prefers
//! media           what the headers say about the body
//! body            the body, bounded in size and time
//! upload          the picture and the criteria in the body of /predict
//! form            a form with a picture
//! json            JSON with a picture
//! data_url        a picture as base64
//! parameters      header values with parameters
//! response        the detections as JSON, or as an annotated picture
//! refusal         rejects invalid HTTP, and requests that a proxy could interpret differently
//! cors            lets pages of other origins call the server
//! problem         errors as RFC 9457 problem details
//! document        the OpenAPI document, and a page that shows it
//! playground      a page to try /predict
//! request_log     a log line, a span, metrics and an id for each request
//! ```

mod accept;
mod auth;
mod body;
mod call;
mod context;
mod cors;
mod criteria;
mod data_url;
mod deepstack;
mod document;
mod form;
mod health;
mod json;
mod media;
mod model;
mod open_inference;
mod parameters;
mod playground;
mod predict;
mod problem;
mod refusal;
mod request_log;
mod response;
mod routes;
mod upload;

pub use context::{Context, Options};
pub(crate) use document::decimal;
pub use document::document;
pub use health::Readiness;
pub(crate) use refusal::{HEAD_LIMIT, refused};
pub use response::Prediction;
pub use routes::{management, routes};
