//! Rejects invalid HTTP, and requests that a proxy could interpret differently (request smuggling).

use std::sync::Arc;

use poem::http::uri::Authority;
use poem::http::{HeaderMap, Method, StatusCode, Version, header};
use poem::{Endpoint, IntoResponse as _, Request, Response};

use super::problem::{Kind, Problem};

/// Maximum bytes of a request line and headers.
pub const HEAD_LIMIT: usize = 64 << 10;

/// The status with which the HTTP parser refused a head.
#[derive(Debug, Clone, Copy)]
struct Refused(StatusCode);

/// A request that stands for a head that the HTTP parser refused with `status`, so that the refusal is logged
/// and counted like any other, and its response is a problem.
pub(crate) fn refused(status: StatusCode) -> Request {
    let mut request = Request::builder()
        .method(Method::from_bytes(b"-").unwrap_or_default())
        .finish();
    request.set_data(Refused(status));
    request
}

/// Refuses a request that no route may get, without reading its body, and closes its connection.
pub async fn refuse<E: Endpoint<Output = Response>>(
    endpoint: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let problem = if let Some(Refused(status)) = request.data() {
        not_http(*status)
    } else if let Some(detail) = ambiguity(request.version(), request.headers()) {
        Problem::new(Kind::MalformedRequest, detail)
    } else {
        return endpoint.call(request).await;
    };
    Ok(problem
        .with_header(header::CONNECTION, "close")
        .into_response())
}

fn not_http(status: StatusCode) -> Problem {
    match status {
        StatusCode::URI_TOO_LONG => Problem::new(
            Kind::TargetTooLong,
            "The path with the query is longer than 65534 bytes.",
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Problem::new(
            Kind::HeadersTooLarge,
            format!(
                "The request line and the headers are longer than {HEAD_LIMIT} bytes, or there are more \
                 than 100 headers."
            ),
        ),
        _ => Problem::new(
            Kind::MalformedRequest,
            "The request line or a header is not valid HTTP/1.1.",
        ),
    }
}

/// What a proxy could interpret differently from hyper: the host or the end of the request. RFC 9112 allows
/// one `Host` (section 3.2). The only transfer coding that this server knows is chunked; it must refuse
/// others (section 6.1).
fn ambiguity(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let one_host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host
            .to_str()
            .is_ok_and(|host| host.is_empty() || host.parse::<Authority>().is_ok()),
        (None, None) => version < Version::HTTP_11,
        _ => false,
    };
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let one_framing = match (codings.next(), codings.next()) {
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (None, _) => true,
        _ => false,
    };
    if !one_host {
        Some("A request must have one Host header, and it must be valid.")
    } else if !one_framing {
        Some("Transfer-Encoding must be `chunked`, in a single header.")
    } else {
        None
    }
}
