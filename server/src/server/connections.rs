//! The open connections.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use poem::http::uri::Scheme;
use poem::http::{HeaderValue, header};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tracing::{debug, warn};

use super::refusal::{self, Rewrite};
use super::state::{Connection, Event, Phase, Timeouts};
use super::stream::Stream;
use super::tls::{self, Certificate};
use crate::api;
use crate::telemetry::Metrics;

/// Pause after a connection could not be accepted, most often for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Shortest time between two warnings that a connection could not be accepted.
const WARNING_PERIOD: Duration = Duration::from_secs(10);

/// How long connections may take to end when no request is in flight.
const SETTLE: Duration = Duration::from_secs(1);

/// The open connections of one listener.
pub(super) struct Connections<E> {
    endpoint: Arc<E>,
    rewrite: Rewrite,
    limit: usize,
    timeouts: Timeouts,
    /// `None` for plain HTTP.
    certificate: Option<Certificate>,
    metrics: Metrics,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
    open: HashMap<Id, (Connection, AbortHandle)>,
    /// Accepted, but not yet open: the limit may be reached.
    waiting: Option<(TcpStream, SocketAddr)>,
    in_flight: watch::Sender<usize>,
    /// Whether each response tells the client that the connection closes after it.
    draining: Arc<AtomicBool>,
    /// When the last warning about accepting was logged, and how many have been suppressed since.
    warned: Option<Instant>,
    suppressed: u64,
}

