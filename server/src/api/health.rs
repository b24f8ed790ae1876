//! Liveness and readiness, for Kubernetes' probes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::engine::Engine;

/// Answers as long as the process does.
pub const LIVENESS: &str = "/livez";
/// Answers with 200 when new requests should be sent here.
pub const READINESS: &str = "/readyz";

/// Whether the server can answer: the engine once it has started, until the server stops. Clones
/// share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    engine: OnceLock<Engine>,
    draining: AtomicBool,
}

impl Readiness {
    /// The engine has started, and its first forward pass is over.
    pub fn ready(&self, engine: Engine) {
        // Started once; a second engine would be a mistake of this program and is not taken.
        let _ = self.shared.engine.set(engine);
    }

    /// The server stops: not ready from now on, though requests are still answered.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
    }

    /// Whether new requests should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.engine().is_some() && !self.shared.draining.load(Ordering::Acquire)
    }

    /// The engine, once it has started; also while the server stops.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.shared.engine.get()
    }
}
