//! Logs, metrics and traces.

mod metrics;
mod traces;

use anstream::{AutoStream, ColorChoice};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

pub use metrics::{InFlight, MEDIA_TYPE, Metrics};
pub use traces::{Ended, Extractor, RequestSpan, Traces, start_traces};

/// Logs to standard error, one line per event, with colours on a terminal unless `NO_COLOR` is set. Later
/// calls do nothing.
///
/// `filter` holds directives of [`EnvFilter`]; directives that it cannot parse are ignored.
pub fn start_logs(format: LogFormat, filter: &str) {
    let colours = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(filter))
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false);
    // Fails if a log already exists, as in tests that start several servers.
    let _ = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
}

/// Logs panics as events: the default output would break a JSON log.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panic")));
}
