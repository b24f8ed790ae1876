//! Cross-origin resource sharing (Fetch Standard, section 3.2): lets the pages of named origins call this server from a
//! browser. Off by default.
//!
//! poem's middleware is not used: it refuses requests of every other origin, also of the playground, and replaces the
//! header `Vary`.

use std::sync::Arc;

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse as _, Middleware, Request, Response, Result};

/// How long browsers remember a preflight: two hours, the most that Chromium takes.
const MAX_AGE: &str = "7200";

/// The response headers that a page may read, besides those that it always may.
const EXPOSED: &str = "retry-after, server-timing, x-request-id";

/// Sends the headers of the protocol to pages of the named origins.
#[derive(Debug, Clone)]
pub struct Cors(Arc<[HeaderValue]>);

impl Cors {
    /// With no origins it does nothing. A browser's name of an origin is ASCII.
    pub fn new(origins: &[String]) -> Self {
        let values = origins.iter().map(|origin| HeaderValue::from_str(origin));
        Self(values.filter_map(std::result::Result::ok).collect())
    }

    /// The origin of the request, if it is a named one.
    fn named(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        self.0.contains(origin).then(|| origin.clone())
    }
}

impl<E: Endpoint<Output = Response>> Middleware<E> for Cors {
    type Output = Shared<E>;

    fn transform(&self, inner: E) -> Shared<E> {
        Shared {
            inner,
            cors: self.clone(),
        }
    }
}

/// An endpoint that pages of other origins can call.
#[derive(Debug)]
pub struct Shared<E> {
    inner: E,
    cors: Cors,
}

impl<E: Endpoint<Output = Response>> Endpoint for Shared<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        if self.cors.0.is_empty() {
            return self.inner.call(request).await;
        }
        let origin = self.cors.named(request.headers());
        let mut response = match &origin {
            // A preflight has no login: browsers send none.
            Some(_) if is_preflight(&request) => allowed(request.headers()),
            _ => self.inner.call(request).await?,
        };
        let headers = response.headers_mut();
        // Caches must not give one origin's response to another.
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let exposed = HeaderValue::from_static(EXPOSED);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        Ok(response)
    }
}

fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The response to a preflight. The methods GET, HEAD and POST are always allowed. Every request header is: none is
/// dangerous here, since the login protects the server, not the headers.
fn allowed(request: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    if let Some(asked) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    let age = HeaderValue::from_static(MAX_AGE);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, age);
    response
}
