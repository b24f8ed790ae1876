//! Liveness and readiness.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use poem::http::StatusCode;
use poem::{Endpoint, Request};
use ssd_detector::boxes::RawOutput;
use ssd_detector::precision::Requested;
use ssd_detector::preprocess::Input;
use ssd_server::api::{Context, Options, Readiness, routes};
use ssd_server::engine::{Engine, Limits, Network, Wrap};
use ssd_server::server::{Application, Error};
use ssd_server::telemetry::Metrics;

use super::app::{App, bytes, files, problem, settings};

async fn status(endpoint: &impl Endpoint<Output = poem::Response>, path: &str) -> StatusCode {
    let request = Request::builder()
        .uri_str(path)
        .header("host", "ssd")
        .finish();
    endpoint.call(request).await.unwrap().status()
}

#[tokio::test]
async fn the_server_is_ready_from_the_end_of_the_warm_up_to_the_begin_of_the_shutdown() {
    let settings = settings(&[]);
    let options = Options::from(&settings);
    let readiness = Readiness::default();
    let context = Context::new(options, readiness.clone(), Metrics::default());
    let endpoint = routes(&context);
    let healthy = async || {
        (
            status(&endpoint, "/livez").await,
            status(&endpoint, "/readyz").await,
        )
    };
    let (yes, no) = (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(healthy().await, (yes, no));

    // No picture is accepted either, which is said before its body is read.
    let predict = Request::builder()
        .method(poem::http::Method::POST)
        .uri_str("/predict")
        .header("host", "ssd")
        .header("authorization", "Basic dWdhaW46dWdhaW4=")
        .finish();
    let response = endpoint.call(predict).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["retry-after"]),
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

/// What the forward passes of a test's network do.
#[derive(Clone, Default)]
struct Behaviour(Arc<AtomicU8>);

impl Behaviour {
    const SUCCEED: u8 = 0;
    const FAIL: u8 = 1;
    const PANIC: u8 = 2;
    const HANG: u8 = 3;

    fn set(&self, behaviour: u8) {
        self.0.store(behaviour, Ordering::SeqCst);
    }

    fn wrap(&self) -> Wrap {
        let behaviour = self.clone();
        Wrap::new(move |inner| {
            Box::new(Scripted {
                inner,
                behaviour: behaviour.clone(),
            })
        })
    }

    async fn spawn(&self, changes: &[(&str, &str)]) -> App {
        let app = App::begin_with(changes, self.wrap()).await;
        app.until("/readyz", 200).await;
        app
    }
}

/// The small golden model, whose passes can fail, panic and hang.
struct Scripted {
    inner: Box<dyn Network>,
    behaviour: Behaviour,
}

impl Network for Scripted {
    fn forward(&self, inputs: &[&Input]) -> Result<Vec<RawOutput>, String> {
        match self.behaviour.0.load(Ordering::SeqCst) {
            Behaviour::FAIL => return Err("no memory for a tensor".to_owned()),
            Behaviour::PANIC => panic!("a broken operator"),
            Behaviour::HANG => {
                while self.behaviour.0.load(Ordering::SeqCst) == Behaviour::HANG {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            _ => {}
        }
        self.inner.forward(inputs)
    }
}

async fn predicted(app: &App) -> StatusCode {
    let request = app.predict_form("", bytes("cat.png"));
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn a_model_that_fails_is_unready_until_a_pass_succeeds_which_the_probe_runs_itself() {
    for failure in [Behaviour::FAIL, Behaviour::PANIC] {
        let model = Behaviour::default();
        let app = model.spawn(&[("MANAGEMENT_PORT", "0")]).await;
        model.set(failure);
        assert_eq!(predicted(&app).await, 500);
        assert_eq!(app.get("/livez").await.status(), 200);
        assert!(app.metrics().await.contains("ssd_model_healthy 0"));
        let unready = app.get("/readyz").await;
        problem(unready, 503, "not-ready").await;
        model.set(Behaviour::SUCCEED);
        // The first probe after the recovery runs the pass.
        assert_eq!(app.get("/readyz").await.status(), 200);
        assert_eq!(predicted(&app).await, 200);
        let metrics = app.metrics().await;
        for line in [
            "ssd_model_healthy 1",
            "ssd_forward_passes_total{outcome=\"ok\"} 2",
            "ssd_forward_passes_total{outcome=\"failed\"} 2",
        ] {
            assert!(metrics.contains(line), "{line}: {metrics}");
        }
    }
}

#[tokio::test]
async fn a_model_that_fails_three_times_in_a_row_is_not_alive_until_a_pass_succeeds() {
    let model = Behaviour::default();
    let app = model.spawn(&[]).await;
    model.set(Behaviour::FAIL);
    for _ in 0..2 {
        assert_eq!(predicted(&app).await, 500);
        assert_eq!(app.get("/livez").await.status(), 200);
    }
    // Without requests, the readiness probe counts.
    assert_eq!(app.get("/readyz").await.status(), 503);
    let detail = problem(app.get("/livez").await, 503, "not-ready").await;
    assert!(detail.ends_with("Restart the process."), "{detail}");
    model.set(Behaviour::SUCCEED);
    assert_eq!(predicted(&app).await, 200);
    assert_eq!(app.get("/livez").await.status(), 200);
    assert_eq!(app.get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn a_pass_that_hangs_makes_neither_ready_nor_alive_and_keeps_no_permits() {
    let model = Behaviour::default();
    let limits = [
        ("FORWARD_TIMEOUT", "50ms"),
        ("REQUEST_TIMEOUT", "1s"),
        ("QUEUE_LENGTH", "1"),
        ("MANAGEMENT_PORT", "0"),
    ];
    let app = model.spawn(&limits).await;
    model.set(Behaviour::HANG);
    // One request hangs in the pass, and one waits behind it.
    let (running, waiting) = tokio::join!(predicted(&app), predicted(&app));
    assert_eq!((running.as_u16(), waiting.as_u16()), (504, 504));
    app.until("/livez", 503).await;
    assert_eq!(app.get("/readyz").await.status(), 503);
    assert_eq!(predicted(&app).await, 503);
    let metrics = app.metrics().await;
    for line in ["ssd_model_healthy 0", "ssd_queue_depth 0"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    model.set(Behaviour::SUCCEED);
    app.until("/livez", 200).await;
    app.until("/readyz", 200).await;
    let (first, second) = tokio::join!(predicted(&app), predicted(&app));
    assert_eq!((first.as_u16(), second.as_u16()), (200, 200));
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
