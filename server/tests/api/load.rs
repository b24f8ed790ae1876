//! More requests than the engine takes.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::StatusCode;

use super::app::{App, bytes, head};

/// How often each status came, of so many concurrent requests.
async fn statuses(app: &App, requests: usize) -> BTreeMap<u16, usize> {
    let responses = (0..requests).map(|_| app.predict_form("", bytes("cat.png")).send());
    let mut counts = BTreeMap::new();
    for response in join_all(responses).await {
        let response = response.unwrap();
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let wait: u64 = response.headers()["retry-after"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(wait >= 1, "{wait}");
        }
        *counts.entry(response.status().as_u16()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn requests_within_the_queue_succeed_with_any_number_of_workers() {
    for workers in ["1", "3"] {
        let app = App::spawn_with(&[("QUEUE_LENGTH", "20"), ("WORKERS", workers)]).await;
        assert_eq!(statuses(&app, 20).await, BTreeMap::from([(200, 20)]));
    }
}

#[tokio::test]
async fn requests_beyond_the_queue_get_429_with_retry_after() {
    let app = App::spawn_with(&[("QUEUE_LENGTH", "1")]).await;
    let counts = statuses(&app, 100).await;
    assert!(counts[&200] >= 2 && counts[&429] >= 1, "{counts:?}");
    assert_eq!(counts.values().sum::<usize>(), 100);
    // Then the queue has room again.
    assert_eq!(statuses(&app, 1).await, BTreeMap::from([(200, 1)]));
}

#[tokio::test]
async fn a_full_server_refuses_before_it_reads_the_body() {
    let app = App::spawn_with(&[("QUEUE_LENGTH", "0")]).await;
    let load = async {
        for _ in 0..50 {
            statuses(&app, 4).await;
        }
    };
    let refused = async {
        loop {
            let mut connection = app.connect().await;
            connection
                .send(head("Content-Type: image/png\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n"))
                .await;
            let response = connection.read_until("\r\n\r\n").await;
            if response.starts_with("HTTP/1.1 429 ") {
                return response;
            }
            assert!(response.starts_with("HTTP/1.1 100 "), "{response}");
        }
    };
    tokio::select! {
        response = refused => assert!(response.to_lowercase().contains("\r\nretry-after: "), "{response}"),
        () = load => panic!("never full"),
    }
}

#[tokio::test]
async fn a_full_server_does_not_ask_for_a_retry_that_would_fail() {
    let app = App::spawn_with(&[("QUEUE_LENGTH", "0")]).await;
    let load = async {
        loop {
            statuses(&app, 4).await;
        }
    };
    let ask = async |headers: &str| {
        let mut connection = app.connect().await;
        connection.send(head(headers)).await;
        let response = connection.read_until("\r\n\r\n").await;
        response["HTTP/1.1 ".len()..][..3].to_owned()
    };
    let asking = async {
        let mut full = 0;
        while full < 30 {
            let picture =
                "Content-Type: image/png\r\nContent-Length: 9\r\nExpect: 100-continue\r\n";
            full += u32::from(ask(picture).await == "429");
            let large = "Content-Type: image/png\r\nContent-Length: 1000000000\r\n";
            assert_eq!(ask(large).await, "413");
            let text = "Content-Type: text/plain\r\nContent-Length: 9\r\n";
            assert_eq!(ask(text).await, "415");
        }
    };
    tokio::select! {
        () = asking => {}
        () = load => unreachable!("it never ends"),
    }
}
