//! Errors as RFC 9457 problem details: one type each, one place that knows them all.

use std::time::Duration;

use poem::error::ResponseError;
use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::{Example, ToJSON as _, Type as _};
use poem_openapi::{ApiResponse, Enum, Object};

/// The media type of problem details.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong; each is a problem type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "ProblemType")]
pub enum Kind {
    /// A query parameter is unknown, given twice, or has a value that is not accepted.
    #[oai(rename = "urn:ssd:problem:bad-query")]
    BadQuery,
    /// The body is not what its Content-Type says.
    #[oai(rename = "urn:ssd:problem:malformed-body")]
    MalformedBody,
    /// The form has no field `image`, or more than one.
    #[oai(rename = "urn:ssd:problem:no-image")]
    NoImage,
    /// The picture is empty.
    #[oai(rename = "urn:ssd:problem:empty-image")]
    EmptyImage,
    /// User and password are missing or wrong.
    #[oai(rename = "urn:ssd:problem:unauthorized")]
    Unauthorized,
    /// Nothing is at this path.
    #[oai(rename = "urn:ssd:problem:not-found")]
    NotFound,
    /// This path takes other methods.
    #[oai(rename = "urn:ssd:problem:method-not-allowed")]
    MethodNotAllowed,
    /// The answer cannot be given in any form that the client accepts.
    #[oai(rename = "urn:ssd:problem:not-acceptable")]
    NotAcceptable,
    /// The body did not arrive in time.
    #[oai(rename = "urn:ssd:problem:body-timeout")]
    BodyTimeout,
    /// The body is larger than the server takes.
    #[oai(rename = "urn:ssd:problem:body-too-large")]
    BodyTooLarge,
    /// The picture has more pixels than the server decodes.
    #[oai(rename = "urn:ssd:problem:too-many-pixels")]
    TooManyPixels,
    /// The body is neither a form nor a picture.
    #[oai(rename = "urn:ssd:problem:unsupported-media-type")]
    UnsupportedMediaType,
    /// The bytes are not a picture of a format that is read.
    #[oai(rename = "urn:ssd:problem:unsupported-picture")]
    UnsupportedPicture,
    /// The picture is damaged or cut short.
    #[oai(rename = "urn:ssd:problem:undecodable-picture")]
    UndecodablePicture,
    /// Too many requests are before this one.
    #[oai(rename = "urn:ssd:problem:busy")]
    Busy,
    /// The server failed.
    #[oai(rename = "urn:ssd:problem:internal")]
    Internal,
    /// The model is not loaded yet, or the server is stopping.
    #[oai(rename = "urn:ssd:problem:not-ready")]
    NotReady,
    /// The answer did not come in time.
    #[oai(rename = "urn:ssd:problem:late")]
    Late,
}

impl Kind {
    /// Its status and title.
    fn facts(self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadQuery => (S::BAD_REQUEST, "A query parameter is not accepted"),
            Self::MalformedBody => (S::BAD_REQUEST, "The body is malformed"),
            Self::NoImage => (S::BAD_REQUEST, "There is not one field `image`"),
            Self::EmptyImage => (S::BAD_REQUEST, "The picture is empty"),
            Self::Unauthorized => (S::UNAUTHORIZED, "User and password are missing or wrong"),
            Self::NotFound => (S::NOT_FOUND, "Nothing is at this path"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "This path takes other methods"),
            Self::NotAcceptable => (
                S::NOT_ACCEPTABLE,
                "The answer has no form that the client accepts",
            ),
            Self::BodyTimeout => (S::REQUEST_TIMEOUT, "The body did not arrive in time"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::TooManyPixels => (S::PAYLOAD_TOO_LARGE, "The picture has too many pixels"),
            Self::UnsupportedMediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "The body is neither a form nor a picture",
            ),
            Self::UnsupportedPicture => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "The picture's format is not read",
            ),
            Self::UndecodablePicture => (
                S::UNPROCESSABLE_ENTITY,
                "The picture is damaged or cut short",
            ),
            Self::Busy => (
                S::TOO_MANY_REQUESTS,
                "Too many requests are before this one",
            ),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "The server failed"),
            Self::NotReady => (S::SERVICE_UNAVAILABLE, "The server is not ready"),
            Self::Late => (S::GATEWAY_TIMEOUT, "The answer did not come in time"),
        }
    }

    /// What its URN ends with.
    #[must_use]
    pub fn name(self) -> String {
        let urn = self.to_json_string();
        let name = urn.trim_matches('"').rsplit(':').next();
        name.unwrap_or_default().to_owned()
    }

    /// Its HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.facts().0
    }
}

