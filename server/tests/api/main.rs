//! The server through its front door: real sockets, port 0, the small golden model.

mod annotate;
mod app;
mod bodies;
mod connections;
mod contract;
mod cors;
mod deepstack;
mod documents;
mod errors;
mod forms;
mod health;
mod hostile;
mod json;
mod load;
mod metrics;
mod model;
mod open_inference;
mod playground;
mod predict;
mod properties;
mod shutdown;
mod splits;
mod tls;
mod undecodable;
