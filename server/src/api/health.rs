//! Liveness and readiness, for Kubernetes' probes: `GET /livez` and `GET /readyz`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use poem::Request;
use poem_openapi::OpenApi;
use poem_openapi::payload::PlainText;

use super::context::Context;
use super::document::{LivenessErrors, ReadinessErrors, Tag};
use super::problem::{Details, Failure, Problem};
use crate::engine::{Engine, Health};

/// Returns 200 unless the process should be restarted.
pub const LIVENESS: &str = "/livez";
/// Returns 200 while the server should get requests.
pub const READINESS: &str = "/readyz";

/// The operations.
#[derive(Debug)]
pub struct Probes;

#[expect(clippy::unused_async, reason = "poem-openapi wants it")]
#[OpenApi]
impl Probes {
    /// Liveness
    ///
    /// 200 unless the process should be restarted; also while the model is loading.
    #[oai(
        path = "/livez",
        method = "get",
        operation_id = "livez",
        tag = "Tag::Server"
    )]
    async fn livez(
        &self,
        request: &Request,
    ) -> Result<PlainText<&'static str>, Failure<Details, LivenessErrors>> {
        Context::of(request).readiness.alive()?;
        Ok(PlainText("alive\n"))
    }

    /// Readiness
    ///
    /// 200 while the server should get requests: the model is loaded and works, and the server is not stopping.
    #[oai(
        path = "/readyz",
        method = "get",
        operation_id = "readyz",
        tag = "Tag::Server"
    )]
    async fn readyz(
        &self,
        request: &Request,
    ) -> Result<PlainText<&'static str>, Failure<Details, ReadinessErrors>> {
        Context::of(request).readiness.ready_now().await?;
        Ok(PlainText("ready\n"))
    }
}

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

    /// 503 if the process should be restarted.
    pub(super) fn alive(&self) -> Result<(), Problem> {
        self.is_alive().then_some(()).ok_or_else(Problem::not_alive)
    }

    /// 503 if the server should get no requests.
    pub(super) async fn ready_now(&self) -> Result<(), Problem> {
        let is_ready = self.is_ready().await;
        is_ready.then_some(()).ok_or_else(not_ready)
    }

    /// The engine, once it has started; also while the server stops.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.shared.engine.get()
    }
}

/// The 503 of the readiness probe.
pub fn not_ready() -> Problem {
    Problem::not_ready("The model is loading, fails or hangs, or the server is stopping.")
}