/// One error, on its way to becoming an answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    kind: Kind,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem; `detail` says what was wrong with this request, what is accepted, what to do.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let header = match kind {
            // RFC 7617: the user and password are UTF-8.
            Kind::Unauthorized => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"ssd\", charset=\"UTF-8\""),
            )),
            Kind::NotReady => Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => None,
        };
        Self {
            kind,
            detail: detail.into(),
            header,
        }
    }

    /// A fault of the server. The client is told where the cause stands, and not the cause.
    #[must_use]
    pub fn internal() -> Self {
        let detail = "Something failed in the server; its log says what, by this X-Request-Id.";
        Self::new(Kind::Internal, detail)
    }

    /// A 429 that says when to come back (RFC 9110, section 10.2.3: whole seconds).
    #[must_use]
    pub fn busy(detail: impl Into<String>, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs_f64().ceil().max(1.0) as u64;
        let mut problem = Self::new(Kind::Busy, detail);
        problem.header = Some((header::RETRY_AFTER, seconds.into()));
        problem
    }

    /// A 406 that says what the answer's form depends on.
    #[must_use]
    pub fn not_acceptable(detail: impl Into<String>) -> Self {
        let mut problem = Self::new(Kind::NotAcceptable, detail);
        problem.header = Some((header::VARY, HeaderValue::from_static("Accept")));
        problem
    }

    /// A 405 that says which methods the path takes (RFC 9110, section 15.5.6).
    #[must_use]
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        let mut problem = Self::new(
            Kind::MethodNotAllowed,
            format!("This path takes {allowed} only."),
        );
        problem.header = Some((header::ALLOW, HeaderValue::from_static(allowed)));
        problem
    }
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
        let details = Details::new(self.kind, self.detail);
        let mut response = poem_openapi::payload::Json(details).into_response();
        response.set_data(self.kind);
        response.set_status(self.kind.status());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.extend(self.header);
        response
    }
}

/// Problem details (RFC 9457).
#[derive(Debug, Object)]
#[oai(rename = "Problem", example)]
struct Details {
    /// What went wrong, for programs.
    #[oai(rename = "type")]
    kind: Kind,
    /// What went wrong, for people; the same for every problem of a type.
    title: String,
    /// The HTTP status.
    #[oai(validator(minimum(value = "400"), maximum(value = "599")))]
    status: u16,
    /// What was wrong with this request, and what is accepted.
    detail: String,
}

impl Details {
    fn new(kind: Kind, detail: String) -> Self {
        let (status, title) = kind.facts();
        Self {
            kind,
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
        }
    }
}

impl Example for Details {
    fn example() -> Self {
        let detail = "The query parameter `threshold` is `1.5`; it accepts a number from 0 to 1.";
        Self::new(Kind::BadQuery, detail.to_owned())
    }
}

/// Documents every problem by its status: those of this operation one by one, those of paths and
/// methods, which no operation can answer, as the default.
impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        let mut responses: Vec<MetaResponse> = Vec::new();
        for (status, description, ..) in DOCUMENTED {
            responses.push(MetaResponse {
                description,
                status: *status,
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: MEDIA_TYPE,
                    schema: Details::schema_ref(),
                }],
                headers: headers(*status),
            });
        }
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        Details::register(registry);
    }
}

