//! Clients that are slow, many, or gone.

use std::time::Duration;

use tokio::time::timeout;

use super::app::{App, PATIENCE, bytes, head};

const LIVE: &str = "GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n";
const DOCS: &str = "GET /docs HTTP/1.1\r\nHost: ssd\r\n\r\n";
/// The beginning of a head.
const PART: &str = "POST /pre";

/// Requests of each kind that keeps the connection open, with the end of their responses.
fn requests() -> Vec<(Vec<u8>, &'static str)> {
    let picture = bytes("pictures/rgb.bmp");
    let length = picture.len();
    let counted = head(&format!(
        "Content-Type: image/bmp\r\nContent-Length: {length}\r\n"
    ));
    let chunked = head("Content-Type: image/bmp\r\nTransfer-Encoding: chunked\r\n");
    let chunk = format!("{length:x}\r\n");
    vec![
        (LIVE.into(), "alive\n"),
        ([counted.as_bytes(), &picture].concat(), "]}"),
        (
            [
                chunked.as_bytes(),
                chunk.as_bytes(),
                &picture,
                b"\r\n0\r\n\r\n",
            ]
            .concat(),
            "]}",
        ),
    ]
}

#[tokio::test]
async fn an_unfinished_head_has_the_header_timeout_wherever_it_begins() {
    let app = App::spawn_with(&[("HEADER_TIMEOUT", "200ms"), ("IDLE_TIMEOUT", "1h")]).await;
    let mut first = app.connect().await;
    first.send(PART).await;
    assert_eq!(first.read_all().await, "");
    for (request, end) in requests() {
        let mut behind = app.connect().await;
        behind.send([&request, PART.as_bytes()].concat()).await;
        assert!(behind.read_all().await.ends_with(end));

        let mut in_flight = app.connect().await;
        in_flight.send(&request).await;
        in_flight.send(PART).await;
        let response = in_flight.read_all().await;
        assert!(response.ends_with(end));

        let mut after = app.connect().await;
        after.send(&request).await;
        after.read_until(end).await;
        after.send(PART).await;
        assert_eq!(after.read_all().await, "");
    }
    // While the last of many responses is being written.
    let mut pipelined = app.connect().await;
    let (requests, _) = requests_for_much(&app).await;
    pipelined.send(requests).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    pipelined.send(PART).await;
    assert!(pipelined.read_all().await.trim_end().ends_with("</html>"));
}

#[tokio::test]
async fn a_connection_without_a_request_has_the_idle_timeout() {
    let app = App::spawn_with(&[("HEADER_TIMEOUT", "1h"), ("IDLE_TIMEOUT", "200ms")]).await;
    assert_eq!(app.connect().await.read_all().await, "");
    for (request, end) in requests() {
        let mut idle = app.connect().await;
        idle.send(&request).await;
        assert!(idle.read_all().await.ends_with(end));
    }
}

#[tokio::test]
async fn a_client_may_wait_longer_between_requests_than_in_a_head() {
    let app = App::spawn_with(&[("HEADER_TIMEOUT", "50ms"), ("IDLE_TIMEOUT", "1h")]).await;
    let mut patient = app.connect().await;
    for (request, end) in requests() {
        tokio::time::sleep(Duration::from_millis(150)).await;
        patient.send(&request).await;
        patient.read_until(end).await;
    }
}

#[tokio::test]
async fn at_the_connection_limit_the_longest_idle_connections_are_closed() {
    let app = App::spawn_with(&[
        ("CONNECTION_LIMIT", "3"),
        ("QUEUE_LENGTH", "0"),
        ("MANAGEMENT_PORT", "0"),
    ])
    .await;
    // One has an in-flight request, whose body is yet to come.
    let picture = bytes("cat.png");
    let mut busy = app.connect().await;
    let length = picture.len();
    busy.send(head(&format!(
        "Content-Type: image/png\r\nContent-Length: {length}\r\nConnection: close\r\n"
    )))
    .await;
    busy.send(&picture[..length / 2]).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(app.connect().await);
        // In their order.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut last = app.connect().await;
    last.send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n").await;
    last.read_until("alive\n").await;
    for silent in idle.drain(..15) {
        assert_eq!(silent.read_all().await, "");
    }
    busy.send(&picture[length / 2..]).await;
    assert!(busy.read_all().await.starts_with("HTTP/1.1 200 "));
    let metrics = format!("http://{}/metrics", app.management.unwrap());
    let metrics = app.client.get(metrics).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let evicted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("ssd_connections_evicted_total "));
    assert!(evicted.unwrap().parse::<u32>().unwrap() >= 18, "{metrics}");
}

