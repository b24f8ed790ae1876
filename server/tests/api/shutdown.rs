//! Stopping without losing a request.

use std::time::Duration;

use super::app::{App, bytes, head};

#[tokio::test]
async fn an_in_flight_request_gets_its_response_and_its_connection_is_closed() {
    let mut app = App::spawn().await;
    let cat = bytes("cat.png");
    let mut connection = app.connect().await;
    let headers = format!(
        "Content-Type: image/png\r\nContent-Length: {}\r\nExpect: 100-continue\r\n",
        cat.len()
    );
    connection.send(head(&headers)).await;
    // The server waits for the body: the request is in flight.
    connection.read_until("100 Continue").await;
    connection.send(&cat[..1000]).await;
    app.stop();
    while tokio::net::TcpStream::connect(app.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    connection.send(&cat[1000..]).await;
    let response = connection.read_all().await;
    assert!(response.contains("HTTP/1.1 200 OK"), "{response}");
    assert!(
        response.to_lowercase().contains("connection: close"),
        "{response}"
    );
    assert!(response.ends_with("]}"));
    app.stopped().await;
}

#[tokio::test]
async fn idle_connections_are_not_waited_for() {
    let mut app = App::spawn_with(&[
        ("IDLE_TIMEOUT", "1h"),
        ("HEADER_TIMEOUT", "1h"),
        ("DRAIN_TIMEOUT", "1h"),
    ])
    .await;
    let mut idle = app.connect().await;
    idle.send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n").await;
    idle.read_until("alive").await;
    let mut unfinished = app.connect().await;
    unfinished.send("POST /pred").await;
    app.stop();
    app.stopped().await;
    assert_eq!(idle.read_all().await, "");
}

#[tokio::test]
async fn for_the_drain_delay_requests_are_served_and_the_server_is_not_ready() {
    let mut app = App::spawn_with(&[("DRAIN_DELAY", "5s")]).await;
    let mut kept = app.connect().await;
    kept.send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n").await;
    let response = kept.read_until("alive").await.to_lowercase();
    assert!(!response.contains("connection: close"), "{response}");
    app.stop();
    while app.get("/readyz").await.status() != 503 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(app.get("/livez").await.status(), 200);
    // On a kept connection, a client could lose the request that it sends as the connection is closed.
    kept.send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n").await;
    let response = kept.read_all().await.to_lowercase();
    assert!(response.starts_with("http/1.1 200 ok"), "{response}");
    assert!(response.contains("connection: close"), "{response}");
    let response = app.predict_form("", bytes("cat.png")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    app.stopped().await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_at_the_drain_timeout() {
    let mut app = App::spawn_with(&[
        ("DRAIN_TIMEOUT", "300ms"),
        ("BODY_TIMEOUT", "1h"),
        ("REQUEST_TIMEOUT", "1h"),
    ])
    .await;
    let mut connection = app.connect().await;
    connection
        .send(head(
            "Content-Type: image/png\r\nContent-Length: 9\r\nExpect: 100-continue\r\n",
        ))
        .await;
    connection.read_until("100 Continue").await;
    app.stop();
    app.stopped().await;
    assert_eq!(connection.count_all().await, 0);
}
