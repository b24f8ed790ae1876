//! `ssd serve`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ssd_server::engine::Limits;
use ssd_server::server::Application;
use ssd_server::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{SettingsFile, files};

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    settings: SettingsFile,
}

impl Serve {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let settings = self.settings.load()?;
        telemetry::start_logs(settings.log_format, &settings.log_filter);
        telemetry::log_panics();
        let traces = telemetry::start_traces()?;
        let files = files(&settings)?;
        if settings.has_default_password() {
            warn!(
                "the password is the well-known default; set SECRET_USERNAME and SECRET_PASSWORD before \
                 others can reach this server"
            );
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            // These threads decode and postprocess, and each keeps a core busy. More would only take memory.
            .max_blocking_threads(Limits::from(&settings).blocking_threads())
            .build()
            .context("cannot start the async runtime")?;
        let served = runtime.block_on(async {
            let shutdown = signals()?;
            let application = Application::build(settings, files).await?;
            application.run(shutdown).await?;
            anyhow::Ok(())
        });
        // Does not wait for a picture that is still being decoded.
        runtime.shutdown_timeout(Duration::ZERO);
        served?;
        drop(traces);
        exit(0)
    }
}

/// Ends the program without the libraries' destructors. Those of libtorch and OpenMP would free memory that
/// a model thread still uses.
fn exit(code: i32) -> ! {
    // SAFETY: it accesses no memory of this program. No output is lost, since standard error is not buffered.
    #[expect(
        unsafe_code,
        reason = "the standard library's exit runs the destructors"
    )]
    unsafe {
        libc::_exit(code)
    }
}

/// Completes at the first SIGTERM or SIGINT; a second one ends the program at once.
fn signals() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => ("SIGTERM", 128 + 15),
            _ = interrupt.recv() => ("SIGINT", 128 + 2),
        }
    };
    Ok(async move {
        let (name, _) = next().await;
        info!("{name}");
        tokio::spawn(async move {
            let (name, code) = next().await;
            warn!("{name} again: ending at once");
            exit(code);
        });
    })
}
