//! What Prometheus sees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::StatusCode;

use super::app::{App, bytes};

/// A server with metrics, and no port of its own known before.
async fn spawn() -> App {
    App::spawn_with(&[("MANAGEMENT_PORT", "0"), ("QUEUE_LENGTH", "3")]).await
}

fn url(app: &App, path: &str) -> String {
    format!("http://{}{path}", app.management.unwrap())
}

/// The values by series, as Prometheus' text format has them.
async fn scrape(app: &App) -> BTreeMap<String, f64> {
    let answer = app.client.get(url(app, "/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let media = answer.headers()["content-type"].to_str().unwrap();
    assert!(media.starts_with("text/plain; version=0.0.4"), "{media}");
    let text = answer.text().await.unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status_and_refusals_by_reason() {
    let app = spawn().await;
    for _ in 0..2 {
        app.predict_form("", bytes("cat.png")).send().await.unwrap();
    }
    app.predict("?threshold=2").send().await.unwrap();
    app.client.post(app.url("/predict")).send().await.unwrap();
    let seen = scrape(&app).await;
    for (series, count) in [
        (r#"ssd_requests_total{route="/predict",status="200"}"#, 2.0),
        (r#"ssd_requests_total{route="/predict",status="400"}"#, 1.0),
        (r#"ssd_requests_total{route="/predict",status="401"}"#, 1.0),
        (r#"ssd_requests_rejected_total{reason="bad-query"}"#, 1.0),
        (r#"ssd_requests_rejected_total{reason="unauthorized"}"#, 1.0),
        ("ssd_in_flight_requests", 0.0),
        ("ssd_queue_depth", 0.0),
        ("ssd_queue_capacity", 3.0),
        (
            r#"ssd_model_info{classes="20",family="ssd300-voc",name="small",precision="f32"}"#,
            1.0,
        ),
        ("ssd_picture_pixels_count", 2.0),
        (
            r#"ssd_request_duration_seconds_count{stage="forward"}"#,
            2.0,
        ),
        (r#"ssd_request_duration_seconds_count{stage="total"}"#, 2.0),
    ] {
        assert_eq!(seen.get(series), Some(&count), "{series} of {seen:#?}");
    }
    let sum = |stage: &str| seen[&format!("ssd_request_duration_seconds_sum{{stage=\"{stage}\"}}")];
    assert!(sum("forward") > 0.0 && sum("forward") < sum("total"));
    assert!(seen["process_resident_memory_bytes"] > 1e6);
}

#[tokio::test]
async fn what_clients_make_up_makes_no_series() {
    let app = spawn().await;
    let series = async || scrape(&app).await.into_keys().collect::<BTreeSet<_>>();
    app.get("/nowhere").await;
    app.get("/playground/none").await;
    let before = series().await;
    for number in 0..50 {
        let path = format!("/nowhere/{number}?a={number}");
        app.get(&path).await;
        app.get(&format!("/playground/{number}")).await;
        let method = reqwest::Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        app.client
            .request(method, app.url(&path))
            .send()
            .await
            .unwrap();
    }
    assert_eq!(series().await, before);
}

#[tokio::test]
async fn the_management_port_has_nothing_else_and_the_public_one_no_metrics() {
    let app = spawn().await;
    for path in ["/", "/predict", "/docs"] {
        let answer = app.client.get(url(&app, path)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    let answer = app.client.post(url(&app, "/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 405);
    assert_eq!(app.get("/metrics").await.status(), 404);
    assert_eq!(App::spawn().await.management, None);
}

/// Every `ssd_...` in a text.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    let starts = text.match_indices("ssd_").map(|(start, _)| start);
    starts
        .filter(|start| !text[..*start].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
        .map(|start| text[start..].chars().take_while(|c| word(*c)).collect())
        .collect()
}

#[tokio::test]
async fn every_metric_that_the_chart_names_is_there() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/ssd");
    let named: BTreeSet<String> = [
        "files/dashboard.json",
        "templates/prometheusrule.yaml",
        "templates/horizontalpodautoscaler.yaml",
        "templates/scaledobject.yaml",
        "values.yaml",
    ]
    .iter()
    .flat_map(|file| names(&std::fs::read_to_string(chart.join(file)).unwrap()))
    // The crate's name, in an example of a log filter.
    .filter(|name| name != "ssd_server")
    .collect();
    assert!(named.len() >= 5, "{named:?}");
    let app = spawn().await;
    app.predict_form("", bytes("cat.png")).send().await.unwrap();
    app.predict("?threshold=2").send().await.unwrap();
    let seen = scrape(&app).await;
    let there: BTreeSet<String> = seen.keys().flat_map(|series| names(series)).collect();
    let missing: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?} of {there:?}");
}
