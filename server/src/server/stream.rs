//! A connection's bytes, with the timeouts of its [state](super::state).
//!
//! hyper's only timeout covers the head. It starts at the end of the previous request, so it also counts idle
//! time. hyper has no timeout for writing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::refusal::Rewrite;
use super::state::{Connection, Event, Phase};

/// A stream that lingers if it is shut down before the client has sent a whole request: it reads and drops
/// what the client still sends, until the client closes its side or the timeout ends.
///
/// If the server closed at once, its operating system would reset the connection on further bytes; the
/// client's operating system would then drop a response that is not read yet (RFC 9112, section 9.6).
pub(super) struct Stream<S> {
    socket: S,
    connection: Connection,
    rewrite: Rewrite,
    /// The unwritten rest of the response that replaces hyper's own.
    refusal: Bytes,
    timer: Pin<Box<Sleep>>,
}

impl<S> Stream<S> {
    pub(super) fn new(socket: S, connection: Connection, rewrite: Rewrite) -> Self {
        connection.on(Event::Opened);
        Self {
            socket,
            connection,
            rewrite,
            refusal: Bytes::new(),
            timer: Box::pin(tokio::time::sleep_until(Instant::now())),
        }
    }

    /// Whether the client has missed its deadline. If not, the task wakes at the deadline.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let Some(deadline) = self.connection.deadline() else {
            return false;
        };
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        // The timer alone is not enough: it stays pending once a flood of bytes has used up the task's
        // budget (tokio::task::coop).
        self.timer.as_mut().poll(context).is_ready() || deadline <= Instant::now()
    }

    /// Replaces `Pending` by an error if the client has missed its deadline.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_pending() && self.is_late(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S> Drop for Stream<S> {
    fn drop(&mut self) {
        self.connection.on(Event::Dropped);
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
        if read.is_pending() {
            self.connection.on(Event::ReadPending);
        } else if buffer.filled().len() > before {
            self.connection.on(Event::Read);
        }
        self.in_time(context, read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Before it has read a head, hyper writes only the refusal of one.
        if self.connection.phase() == Phase::Head
            && let Some(refusal) = buffers.first().and_then(|bytes| (self.rewrite)(bytes))
        {
            self.refusal = refusal;
            return Poll::Ready(Ok(buffers[0].len()));
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, buffers);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper flushes when it has written everything.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.refusal.has_remaining() {
            let written = Pin::new(&mut this.socket).poll_write(context, &this.refusal);
            let count = ready!(this.in_time(context, written))?;
            this.refusal.advance(count);
        }
        let flushed = Pin::new(&mut this.socket).poll_flush(context);
        if let Poll::Ready(Ok(())) = flushed {
            this.connection.on(Event::Flushed);
            // This sets the timer. hyper may already wait for bytes, and would not poll again.
            this.is_late(context);
        }
        this.in_time(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.connection.phase() != Phase::Lingering {
            // TLS sends a message before it closes.
            let shut = Pin::new(&mut this.socket).poll_shutdown(context);
            ready!(this.in_time(context, shut))?;
            if this.connection.on(Event::Shutdown) != Phase::Lingering {
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            let mut scratch = [0; 16 << 10];
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = Pin::new(&mut this.socket).poll_read(context, &mut buffer);
            if ready!(this.in_time(context, read)).is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
