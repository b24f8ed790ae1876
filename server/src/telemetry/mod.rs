//! Logs, metrics and traces.

mod metrics;
mod traces;

use anstream::{AutoStream, ColorChoice};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

pub use metrics::{InFlight, MEDIA_TYPE, Metrics};
pub use traces::{Ended, RequestSpan, Traces, start_traces};

/// Sends what is logged to standard error, one line an event; in colours on a terminal, unless `NO_COLOR`
/// is set. Later calls do nothing.
///
/// `filter` holds directives of [`EnvFilter`]; those it does not understand are left out.
pub fn start_logs(format: LogFormat, filter: &str) {
    let colours = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(filter))
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false);
    let started = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    // A test that starts several servers has one log.
    drop(started);
}

/// Logs panics as everything else is logged: the default would break a log of JSON.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panic")));
}
