//! One log line a request, and its id.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures_util::FutureExt as _;
use poem::http::{HeaderName, HeaderValue};
use poem::{Endpoint, IntoResponse, Middleware, PathPattern, Request, Response, Result};
use tracing::{error, info};
use uuid::Uuid;

use super::problem::Problem;
use crate::engine::Stages;

/// The header that carries a request's id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client.
const LONGEST_ID: usize = 128;

/// What the handler of a request adds to its log line.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    received: AtomicU64,
    note: OnceLock<Note>,
    failure: OnceLock<String>,
}

#[derive(Debug)]
struct Note {
    size: (u32, u32),
    objects: usize,
    stages: Stages,
}

impl Notes {
    /// Notes that so many bytes of the body have come.
    pub fn received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes why the server failed to answer. Only the log tells it.
    pub fn failed(&self, cause: String) {
        let _ = self.0.failure.set(cause);
    }

    /// Notes how a picture was answered.
    pub fn answered(&self, size: (u32, u32), objects: usize, stages: Stages) {
        let _ = self.0.note.set(Note {
            size,
            objects,
            stages,
        });
    }
}

/// Logs every request when its answer is ready to be sent.
#[derive(Debug, Clone, Copy)]
pub struct RequestLog;

impl<E: Endpoint> Middleware<E> for RequestLog {
    type Output = Logged<E>;

    fn transform(&self, inner: E) -> Logged<E> {
        Logged(inner)
    }
}

/// An endpoint whose requests are logged.
#[derive(Debug)]
pub struct Logged<E>(E);

impl<E: Endpoint> Endpoint for Logged<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let begun = Instant::now();
        let id = id(&request);
        let notes = Notes::default();
        request.set_data(notes.clone());
        let method = request.method().clone();
        let answering = AssertUnwindSafe(self.0.call(request)).catch_unwind();
        let mut response = match answering.await {
            Ok(Ok(response)) => response.into_response(),
            Ok(Err(error)) => error.into_response(),
            Err(_) => {
                notes.failed("a panic, told above".to_owned());
                Problem::internal().into_response()
            }
        };
        // Never the path that was sent: it may be anything, and of any length.
        let pattern = response
            .data::<PathPattern>()
            .map(|pattern| pattern.0.clone());
        let route = pattern.as_deref().filter(|route| !route.is_empty());
        let route = route.unwrap_or("-");
        let line = Line {
            method: method.as_str(),
            route,
            status: response.status().as_u16(),
            ms: milliseconds(begun.elapsed()),
            id: &id,
        };
        line.write(&notes.0);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        if let Some(note) = notes.0.note.get() {
            server_timing(&mut response, &note.stages);
        }
        Ok(response)
    }
}

struct Line<'a> {
    method: &'a str,
    route: &'a str,
    status: u16,
    ms: f64,
    id: &'a str,
}

impl Line<'_> {
    /// Fields of what did not happen are left out.
    fn write(&self, notes: &Shared) {
        let Self {
            method,
            route,
            status,
            ms,
            id,
        } = self;
        let bytes = notes.received.load(Ordering::Relaxed);
        if let Some(cause) = notes.failure.get() {
            error!(
                method,
                route,
                status,
                bytes,
                ms,
                cause,
                request_id = id,
                "request"
            );
            return;
        }
        let note = notes.note.get();
        let stage = |index: usize| note.map(|note| milliseconds(note.stages.named()[index].1));
        info!(
            method,
            route,
            status,
            bytes,
            ms,
            width = note.map(|note| note.size.0),
            height = note.map(|note| note.size.1),
            objects = note.map(|note| note.objects),
            decode_ms = stage(0),
            preprocess_ms = stage(1),
            wait_ms = stage(2),
            forward_ms = stage(3),
            postprocess_ms = stage(4),
            request_id = id,
            "request"
        );
    }
}

/// The client's id where it is one that can stand in a log, else a new one.
fn id(request: &Request) -> String {
    let fits = |id: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(plain)
    };
    let sent = request.headers().get(REQUEST_ID);
    match sent.and_then(|id| id.to_str().ok()).filter(fits) {
        Some(id) => id.to_owned(),
        None => Uuid::new_v4().to_string(),
    }
}

/// Milliseconds to a thousandth.
fn milliseconds(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Tells the client how long each stage took (W3C Server Timing).
fn server_timing(response: &mut Response, stages: &Stages) {
    let entries = stages
        .named()
        .map(|(name, time)| format!("{name};dur={}", milliseconds(time)));
    if let Ok(value) = HeaderValue::from_str(&entries.join(", ")) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("server-timing"), value);
    }
}
