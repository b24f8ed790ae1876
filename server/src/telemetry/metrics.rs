//! Metrics for Prometheus.
//!
//! No label takes its value from a request, so no client can create a time series.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Encoder as _, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder, histogram_opts, opts, register_histogram_vec_with_registry,
    register_histogram_with_registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_vec_with_registry,
    register_int_gauge_with_registry,
};

use crate::engine::{Engine, Passes, Stages};

/// Seconds, from a small model's postprocessing to the default `REQUEST_TIMEOUT`.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
const PIXELS: [f64; 7] = [1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 5e7];

/// The media type of the text that [`Metrics::scrape`] returns.
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

/// The metrics of a server. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    rejected: IntCounterVec,
    accept_errors: IntCounter,
    evicted: IntCounter,
    durations: HistogramVec,
    pixels: Histogram,
    in_flight: IntGauge,
    queue_depth: IntGauge,
    queue_capacity: IntGauge,
    model: IntGaugeVec,
    /// A vector without labels, so that it is absent until the model is loaded.
    healthy: IntGaugeVec,
    passes: IntCounterVec,
    /// The engine's counts that `passes` already contains.
    counted: Arc<Mutex<Passes>>,
}

impl Default for Metrics {
    fn default() -> Self {
        // Names and labels are constants: an error here fails every test.
        Self::new().expect("valid and distinct names")
    }
}

impl Metrics {
    fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        // Reads /proc.
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        let build = opts!("ssd_build_info", "This program: always 1")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        register_int_gauge_with_registry!(build, registry)?.set(1);
        let seconds = histogram_opts!(
            "ssd_request_duration_seconds",
            "Time of successful predictions by stage: decode, preprocess, wait (for memory, threads and the model), forward, postprocess, annotate (if requested), and total, from the headers to the response",
            SECONDS.into()
        );
        let pixels = histogram_opts!(
            "ssd_picture_pixels",
            "Pixels of the pictures of successful predictions",
            PIXELS.into()
        );
        Ok(Self {
            requests: register_int_counter_vec_with_registry!(
                "ssd_requests_total",
                "Requests by route (- if none) and HTTP status (499: no response was sent, because the client disconnected or the server had to stop)",
                &["route", "status"],
                registry
            )?,
            rejected: register_int_counter_vec_with_registry!(
                "ssd_requests_rejected_total",
                "Rejected requests; reason is the last part of the problem type",
                &["reason"],
                registry
            )?,
            accept_errors: register_int_counter_with_registry!(
                "ssd_accept_errors_total",
                "Connections that could not be accepted, most often for lack of file descriptors",
                registry
            )?,
            evicted: register_int_counter_with_registry!(
                "ssd_connections_evicted_total",
                "Idle connections closed to make room for others, at CONNECTION_LIMIT or for lack of file descriptors",
                registry
            )?,
            durations: register_histogram_vec_with_registry!(seconds, &["stage"], registry)?,
            pixels: register_histogram_with_registry!(pixels, registry)?,
            in_flight: register_int_gauge_with_registry!(
                "ssd_in_flight_requests",
                "In-flight requests",
                registry
            )?,
            queue_depth: register_int_gauge_with_registry!(
                "ssd_queue_depth",
                "Pictures accepted and not finished, minus WORKERS (at least 0)",
                registry
            )?,
            queue_capacity: register_int_gauge_with_registry!(
                "ssd_queue_capacity",
                "Maximum queue depth: the setting QUEUE_LENGTH",
                registry
            )?,
            model: register_int_gauge_vec_with_registry!(
                "ssd_model_info",
                "The loaded model: always 1",
                &["name", "family", "classes", "precision"],
                registry
            )?,
            healthy: register_int_gauge_vec_with_registry!(
                "ssd_model_healthy",
                "1 if the last forward pass succeeded and none hangs, else 0",
                &[],
                registry
            )?,
            passes: register_int_counter_vec_with_registry!(
                "ssd_forward_passes_total",
                "Forward passes since the start by outcome: ok or failed",
                &["outcome"],
                registry
            )?,
            counted: Arc::default(),
            registry,
        })
    }

    /// Counts a request as in flight until the returned guard is dropped.
    #[must_use]
    pub fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts a request that has ended. `route` is a path pattern of the server, never a client's path.
    pub fn request(&self, route: &str, status: u16) {
        let status = status.to_string();
        self.requests.with_label_values(&[route, &status]).inc();
    }

    /// Counts a connection that could not be accepted.
    pub fn accept_error(&self) {
        self.accept_errors.inc();
    }

    /// Counts an idle connection that was closed to make room for another.
    pub fn connection_evicted(&self) {
        self.evicted.inc();
    }

    /// Counts a rejected request. `reason` is the last part of the problem type.
    pub fn rejection(&self, reason: &str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// Records a successful prediction on a picture of this size.
    pub fn prediction(&self, (width, height): (u32, u32), stages: &Stages, total: Duration) {
        self.pixels.observe(f64::from(width) * f64::from(height));
        for (stage, time) in stages.named().chain([("total", total)]) {
            let durations = self.durations.with_label_values(&[stage]);
            durations.observe(time.as_secs_f64());
        }
    }

    /// All metrics in Prometheus' text format, and the state of the engine once it has started.
    ///
    /// # Errors
    /// If the encoder fails, which is not expected.
    pub fn scrape(&self, engine: Option<&Engine>) -> Result<Vec<u8>, prometheus::Error> {
        if let Some(engine) = engine {
            self.healthy
                .with_label_values(&[] as &[&str])
                .set(i64::from(engine.health().is_ready()));
            self.count(engine.passes());
            let queue = engine.queue();
            self.queue_depth.set(number(queue.depth));
            self.queue_capacity.set(number(queue.capacity));
            let model = engine.model();
            let classes = model.labels().len().to_string();
            self.model
                .with_label_values(&[
                    model.name(),
                    model.family().name,
                    &classes,
                    engine.selection().precision.name(),
                ])
                .set(1);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Raises the counters to the engine's counts.
    fn count(&self, passes: Passes) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for (outcome, now, before) in [
            ("ok", passes.ok, counted.ok),
            ("failed", passes.failed, counted.failed),
        ] {
            self.passes
                .with_label_values(&[outcome])
                .inc_by(now.saturating_sub(before));
        }
        *counted = passes;
    }
}

/// An in-flight request.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
