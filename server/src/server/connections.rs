//! The connections that are open.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use poem::http::uri::{Authority, Scheme};
use poem::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tracing::{debug, info, warn};

use super::stream::{Stream, Timeouts, Turn};
use super::tls::{self, Certificate};

/// Bytes that are read ahead: about the largest head (request line and headers) of a request.
const READ_AHEAD: usize = 64 << 10;

/// How long to wait after a connection could not be taken in, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How long, once no request is under way, connections may take to end.
const SETTLE: Duration = Duration::from_secs(1);

/// All that are open.
pub(super) struct Connections<E> {
    endpoint: Arc<E>,
    most: usize,
    timeouts: Timeouts,
    /// `None` for plain HTTP.
    certificate: Option<Certificate>,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
    /// Each one's turn, and how to end it.
    open: HashMap<Id, (Arc<Turn>, AbortHandle)>,
    /// Taken in, and waiting for room.
    waiting: Option<(TcpStream, SocketAddr)>,
    /// Requests under way.
    under_way: watch::Sender<usize>,
    /// Whether answers say that their connection ends with them.
    leaving: Arc<AtomicBool>,
}

impl<E: Endpoint<Output = Response> + 'static> Connections<E> {
    /// None yet, and never more than `most`.
    pub(super) fn new(
        endpoint: E,
        most: usize,
        timeouts: Timeouts,
        certificate: Option<Certificate>,
    ) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            most,
            timeouts,
            certificate,
            graceful: GracefulShutdown::new(),
            tasks: JoinSet::new(),
            open: HashMap::new(),
            waiting: None,
            under_way: watch::Sender::new(0),
            leaving: Arc::default(),
        }
    }

    /// From now on tells those who are answered that their connection ends with it: who would keep it for
    /// the next request might send that as it is closed.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Takes connections in, for ever. Loses none where it is dropped and called again.
    pub(super) async fn accept(&mut self, listener: &TcpListener) {
        loop {
            self.take_in(listener).await;
            self.make_room().await;
            if let Some((stream, remote)) = self.waiting.take() {
                self.open(stream, remote);
            }
        }
    }

    /// Waits for a connection, unless one is waiting.
    async fn take_in(&mut self, listener: &TcpListener) {
        while self.waiting.is_none() {
            match listener.accept().await {
                Ok(taken) => self.waiting = Some(taken),
                // Mostly for want of descriptors, of which an idle connection gives one back.
                Err(error) if self.close_the_idlest() => {
                    debug!(%error, "cannot take a connection in");
                    if let Some(ended) = self.tasks.join_next_with_id().await {
                        self.forget(ended);
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot take a connection in");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Where there are as many connections as there may be, closes the one that has asked for nothing
    /// the longest: a crowd that only holds connections open keeps nobody out. Where each has a
    /// request under way, waits until one has not.
    async fn make_room(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
        let mut under_way = self.under_way.subscribe();
        while self.open.len() >= self.most {
            under_way.mark_unchanged();
            self.close_the_idlest();
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => self.forget(ended),
                _ = under_way.changed() => {}
            }
        }
    }

    /// Whether there was one.
    fn close_the_idlest(&self) -> bool {
        let idle = self.open.values().filter_map(|(turn, task)| {
            let since = turn.idle_since()?;
            Some((since, turn, task))
        });
        let Some((_, turn, task)) = idle.min_by_key(|(since, ..)| *since) else {
            return false;
        };
        let closed = turn.close();
        if closed {
            debug!("too many connections: one that asks for nothing is closed");
            task.abort();
        }
        closed
    }

    fn forget(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.open.remove(&id);
    }

    fn open(&mut self, socket: TcpStream, remote: SocketAddr) {
        let endpoint = self.endpoint.clone();
        let watcher = self.graceful.watcher();
        let turn = Arc::new(Turn::new(self.under_way.clone()));
        let local = socket.local_addr().unwrap_or(remote);
        // Answers are small: waiting for more to send only delays them.
        let _ = socket.set_nodelay(true);
        let timeouts = self.timeouts;
        let acceptor = self.certificate.as_mut().map(Certificate::acceptor);
        let addresses = (local, remote);
        let its_turn = turn.clone();
        let leaving = self.leaving.clone();
        let task = self.tasks.spawn(async move {
            let served = match acceptor {
                None => {
                    let stream = Stream::new(socket, its_turn, timeouts);
                    serve(endpoint, stream, Scheme::HTTP, addresses, watcher, leaving).await
                }
                // Until it is over the connection asks for nothing, and may have to make way.
                Some(acceptor) => match tls::shake_hands(&acceptor, socket, timeouts.head).await {
                    Ok(socket) => {
                        let stream = Stream::new(socket, its_turn, timeouts);
                        serve(endpoint, stream, Scheme::HTTPS, addresses, watcher, leaving).await
                    }
                    Err(error) => return debug!(%error, "no TLS connection"),
                },
            };
            if let Err(error) = served {
                debug!(%error, "connection ended");
            }
        });
        self.open.insert(task.id(), (turn, task));
    }

    /// How many requests are under way: not answered, or their answer not taken.
    pub(super) fn requests(&self) -> usize {
        *self.under_way.borrow()
    }

    /// Ends when every connection has: those that ask for nothing are not waited for.
    pub(super) async fn finish(&mut self) {
        let mut under_way = self.under_way.subscribe();
        let mut finished = pin!(std::mem::take(&mut self.graceful).shutdown());
        loop {
            tokio::select! {
                () = &mut finished => return,
                _ = under_way.wait_for(|requests| *requests == 0) => {}
            }
            // What was read before the others ended may be one more request.
            if tokio::time::timeout(SETTLE, &mut finished).await.is_ok() || *under_way.borrow() == 0
            {
                return;
            }
        }
    }

    /// Ends those that are left at once.
    pub(super) async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

/// An answer's body. The request is under way until hyper has done with it, and has sent what it took.
struct Answer<B> {
    body: B,
    turn: Arc<Turn>,
}

impl<B: Body + Unpin> Body for Answer<B> {
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

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.turn.answered();
    }
}

async fn serve<E, S>(
    endpoint: Arc<E>,
    stream: Stream<S>,
    scheme: Scheme,
    (local, remote): (SocketAddr, SocketAddr),
    watcher: Watcher,
    leaving: Arc<AtomicBool>,
) -> hyper::Result<()>
where
    E: Endpoint<Output = Response> + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let turn = stream.turn();
    let service = service_fn(|request| {
        let (endpoint, turn, scheme) = (endpoint.clone(), turn.clone(), scheme.clone());
        let leaving = leaving.clone();
        let (local, remote) = (LocalAddr(local.into()), RemoteAddr(remote.into()));
        turn.begin();
        async move {
            let mut response = if is_ambiguous(request.version(), request.headers()) {
                info!(
                    "refused a request that another may read otherwise: its Host or Transfer-Encoding"
                );
                let response = Response::builder().status(StatusCode::BAD_REQUEST);
                response.header(header::CONNECTION, "close").finish()
            } else {
                let request = Request::from((request, local, remote, scheme));
                endpoint.get_response(request).await
            };
            turn.leaves_unread(response.headers().contains_key(header::CONNECTION));
            if leaving.load(Ordering::Relaxed) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            let response = hyper::Response::from(response);
            Ok::<_, std::convert::Infallible>(response.map(|body| Answer { body, turn }))
        }
    });
    // A client that closes its side is taken to be gone, and its request given up: HTTP/1 has no
    // other way to say so. (`half_close` would answer those who only end what they send.)
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The stream has limits of its own, which tell waiting from dawdling.
        .header_read_timeout(None)
        .max_buf_size(READ_AHEAD)
        .serve_connection(TokioIo::new(stream), service);
    watcher.watch(connection).await
}

/// Whether hyper reads a request that a proxy before this server may read otherwise: for whom it is, or
/// where it ends. RFC 9112 has one `Host` in each (section 3.2), and a body in chunks coded in no other
/// way (section 6.1: codings that are not known must not be guessed at).
fn is_ambiguous(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let one_host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host
            .to_str()
            .is_ok_and(|host| host.is_empty() || host.parse::<Authority>().is_ok()),
        (None, None) => version < Version::HTTP_11,
        _ => false,
    };
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let one_framing = match (codings.next(), codings.next()) {
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (None, _) => true,
        _ => false,
    };
    !(one_host && one_framing)
}
