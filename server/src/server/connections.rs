//! The connections that are open.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use poem::http::header;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tracing::{debug, warn};

use super::stream::{Stream, Timeouts, Turn};

/// Bytes that are read ahead: about the largest head (request line and headers) of a request.
const READ_AHEAD: usize = 64 << 10;

/// How long to wait after a connection could not be taken in, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How long, once no request is under way, the last answers may take to be sent.
const SETTLE: Duration = Duration::from_secs(1);

/// All that are open.
pub(super) struct Connections<E> {
    endpoint: Arc<E>,
    most: usize,
    timeouts: Timeouts,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
    /// Each one's turn, and how to end it.
    open: HashMap<Id, (Arc<Turn>, AbortHandle)>,
    /// Requests under way.
    under_way: watch::Sender<usize>,
}

impl<E: Endpoint<Output = Response> + 'static> Connections<E> {
    /// None yet, and never more than `most`.
    pub(super) fn new(endpoint: E, most: usize, timeouts: Timeouts) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            most,
            timeouts,
            graceful: GracefulShutdown::new(),
            tasks: JoinSet::new(),
            open: HashMap::new(),
            under_way: watch::Sender::new(0),
        }
    }

    /// Takes connections in, for ever.
    pub(super) async fn accept(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => {
                    self.make_room().await;
                    self.open(stream, remote);
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
    /// request under way, waits until one ends.
    async fn make_room(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
        while self.open.len() >= self.most {
            let idle = self.open.values().filter_map(|(turn, task)| {
                let since = turn.idle_since()?;
                Some((since, task))
            });
            if let Some((_, task)) = idle.min_by_key(|(since, _)| *since) {
                debug!("too many connections: one that asks for nothing is closed");
                task.abort();
            }
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.forget(ended),
                None => return,
            }
        }
    }

    fn forget(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.open.remove(&id);
    }

    fn open(&mut self, stream: TcpStream, remote: SocketAddr) {
        let endpoint = self.endpoint.clone();
        let (watcher, under_way) = (self.graceful.watcher(), self.under_way.clone());
        let turn = Arc::new(Turn::default());
        let local = stream.local_addr().unwrap_or(remote);
        // Answers are small: waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let stream = Stream::new(stream, turn.clone(), self.timeouts);
        let addresses = (local, remote);
        let task = self.tasks.spawn(async move {
            let shared = (watcher, under_way);
            if let Err(error) = serve(endpoint, stream, addresses, shared).await {
                debug!(%error, "connection ended");
            }
        });
        self.open.insert(task.id(), (turn, task));
    }

    /// How many requests are under way.
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
            // What they were answered may still be on its way.
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

/// Counts a request as long as it is under way.
struct UnderWay {
    requests: watch::Sender<usize>,
    turn: Arc<Turn>,
}

impl UnderWay {
    fn count(requests: &watch::Sender<usize>, turn: &Arc<Turn>) -> Self {
        requests.send_modify(|requests| *requests += 1);
        turn.begin();
        Self {
            requests: requests.clone(),
            turn: turn.clone(),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.turn.end();
        self.requests.send_modify(|requests| *requests -= 1);
    }
}

async fn serve<E: Endpoint<Output = Response> + 'static>(
    endpoint: Arc<E>,
    stream: Stream,
    (local, remote): (SocketAddr, SocketAddr),
    (watcher, under_way): (Watcher, watch::Sender<usize>),
) -> hyper::Result<()> {
    let turn = stream.turn();
    let service = service_fn(|request| {
        let (endpoint, turn) = (endpoint.clone(), turn.clone());
        let (local, remote) = (LocalAddr(local.into()), RemoteAddr(remote.into()));
        let counted = UnderWay::count(&under_way, &turn);
        async move {
            let request = Request::from((request, local, remote, Scheme::HTTP));
            let response = endpoint.get_response(request).await;
            turn.leaves_unread(response.headers().contains_key(header::CONNECTION));
            drop(counted);
            Ok::<_, std::convert::Infallible>(hyper::Response::from(response))
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