/// An example of each documented status.
pub fn examples() -> impl Iterator<Item = (String, serde_json::Value)> {
    DOCUMENTED.iter().map(|(status, _, kind, detail)| {
        let status = status.map_or("default".to_owned(), |status| status.to_string());
        let example = Details::new(*kind, (*detail).to_owned());
        (status, example.to_json().expect("an object"))
    })
}

/// What there is, for who asks for something else.
pub const PATHS: &str = "There are /, /predict, /docs, /openapi.json, /livez and /readyz.";

/// What the OpenAPI document says of each status, and an example of it.
const DOCUMENTED: &[(Option<u16>, &str, Kind, &str)] = &[
    (
        Some(400),
        "A query parameter is not accepted; or the body is malformed, has not one field `image`, or the picture is empty.",
        Kind::BadQuery,
        "The query parameter `threshold` is `1.5`; it accepts a number from 0 to 1.",
    ),
    (
        Some(401),
        "User and password are missing or wrong. Nothing of the body was read.",
        Kind::Unauthorized,
        "Give the right user and password by HTTP basic authentication (curl -u USER:PASSWORD).",
    ),
    (
        Some(406),
        "The header `Accept` names nothing that there is; or the picture is longer than a JPEG can be. In the first case nothing of the body was read.",
        Kind::NotAcceptable,
        "The header Accept is `text/html`; there are application/json, image/jpeg and image/png.",
    ),
    (
        Some(408),
        "The body did not arrive in time.",
        Kind::BodyTimeout,
        "The body did not arrive within 30 seconds.",
    ),
    (
        Some(413),
        "The body is too large, or the picture has too many pixels. It was neither read to its end nor decoded.",
        Kind::BodyTooLarge,
        "The body is larger than 10485760 bytes, the most that is taken.",
    ),
    (
        Some(415),
        "The body is neither a form nor a picture, or the picture's format is not read.",
        Kind::UnsupportedPicture,
        "The bytes are not a picture in a format that is read: JPEG, PNG, WebP, BMP or GIF.",
    ),
    (
        Some(422),
        "The picture is damaged or cut short.",
        Kind::UndecodablePicture,
        "The JPEG picture cannot be decoded: it is cut short: its end is missing.",
    ),
    (
        Some(429),
        "As many pictures wait, or are held, as may: `detail` says which. Where that is known from the headers, nothing of the body was read.",
        Kind::Busy,
        "Others are before, as many as may wait; come back after the seconds of Retry-After.",
    ),
    (
        Some(500),
        "The server failed. Its log has the cause, with this request's `X-Request-Id`.",
        Kind::Internal,
        "Something failed in the server; its log says what, by this X-Request-Id.",
    ),
    (
        Some(503),
        "The model is not loaded yet.",
        Kind::NotReady,
        "The model is not loaded yet, or the server is stopping; try again soon.",
    ),
    (
        Some(504),
        "The answer did not come in time.",
        Kind::Late,
        "The answer did not come in time: the server has too much to do, or the picture is very large.",
    ),
    (
        None,
        "Elsewhere on this server: 404 where nothing is at the path; 405, with `Allow`, where the path takes other methods. What is no HTTP request is answered by 400, 414 or 431 without a body.",
        Kind::NotFound,
        PATHS,
    ),
];

fn headers(status: Option<u16>) -> Vec<MetaHeader> {
    let (name, about) = match status {
        Some(401) => (
            "WWW-Authenticate",
            "`Basic realm=\"ssd\", charset=\"UTF-8\"`",
        ),
        Some(406) => ("Vary", "`Accept`"),
        Some(429 | 503) => ("Retry-After", "Seconds to wait"),
        None => (
            "Allow",
            "The methods that the path takes, where the status is 405",
        ),
        _ => return Vec::new(),
    };
    vec![MetaHeader {
        name: name.to_owned(),
        description: Some(about.to_owned()),
        required: status.is_some(),
        deprecated: false,
        schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new(match name {
            "Retry-After" => "integer",
            _ => "string",
        }))),
    }]
}
