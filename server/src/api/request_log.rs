//! One log line a request, its id and its span, and what is counted of it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use poem::{Endpoint, IntoResponse, Middleware, PathPattern, Request, Response, Result};
use tracing::{debug, error, info};
use uuid::Uuid;

use super::health::{LIVENESS, READINESS};
use super::problem::{Kind, Problem};
use crate::engine::{Detections, Stages};
use crate::telemetry::{Ended, InFlight, Metrics, RequestSpan};

/// The header that carries a request's id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What Kubernetes asks every few seconds.
const PROBES: [&str; 2] = [LIVENESS, READINESS];

/// The longest id that is taken from a client.
const LONGEST_ID: usize = 128;

/// What is learnt of a request on its way, for its log line.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    begun: Instant,
    received: AtomicU64,
    whole: AtomicBool,
    route: OnceLock<Arc<str>>,
    outcome: OnceLock<Outcome>,
    failure: OnceLock<String>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            received: AtomicU64::default(),
            whole: AtomicBool::default(),
            route: OnceLock::default(),
            outcome: OnceLock::default(),
            failure: OnceLock::default(),
        }
    }
}

#[derive(Debug)]
struct Outcome {
    size: (u32, u32),
    objects: usize,
    stages: Stages,
}

impl Notes {
    /// When the request's headers had come.
    pub fn begun(&self) -> Instant {
        self.0.begun
    }

    /// Notes that so many bytes of the body have come.
    pub fn received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes that the whole body has come.
    pub fn received_all(&self) {
        self.0.whole.store(true, Ordering::Relaxed);
    }

    /// Notes which route it took, for where there will be no answer that tells.
    pub fn took(&self, route: Arc<str>) {
        let _ = self.0.route.set(route);
    }

    /// Notes why the server failed to answer. Only the log tells it.
    pub fn failed(&self, cause: String) {
        let _ = self.0.failure.set(cause);
    }

    /// Notes how a picture was answered.
    pub fn answered(&self, detections: &Detections) {
        let _ = self.0.outcome.set(Outcome {
            size: (detections.width, detections.height),
            objects: detections.objects.len(),
            stages: detections.stages,
        });
    }
}

/// Logs every request when its answer is ready to be sent, or nobody waits for it any more; probes
/// that find all well at the level of debugging. Counts each.
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
        let notes = Notes::default();
        request.set_data(notes.clone());
        let mut line = Line {
            method: known(request.method()),
            route: None,
            status: None,
            id: id(&request),
            span: match PROBES.contains(&request.uri().path()) {
                true => RequestSpan::none(),
                false => RequestSpan::begin(request.headers()),
            },
            notes: notes.clone(),
            metrics: self.metrics.clone(),
            _in_flight: self.metrics.begin(),
        };
        let has_body = has_body(request.headers());
        let answering = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        let mut response = match answering.await {
            Ok(Ok(response)) => response.into_response(),
            Ok(Err(error)) => error.into_response(),
            Err(_) => {
                notes.failed("a panic, told above".to_owned());
                Problem::internal().into_response()
            }
        };
        line.status = Some(response.status().as_u16());
        if let Some(problem) = response
            .data::<Kind>()
            .filter(|kind| **kind != Kind::Internal)
        {
            self.metrics.rejection(&problem.name());
        }
        // Never the path that was sent: it may be anything, and of any length.
        line.route = response
            .data::<PathPattern>()
            .map(|pattern| pattern.0.clone());
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&line.id) {
            headers.insert(REQUEST_ID, value);
        }
        if has_body && !notes.0.whole.load(Ordering::Relaxed) {
            // The rest of the body stands between this answer and another request: no client or
            // proxy should send one here.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

/// The log line of a request, written when it is dropped: also where the client has gone, and with
/// it the request.
struct Line {
    method: &'static str,
    route: Option<Arc<str>>,
    status: Option<u16>,
    id: String,
    span: RequestSpan,
    notes: Notes,
    metrics: Metrics,
    _in_flight: InFlight,
}

/// What the log says in place of a status where nobody waited for the answer (nginx's number).
const CLIENT_GONE: u16 = 499;

impl Drop for Line {
    /// Fields of what did not happen are left out.
    fn drop(&mut self) {
        let method = self.method;
        let route = self.route.as_ref().or_else(|| self.notes.0.route.get());
        let route = route
            .map(|route| &**route)
            .filter(|route| !route.is_empty());
        let route = route.unwrap_or("-");
        let status = self.status.unwrap_or(CLIENT_GONE);
        let total = self.notes.begun().elapsed();
        let ms = milliseconds(total);
        self.metrics.request(route, status);
        if let Some(outcome) = self.notes.0.outcome.get().filter(|_| status == 200) {
            self.metrics.answer(outcome.size, &outcome.stages, total);
        }
        let request_id = self.id.as_str();
        let trace_id = self.span.trace_id();
        let notes = &self.notes.0;
        self.span.end(&Ended {
            method,
            route,
            status,
            id: request_id,
            stages: notes.outcome.get().map(|outcome| &outcome.stages),
        });
        let bytes = notes.received.load(Ordering::Relaxed);
        if let Some(cause) = notes.failure.get() {
            error!(
                method,
                route, status, bytes, ms, cause, request_id, trace_id, "request"
            );
            return;
        }
        // Kubernetes asks every few seconds: that all is well is worth a line only to who wants all.
        if status == 200 && PROBES.contains(&route) {
            debug!(method, route, status, ms, request_id, "request");
            return;
        }
        let outcome = notes.outcome.get();
        let stage =
            |of: fn(&Stages) -> Duration| outcome.map(|outcome| milliseconds(of(&outcome.stages)));
        info!(
            method,
            route,
            status,
            bytes,
            ms,
            width = outcome.map(|outcome| outcome.size.0),
            height = outcome.map(|outcome| outcome.size.1),
            objects = outcome.map(|outcome| outcome.objects),
            decode_ms = stage(|stages| stages.decode),
            preprocess_ms = stage(|stages| stages.preprocess),
            wait_ms = stage(|stages| stages.wait),
            forward_ms = stage(|stages| stages.forward),
            postprocess_ms = stage(|stages| stages.postprocess),
            annotate_ms = outcome
                .and_then(|outcome| outcome.stages.annotate)
                .map(milliseconds),
            request_id,
            trace_id,
            "request"
        );
    }
}

/// A method's name. Anybody may make one up, and make it as long as a head may be: those are one to the
/// log and to traces, by the name that OpenTelemetry gives them.
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
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