impl<E: Endpoint<Output = Response> + 'static> Connections<E> {
    /// No connections yet, and never more than `limit`.
    pub(super) fn new(
        endpoint: E,
        limit: usize,
        timeouts: Timeouts,
        certificate: Option<Certificate>,
        metrics: Metrics,
    ) -> Self {
        let endpoint = Arc::new(endpoint);
        Self {
            rewrite: refusal::rewriter(endpoint.clone()),
            endpoint,
            limit,
            timeouts,
            certificate,
            metrics,
            graceful: GracefulShutdown::new(),
            tasks: JoinSet::new(),
            open: HashMap::new(),
            waiting: None,
            in_flight: watch::Sender::new(0),
            draining: Arc::default(),
            warned: None,
            suppressed: 0,
        }
    }

    /// From now on, each response tells the client that the connection closes after it. Otherwise a client
    /// could send its next request just as the server closes the connection.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Accepts and serves connections forever. No connection is lost if the future is dropped and this is
    /// called again.
    pub(super) async fn serve(&mut self, listener: &TcpListener) {
        loop {
            self.accept(listener).await;
            self.enforce_limit().await;
            if let Some((socket, remote)) = self.waiting.take() {
                self.open(socket, remote);
            }
        }
    }

    /// Accepts a connection, unless one is waiting.
    async fn accept(&mut self, listener: &TcpListener) {
        while self.waiting.is_none() {
            match listener.accept().await {
                Ok(accepted) => self.waiting = Some(accepted),
                Err(error) => {
                    self.accept_failed(&error);
                    // Closing an idle connection frees its file descriptor.
                    if self.evict_idlest() {
                        self.wait_for_end().await;
                    } else {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        self.metrics.accept_error();
        if self
            .warned
            .is_some_and(|warned| warned.elapsed() < WARNING_PERIOD)
        {
            self.suppressed += 1;
            return;
        }
        warn!(%error, suppressed = self.suppressed, "cannot accept a connection");
        self.warned = Some(Instant::now());
        self.suppressed = 0;
    }

    /// At the limit, closes the longest-idle connection, so that idle clients cannot lock out others. If
    /// every connection has an in-flight request, waits until one has none.
    async fn enforce_limit(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.remove(&ended);
        }
        let mut in_flight = self.in_flight.subscribe();
        while self.open.len() >= self.limit {
            in_flight.mark_unchanged();
            if self.evict_idlest() {
                self.wait_for_end().await;
                continue;
            }
            tokio::select! {
                () = self.wait_for_end() => {}
                _ = in_flight.changed() => {}
            }
        }
    }

    /// Closes the longest-idle connection. Returns whether there was one.
    fn evict_idlest(&self) -> bool {
        let idle = self.open.values().filter_map(|(connection, task)| {
            let since = connection.idle_since()?;
            Some((since, connection, task))
        });
        let Some((_, connection, task)) = idle.min_by_key(|(since, ..)| *since) else {
            return false;
        };
        let evicted = connection.on(Event::Evicted) == Phase::Closed;
        if evicted {
            debug!("closed an idle connection to make room");
            self.metrics.connection_evicted();
            task.abort();
        }
        evicted
    }

    async fn wait_for_end(&mut self) {
        if let Some(ended) = self.tasks.join_next_with_id().await {
            self.remove(&ended);
        }
    }

    fn remove(&mut self, ended: &Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.open.remove(&id);
    }

    fn open(&mut self, socket: TcpStream, remote: SocketAddr) {
        let local = socket.local_addr().unwrap_or(remote);
        // Responses are small: Nagle's algorithm would only delay them.
        let _ = socket.set_nodelay(true);
        let connection = Connection::new(self.timeouts, self.in_flight.clone());
        let acceptor = self.certificate.as_ref().map(Certificate::acceptor);
        let handshake_timeout = self.timeouts.head;
        let service = Service {
            endpoint: self.endpoint.clone(),
            rewrite: self.rewrite.clone(),
            connection: connection.clone(),
            local,
            remote,
            draining: self.draining.clone(),
        };
        let watcher = self.graceful.watcher();
        let task = self.tasks.spawn(async move {
            let served = match acceptor {
                None => service.serve(socket, Scheme::HTTP, watcher).await,
                // During the handshake the connection is idle: it may be evicted.
                Some(acceptor) => {
                    match tls::handshake(&acceptor, socket, handshake_timeout).await {
                        Ok(socket) => service.serve(socket, Scheme::HTTPS, watcher).await,
                        Err(error) => return debug!(%error, "TLS handshake failed"),
                    }
                }
            };
            if let Err(error) = served {
                debug!(%error, "connection ended");
            }
        });
        self.open.insert(task.id(), (connection, task));
    }

    /// The number of in-flight requests: the response is not ready, or not sent completely.
    pub(super) fn in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }

    /// Waits for the in-flight requests, and closes idle connections.
    pub(super) async fn finish(&mut self) {
        let mut in_flight = self.in_flight.subscribe();
        let mut finished = pin!(std::mem::take(&mut self.graceful).shutdown());
        loop {
            tokio::select! {
                () = &mut finished => return,
                _ = in_flight.wait_for(|requests| *requests == 0) => {}
            }
            // A connection may have read another request before the others ended.
            if tokio::time::timeout(SETTLE, &mut finished).await.is_ok() || *in_flight.borrow() == 0
            {
                return;
            }
        }
    }

    /// Closes all connections at once.
    pub(super) async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

/// What one connection's requests need.
struct Service<E> {
    endpoint: Arc<E>,
    rewrite: Rewrite,
    connection: Connection,
    local: SocketAddr,
    remote: SocketAddr,
    draining: Arc<AtomicBool>,
}

impl<E: Endpoint<Output = Response> + 'static> Service<E> {
    async fn serve<S>(self, socket: S, scheme: Scheme, watcher: Watcher) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = Stream::new(socket, self.connection.clone(), self.rewrite.clone());
        let service = service_fn(|request| {
            self.connection.on(Event::Request);
            let (local, remote) = (LocalAddr(self.local.into()), RemoteAddr(self.remote.into()));
            let request = Request::from((request, local, remote, scheme.clone()));
            async {
                let connection = self.connection.clone();
                let response = hyper::Response::from(self.respond(request).await);
                Ok::<_, Infallible>(response.map(|body| ResponseBody { body, connection }))
            }
        });
        // If a client closes its side, hyper drops its request: HTTP/1 has no other way to cancel one.
        // (`half_close` would also keep the requests of clients that have gone.)
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // The stream has its own timeouts, which distinguish an idle client from a slow one.
            .header_read_timeout(None)
            .max_buf_size(api::HEAD_LIMIT)
            .serve_connection(TokioIo::new(stream), service);
        watcher.watch(connection).await
    }

    async fn respond(&self, request: Request) -> Response {
        let mut response = self.endpoint.get_response(request).await;
        let unread = response.headers().contains_key(header::CONNECTION);
        self.connection.on(Event::Response { unread });
        if self.draining.load(Ordering::Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

/// A response's body, which tells the connection when hyper has taken all of it.
struct ResponseBody<B> {
    body: B,
    connection: Connection,
}

impl<B: Body + Unpin> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for ResponseBody<B> {
    fn drop(&mut self) {
        self.connection.on(Event::BodyTaken);
    }
}

#[cfg(test)]
mod tests {
    use poem::endpoint::make_sync;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test]
    async fn a_response_must_be_read_in_time_however_steadily_the_client_reads() {
        let hour = Duration::from_hours(1);
        let timeouts = Timeouts {
            idle: hour,
            head: hour,
            write: Duration::from_millis(300),
        };
        let endpoint = Arc::new(make_sync(|_| Response::from(vec![0; 1 << 20])));
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let service = Service {
            rewrite: refusal::rewriter(endpoint.clone()),
            endpoint,
            connection: Connection::new(timeouts, watch::Sender::new(0)),
            local: address,
            remote: address,
            draining: Arc::default(),
        };
        let graceful = GracefulShutdown::new();
        let (mut client, socket) = tokio::io::duplex(64);
        let serving = tokio::spawn(service.serve(socket, Scheme::HTTP, graceful.watcher()));
        let request = b"GET / HTTP/1.1\r\nHost: ssd\r\n\r\n";
        client.write_all(request).await.unwrap();
        let reading = async {
            while client.read_u8().await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), reading).await.unwrap();
        assert!(serving.await.unwrap().is_err());
    }
}
