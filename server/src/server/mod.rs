//! The server: binds, loads the model, serves, drains.
//!
//! ```text
//! connections   which are open, how many there may be, how they end
//! stream        how long a client may take over each part of a request
//! tls           the certificate, and its renewal
//! ```
//!
//! hyper's HTTP/1 connections carry poem's endpoint. poem's own server is not used, because it sets
//! no limit to the time a client may take over its headers, and because closing a connection right
//! after an early answer (401, 413) can take that answer back: see `stream`.

mod connections;
mod stream;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::{fmt, io};

use poem::{Endpoint, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::api::{self, Readiness};
use crate::config::Settings;
use crate::engine::{Engine, Files, Limits, StartError};
use crate::telemetry::Metrics;
use connections::Connections;
use ssd_detector::labels;
use stream::Timeouts;
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
        /// The operating system's answer.
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

/// A server that listens, and is yet to run.
#[derive(Debug)]
pub struct Application {
    listener: TcpListener,
    address: SocketAddr,
    management: Option<(TcpListener, SocketAddr)>,
    certificate: Option<Certificate>,
    settings: Settings,
    files: Files,
    readiness: Readiness,
}

impl Application {
    /// Listens on the addresses of the settings. From then on the system takes connections in, so a
    /// taken port is known before the model is loaded.
    ///
    /// # Errors
    /// Where an address cannot be listened on, or the certificate cannot be used.
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
            readiness: Readiness::default(),
        })
    }

    /// The address that it listens on, with the port that the system picked if that was 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of `/metrics`, where it is not off.
    #[must_use]
    pub fn management_address(&self) -> Option<SocketAddr> {
        self.management.as_ref().map(|(_, address)| *address)
    }

    /// Serves while the model loads (health says "not ready"), then answers requests until `shutdown`
    /// is over; then drains: not ready at once, accepting for `DRAIN_DELAY`, and finishing what is
    /// under way for up to `DRAIN_TIMEOUT`.
    ///
    /// # Errors
    /// Where the model cannot be loaded.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let options = api::Options::from(&self.settings);
        let metrics = Metrics::default();
        let (most, timeouts) = (
            self.settings.connection_limit,
            Timeouts {
                idle: self.settings.idle_timeout,
                head: self.settings.header_timeout,
                write: self.settings.write_timeout,
            },
        );
        let routes = api::routes(&options, &self.readiness, &metrics);
        let certificate = self.certificate.take();
        let mut connections = Connections::new(routes, most, timeouts, certificate);
        // Until this function ends, and so also while the server drains.
        let mut management = JoinSet::new();
        if let Some((listener, address)) = self.management.take() {
            let routes = api::management(&self.readiness, &metrics);
            let mut connections = Connections::new(routes, most, timeouts, None);
            management.spawn(async move { connections.accept(&listener).await });
            info!("metrics on http://{address}/metrics");
        }
        let mut shutdown = pin!(shutdown);
        {
            let mut loading = pin!(self.load());
            tokio::select! {
                loaded = &mut loading => loaded?,
                () = connections.accept(&self.listener) => {}
                () = &mut shutdown => return Ok(()),
            }
        }
        tokio::select! {
            () = connections.accept(&self.listener) => {}
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
        let requested = self.settings.arithmetic;
        let started = tokio::task::spawn_blocking(move || Engine::start(&files, requested, limits));
        let engine = started.await.map_err(|_| Error::Panic)??;
        let model = engine.model();
        info!(
            labels = %self.files.labels.display(),
            count = model.labels_given(),
            classes = model.labels().len(),
            family = model.family().name,
            "labels matched {}",
            model.matched()
        );
        info!("{}", Finds(model.labels()));
        let threshold = model.criteria(self.settings.defaults).threshold;
        info!(
            %threshold,
            "objects of that probability or more are answered"
        );
        let arithmetic = engine.arithmetic();
        info!(
            device = ?arithmetic.device,
            "precision {}: {}", arithmetic.precision, arithmetic.why
        );
        if let Some(warning) = arithmetic.warning {
            warn!("{warning}");
        }
        self.readiness.ready(engine);
        let scheme = match self.settings.tls {
            None => "http",
            Some(_) => "https",
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
        connections.leave();
        let (delay, deadline) = (self.settings.drain_delay, self.settings.drain_timeout);
        info!(?delay, timeout = ?deadline, "stopping");
        let _ = tokio::time::timeout(delay, connections.accept(&self.listener)).await;
        drop(self.listener);
        let finished = tokio::time::timeout(deadline, connections.finish()).await;
        let requests = connections.requests();
        if finished.is_ok() {
            info!("stopped; every request was answered");
        } else {
            warn!(requests, "stopped; requests were cut off at the deadline");
        }
        connections.close().await;
    }
}

/// Where people can reach the server: itself, or where it listens on all addresses, each of them.
fn addresses(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    // `::` takes IPv4 too, unless the system was told otherwise.
    let taken = |ip: &IpAddr| ip.is_ipv4() || address.is_ipv6();
    // Link-local addresses need a scope, which a URL cannot carry.
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
    match found.is_empty() {
        true => vec![address],
        false => found,
    }
}

/// Listens on a port, and tells which if the system is to pick it.
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

/// What a model finds, for people, and where there is more.
struct Finds<'a>(&'a [String]);

impl fmt::Display for Finds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// As many as a person reads.
        const SHOWN: usize = 30;
        // Several classes may have one label, and of COCO's ids some are no classes.
        let mut names: Vec<&str> = Vec::new();
        for label in self.0 {
            if label != labels::GAP && !names.contains(&label.as_str()) {
                names.push(label);
            }
        }
        let shown = &names[..names.len().min(SHOWN)];
        write!(
            f,
            "finds {} kinds of objects: {}",
            names.len(),
            shown.join(", ")
        )?;
        if shown.len() < names.len() {
            write!(f, ", and {} more", names.len() - shown.len())?;
        }
        write!(f, "; for others see \"Weights\" in README.md")
    }
}
