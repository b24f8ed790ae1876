//! One log line, one span and the metrics of each request, and its id.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use poem::{Endpoint, IntoResponse as _, Middleware, Request, Response, Result};
use tracing::{debug, error, info};
use uuid::Uuid;

use super::problem::{Kind, Problem};
use super::routes::is_probe;
use crate::engine::{Detections, Stages};
use crate::telemetry::{Ended, Extractor, InFlight, Metrics, RequestSpan};

/// The header that carries a request's id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum bytes of a client's id.
const LONGEST_ID: usize = 128;

/// What becomes known about a request while it is served, for its log line. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    begun: Instant,
    received: AtomicU64,
    is_complete: AtomicBool,
    route: OnceLock<&'static str>,
    detected: OnceLock<Detected>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            received: AtomicU64::default(),
            is_complete: AtomicBool::default(),
            route: OnceLock::default(),
            detected: OnceLock::default(),
        }
    }
}

#[derive(Debug)]
struct Detected {
    size: (u32, u32),
    has_end: bool,
    objects: usize,
    stages: Stages,
}

impl Record {
    /// The record of a request; a new one if the request is not logged.
    pub fn of(request: &Request) -> Self {
        request.data().cloned().unwrap_or_default()
    }

    /// When the request's headers had arrived.
    pub fn begun(&self) -> Instant {
        self.0.begun
    }

    /// Records that more bytes of the body have arrived.
    pub fn received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Records that the whole body has arrived.
    pub fn received_all(&self) {
        self.0.is_complete.store(true, Ordering::Relaxed);
    }

    /// Records which route the request took.
    pub fn took(&self, route: &'static str) {
        let _ = self.0.route.set(route);
    }

    /// Records what was detected in the picture.
    pub fn detected(&self, detections: &Detections) {
        let _ = self.0.detected.set(Detected {
            size: (detections.width, detections.height),
            has_end: detections.has_end,
            objects: detections.objects.len(),
            stages: detections.stages,
        });
    }
}

/// Logs and counts every request, when its response is ready or its client has disconnected. Probes with
/// status 200 are logged at level debug.
#[derive(Debug, Clone)]
pub struct RequestLog(pub Metrics);

impl<E: Endpoint> Middleware<E> for RequestLog {
    type Output = Logged<E>;

    fn transform(&self, inner: E) -> Logged<E> {
        Logged {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// An endpoint whose requests are logged.
#[derive(Debug)]
pub struct Logged<E> {
    inner: E,
    metrics: Metrics,
}

impl<E: Endpoint> Endpoint for Logged<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let record = Record::default();
        request.set_data(record.clone());
        let mut line = Line::begin(&request, record, &self.metrics);
        let has_body = has_body(request.headers());
        let mut response = AssertUnwindSafe(self.inner.get_response(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Problem::internal("a panic, logged above").into_response());
        line.finish(&response);
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&line.id) {
            headers.insert(REQUEST_ID, value);
        }
        if has_body && !line.record.0.is_complete.load(Ordering::Relaxed) {
            // The unread rest of the body precedes the next request, so a client or proxy must not send one
            // on this connection.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

/// The log line of a request. It is written on drop, so also if the client disconnects and the request is
/// dropped.
struct Line {
    method: &'static str,
    status: u16,
    failure: Option<Box<str>>,
    id: String,
    span: RequestSpan,
    record: Record,
    metrics: Metrics,
    _in_flight: InFlight,
}

/// The status in the log if the client has disconnected before the response (nginx's number).
const CLIENT_GONE: u16 = 499;

impl Line {
    fn begin(request: &Request, record: Record, metrics: &Metrics) -> Self {
        Self {
            method: known(request.method()),
            status: CLIENT_GONE,
            failure: None,
            id: id(request),
            span: if is_probe(request.uri().path()) {
                RequestSpan::none()
            } else {
                RequestSpan::begin(&Headers(request.headers()))
            },
            record,
            metrics: metrics.clone(),
            _in_flight: metrics.begin(),
        }
    }

    fn finish(&mut self, response: &Response) {
        self.status = response.status().as_u16();
        if let Some(problem) = response.data::<Problem>() {
            self.failure.clone_from(&problem.cause);
            if problem.kind != Kind::Internal {
                self.metrics.rejection(problem.kind.name());
            }
        }
    }

    /// Leaves out the fields of stages that did not run.
    fn write(&self, route: &str, total: Duration) {
        let (method, status, ms) = (self.method, self.status, milliseconds(total));
        let (request_id, trace_id) = (self.id.as_str(), self.span.trace_id());
        let record = &self.record.0;
        let bytes = record.received.load(Ordering::Relaxed);
        if let Some(cause) = &self.failure {
            error!(
                method,
                route, status, bytes, ms, cause, request_id, trace_id, "request"
            );
            return;
        }
        if status == 200 && is_probe(route) {
            debug!(method, route, status, ms, request_id, "request");
            return;
        }
        let detected = record.detected.get();
        let stages = detected.map(|detected| &detected.stages);
        let stage = |of: fn(&Stages) -> Duration| stages.map(|stages| milliseconds(of(stages)));
        info!(
            method,
            route,
            status,
            bytes,
            ms,
            width = detected.map(|detected| detected.size.0),
            height = detected.map(|detected| detected.size.1),
            end_missing = detected.and_then(|detected| (!detected.has_end).then_some(true)),
            objects = detected.map(|detected| detected.objects),
            decode_ms = stage(|stages| stages.decode),
            preprocess_ms = stage(|stages| stages.preprocess),
            wait_ms = stage(|stages| stages.wait),
            forward_ms = stage(|stages| stages.forward),
            postprocess_ms = stage(|stages| stages.postprocess),
            annotate_ms = stages.and_then(|stages| stages.annotate).map(milliseconds),
            request_id,
            trace_id,
            "request"
        );
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let record = &self.record.0;
        let total = record.begun.elapsed();
        // Not the client's path: it can be any text of any length.
        let route = record.route.get().copied().unwrap_or("-");
        self.metrics.request(route, self.status);
        let detected = record.detected.get();
        if let Some(detected) = detected.filter(|_| self.status == 200) {
            self.metrics
                .prediction(detected.size, &detected.stages, total);
        }
        self.span.end(&Ended {
            method: self.method,
            route,
            status: self.status,
            id: &self.id,
            stages: detected.map(|detected| &detected.stages),
        });
        self.write(route, total);
    }
}

/// A method's name for the log and the traces. A client can invent long methods; OpenTelemetry's name for
/// all of them is `_OTHER`.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

/// Whether a request has a body (RFC 9112, section 6.3).
fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// The client's id if it is short and consists of harmless characters, else a new one.
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
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Headers, for traces.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
