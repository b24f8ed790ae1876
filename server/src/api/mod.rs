//! HTTP: routes, and their OpenAPI document.
//!
//! ```text
//! predict       POST /predict
//! auth          who may call it: basic authentication, before the body is read
//! budget        the bytes of all bodies
//! body          the picture out of the body, bounded in size and time
//! deadline      until when a request has to be answered
//! accept        the form of answer that the client would rather have
//! response      the response as JSON, or as an annotated picture
//! problem       errors as RFC 9457 problem details
//! document      the OpenAPI document, and the page made from it
//! health        liveness and readiness
//! playground    a page that tries /predict
//! request_log   one line a request, request ids
//! ```

mod accept;
mod auth;
mod body;
mod budget;
mod deadline;
mod document;
mod health;
mod playground;
mod predict;
mod problem;
mod request_log;
mod response;

use std::sync::Arc;
use std::time::Duration;

use poem::endpoint::make_sync;
use poem::error::{MethodNotAllowedError, NotFoundError};
use poem::http::{HeaderValue, StatusCode, Uri, header};
use poem::{
    Endpoint, EndpointExt as _, IntoEndpoint as _, IntoResponse as _, PathPattern, Request,
    Response, Route, get,
};
use poem_openapi::error::{AuthorizationError, ParseParamError};

use crate::config::{Login, Settings};
use crate::telemetry::{MEDIA_TYPE, Metrics};
use ssd_detector::Defaults;
use ssd_detector::boxes::Criteria;

use auth::Credentials;
use budget::Budget;
use deadline::Deadline;
pub use document::document;
pub use health::Readiness;
use problem::{Kind, Problem};
use request_log::{Notes, RequestLog};
pub use response::Prediction;

/// What the routes need to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who may call `/predict`.
    pub login: Login,
    /// What a request that does not say otherwise gets.
    pub defaults: Defaults,
    /// Bytes of a request's body.
    pub body_limit: usize,
    /// Pixels of a picture.
    pub pixel_limit: u64,
    /// Bytes of all bodies that are held at one time.
    pub bodies_limit: usize,
    /// From the first byte of a body that is asked for to the last.
    pub body_timeout: Duration,
    /// From a request's headers to its answer.
    pub request_timeout: Duration,
}

impl From<&Settings> for Options {
    fn from(settings: &Settings) -> Self {
        Self {
            login: settings.login.clone(),
            defaults: settings.defaults,
            body_limit: settings.body_limit,
            pixel_limit: settings.pixel_limit,
            bodies_limit: settings.bodies_limit,
            body_timeout: settings.body_timeout,
            request_timeout: settings.request_timeout,
        }
    }
}

/// All routes. Every error leaves as problem details, with the request's id.
pub fn routes(
    options: &Options,
    readiness: &Readiness,
    metrics: &Metrics,
) -> impl Endpoint<Output = Response> + use<> {
    let limits = body::BodyLimits {
        size: options.body_limit,
        time: options.body_timeout,
    };
    Route::new()
        .at("/", playground::page(options))
        .at(playground::FILES, playground::files())
        .at(
            health::LIVENESS,
            get(make_sync(|_| plain(StatusCode::OK, "alive\n"))),
        )
        .at(health::READINESS, get(make_sync(|request| ready(&request))))
        .at(
            "/openapi.json",
            get(make_sync(|request| {
                let document = document(in_force(&request).as_ref());
                document_of("application/json", document)
            })),
        )
        .at(
            "/docs",
            get(make_sync(|request| {
                let page = document::page(in_force(&request).as_ref());
                document_of("text/html; charset=utf-8", page)
                    .with_header(header::CONTENT_SECURITY_POLICY, DOCS_POLICY)
            })),
        )
        .at(
            "/predict",
            document::service().into_endpoint().before(forget_route),
        )
        .data(Credentials::new(&options.login))
        .data(limits)
        .data(Budget::new(options.bodies_limit))
        .data(Deadline(options.request_timeout))
        .data(options.defaults)
        .data(readiness.clone())
        .around(|endpoint, request| async move {
            let uri = request.uri().clone();
            let notes = request.data().cloned().unwrap_or_default();
            let answer = endpoint.call(request).await;
            Ok(answer.unwrap_or_else(|error| explain(&error, &uri, &notes)))
        })
        .with(RequestLog(metrics.clone()))
        .around(guarded)
}

/// Tells browsers and proxies not to guess an answer's kind and, where it does not say otherwise, not to
/// keep it.
async fn guarded<E: Endpoint<Output = Response>>(
    endpoint: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let mut response = endpoint.call(request).await?;
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        let headers = response.headers_mut();
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    Ok(response)
}