#[tokio::test]
async fn a_connection_with_an_in_flight_request_is_not_closed_to_make_room() {
    let app = App::spawn_with(&[("CONNECTION_LIMIT", "2"), ("IDLE_TIMEOUT", "1h")]).await;
    let picture = bytes("cat.png");
    let length = picture.len();
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut one = app.connect().await;
        one.send(head(&format!(
            "Content-Type: image/png\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n"
        )))
        .await;
        one.read_until("100 Continue").await;
        one.send(&picture[..length / 2]).await;
        busy.push(one);
    }
    let mut third = app.connect().await;
    third.send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n").await;
    // Both connections stay open after the responses.
    for one in &mut busy {
        one.send(&picture[length / 2..]).await;
        one.read_until("]}").await;
    }
    third.read_until("alive\n").await;
}

/// Requests for more than the buffers of both sides hold, and the number of bytes of their responses' bodies.
async fn requests_for_much(app: &App) -> (String, usize) {
    let page = app.get("/docs").await.bytes().await.unwrap().len();
    let count = (32 << 20) / page;
    (DOCS.repeat(count), count * page)
}

#[tokio::test]
async fn a_client_that_reads_its_responses_late_is_not_idle() {
    let app = App::spawn_with(&[("IDLE_TIMEOUT", "300ms"), ("WRITE_TIMEOUT", "1h")]).await;
    let (requests, bytes) = requests_for_much(&app).await;
    let mut late = app.connect().await;
    late.send(requests).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(late.count_all().await > bytes);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_responses_is_closed() {
    let app = App::spawn_with(&[("WRITE_TIMEOUT", "300ms")]).await;
    let (requests, bytes) = requests_for_much(&app).await;
    let mut silent = app.connect().await;
    silent.send(requests).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(silent.count_all().await < bytes);
}

#[tokio::test]
async fn bodies_that_come_slowly_hold_no_more_than_what_has_come() {
    let limits = [("BODY_LIMIT", "1MiB"), ("BODIES_LIMIT", "1MiB")];
    let app = App::spawn_with(&limits).await;
    let slow = async |come: usize| {
        let mut slow = app.connect().await;
        slow.send(head(
            "Content-Type: image/png\r\nContent-Length: 1048576\r\n",
        ))
        .await;
        slow.send(vec![0; come]).await;
        slow
    };
    let ask = async || {
        let request = app.predict("").header("content-type", "image/png");
        let response = request.body(bytes("cat.png")).send().await.unwrap();
        (
            response.status().as_u16(),
            response.headers().contains_key("retry-after"),
        )
    };
    let mut little = Vec::new();
    for _ in 0..10 {
        little.push(slow(1000).await);
    }
    assert_eq!(ask().await, (200, false));
    // Once nearly all of one has come, there is no room for another. (Where the other was first, the
    // slow one was sent away.)
    let full = async {
        loop {
            let _much = slow(1_030_000).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            if ask().await == (429, true) {
                return;
            }
        }
    };
    timeout(PATIENCE, full).await.unwrap();
    let free = async {
        while ask().await != (200, false) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, free).await.unwrap();
}

#[tokio::test]
async fn clients_that_hang_up_anywhere_cost_nothing() {
    let app = App::spawn().await;
    let request = head(&format!(
        "Content-Type: image/png\r\nContent-Length: {}\r\n",
        bytes("cat.png").len()
    ));
    let request = [request.as_bytes(), &bytes("cat.png")].concat();
    for part in 1..=20 {
        let mut connection = app.connect().await;
        connection.send(&request[..request.len() * part / 20]).await;
    }
    assert_eq!(
        app.predict_form("", bytes("cat.png"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}
