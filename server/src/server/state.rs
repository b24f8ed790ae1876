//! The state of a connection, and which timeout applies in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// To begin a request.
    pub idle: Duration,
    /// From a request's first byte to the end of its headers; also to finish the TLS handshake.
    pub head: Duration,
    /// To read the whole response.
    pub write: Duration,
}

/// How long a client may still send if the response was sent before the request's end.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Phase {
    /// The client has sent nothing since its last request.
    Idle,
    /// The client has begun a head, or is still sending a body that nothing reads.
    Head,
    /// A head has been read. The API enforces the timeouts for the body and the response.
    InFlight,
    /// The response is being sent.
    Sending,
    /// The response is sent; the rest of the request is read and dropped.
    Lingering,
    /// The connection has ended, or is about to.
    Closed,
}

/// What moves a connection to another phase.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// The TLS handshake is over, if there is one.
    Opened,
    /// hyper got bytes.
    Read,
    /// hyper waits for bytes.
    ReadPending,
    /// hyper has read a head.
    Request,
    /// A response is ready. `unread`: the request's body was not read to its end.
    Response { unread: bool },
    /// hyper has taken the whole body of the response.
    BodyTaken,
    /// The operating system has taken everything that hyper wrote.
    Flushed,
    /// hyper shuts down the connection.
    Shutdown,
    /// The connection has to make room for another.
    Evicted,
    /// The socket is dropped.
    Dropped,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Whether hyper may have read the beginning of the next head. While a request is in flight, hyper waits
    /// for bytes only if it has used all earlier ones.
    read_ahead: bool,
    unread: bool,
    body_taken: bool,
}

impl State {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Read => self.read_ahead = true,
            Event::ReadPending => self.read_ahead = false,
            Event::Request => (self.read_ahead, self.body_taken) = (true, false),
            Event::Response { unread } => self.unread = unread,
            Event::BodyTaken => self.body_taken = true,
            _ => {}
        }
        self.phase = match (self.phase, event) {
            (Phase::Closed, _)
            | (_, Event::Dropped)
            | (Phase::Idle | Phase::Head | Phase::Lingering, Event::Evicted) => Phase::Closed,
            (Phase::Idle, Event::Opened) => Phase::Idle,
            (Phase::Idle, Event::Read) => Phase::Head,
            (_, Event::Request) => Phase::InFlight,
            (Phase::InFlight, Event::Response { .. }) => Phase::Sending,
            (Phase::Sending, Event::Flushed) if self.body_taken => {
                if self.read_ahead || self.unread {
                    Phase::Head
                } else {
                    Phase::Idle
                }
            }
            (Phase::Head, Event::Shutdown) => Phase::Lingering,
            _ => return,
        };
        self.since = Instant::now();
    }

    fn is_in_flight(&self) -> bool {
        matches!(self.phase, Phase::InFlight | Phase::Sending)
    }
}

/// The state of one connection, shared by its stream, its requests and the connection limit.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    state: Arc<Mutex<State>>,
    timeouts: Timeouts,
    /// In-flight requests of all connections.
    in_flight: watch::Sender<usize>,
}

impl Connection {
    /// An idle connection. Its in-flight request, if any, counts in `in_flight`.
    pub(super) fn new(timeouts: Timeouts, in_flight: watch::Sender<usize>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                phase: Phase::Idle,
                since: Instant::now(),
                read_ahead: false,
                unread: false,
                body_taken: false,
            })),
            timeouts,
            in_flight,
        }
    }

    /// Applies an event, and returns the new phase.
    pub(super) fn on(&self, event: Event) -> Phase {
        let mut state = self.lock();
        let before = state.is_in_flight();
        state.apply(event);
        match (before, state.is_in_flight()) {
            (false, true) => self.in_flight.send_modify(|requests| *requests += 1),
            (true, false) => self.in_flight.send_modify(|requests| *requests -= 1),
            _ => {}
        }
        state.phase
    }

    pub(super) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// When the timeout of the phase ends, if the phase has one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.lock();
        let timeout = match state.phase {
            Phase::Idle => self.timeouts.idle,
            Phase::Head => self.timeouts.head,
            Phase::Sending => self.timeouts.write,
            Phase::Lingering => LINGER,
            Phase::InFlight | Phase::Closed => return None,
        };
        Some(state.since + timeout)
    }

    /// The time since which the connection may be evicted; `None` if it may not.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (!state.is_in_flight() && state.phase != Phase::Closed).then_some(state.since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
