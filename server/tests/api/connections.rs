//! Clients that are slow, or gone.

use super::app::{App, bytes, head};

#[tokio::test]
async fn a_client_that_does_not_finish_its_headers_is_closed() {
    let app = App::spawn_with(&[("HEADER_TIMEOUT", "200ms")]).await;
    let mut slow = app.connect().await;
    slow.send("POST /predict HTTP/1.1\r\nHost: s").await;
    let silent = app.connect().await;
    assert_eq!(slow.read_all().await, "");
    assert_eq!(silent.read_all().await, "");
}

#[tokio::test]
async fn a_client_that_asks_for_nothing_more_is_closed() {
    let app = App::spawn_with(&[("HEADER_TIMEOUT", "1s")]).await;
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
