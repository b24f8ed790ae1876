//! Traces, sent by OTLP where OpenTelemetry's standard variables say so.
//!
//! A request is a span, and each stage of a picture's answer one inside it. What the variables
//! `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` and their like mean is
//! OpenTelemetry's specification; they are no settings of this program. The protocol is HTTP with
//! protobuf, without TLS: a collector stands in between.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, Key, KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use poem::http::HeaderMap;

use crate::engine::Stages;

const NAME: &str = "ssd";
const SERVICE: &str = "service.name";

/// Sends traces until it is dropped; what is left is sent then.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(Duration::from_secs(2)) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Begins to send traces, where the environment names a place for them.
///
/// # Errors
/// Where they cannot be sent as it says.
pub fn start_traces() -> anyhow::Result<Option<Traces>> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let places = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    let place = places
        .into_iter()
        .find_map(|name| Some((name, set(name)?)))
        .filter(|_| !off);
    let Some((name, place)) = place else {
        return Ok(None);
    };
    anyhow::ensure!(
        !place.to_ascii_lowercase().starts_with("https:"),
        "{name} begins with https: traces are sent without TLS, to a collector near by"
    );
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .build()
        .context("traces cannot be sent as the variables OTEL_EXPORTER_OTLP_* say")?;
    let named = Resource::builder().build();
    let named = named.get(&Key::from_static_str(SERVICE));
    let mut resource = Resource::builder();
    // What the SDK says where nobody does.
    if named.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
        resource = resource.with_service_name(NAME);
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.with_attribute(version).build())
        .build();
    global::set_tracer_provider(provider.clone());
    Ok(Some(Traces(provider)))
}

/// The span of a request that is being answered. Where no traces are sent it does nothing.
#[derive(Debug)]
pub struct RequestSpan {
    context: Context,
    begun: SystemTime,
}

/// What is told of a request at its end.
#[derive(Debug)]
pub struct Ended<'a> {
    /// GET, POST and so on.
    pub method: &'a str,
    /// A pattern of this program's.
    pub route: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// The request's id.
    pub id: &'a str,
    /// How long each stage took, where a picture was answered.
    pub stages: Option<&'a Stages>,
}

impl RequestSpan {
    /// Of a request that nobody wants to follow.
    #[must_use]
    pub fn none() -> Self {
        Self {
            context: Context::new(),
            begun: SystemTime::now(),
        }
    }

    /// Begins, inside the span that the client names (W3C Trace Context), if it does.
    #[must_use]
    pub fn begin(headers: &HeaderMap) -> Self {
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        let begun = SystemTime::now();
        let tracer = global::tracer(NAME);
        let span = tracer
            .span_builder("request")
            .with_kind(SpanKind::Server)
            .with_start_time(begun)
            .start_with_context(&tracer, &parent);
        Self {
            context: parent.with_span(span),
            begun,
        }
    }

    /// The trace that it belongs to, as 32 hexadecimal digits; `None` where nobody follows it.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        let span = self.context.span();
        let context = span.span_context();
        context.is_valid().then(|| context.trace_id().to_string())
    }

    /// Ends.
    pub fn end(&self, ended: &Ended) {
        let span = self.context.span();
        if !span.is_recording() {
            return;
        }
        span.update_name(format!("{} {}", ended.method, ended.route));
        span.set_attributes([
            KeyValue::new("http.request.method", ended.method.to_owned()),
            KeyValue::new("http.route", ended.route.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(ended.status)),
            KeyValue::new("ssd.request_id", ended.id.to_owned()),
        ]);
        if ended.status >= 500 {
            span.set_status(Status::error(""));
        }
        let tracer = global::tracer(NAME);
        // The stages' lengths are measured, and their order is this one; what lies between them is the
        // wait, which is shown in one piece before the forward pass. Before the first is the body.
        let all = ended.stages.iter().flat_map(|stages| stages.named());
        let all: Duration = all.map(|(_, time)| time).sum();
        let mut at = SystemTime::now()
            .checked_sub(all)
            .map_or(self.begun, |at| at.max(self.begun));
        for (name, time) in ended.stages.iter().flat_map(|stages| stages.named()) {
            let mut stage = tracer
                .span_builder(name)
                .with_start_time(at)
                .start_with_context(&tracer, &self.context);
            at += time;
            stage.end_with_timestamp(at);
        }
        span.end();
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(poem::http::HeaderName::as_str).collect()
    }
}