/// The routes of the management port: `/metrics`, for Prometheus.
#[must_use]
pub fn management(
    readiness: &Readiness,
    metrics: &Metrics,
) -> impl Endpoint<Output = Response> + use<> {
    let (readiness, metrics) = (readiness.clone(), metrics.clone());
    let scrape = get(make_sync(move |_| {
        match metrics.scrape(readiness.engine()) {
            Ok(text) => Response::builder().content_type(MEDIA_TYPE).body(text),
            Err(error) => {
                tracing::error!(%error, "metrics");
                Problem::internal().into_response()
            }
        }
    }));
    Route::new()
        .at("/metrics", scrape)
        .around(|endpoint, request| async move {
            let answer = endpoint.call(request).await;
            Ok(answer.unwrap_or_else(|error| {
                let problem = match error.is::<MethodNotAllowedError>() {
                    true => Problem::method_not_allowed("GET, HEAD"),
                    false => Problem::new(Kind::NotFound, "On this port there is /metrics."),
                };
                problem.into_response()
            }))
        })
        .around(guarded)
}

/// Swagger UI is one page with its script and style inside, so those may be inline; nothing is of another
/// origin. Its icons are `data:`, answers that it shows `blob:`.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src 'self' blob: data:; connect-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The service has routes of its own, whose patterns poem would add to the outer one's.
async fn forget_route(mut request: Request) -> poem::Result<Request> {
    if let Some(pattern) = request.extensions_mut().remove::<PathPattern>()
        && let Some(notes) = request.data::<Notes>()
    {
        notes.took(pattern.0);
    }
    Ok(request)
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let response = Response::builder()
        .status(status)
        .content_type("text/plain; charset=utf-8");
    response.body(text)
}

fn ready(request: &Request) -> Response {
    match request.data().is_some_and(Readiness::is_ready) {
        true => plain(StatusCode::OK, "ready\n"),
        false => not_ready().into_response(),
    }
}

fn not_ready() -> Problem {
    Problem::new(
        Kind::NotReady,
        "The model is not loaded yet, or the server is stopping; try again soon.",
    )
}

/// What a request that does not say otherwise gets, once the model is there.
fn in_force(request: &Request) -> Option<Criteria> {
    let engine = request.data().and_then(Readiness::engine)?;
    Some(engine.model().criteria(*request.data()?))
}

fn document_of(content_type: &str, document: String) -> Response {
    Response::builder()
        .content_type(content_type)
        .body(document)
}

/// Turns every error that poem and poem-openapi raise into one of ours.
fn explain(error: &poem::Error, uri: &Uri, notes: &Notes) -> Response {
    let pattern = error.data::<PathPattern>().cloned();
    let problem = if let Some(problem) = error.downcast_ref::<Problem>() {
        problem.clone()
    } else if error.is::<NotFoundError>() {
        Problem::new(Kind::NotFound, problem::PATHS)
    } else if error.is::<MethodNotAllowedError>() {
        Problem::method_not_allowed(allowed(uri.path()))
    } else if error.is::<AuthorizationError>() {
        Problem::new(
            Kind::Unauthorized,
            "Give the right user and password by HTTP basic authentication (curl -u USER:PASSWORD).",
        )
    } else if let Some(error) = error.downcast_ref::<ParseParamError>() {
        predict::bad_parameter(error.name, uri)
    } else {
        notes.failed(error.to_string());
        Problem::internal()
    };
    let mut response = problem.into_response();
    if let Some(pattern) = pattern {
        response.set_data(pattern);
    }
    response
}

/// The methods that a path takes.
fn allowed(path: &str) -> &'static str {
    match path {
        "/predict" => "POST",
        _ => "GET, HEAD",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;

    /// Status, type and detail.
    async fn answer(response: Response) -> (u16, String, String) {
        let status = response.status().as_u16();
        let body = response.into_body().into_bytes().await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let text = |member: &str| body[member].as_str().unwrap().to_owned();
        (status, text("type"), text("detail"))
    }

    #[tokio::test]
    async fn faults_of_the_server_are_500_and_leak_nothing() {
        let internal = engine::Error::Internal("/secret/path: out of memory".to_owned());
        let unforeseen = poem::Error::from_string("/secret/path", StatusCode::IM_A_TEAPOT);
        let panics = Route::new()
            .at(
                "/",
                get(make_sync(|_| -> Response { panic!("/secret/path") })),
            )
            .with(RequestLog(Metrics::default()));
        let request = Request::builder().uri_str("/").finish();
        let notes = Notes::default();
        for response in [
            predict::explain(internal, &notes).into_response(),
            explain(&unforeseen, &Uri::from_static("/predict"), &notes),
            panics.get_response(request).await,
        ] {
            let (status, kind, detail) = answer(response).await;
            assert_eq!((status, kind.as_str()), (500, "urn:ssd:problem:internal"));
            assert!(!detail.contains("secret"), "{detail}");
        }
    }
}
