//! The server: binds, loads the model, serves, drains.
//!
//! ```text
//! conversions   converts the settings into the options of each part
//! connections   accepting, serving and closing connections, up to the limit
//! state         the state of a connection, and which timeout applies in it
//! stream        the bytes of a connection, with those timeouts
//! refusal       problem details for the heads that hyper refuses
//! tls           the certificate and its renewal
//! ```
//!
//! hyper serves the HTTP/1 connections, and calls poem's endpoint for each request. poem's own server has no
//! timeout for headers, and closes a connection right after an early response (401, 413), which can discard
//! the response before the client has read it: see `stream`.

mod connections;
mod conversions;
mod refusal;
mod state;
mod stream;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::{fmt, io};

use poem::{Endpoint, Response};
use ssd_detector::precision::Requested;
use ssd_detector::{Defaults, Model};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::api::{self, Readiness};
use crate::config::Settings;
use crate::engine::{Engine, Files, Limits, StartError, Wrap};
use crate::telemetry::Metrics;
use connections::Connections;
use state::Timeouts;
use tls::Certificate;
pub use tls::Error as TlsError;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("HOST and {port} are {address}: cannot listen there: {cause}")]
    Bind {
        /// The setting that holds the port.
        port: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        cause: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The model cannot be loaded.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The thread that loads the model panicked.
    #[error("loading the model panicked")]
    Panic,
}

/// A server that listens, but does not run yet.
#[derive(Debug)]
pub struct Application {
    listener: TcpListener,
    address: SocketAddr,
    management: Option<(TcpListener, SocketAddr)>,
    certificate: Option<Certificate>,
    settings: Settings,
    files: Files,
    wrap: Wrap,
    readiness: Readiness,
}

impl Application {
    /// Listens on the addresses of the settings. From then on the operating system accepts connections, so
    /// an occupied port is reported before the model is loaded.
    ///
    /// # Errors
    /// If an address cannot be listened on, or the certificate cannot be used.
    pub async fn build(settings: Settings, files: Files) -> Result<Self, Error> {
        let (listener, address) = listen("PORT", settings.host, settings.port).await?;
        let management = match settings.management_port {
            Some(port) => Some(listen("MANAGEMENT_PORT", settings.host, port).await?),
            None => None,
        };
        let certificate = settings.tls.clone().map(Certificate::read).transpose()?;
        Ok(Self {
            listener,
            address,
            management,
            certificate,
            settings,
            files,
            wrap: Wrap::default(),
            readiness: Readiness::default(),
        })
    }

    /// Puts a wrapper around the network of each model thread. Tests use the wrapper to make passes fail or
    /// hang.
    #[must_use]
    pub fn with_network(self, wrap: Wrap) -> Self {
        Self { wrap, ..self }
    }

    /// The address that it listens on. If `PORT` is 0, the operating system has picked the port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of `/metrics`; `None` if it is off.
    #[must_use]
    pub fn management_address(&self) -> Option<SocketAddr> {
        self.management.as_ref().map(|(_, address)| *address)
    }

