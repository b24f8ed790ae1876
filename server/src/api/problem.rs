//! Errors, as RFC 9457 problem details or in the form of another API.

use std::fmt::Display;
use std::marker::PhantomData;
use std::time::Duration;

use poem::error::ResponseError;
use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::payload::Json;
use poem_openapi::types::{Example, ToJSON, Type};
use poem_openapi::{Enum, Object};
use ssd_detector::picture;
use state_dict::quote;

use crate::engine::{self, Full};

/// The `WWW-Authenticate` of a 401 (RFC 7617: user name and password are UTF-8).
const CHALLENGE: &str = "Basic realm=\"ssd\", charset=\"UTF-8\"";

macro_rules! kinds {
    ($($kind:ident = $urn:tt, $status:ident, $title:tt;)*) => {
        /// The type of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
        #[oai(rename = "ProblemType")]
        pub enum Kind {
            $(#[doc = $title] #[oai(rename = $urn)] $kind,)*
        }

        impl Kind {
            /// Its URN, status and title.
            fn declared(self) -> (&'static str, StatusCode, &'static str) {
                match self {
                    $(Self::$kind => ($urn, StatusCode::$status, $title),)*
                }
            }
        }
    };
}

kinds! {
    BadQuery = "urn:ssd:problem:bad-query", BAD_REQUEST, "A query parameter is not accepted";
    BadField = "urn:ssd:problem:bad-field", BAD_REQUEST, "A field of the body is not accepted";
    MalformedRequest = "urn:ssd:problem:malformed-request", BAD_REQUEST, "The request is malformed";
    TargetTooLong = "urn:ssd:problem:target-too-long", URI_TOO_LONG, "The path with the query is too long";
    HeadersTooLarge = "urn:ssd:problem:headers-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large";
    MalformedBody = "urn:ssd:problem:malformed-body", BAD_REQUEST, "The body is malformed";
    NoImage = "urn:ssd:problem:no-image", BAD_REQUEST, "The body does not have exactly one picture";
    EmptyImage = "urn:ssd:problem:empty-image", BAD_REQUEST, "The picture is empty";
    Unauthorized = "urn:ssd:problem:unauthorized", UNAUTHORIZED, "The user name or password is missing or wrong";
    NotFound = "urn:ssd:problem:not-found", NOT_FOUND, "Nothing is at this path";
    MethodNotAllowed = "urn:ssd:problem:method-not-allowed", METHOD_NOT_ALLOWED, "The path does not support this method";
    NotAcceptable = "urn:ssd:problem:not-acceptable", NOT_ACCEPTABLE, "The client accepts no representation that the server can send";
    BodyTimeout = "urn:ssd:problem:body-timeout", REQUEST_TIMEOUT, "The body did not arrive in time";
    BodyTooLarge = "urn:ssd:problem:body-too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    TooManyPixels = "urn:ssd:problem:too-many-pixels", PAYLOAD_TOO_LARGE, "The picture has too many pixels";
    UnsupportedMediaType = "urn:ssd:problem:unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body is neither a form nor a picture nor JSON";
    UnsupportedCoding = "urn:ssd:problem:unsupported-coding", UNSUPPORTED_MEDIA_TYPE, "The body has a content coding";
    UnsupportedPicture = "urn:ssd:problem:unsupported-picture", UNSUPPORTED_MEDIA_TYPE, "The picture's format is not supported";
    UndecodablePicture = "urn:ssd:problem:undecodable-picture", UNPROCESSABLE_ENTITY, "The picture is damaged or cut short";
    Busy = "urn:ssd:problem:busy", TOO_MANY_REQUESTS, "The server is busy";
    Internal = "urn:ssd:problem:internal", INTERNAL_SERVER_ERROR, "The server failed";
    NotReady = "urn:ssd:problem:not-ready", SERVICE_UNAVAILABLE, "The server is not ready";
    Late = "urn:ssd:problem:late", GATEWAY_TIMEOUT, "The server did not respond in time";
}

impl Kind {
    /// The last part of its URN.
    pub fn name(self) -> &'static str {
        let (urn, ..) = self.declared();
        urn.rsplit(':').next().unwrap_or(urn)
    }

    /// Its HTTP status.
    pub fn status(self) -> StatusCode {
        let (_, status, _) = self.declared();
        status
    }
}

/// An error that becomes a response.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// Its type.
    pub kind: Kind,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
    /// Why the server failed. Only the log shows it.
    pub cause: Option<Box<str>>,
}

