//! Until when a request has to be answered.

use std::time::{Duration, Instant};

use poem::Request;

use super::request_log::Notes;

/// How long a request may take, from its headers to its answer.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Duration);

impl Deadline {
    /// When a request has to be answered.
    pub fn of(request: &Request) -> tokio::time::Instant {
        let Self(time) = request.data().expect("given with the routes");
        let begun = request.data().map_or_else(Instant::now, Notes::begun);
        (begun + *time).into()
    }
}