    /// Serves until `shutdown` completes; not ready while the model loads. Then drains: it is no longer ready,
    /// still accepts connections for `DRAIN_DELAY`, and waits up to `DRAIN_TIMEOUT` for in-flight requests.
    ///
    /// # Errors
    /// If the model cannot be loaded.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let metrics = Metrics::default();
        let options = api::Options::from(&self.settings);
        let context = api::Context::new(options, self.readiness.clone(), metrics.clone());
        let limit = self.settings.connection_limit;
        let timeouts = Timeouts::from(&self.settings);
        let routes = api::routes(&context);
        let certificate = self.certificate.take();
        let mut connections =
            Connections::new(routes, limit, timeouts, certificate, metrics.clone());
        // Until this function returns: also while the server drains.
        let mut management = JoinSet::new();
        if let Some((listener, address)) = self.management.take() {
            let routes = api::management(&context);
            let mut connections = Connections::new(routes, limit, timeouts, None, metrics);
            management.spawn(async move { connections.serve(&listener).await });
            info!("metrics on http://{address}/metrics");
        }
        let mut shutdown = pin!(shutdown);
        {
            let mut loading = pin!(self.load());
            tokio::select! {
                loaded = &mut loading => loaded?,
                () = connections.serve(&self.listener) => {}
                () = &mut shutdown => return Ok(()),
            }
        }
        tokio::select! {
            () = connections.serve(&self.listener) => {}
            () = &mut shutdown => {}
        }
        self.drain(connections).await;
        Ok(())
    }

    async fn load(&self) -> Result<(), Error> {
        let files = self.files.clone();
        let limits = Limits::from(&self.settings);
        info!(
            weights = %files.weights.display(),
            workers = limits.workers,
            threads = limits.threads,
            "loading the model"
        );
        let requested = Requested::from(&self.settings);
        let wrap = self.wrap.clone();
        let start = move || Engine::start_with(&files, requested, limits, &wrap);
        let started = tokio::task::spawn_blocking(start).await;
        let engine = started.map_err(|_| Error::Panic)??;
        let model = engine.model();
        info!(
            labels = %self.files.labels.display(),
            count = model.labels_in_file(),
            classes = model.labels().len(),
            family = model.family().name,
            "labels matched {}",
            model.matched()
        );
        info!("{}", Classes(model));
        for note in model.notes() {
            warn!("{note}");
        }
        let threshold = model.criteria(Defaults::from(&self.settings)).threshold;
        info!(
            threshold = api::decimal(threshold),
            "minimum score of a detection"
        );
        let selection = engine.selection();
        info!(
            device = ?selection.device,
            "precision {}: {}", selection.precision, selection.reason
        );
        if let Some(warning) = selection.warning {
            warn!("{warning}");
        }
        self.readiness.ready(engine);
        let scheme = if self.settings.tls.is_some() {
            "https"
        } else {
            "http"
        };
        for address in addresses(self.address) {
            info!("Running on {scheme}://{address}/");
        }
        Ok(())
    }

    async fn drain<E: Endpoint<Output = Response> + 'static>(
        self,
        mut connections: Connections<E>,
    ) {
        self.readiness.drain();
        connections.drain();
        let (delay, timeout) = (self.settings.drain_delay, self.settings.drain_timeout);
        info!(?delay, ?timeout, "stopping");
        let _ = tokio::time::timeout(delay, connections.serve(&self.listener)).await;
        drop(self.listener);
        let finished = tokio::time::timeout(timeout, connections.finish()).await;
        if finished.is_ok() {
            info!("stopped; every request got its response");
        } else {
            let requests = connections.in_flight();
            warn!(requests, "stopped; requests were cut off at DRAIN_TIMEOUT");
        }
        connections.close().await;
    }
}

/// The addresses at which users can reach the server: its own, or all addresses of this machine if it
/// listens on all of them.
fn addresses(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    // `::` accepts IPv4 too, unless the operating system is configured otherwise.
    let taken = |ip: &IpAddr| ip.is_ipv4() || address.is_ipv6();
    // Link-local addresses need a scope, which a URL cannot contain.
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let found: Vec<SocketAddr> = interfaces
        .into_iter()
        .map(|interface| interface.ip())
        .filter(|ip| taken(ip) && usable(ip))
        .map(|ip| SocketAddr::new(ip, address.port()))
        .collect();
    if found.is_empty() {
        vec![address]
    } else {
        found
    }
}

/// Listens on a port. Returns the address too, since the operating system picks the port if it is 0.
async fn listen(
    setting: &'static str,
    host: IpAddr,
    port: u16,
) -> Result<(TcpListener, SocketAddr), Error> {
    let address = SocketAddr::new(host, port);
    let failed = |cause| Error::Bind {
        port: setting,
        address,
        cause,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// The classes of a model, for people.
struct Classes<'a>(&'a Model);

impl fmt::Display for Classes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 30;
        let names: Vec<&str> = self.0.distinct_labels().collect();
        let shown = &names[..names.len().min(SHOWN)];
        write!(f, "detects {} classes: {}", names.len(), shown.join(", "))?;
        if shown.len() < names.len() {
            write!(f, ", and {} more", names.len() - shown.len())?;
        }
        write!(f, "; for others see \"Weights\" in README.md")
    }
}
