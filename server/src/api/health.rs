//! Liveness and readiness, for Kubernetes' probes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::engine::{Engine, Health};

/// Returns 200 unless the process should be restarted.
pub const LIVENESS: &str = "/livez";
/// Returns 200 while the server should get requests.
pub const READINESS: &str = "/readyz";

/// The engine once it has started, and whether the server is stopping. Clones share it.
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
    /// The engine has started, and its first forward pass succeeded.
    pub fn ready(&self, engine: Engine) {
        // The engine starts once. A second one would be a bug, and is ignored.
        let _ = self.shared.engine.set(engine);
    }

    /// The server stops: not ready from now on, but requests are still served.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
    }

    /// Whether the server should get requests. After a failed forward pass this runs another one: a server
    /// that is not ready gets no requests, so no pass could succeed.
    pub async fn is_ready(&self) -> bool {
        let Some(engine) = self.engine() else {
            return false;
        };
        if self.shared.draining.load(Ordering::Acquire) {
            return false;
        }
        if let Health::Failing(_) = engine.health() {
            engine.probe().await;
        }
        engine.health().is_ready()
    }

    /// Whether the model can recover without a restart of the process; true while it is loading.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.engine()
            .is_none_or(|engine| engine.health().is_alive())
    }

    /// The engine, once it has started; also while the server stops.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.shared.engine.get()
    }
}
