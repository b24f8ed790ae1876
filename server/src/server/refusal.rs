//! hyper refuses a head by a status without a body, before there is a request. Here that response gets
//! what the API gives its own: problem details, a request id, a log line, a place in the metrics.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use poem::http::header;
use poem::{Endpoint, Response};

use crate::api;

/// Rewrites a response of hyper's own. `None` where the bytes are not such a response.
pub(super) type Rewrite = Arc<dyn Fn(&[u8]) -> Option<Bytes> + Send + Sync>;

/// A rewriter that asks `endpoint` for the response.
pub(super) fn rewriter<E: Endpoint<Output = Response> + 'static>(endpoint: Arc<E>) -> Rewrite {
    // A refusal waits for nothing.
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
        // hyper's head has it.
        if name != header::CONNECTION {
            write!(response, "{name}: ").ok()?;
            response.extend([value.as_bytes(), b"\r\n"].concat());
        }
    }
    write!(response, "content-length: {}\r\n{after}", body.len()).ok()?;
    response.extend(body);
    Some(response.into())
}
