//! The table of routes. Each route is one entry. The router, the 404 text, the `Allow` header and the list of
//! probes are derived from the table.

use std::sync::Arc;

use poem::endpoint::{BoxEndpoint, make, make_sync};
use poem::error::{IntoResult, MethodNotAllowedError, NotFoundError};
use poem::http::{HeaderValue, header};
use poem::{Endpoint, EndpointExt as _, IntoResponse, Request, Response, Route, RouteMethod};

use super::context::Context;
use super::problem::Problem;
use super::request_log::{Record, RequestLog};
use super::{auth, document, health, playground, refusal};
use crate::telemetry::MEDIA_TYPE;

use Caller::{Anyone, Probe, User};

const ROUTES: &[Entry] = &[
    entry("/", GET, User, || sync(playground::page)),
    entry("/playground/:file", GET, User, || sync(playground::file)),
    entry("/predict", POST, User, document::operations),
    entry("/docs", GET, Anyone, || sync(document::docs)),
    entry("/openapi.json", GET, Anyone, || sync(document::openapi)),
    entry(health::LIVENESS, GET, Probe, || sync(alive)),
    entry(health::READINESS, GET, Probe, || make(ready).boxed()),
];

/// The routes of the management port.
const MANAGEMENT: &[Entry] = &[entry("/metrics", GET, Anyone, || sync(metrics))];

/// A route.
struct Entry {
    /// A poem path pattern.
    path: &'static str,
    methods: Methods,
    caller: Caller,
    handler: Handler,
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
    }
}

impl Entry {
    fn endpoint(&'static self) -> impl Endpoint<Output = Response> {
        let (allow, by_method) = self.methods;
        let mut handler = (self.handler)();
        if matches!(self.caller, User) {
            handler = handler.before(auth::require_login).boxed();
        }
        by_method(handler).around(move |routed, request| async move {
            Record::of(&request).took(self.path);
            routed.call(request).await.map_err(|error| {
                if error.is::<MethodNotAllowedError>() {
                    Problem::method_not_allowed(allow).into()
                } else {
                    error
                }
            })
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
            let response = router.call(request).await;
            Ok(response.unwrap_or_else(|error| problem(error, table).into_response()))
        })
}

/// Turns an error of a handler, poem or poem-openapi into a problem.
fn problem(error: poem::Error, table: &[Entry]) -> Problem {
    match error.downcast() {
        Ok(problem) => problem,
        Err(error) if error.is::<NotFoundError>() => not_found(table),
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

fn alive(request: &Request) -> Result<&'static str, Problem> {
    let is_alive = Context::of(request).readiness.is_alive();
    is_alive.then_some("alive\n").ok_or_else(Problem::not_alive)
}

async fn ready(request: Request) -> Result<Response, Problem> {
    let is_ready = Context::of(&request).readiness.is_ready().await;
    is_ready.then(|| "ready\n".into_response()).ok_or_else(|| {
        Problem::not_ready("The model is loading, fails or hangs, or the server is stopping.")
    })
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
            problem(unforeseen, ROUTES).into_response(),
            panics.get_response(Request::default()).await,
        ] {
            assert_eq!(response.status(), 500);
            let body = response.into_body().into_string().await.unwrap();
            assert!(body.contains("\"urn:ssd:problem:internal\""), "{body}");
            assert!(!body.contains(SECRET), "{body}");
        }
    }
}
