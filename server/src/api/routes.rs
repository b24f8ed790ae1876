//! The table of routes. Each route is one entry. The router, the 404 text, the `Allow` header and the list of
//! probes are derived from the table.

use std::sync::Arc;

use poem::endpoint::{BoxEndpoint, make_sync};
use poem::error::{IntoResult, MethodNotAllowedError, NotFoundError};
use poem::http::{HeaderValue, header};
use poem::{Endpoint, EndpointExt as _, IntoResponse, Request, Response, Route, RouteMethod};

use super::context::Context;
use super::cors::Cors;
use super::problem::{Details, Problem};
use super::request_log::{Record, RequestLog};
use super::{auth, deepstack, document, health, open_inference, playground, refusal};
use crate::telemetry::MEDIA_TYPE;

use Caller::{Anyone, Probe, User};

const ROUTES: &[Entry] = &[
    entry("/", GET, User, || sync(playground::page)),
    entry("/playground/:file", GET, User, || sync(playground::file)),
    entry("/predict", POST, User, document::operations),
    entry("/model", GET, User, document::operations),
    entry("/docs", GET, Anyone, || sync(document::docs)),
    entry("/openapi.json", GET, Anyone, || sync(document::openapi)),
    entry(health::LIVENESS, GET, Probe, document::operations),
    entry(health::READINESS, GET, Probe, document::operations),
    entry("/v2", GET, User, document::operations).with(V2),
    entry("/v2/health/live", GET, Probe, document::operations).with(V2),
    entry("/v2/health/ready", GET, Probe, document::operations).with(V2),
    entry("/v2/models/:name", GET, User, document::operations).with(V2),
    entry("/v2/models/:name/ready", GET, User, document::operations).with(V2),
    entry("/v2/models/:name/infer", POST, User, document::operations).with(V2),
    entry("/v1/vision/detection", POST, User, document::operations).with(V1),
];

/// How the two other APIs send their errors.
const V2: fn(Problem) -> Response = Problem::respond::<open_inference::Error>;
const V1: fn(Problem) -> Response = Problem::respond::<deepstack::Error>;

/// The routes of the management port.
const MANAGEMENT: &[Entry] = &[entry("/metrics", GET, Anyone, || sync(metrics))];

/// A route.
struct Entry {
    /// A poem path pattern.
    path: &'static str,
    methods: Methods,
    caller: Caller,
    handler: Handler,
    /// How it sends an error.
    failure: fn(Problem) -> Response,
}

/// The methods as the header `Allow` lists them, and the router for them.
type Methods = (&'static str, fn(BoxEndpoint<'static>) -> RouteMethod);

const GET: Methods = ("GET, HEAD", poem::get);
const POST: Methods = ("POST", poem::post);

/// Who calls a route.
enum Caller {
    /// A client with the login.
    User,
    Anyone,
    /// Kubernetes, every few seconds.
    Probe,
}

type Handler = fn() -> BoxEndpoint<'static>;

const fn entry(path: &'static str, methods: Methods, caller: Caller, handler: Handler) -> Entry {
    Entry {
        path,
        methods,
        caller,
        handler,
        failure: Problem::respond::<Details>,
    }
}

impl Entry {
    const fn with(self, failure: fn(Problem) -> Response) -> Self {
        Self { failure, ..self }
    }

    fn endpoint(&'static self) -> impl Endpoint<Output = Response> {
        let (allow, by_method) = self.methods;
        let mut handler = (self.handler)();
        if matches!(self.caller, User) {
            handler = handler.before(auth::require_login).boxed();
        }
        by_method(handler).around(move |routed, request| async move {
            Record::of(&request).took(self.path);
            let response = routed.call(request).await;
            Ok(response.unwrap_or_else(|error| {
                (self.failure)(if error.is::<MethodNotAllowedError>() {
                    Problem::method_not_allowed(allow)
                } else {
                    problem(error)
                })
            }))
        })
    }
}

