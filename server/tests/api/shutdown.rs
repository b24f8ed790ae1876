//! Stopping without losing a request.

use std::time::{Duration, Instant};

use super::app::{App, bytes, head};

#[tokio::test]
async fn a_request_under_way_is_answered_and_its_connection_closed() {
    let mut app = App::spawn().await;
    let cat = bytes("cat.png");
    let mut connection = app.connect().await;
    let headers = format!(
        "Content-Type: image/png\r\nContent-Length: {}\r\nExpect: 100-continue\r\n",
        cat.len()
    );
    connection.send(head(&headers)).await;
    // The server is asking for the body: the request is under way.
    connection.read_until("100 Continue").await;
    connection.send(&cat[..1000]).await;
    app.stop();
    while tokio::net::TcpStream::connect(app.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    connection.send(&cat[1000..]).await;
    let answer = connection.read_all().await;
    assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
    assert!(answer.ends_with("]}"));
    app.stopped().await;
}

#[tokio::test]
async fn connections_that_ask_for_nothing_are_not_waited_for() {
    let mut app = App::spawn().await;
    let mut idle = app.connect().await;
    idle.send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n").await;
    idle.read_until("alive").await;
    let mut unfinished = app.connect().await;
    unfinished.send("POST /pred").await;
    let begun = Instant::now();
    app.stop();
    app.stopped().await;
    // Neither until the client closes, nor for the 30 seconds that requests would get.
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(idle.read_all().await, "");
}

#[tokio::test]
async fn for_the_drain_delay_requests_are_answered_though_not_asked_for() {
    let mut app = App::spawn_with(&[("DRAIN_DELAY", "5s")]).await;
    let mut kept = app.connect().await;
    kept.send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n").await;
    let answer = kept.read_until("alive").await.to_lowercase();
    assert!(!answer.contains("connection: close"), "{answer}");
    app.stop();
    while app.get("/readyz").await.status() != 503 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(app.get("/livez").await.status(), 200);
    // Who keeps the connection would lose the request that it sends as it is closed.
    kept.send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n").await;
    let answer = kept.read_all().await.to_lowercase();
    assert!(answer.starts_with("http/1.1 200 ok"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let answer = app.predict_form("", bytes("cat.png")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    app.stopped().await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_at_the_deadline() {
    let mut app = App::spawn_with(&[("DRAIN_TIMEOUT", "300ms")]).await;
    let mut connection = app.connect().await;
    connection
        .send(head(
            "Content-Type: image/png\r\nContent-Length: 9\r\nExpect: 100-continue\r\n",
        ))
        .await;
    connection.read_until("100 Continue").await;
    let begun = Instant::now();
    app.stop();
    app.stopped().await;
    // Not before the deadline, and not only when the body times out.
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(20));
}
