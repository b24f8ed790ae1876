//! The server: binds, loads the model, serves, drains.
//!
//! hyper's HTTP/1 connections carry poem's endpoint. poem's own server is not used, because it sets
//! no limit to the time a client may take over its headers, and because closing a connection right
//! after an early answer (401, 413) can take that answer back: see `Lingering`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use poem::http::header;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tracing::{debug, info, warn};

use crate::api::{self, Readiness};
use crate::config::Settings;
use crate::engine::{Engine, Files, Limits, StartError};
use crate::telemetry::Metrics;

/// Bytes that are read ahead: about the largest head (request line and headers) of a request.
const READ_AHEAD: usize = 64 << 10;

/// How long to wait after a connection could not be taken in, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How long, once no request is under way, the last answers may take to be sent.
const SETTLE: Duration = Duration::from_secs(1);

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
    settings: Settings,
    files: Files,
    readiness: Readiness,
}

impl Application {
    /// Listens on the addresses of the settings. From then on the system takes connections in, so a
    /// taken port is known before the model is loaded.
    ///
    /// # Errors
    /// Where an address cannot be listened on.
    pub async fn build(settings: Settings, files: Files) -> Result<Self, Error> {
        let (listener, address) = listen("PORT", settings.host, settings.port).await?;
        let management = match settings.management_port {
            Some(port) => Some(listen("MANAGEMENT_PORT", settings.host, port).await?),
            None => None,
        };
        Ok(Self {
            listener,
            address,
            management,
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
        let options = api::Options {
            login: self.settings.login.clone(),
            criteria: self.settings.criteria,
            body_limit: self.settings.body_limit,
            body_timeout: self.settings.body_timeout,
            request_timeout: self.settings.request_timeout,
        };
        let metrics = Metrics::default();
        let header_timeout = self.settings.header_timeout;
        let routes = api::routes(&options, &self.readiness, &metrics);
        let mut connections = Connections::new(routes, header_timeout);
        // Until this function ends, and so also while the server drains.
        let mut management = JoinSet::new();
        if let Some((listener, address)) = self.management.take() {
            let routes = api::management(&self.readiness, &metrics);
            let mut connections = Connections::new(routes, header_timeout);
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
        let limits = Limits {
            pixels: self.settings.pixel_limit,
            threads: self.settings.threads.get(),
            workers: self.settings.workers.get(),
            queue: self.settings.queue_length,
        };
        info!(
            weights = %files.weights.display(),
            workers = limits.workers,
            threads = limits.threads,
            "loading the model"
        );
        let started = tokio::task::spawn_blocking(move || Engine::start(&files, limits));
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
        self.readiness.ready(engine);
        for address in addresses(self.address) {
            info!("Running on http://{address}/");
        }
        Ok(())
    }

    async fn drain<E: Endpoint<Output = Response> + 'static>(
        self,
        mut connections: Connections<E>,
    ) {
        self.readiness.drain();
        let (delay, deadline) = (self.settings.drain_delay, self.settings.drain_timeout);
        info!(?delay, timeout = ?deadline, "stopping");
        let _ = tokio::time::timeout(delay, connections.accept(&self.listener)).await;
        drop(self.listener);
        let finished = tokio::time::timeout(deadline, connections.finish()).await;
        let requests = *connections.under_way.borrow();
        if finished.is_ok() {
            info!("stopped; every request was answered");
        } else {
            warn!(requests, "stopped; requests were cut off at the deadline");
        }
        connections.tasks.shutdown().await;
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

/// The connections that are open.
struct Connections<E> {
    endpoint: Arc<E>,
    header_timeout: Duration,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
    /// Requests under way.
    under_way: watch::Sender<usize>,
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

impl<E: Endpoint<Output = Response> + 'static> Connections<E> {
    fn new(endpoint: E, header_timeout: Duration) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            header_timeout,
            graceful: GracefulShutdown::new(),
            tasks: JoinSet::new(),
            under_way: watch::Sender::new(0),
        }
    }

    /// Takes connections in, for ever.
    async fn accept(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => self.open(stream, remote),
                Err(error) => {
                    warn!(%error, "cannot take a connection in");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while self.tasks.try_join_next().is_some() {}
        }
    }

    fn open(&mut self, stream: TcpStream, remote: SocketAddr) {
        let endpoint = self.endpoint.clone();
        let (watcher, under_way) = (self.graceful.watcher(), self.under_way.clone());
        let header_timeout = self.header_timeout;
        self.tasks.spawn(async move {
            let shared = (watcher, under_way);
            if let Err(error) = serve(endpoint, stream, remote, header_timeout, shared).await {
                debug!(%error, "connection ended");
            }
        });
    }

    /// Ends when every connection has: those that ask for nothing are not waited for.
    async fn finish(&mut self) {
        let mut under_way = self.under_way.subscribe();
        let mut finished = pin!(std::mem::take(&mut self.graceful).shutdown());
        loop {
            tokio::select! {
                () = &mut finished => return,
                _ = under_way.wait_for(|requests| *requests == 0) => {}
            }
            // What they were answered may still be on its way.
            if tokio::time::timeout(SETTLE, &mut finished).await.is_ok() || *under_way.borrow() == 0
            {
                return;
            }
        }
    }
}

/// Counts a request as long as it is under way.
struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    fn count(requests: &watch::Sender<usize>) -> Self {
        requests.send_modify(|requests| *requests += 1);
        Self(requests.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|requests| *requests -= 1);
    }
}

async fn serve<E: Endpoint<Output = Response> + 'static>(
    endpoint: Arc<E>,
    stream: TcpStream,
    remote: SocketAddr,
    header_timeout: Duration,
    (watcher, under_way): (Watcher, watch::Sender<usize>),
) -> hyper::Result<()> {
    // Answers are small: waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().unwrap_or(remote);
    let stream = Lingering::new(stream);
    let unread = stream.unread.clone();
    let service = service_fn(|request| {
        let (endpoint, unread) = (endpoint.clone(), unread.clone());
        let (local, remote) = (LocalAddr(local.into()), RemoteAddr(remote.into()));
        let counted = UnderWay::count(&under_way);
        async move {
            let request = Request::from((request, local, remote, Scheme::HTTP));
            let response = endpoint.get_response(request).await;
            let closes = response.headers().contains_key(header::CONNECTION);
            unread.store(closes, Ordering::Relaxed);
            drop(counted);
            Ok::<_, std::convert::Infallible>(hyper::Response::from(response))
        }
    });
    // A client that closes its side is taken to be gone, and its request given up: HTTP/1 has no
    // other way to say so. (`half_close` would answer those who only end what they send.)
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(READ_AHEAD)
        .serve_connection(TokioIo::new(stream), service);
    watcher.watch(connection).await
}

/// A stream that lingers when it is shut down before a request was read to its end: it reads what the
/// client still sends, and throws it away, until the client has closed its side or two seconds are
/// over.
///
/// The system answers data that nobody reads by a reset, and on a reset the client's system drops
/// what it has not yet read: the answer (RFC 9112, section 9.6).
struct Lingering {
    stream: TcpStream,
    /// Whether a request was answered that is not read to its end.
    unread: Arc<AtomicBool>,
    until: Option<Pin<Box<Sleep>>>,
}

impl Lingering {
    const TIME: Duration = Duration::from_secs(2);

    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            unread: Arc::default(),
            until: None,
        }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.until.is_none() {
            std::task::ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if !self.unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            self.until = Some(Box::pin(tokio::time::sleep(Self::TIME)));
        }
        let this = &mut *self;
        loop {
            let over = this
                .until
                .as_mut()
                .is_none_or(|until| until.as_mut().poll(context).is_ready());
            if over {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = [0; 16 << 10];
            let mut buffer = ReadBuf::new(&mut scratch);
            match std::task::ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // Closed, or broken: nobody is left to lose an answer.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
