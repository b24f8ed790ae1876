//! A connection's bytes, and how long a client may take over them.
//!
//! hyper times a request's head from the end of the one before, and answers not at all. Here a client
//! may be idle for long, as proxies are, but not dawdle once it has begun; and what it does not take of
//! an answer is not kept for it for ever. Bodies are timed where they are read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// To begin a request.
    pub idle: Duration,
    /// From then on, to the end of its headers.
    pub head: Duration,
    /// To take anything of an answer.
    pub write: Duration,
}

/// Whose turn it is: the client's, to ask, or the server's, to answer. A request is under way from
/// its head's end until its answer has left, or the connection has.
#[derive(Debug)]
pub(super) struct Turn {
    opened: Instant,
    /// Counts up with every change: odd while a request is under way.
    changes: AtomicU64,
    /// Milliseconds after `opened` at which the last request ended.
    ended: AtomicU64,
    /// Whether all of an answer is handed over, and still to be sent.
    unsent: AtomicBool,
    /// Whether a request was answered that is not read to its end.
    unread: AtomicBool,
    /// Requests under way, on all connections.
    under_way: watch::Sender<usize>,
}

impl Turn {
    /// Of a connection that asks for nothing yet. Requests are counted in `under_way`.
    pub(super) fn new(under_way: watch::Sender<usize>) -> Self {
        Self {
            opened: Instant::now(),
            changes: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            unsent: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            under_way,
        }
    }

    /// What [`changes`](Self::changes) is of a connection that is to be closed: the client's turn.
    const CLOSED: u64 = u64::MAX - 1;

    /// A request's head is read.
    pub(super) fn begin(&self) {
        // One that was sent behind another may be read before the other's answer has left.
        self.sent();
        self.under_way.send_modify(|requests| *requests += 1);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// All of its answer is handed over.
    pub(super) fn answered(&self) {
        self.unsent.store(true, Ordering::Relaxed);
    }

    /// All that was handed over has left, as far as this program can tell. Says whether that ended a
    /// request.
    fn sent(&self) -> bool {
        let ends = self.unsent.swap(false, Ordering::Relaxed);
        if ends {
            self.end();
        }
        ends
    }

    fn end(&self) {
        let ended = self.opened.elapsed().as_millis();
        self.ended
            .store(u64::try_from(ended).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.under_way.send_modify(|requests| *requests -= 1);
    }

    /// Whether the answer was given before the request was read to its end.
    pub(super) fn leaves_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// Since when no request has been under way; `None` while one is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let ended = Duration::from_millis(self.ended.load(Ordering::Relaxed));
        (!self.is_the_server_s()).then(|| self.opened + ended)
    }

    /// Whether no request is under way, nor will be: then the connection may be closed.
    pub(super) fn close(&self) -> bool {
        let changes = self.changes.load(Ordering::Relaxed);
        let close = || {
            let (now, then) = (Ordering::Relaxed, Ordering::Relaxed);
            self.changes
                .compare_exchange(changes, Self::CLOSED, now, then)
        };
        changes.is_multiple_of(2) && close().is_ok()
    }

    fn is_the_server_s(&self) -> bool {
        self.changes.load(Ordering::Relaxed) % 2 == 1
    }
}

/// A stream with time limits, and one that lingers when it is shut down before a request, or its head,
/// was read to its end: it reads what the client still sends, and throws it away, until the client has closed its
/// side or two seconds are over.
///
/// The system answers data that nobody reads by a reset, and on a reset the client's system drops
/// what it has not yet read: the answer (RFC 9112, section 9.6).
pub(super) struct Stream<S> {
    socket: S,
    turn: Arc<Turn>,
    timeouts: Timeouts,
    /// Until when a request must have begun, or its head have ended.
    asking: Pin<Box<Sleep>>,
    /// The turn's changes that `asking` was set for, and whether the head had begun.
    asked: (u64, bool),
    /// Until when something of an answer must be taken.
    answering: Option<Pin<Box<Sleep>>>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Stream<S> {
    const LINGER: Duration = Duration::from_secs(2);

    pub(super) fn new(socket: S, turn: Arc<Turn>, timeouts: Timeouts) -> Self {
        Self {
            socket,
            turn,
            timeouts,
            asking: Box::pin(tokio::time::sleep(timeouts.idle)),
            asked: (0, false),
            answering: None,
            lingering: None,
        }
    }

    pub(super) fn turn(&self) -> Arc<Turn> {
        self.turn.clone()
    }

    /// Restarts the clock where the turn has changed, or the head has begun.
    fn ask(&mut self, begun: bool) {
        let changes = self.turn.changes.load(Ordering::Relaxed);
        let begun = begun || (self.asked.0 == changes && self.asked.1);
        if self.asked != (changes, begun) {
            self.asked = (changes, begun);
            let time = match begun {
                true => self.timeouts.head,
                false => self.timeouts.idle,
            };
            self.asking.as_mut().reset(Instant::now() + time);
        }
    }

    /// Whether the client may still be sending what was answered, or refused by hyper as no request.
    fn leaves_unread(&self) -> bool {
        let in_a_head = (self.turn.changes.load(Ordering::Relaxed), true);
        self.turn.unread.load(Ordering::Relaxed) || self.asked == in_a_head
    }

    /// What a write came to; an error where the client has taken nothing for too long.
    fn answered<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.answering = None;
            return written;
        }
        let time = self.timeouts.write;
        let until = self
            .answering
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        ready!(until.as_mut().poll(context));
        Poll::Ready(Err(late("the client does not take its answer")))
    }
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S> Drop for Stream<S> {
    fn drop(&mut self) {
        if self.turn.is_the_server_s() {
            self.turn.end();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if self.turn.is_the_server_s() {
            return read;
        }
        self.ask(buffer.filled().len() > before);
        if self.asking.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(late("the client does not ask")));
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.answered(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper comes here once it has written all that it has.
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) && self.turn.sent() {
            // It has to read once more, for the client's time to begin.
            context.waker().wake_by_ref();
        }
        self.answered(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            // TLS has a word to say before it closes, which the client has to take as well.
            let shut = Pin::new(&mut self.socket).poll_shutdown(context);
            ready!(self.answered(context, shut))?;
            if !self.leaves_unread() {
                return Poll::Ready(Ok(()));
            }
            self.lingering = Some(Box::pin(tokio::time::sleep(Self::LINGER)));
        }
        let this = &mut *self;
        loop {
            let over = this
                .lingering
                .as_mut()
                .is_none_or(|until| until.as_mut().poll(context).is_ready());
            if over {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = [0; 16 << 10];
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.socket).poll_read(context, &mut buffer)) {
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
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, buffers);
        self.answered(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
