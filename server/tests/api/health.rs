//! Liveness and readiness.

use poem::http::StatusCode;
use poem::{Endpoint, Request};
use ssd_detector::precision::Requested;
use ssd_server::api::{Options, Readiness, routes};
use ssd_server::engine::{Engine, Limits};
use ssd_server::server::{Application, Error};
use ssd_server::telemetry::Metrics;

use super::app::{App, files, settings};
use super::contract;

async fn status(endpoint: &impl Endpoint<Output = poem::Response>, path: &str) -> StatusCode {
    let request = Request::builder().uri_str(path).finish();
    endpoint.call(request).await.unwrap().status()
}

#[tokio::test]
pub(super) async fn the_server_is_ready_from_the_end_of_the_warm_up_to_the_begin_of_the_shutdown() {
    let settings = settings(&[]);
    let options = Options::from(&settings);
    let readiness = Readiness::default();
    let endpoint = routes(&options, &readiness, &Metrics::default());
    let healthy = async || {
        (
            status(&endpoint, "/livez").await,
            status(&endpoint, "/readyz").await,
        )
    };
    let (yes, no) = (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(healthy().await, (yes, no));

    // Nor is a picture taken, which is said before its body is read.
    let predict = Request::builder()
        .method(poem::http::Method::POST)
        .uri_str("/predict")
        .header("authorization", "Basic dWdhaW46dWdhaW4=")
        .finish();
    let answer = endpoint.call(predict).await.unwrap();
    let status = answer.status().as_u16();
    contract::compare_answer("POST", "/predict", status, answer.content_type());
    assert_eq!(
        (answer.status(), &answer.headers()["retry-after"]),
        (no, &"1".parse().unwrap())
    );

    let limits = Limits {
        queue: 0,
        ..Limits::from(&settings)
    };
    let engine =
        tokio::task::spawn_blocking(move || Engine::start(&files(), Requested::REFERENCE, limits));
    readiness.ready(engine.await.unwrap().unwrap());
    assert_eq!(healthy().await, (yes, yes));
    readiness.drain();
    assert_eq!(healthy().await, (yes, no));
}

#[tokio::test]
async fn health_needs_no_login_and_takes_head() {
    let app = App::spawn().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(app.get(path).await.status(), 200);
        let head = app.client.head(app.url(path)).send().await.unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()["cache-control"], "no-store");
        assert!(head.bytes().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_server_that_cannot_load_its_model_ends_with_the_file_and_the_reason() {
    let mut missing = files();
    missing.weights = "/nowhere/weights.pth".into();
    let mut unlabelled = files();
    unlabelled.labels = "/nowhere/labels.txt".into();
    let mut wrong = files();
    wrong.labels = super::app::data("cat.png");
    for (files, expected) in [
        (
            missing,
            "weights /nowhere/weights.pth: cannot find the file",
        ),
        (
            unlabelled,
            "labels /nowhere/labels.txt: cannot read the file",
        ),
        (wrong, "cat.png: line 1 is not UTF-8 text"),
    ] {
        let application = Application::build(settings(&[]), files).await.unwrap();
        let error = application.run(std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_at_once() {
    let app = App::spawn().await;
    let port = app.address.port().to_string();
    let refused = Application::build(settings(&[("PORT", &port)]), files()).await;
    let Err(error @ Error::Bind { .. }) = refused else {
        panic!("two servers on one port");
    };
    assert!(
        error
            .to_string()
            .starts_with(&format!("HOST and PORT are 127.0.0.1:{port}: ")),
        "{error}"
    );
}
