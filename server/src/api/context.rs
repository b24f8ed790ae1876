//! The state that all requests share.

use std::sync::Arc;
use std::time::Duration;

use poem::Request;
use ssd_detector::Defaults;
use ssd_detector::boxes::Criteria;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::auth::Credentials;
use super::health::Readiness;
use super::problem::Problem;
use super::request_log::Record;
use crate::config::Login;
use crate::engine::Engine;
use crate::telemetry::Metrics;

/// How requests are served.
#[derive(Debug, Clone)]
pub struct Options {
    /// The login of the API and the playground.
    pub login: Login,
    /// The criteria for requests that do not state them.
    pub defaults: Defaults,
    /// Maximum bytes of a request body.
    pub body_limit: usize,
    /// Maximum pixels of a picture.
    pub pixel_limit: u64,
    /// Maximum bytes of all request bodies in memory together.
    pub bodies_limit: usize,
    /// How long a body may take, from the server's first read to its last byte.
    pub body_timeout: Duration,
    /// The origins whose pages may call this server from a browser.
    pub cors_origins: Vec<String>,
    /// How long a request may take, from its headers to its response.
    pub request_timeout: Duration,
}

/// Made once, and shared by all requests.
pub struct Context {
    pub(super) options: Options,
    pub(super) credentials: Credentials,
    /// A permit for each byte of a request body in memory.
    pub(super) body_bytes: Arc<Semaphore>,
    pub(super) readiness: Readiness,
    pub(super) metrics: Metrics,
}

impl Context {
    /// The state of a server that has served no request.
    #[must_use]
    pub fn new(options: Options, readiness: Readiness, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            credentials: Credentials::new(&options.login),
            body_bytes: Arc::new(Semaphore::new(options.bodies_limit)),
            options,
            readiness,
            metrics,
        })
    }

    /// The context that the router attaches to every request.
    pub(super) fn of(request: &Request) -> &Self {
        let context: &Arc<Self> = request.data().expect("the router attaches it");
        context
    }

    /// The engine, or 503 while the model is loading.
    pub(super) fn engine(&self) -> Result<&Engine, Problem> {
        let engine = self.readiness.engine();
        engine.ok_or_else(|| Problem::not_ready("The model is loading."))
    }

    /// The criteria for a request that does not state them, or 503 while the model is loading.
    pub(super) fn criteria(&self) -> Result<Criteria, Problem> {
        Ok(self.engine()?.model().criteria(self.options.defaults))
    }

    /// When a request times out.
    pub(super) fn deadline(&self, request: &Request) -> Instant {
        (Record::of(request).begun() + self.options.request_timeout).into()
    }
}