impl Problem {
    /// A problem. `detail` says what was wrong with this request, and what is accepted or what to do.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            header: None,
            cause: None,
        }
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// A 401 that asks for the login.
    pub fn unauthorized() -> Self {
        Self::new(
            Kind::Unauthorized,
            "Send the user name and password by HTTP basic authentication (curl -u USER:PASSWORD).",
        )
        .with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static(CHALLENGE),
        )
    }

    /// A 404 that lists the paths that exist.
    pub fn not_found(paths: &[&str]) -> Self {
        let paths = paths.join(", ");
        Self::new(Kind::NotFound, format!("The paths of this port: {paths}."))
    }

    /// A 405 that lists the methods of the path (RFC 9110, section 15.5.6).
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("The methods of this path: {allow}.");
        Self::new(Kind::MethodNotAllowed, detail)
            .with_header(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// A 406 that says which header selects the representation.
    pub fn not_acceptable(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotAcceptable, detail)
            .with_header(header::VARY, HeaderValue::from_static("Accept"))
    }

    /// A 415 that says which content coding is accepted (RFC 9110, section 15.5.16): none.
    pub fn unsupported_coding(coding: &[u8]) -> Self {
        let detail = format!(
            "The Content-Encoding is {}; send the body without a content coding.",
            quote_bytes(coding)
        );
        Self::new(Kind::UnsupportedCoding, detail).with_header(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        )
    }

    /// A 429 that says when to retry (RFC 9110, section 10.2.3: whole seconds). `reason` is a sentence.
    pub fn busy(reason: &str, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs_f64().ceil().max(1.0) as u64;
        let detail = format!("{reason} Retry after the number of seconds in `Retry-After`.");
        Self::new(Kind::Busy, detail).with_header(header::RETRY_AFTER, seconds.into())
    }

    /// A 500. The client learns where to find the cause, but not the cause.
    pub fn internal(cause: impl Display) -> Self {
        let detail = "The server's log shows the cause under this response's X-Request-Id.";
        Self {
            cause: Some(cause.to_string().into()),
            ..Self::new(Kind::Internal, detail)
        }
    }

    /// A 503 that says when to retry. `reason` is a sentence.
    pub fn not_ready(reason: &str) -> Self {
        let detail = format!("{reason} Retry after the number of seconds in `Retry-After`.");
        Self::new(Kind::NotReady, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// A 404 for another model than the one that is served.
    pub fn no_model(asked: &str, served: &str) -> Self {
        let (asked, served) = (quote(asked), quote(served));
        let detail = format!("There is no model {asked}; this server has {served}.");
        Self::new(Kind::NotFound, detail)
    }

    /// A 503 of the liveness probe.
    pub fn not_alive() -> Self {
        Self::new(
            Kind::NotReady,
            "The model has failed several times in a row, or a forward pass hangs. Restart the process.",
        )
    }

    /// A 504.
    pub fn late() -> Self {
        Self::new(
            Kind::Late,
            "The response was not ready in time: the server is overloaded, or the picture is very large.",
        )
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        Self::busy(&sentence(full.cause), full.retry_after)
    }
}

impl From<engine::Error> for Problem {
    fn from(error: engine::Error) -> Self {
        match error {
            engine::Error::Picture(error) => error.into(),
            engine::Error::Full(full) => full.into(),
            engine::Error::Internal(cause) => Self::internal(cause),
        }
    }
}

impl From<picture::Error> for Problem {
    fn from(error: picture::Error) -> Self {
        use picture::Error as E;
        let detail = sentence(&error.to_string());
        let kind = match error {
            E::TooLong { .. } => return Self::not_acceptable(detail),
            E::Empty => Kind::EmptyImage,
            E::Unsupported(_) | E::Unknown { .. } => Kind::UnsupportedPicture,
            E::TooManyPixels { .. } => Kind::TooManyPixels,
            E::Undecodable { .. } => Kind::UndecodablePicture,
        };
        Self::new(kind, detail)
    }
}

/// The beginning of what a client sent, for an error.
pub fn quote_bytes(bytes: &[u8]) -> String {
    // More than `quote` shows, whose copy of a large body would need as much memory again.
    quote(&String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]))
}

/// A message as a sentence, with a capital and a full stop.
pub fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    let stop = if message.ends_with('.') { "" } else { "." };
    first.chain(characters).chain(stop.chars()).collect()
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.kind.status()
    }

    fn as_response(&self) -> Response {
        self.clone().into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.respond::<Details>()
    }
}

/// The body of an error response.
pub trait ErrorBody: Type + ToJSON {
    const MEDIA_TYPE: &'static str;

    fn of(problem: &Problem) -> Self;
}

impl Problem {
    /// The response, with a body in the form `B`.
    pub fn respond<B: ErrorBody>(self) -> Response {
        let mut response = Json(B::of(&self)).into_response();
        response.set_status(self.kind.status());
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static(B::MEDIA_TYPE);
        headers.insert(header::CONTENT_TYPE, media_type);
        headers.extend(self.header.clone());
        response.set_data(self);
        response
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// The error of an operation. `B` is its body, and `D` lists the errors for the OpenAPI document.
pub struct Failure<B, D>(Problem, PhantomData<fn() -> (B, D)>);

impl<B, D> From<Problem> for Failure<B, D> {
    fn from(problem: Problem) -> Self {
        Self(problem, PhantomData)
    }
}

impl<B, D> From<Failure<B, D>> for poem::Error {
    fn from(Failure(problem, _): Failure<B, D>) -> Self {
        problem.into()
    }
}

/// Problem details (RFC 9457).
#[derive(Debug, Object)]
#[oai(rename = "Problem", example)]
pub struct Details {
    /// The type of the problem, for programs.
    #[oai(rename = "type")]
    kind: Kind,
    /// The type of the problem, for people.
    title: String,
    /// The HTTP status.
    #[oai(validator(minimum(value = "400"), maximum(value = "599")))]
    status: u16,
    /// What was wrong with this request, and what is accepted or what to do.
    detail: String,
}

impl ErrorBody for Details {
    const MEDIA_TYPE: &'static str = "application/problem+json";

    fn of(problem: &Problem) -> Self {
        let (_, status, title) = problem.kind.declared();
        Self {
            kind: problem.kind,
            title: title.to_owned(),
            status: status.as_u16(),
            detail: problem.detail.clone(),
        }
    }
}

impl Example for Details {
    fn example() -> Self {
        Self::of(&Problem::unauthorized())
    }
}
