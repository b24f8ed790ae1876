//! The metrics for Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::StatusCode;

use super::app::{App, bytes};

/// A server with a management port.
async fn spawn() -> App {
    App::spawn_with(&[("MANAGEMENT_PORT", "0"), ("QUEUE_LENGTH", "3")]).await
}

fn url(app: &App, path: &str) -> String {
    format!("http://{}{path}", app.management.unwrap())
}

/// The values by series, as Prometheus' text format has them.
async fn scrape(app: &App) -> BTreeMap<String, f64> {
    let response = app.client.get(url(app, "/metrics")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let media = response.headers()["content-type"].to_str().unwrap();
    assert!(media.starts_with("text/plain; version=0.0.4"), "{media}");
    let text = response.text().await.unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status_and_rejections_by_reason() {
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
async fn invented_paths_and_methods_make_no_series() {
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
async fn the_management_port_serves_only_the_metrics_which_the_public_port_does_not() {
    let app = spawn().await;
    for path in ["/", "/predict", "/docs"] {
        let response = app.client.get(url(&app, path)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    let response = app.client.post(url(&app, "/metrics")).send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(app.get("/metrics").await.status(), 404);
    assert_eq!(App::spawn().await.management, None);
}

/// What Prometheus adds to each series of a pod, by the chart's `ServiceMonitor`.
const TARGET: [&str; 3] = ["namespace", "service", "pod"];

fn word(text: &str) -> String {
    let part = |c: &char| c.is_ascii_lowercase() || *c == '_';
    text.chars().take_while(part).collect()
}

/// The words of a list that ends with `end`.
fn words(text: &str, end: char) -> Vec<String> {
    let list = text.split(end).next().unwrap_or_default();
    let words = list.split(',').map(|each| word(each.trim()));
    words.filter(|word| !word.is_empty()).collect()
}

/// Every metric of this program's in a text, with the labels in the braces after it.
fn selectors(text: &str) -> Vec<(String, Vec<String>)> {
    let starts = ["ssd_", "process_"]
        .iter()
        .flat_map(|prefix| text.match_indices(prefix).map(|(start, _)| start));
    starts
        .filter(|start| !text[..*start].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
        .map(|start| {
            let name = word(&text[start..]);
            let labels = text[start + name.len()..].strip_prefix('{');
            (
                name,
                labels.map_or_else(Vec::new, |labels| words(labels, '}')),
            )
        })
        .collect()
}

/// The labels by which a text's expressions group and match.
fn groupings(text: &str) -> Vec<String> {
    let lists = [" by (", " on (", " group_left (", "label_values("]
        .iter()
        .flat_map(|word| text.split(word).skip(1));
    lists.flat_map(|list| words(list, ')')).collect()
}

/// The chart's template of alerts, with the labels that it keeps in variables where they are used.
fn alerts(template: &str) -> String {
    let mut text = template.to_owned();
    for line in template.lines().filter(|line| line.contains('`')) {
        let Some((name, matchers)) = line.split_once(" := include \"ssd.metricsSelectorWith\"")
        else {
            continue;
        };
        let variable = name.trim_start_matches("{{- ");
        let matchers = matchers.split('`').nth(1).unwrap();
        text = text.replace(&format!("{{{{ {variable} }}}}"), &format!("{{{matchers}}}"));
    }
    text
}

#[tokio::test]
async fn every_metric_and_label_that_the_chart_names_is_there() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/ssd");
    let read = |file| std::fs::read_to_string(chart.join(file)).unwrap();
    let text = [
        read("files/dashboard.json"),
        alerts(&read("templates/prometheusrule.yaml")),
        read("templates/horizontalpodautoscaler.yaml"),
        read("templates/scaledobject.yaml"),
        read("values.yaml"),
    ]
    .concat();
    let app = spawn().await;
    app.predict_form("", bytes("cat.png")).send().await.unwrap();
    app.predict("?threshold=2").send().await.unwrap();
    let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, labels) in scrape(&app).await.keys().flat_map(|key| selectors(key)) {
        there.entry(name).or_default().extend(labels);
    }
    let of_prometheus = |label: &str| TARGET.contains(&label);
    let (mut metrics, mut labelled) = (0, 0);
    for (name, labels) in selectors(&text) {
        // The crate's name, in an example of a log filter.
        if name == "ssd_server" {
            continue;
        }
        let known = there
            .get(&name)
            .unwrap_or_else(|| panic!("there is no {name}: {there:?}"));
        for label in &labels {
            assert!(
                known.contains(label) || of_prometheus(label),
                "{name} has no label {label}: {known:?}"
            );
            labelled += 1;
        }
        metrics += 1;
    }
    for label in groupings(&text) {
        let known =
            there.contains_key(&label) || there.values().any(|known| known.contains(&label));
        assert!(
            known || of_prometheus(&label),
            "no metric has a label {label}"
        );
    }
    assert!(metrics > 30 && labelled > 100, "{metrics} {labelled}");
}
