//! Traces, sent by OTLP if OpenTelemetry's standard variables name an endpoint.
//!
//! A request is a span, with a child span for each stage of its prediction. The variables
//! (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, ...) are specified by
//! OpenTelemetry; they are not settings of this program. The protocol is HTTP with protobuf, without TLS: a
//! nearby collector forwards the traces.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
pub use opentelemetry::propagation::Extractor;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, Key, KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::engine::Stages;

const NAME: &str = "ssd";
const SERVICE: &str = "service.name";

/// Sends traces until it is dropped, which sends the last ones.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(Duration::from_secs(2)) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Starts to send traces if the environment names an endpoint.
///
/// # Errors
/// If the variables cannot be used.
pub fn start_traces() -> anyhow::Result<Option<Traces>> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let variables = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    let endpoint = variables
        .into_iter()
        .find_map(|name| Some((name, set(name)?)))
        .filter(|_| !off);
    let Some((name, url)) = endpoint else {
        return Ok(None);
    };
    anyhow::ensure!(
        !url.to_ascii_lowercase().starts_with("https:"),
        "{name} begins with https, but traces can only be sent over plain HTTP; use an http:// address of a \
         nearby collector"
    );
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .build()
        .context("cannot start the trace exporter with the variables OTEL_EXPORTER_OTLP_*")?;
    let from_environment = Resource::builder().build();
    let name = from_environment.get(&Key::from_static_str(SERVICE));
    let mut resource = Resource::builder();
    // The SDK's own default.
    if name.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
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

/// The span of an in-flight request. It does nothing if no traces are sent.
#[derive(Debug)]
pub struct RequestSpan {
    context: Context,
    begun: SystemTime,
}

/// What a span records when its request ends.
#[derive(Debug)]
pub struct Ended<'a> {
    /// GET, POST and so on.
    pub method: &'a str,
    /// A path pattern of the server.
    pub route: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// The request's id.
    pub id: &'a str,
    /// How long each stage took, after a prediction.
    pub stages: Option<&'a Stages>,
}

impl RequestSpan {
    /// For a request that is not traced.
    #[must_use]
    pub fn none() -> Self {
        Self {
            context: Context::new(),
            begun: SystemTime::now(),
        }
    }

    /// Begins a span. If the request's headers name a parent (W3C Trace Context), it is a child of that.
    #[must_use]
    pub fn begin(headers: &dyn Extractor) -> Self {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), headers);
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

    /// The id of its trace, in 32 hexadecimal digits; `None` for a request that is not traced.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        let span = self.context.span();
        let context = span.span_context();
        context.is_valid().then(|| context.trace_id().to_string())
    }

    /// Ends the span.
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
        // Only the durations of the stages are measured. The spans show them one after another, up to now,
        // and all waiting in one piece before the forward pass.
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
