//! Clients that are slow, many, or gone.

use std::time::Duration;

use tokio::time::timeout;

use super::app::{App, PATIENCE, bytes, head};

#[tokio::test]
async fn a_client_that_does_not_finish_its_headers_is_closed() {
    let app = App::spawn_with(&[("HEADER_TIMEOUT", "200ms")]).await;
    let mut slow = app.connect().await;
    slow.send("POST /predict HTTP/1.1\r\nHost: s").await;
    assert_eq!(slow.read_all().await, "");
}

#[tokio::test]
async fn a_client_may_wait_longer_before_a_request_than_inside_one() {
    let app = App::spawn_with(&[("HEADER_TIMEOUT", "50ms"), ("IDLE_TIMEOUT", "30s")]).await;
    let mut patient = app.connect().await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        patient
            .send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n")
            .await;
        patient.read_until("alive\n").await;
    }
    // The clock starts with the first byte of the next request.
    patient.send("GET /li").await;
    assert_eq!(patient.read_all().await, "");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed() {
    let app = App::spawn_with(&[("IDLE_TIMEOUT", "200ms")]).await;
    assert_eq!(app.connect().await.read_all().await, "");
}

#[tokio::test]
async fn of_too_many_connections_those_that_ask_for_nothing_make_way() {
    let app = App::spawn_with(&[("CONNECTION_LIMIT", "3"), ("QUEUE_LENGTH", "0")]).await;
    // One has a request under way, whose body is yet to come.
    let picture = bytes("cat.png");
    let mut busy = app.connect().await;
    let length = picture.len();
    busy.send(head(&format!(
        "Content-Type: image/png\r\nContent-Length: {length}\r\nConnection: close\r\n"
    )))
    .await;
    busy.send(&picture[..length / 2]).await;
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(app.connect().await);
        // In their order.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut last = app.connect().await;
    last.send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n").await;
    last.read_until("alive\n").await;
    for silent in crowd.drain(..15) {
        assert_eq!(silent.read_all().await, "");
    }
    busy.send(&picture[length / 2..]).await;
    assert!(busy.read_all().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn where_every_connection_has_a_request_under_way_the_first_that_ends_makes_way() {
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
    // Both keep their connections when they are answered.
    for one in &mut busy {
        one.send(&picture[length / 2..]).await;
        one.read_until("]}").await;
    }
    third.read_until("alive\n").await;
}

#[tokio::test]
async fn a_client_that_takes_its_answers_slowly_is_not_idle() {
    let app = App::spawn_with(&[("IDLE_TIMEOUT", "300ms"), ("WRITE_TIMEOUT", "1h")]).await;
    let (page, mut slow) = (app.get("/docs").await, app.connect().await);
    let page = page.bytes().await.unwrap().len();
    // More than the buffers of both sides hold.
    let answers = (32 << 20) / page;
    let asked = "GET /docs HTTP/1.1\r\nHost: ssd\r\n\r\n".repeat(answers);
    slow.send(asked).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(slow.count_all().await > answers * page);
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answers_is_closed() {
    let app = App::spawn_with(&[("WRITE_TIMEOUT", "300ms")]).await;
    let (page, mut greedy) = (app.get("/docs").await, app.connect().await);
    let page = page.bytes().await.unwrap().len();
    // More than the buffers of both sides hold.
    let answers = (64 << 20) / page;
    let asked = "GET /docs HTTP/1.1\r\nHost: ssd\r\n\r\n".repeat(answers);
    let _ = timeout(Duration::from_secs(2), greedy.try_send(&asked)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(greedy.count_all().await < answers * page);
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
        let answer = request.body(bytes("cat.png")).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.headers().contains_key("retry-after"),
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
async fn a_client_that_asks_for_nothing_more_is_closed() {
    let app = App::spawn_with(&[("IDLE_TIMEOUT", "1s")]).await;
    let mut idle = app.connect().await;
    idle.send("GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n").await;
    assert!(idle.read_all().await.ends_with("alive\n"));
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