/// Whether Kubernetes requests this path every few seconds.
pub fn is_probe(path: &str) -> bool {
    ROUTES
        .iter()
        .any(|entry| matches!(entry.caller, Probe) && entry.path == path)
}

/// The routes of the public port. Every error becomes problem details, with the request's id.
pub fn routes(context: &Arc<Context>) -> impl Endpoint<Output = Response> + use<> {
    router(ROUTES, context)
        .around(refusal::refuse)
        .with(RequestLog(context.metrics.clone()))
        .with(Cors::new(&context.options.cors_origins))
        .around(secured)
}

/// The routes of the management port: `/metrics`, for Prometheus.
pub fn management(context: &Arc<Context>) -> impl Endpoint<Output = Response> + use<> {
    router(MANAGEMENT, context)
        .around(refusal::refuse)
        .around(secured)
}

fn router(
    table: &'static [Entry],
    context: &Arc<Context>,
) -> impl Endpoint<Output = Response> + use<> {
    let router = table.iter().fold(Route::new(), |router, entry| {
        router.at(entry.path, entry.endpoint())
    });
    router
        .data(context.clone())
        .around(move |router, request| async move {
            let is_v2 = request.uri().path().starts_with("/v2/");
            let response = router.call(request).await;
            Ok(response.unwrap_or_else(|error| match error.downcast_ref() {
                Some(NotFoundError) if is_v2 => V2(not_found(table)),
                Some(NotFoundError) => not_found(table).into_response(),
                None => problem(error).into_response(),
            }))
        })
}

/// Turns an error of a handler, poem or poem-openapi into a problem.
fn problem(error: poem::Error) -> Problem {
    match error.downcast() {
        Ok(problem) => problem,
        Err(error) if error.is::<NotFoundError>() => nothing_there(),
        Err(error) => Problem::internal(error),
    }
}

/// The 404 of the public port.
pub fn nothing_there() -> Problem {
    not_found(ROUTES)
}

fn not_found(table: &[Entry]) -> Problem {
    let patterns = table.iter().map(|entry| entry.path);
    let paths: Vec<_> = patterns.filter(|path| !path.contains(':')).collect();
    Problem::not_found(&paths)
}

/// Tells browsers and proxies not to guess a response's media type, and not to store the response unless it
/// says otherwise.
async fn secured<E: Endpoint<Output = Response>>(
    endpoint: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let mut response = endpoint.call(request).await?;
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        let header = response.headers_mut().entry(name);
        header.or_insert(HeaderValue::from_static(value));
    }
    Ok(response)
}

fn sync<T, R>(handler: fn(&Request) -> R) -> BoxEndpoint<'static>
where
    T: IntoResponse + Sync + 'static,
    R: IntoResult<T> + 'static,
{
    make_sync(move |request| handler(&request))
        .map_to_response()
        .boxed()
}

fn metrics(request: &Request) -> Result<Response, Problem> {
    let context = Context::of(request);
    let text = context
        .metrics
        .scrape(context.readiness.engine())
        .map_err(|error| {
            tracing::error!(%error, "metrics");
            Problem::internal(error)
        })?;
    Ok(Response::builder().content_type(MEDIA_TYPE).body(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn faults_of_the_server_are_500_and_leak_nothing() {
        const SECRET: &str = "/secret/path";
        let engine = engine::Error::Internal(SECRET.to_owned());
        let unforeseen = poem::Error::from_string(SECRET, poem::http::StatusCode::IM_A_TEAPOT);
        let panics =
            sync(|_| -> Response { panic!("{SECRET}") }).with(RequestLog(Metrics::default()));
        for response in [
            Problem::from(engine).into_response(),
            problem(unforeseen).into_response(),
            panics.get_response(Request::default()).await,
        ] {
            assert_eq!(response.status(), 500);
            let body = response.into_body().into_string().await.unwrap();
            assert!(body.contains("\"urn:ssd:problem:internal\""), "{body}");
            assert!(!body.contains(SECRET), "{body}");
        }
    }
}
