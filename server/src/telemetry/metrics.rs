//! Metrics for Prometheus.
//!
//! Every label takes its values from a list of this program: no client can make a time series.

use std::time::Duration;

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder, core::Collector, process_collector::ProcessCollector,
};

use crate::engine::{Engine, Stages};

/// Seconds: from a small model's postprocessing to the longest that a request may take by default.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
const PIXELS: [f64; 7] = [1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 5e7];

/// The media type of what [`Metrics::scrape`] gives.
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

/// What a server counts. Clones share it.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    rejected: IntCounterVec,
    durations: HistogramVec,
    pixels: Histogram,
    in_flight: IntGauge,
    queue_depth: IntGauge,
    queue_capacity: IntGauge,
    model: IntGaugeVec,
}

impl Default for Metrics {
    fn default() -> Self {
        // Names and labels are constants: what could fail here fails in every test.
        Self::new().expect("valid and distinct names")
    }
}

impl Metrics {
    fn new() -> Result<Self, prometheus::Error> {
        let seconds = HistogramOpts::new(
            "ssd_request_duration_seconds",
            "Time of the answered pictures by stage: decode, preprocess, wait (for others, for the model), \
             forward, postprocess, annotate (where that was asked for); and total, from the headers to the answer",
        );
        let pixels = HistogramOpts::new("ssd_picture_pixels", "Pixels of the answered pictures");
        let metrics = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                Opts::new(
                    "ssd_requests_total",
                    "Requests by route (- where there is none) and HTTP status (499: nobody was answered, since the client hung up or the server had to stop)",
                ),
                &["route", "status"],
            )?,
            rejected: IntCounterVec::new(
                Opts::new(
                    "ssd_requests_rejected_total",
                    "Requests that were refused, by the problem's type without urn:ssd:problem:",
                ),
                &["reason"],
            )?,
            durations: HistogramVec::new(seconds.buckets(SECONDS.into()), &["stage"])?,
            pixels: Histogram::with_opts(pixels.buckets(PIXELS.into()))?,
            in_flight: IntGauge::new("ssd_in_flight_requests", "Requests that are being answered")?,
            queue_depth: IntGauge::new(
                "ssd_queue_depth",
                "Pictures that are in the engine beyond those that a worker may have",
            )?,
            queue_capacity: IntGauge::new("ssd_queue_capacity", "The setting QUEUE_LENGTH")?,
            model: IntGaugeVec::new(
                Opts::new("ssd_model_info", "The model that is loaded: always 1"),
                &["name", "family", "classes", "precision"],
            )?,
        };
        let build = IntGauge::with_opts(
            Opts::new("ssd_build_info", "This program: always 1")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        let collectors: [Box<dyn Collector>; 10] = [
            Box::new(build),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.rejected.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.pixels.clone()),
            Box::new(metrics.in_flight.clone()),
            Box::new(metrics.queue_depth.clone()),
            Box::new(metrics.queue_capacity.clone()),
            Box::new(metrics.model.clone()),
            Box::new(ProcessCollector::for_self()),
        ];
        for collector in collectors {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Counts a request as long as what it gives lives.
    #[must_use]
    pub fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts a request that is over. `route` is a pattern of this program's, never a client's path.
    pub fn request(&self, route: &str, status: u16) {
        let status = status.to_string();
        self.requests.with_label_values(&[route, &status]).inc();
    }

    /// Counts a refusal. `reason` is a problem type of this program's.
    pub fn rejection(&self, reason: &str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// Notes a picture of so many pixels that was answered.
    pub fn answer(&self, (width, height): (u32, u32), stages: &Stages, total: Duration) {
        self.pixels.observe(f64::from(width) * f64::from(height));
        for (stage, time) in stages.named().chain([("total", total)]) {
            let durations = self.durations.with_label_values(&[stage]);
            durations.observe(time.as_secs_f64());
        }
    }

    /// All of them in Prometheus' text format; those of the engine, once it has started, as they are
    /// now.
    ///
    /// # Errors
    /// Where the encoder fails, which it has no reason to.
    pub fn scrape(&self, engine: Option<&Engine>) -> Result<Vec<u8>, prometheus::Error> {
        if let Some(engine) = engine {
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
                    engine.arithmetic().precision.name(),
                ])
                .set(1);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// A request that is being answered.
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
