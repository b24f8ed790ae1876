//! If hyper cannot parse a request's head, it sends a status without a body and never calls the service. This
//! module replaces that response with problem details, and gives it a request id, a log line and metrics.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use poem::http::header;
use poem::{Endpoint, Response};

use crate::api;

/// Rewrites hyper's own response. `None` if the bytes are not such a response.
pub(super) type Rewrite = Arc<dyn Fn(&[u8]) -> Option<Bytes> + Send + Sync>;

/// A rewriter that gets the response from `endpoint`.
pub(super) fn rewriter<E: Endpoint<Output = Response> + 'static>(endpoint: Arc<E>) -> Rewrite {
    // The endpoint refuses without waiting for anything.
    Arc::new(move |bytes| rewrite(&endpoint, bytes).now_or_never()?)
}

async fn rewrite<E: Endpoint<Output = Response>>(endpoint: &E, bytes: &[u8]) -> Option<Bytes> {
    let head = str::from_utf8(bytes).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let (before, after) = head.split_once("content-length: 0\r\n")?;
    let (parts, body) = endpoint
        .get_response(api::refused(status))
        .await
        .into_parts();
    let body = body.into_bytes().await.ok()?;
    let mut response = before.as_bytes().to_vec();
    for (name, value) in &parts.headers {
        // hyper's head already has it.
        if name != header::CONNECTION {
            write!(response, "{name}: ").ok()?;
            response.extend([value.as_bytes(), b"\r\n"].concat());
        }
    }
    write!(response, "content-length: {}\r\n{after}", body.len()).ok()?;
    response.extend(body);
    Some(response.into())
}
