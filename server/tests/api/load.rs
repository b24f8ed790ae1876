//! More requests than the model can answer.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::StatusCode;

use super::app::{App, bytes, head, problem};

/// The statuses of so many requests at once, with how often each came.
async fn statuses(app: &App, requests: usize) -> BTreeMap<u16, usize> {
    let answers = (0..requests).map(|_| app.predict_form("", bytes("cat.png")).send());
    let mut counts = BTreeMap::new();
    for answer in join_all(answers).await {
        let answer = answer.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let wait: u64 = answer.headers()["retry-after"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!((1..60).contains(&wait), "{wait}");
        }
        *counts.entry(answer.status().as_u16()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_crowd_that_has_room_is_answered_by_every_number_of_workers() {
    for workers in ["1", "3"] {
        let app = App::spawn_with(&[("QUEUE_LENGTH", "20"), ("WORKERS", workers)]).await;
        assert_eq!(statuses(&app, 20).await, BTreeMap::from([(200, 20)]));
    }
}

#[tokio::test]
pub(super) async fn whoever_finds_every_place_taken_is_told_when_to_come_back() {
    let app = App::spawn_with(&[("QUEUE_LENGTH", "1")]).await;
    let counts = statuses(&app, 100).await;
    assert!(counts[&200] >= 2 && counts[&429] >= 1, "{counts:?}");
    assert_eq!(counts.values().sum::<usize>(), 100);
    // And afterwards there is room again.
    assert_eq!(statuses(&app, 1).await, BTreeMap::from([(200, 1)]));
}

#[tokio::test]
async fn a_full_server_says_so_before_it_has_the_body() {
    let app = App::spawn_with(&[("QUEUE_LENGTH", "0")]).await;
    let crowd = async {
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
            let answer = connection.read_until("\r\n\r\n").await;
            if answer.starts_with("HTTP/1.1 429 ") {
                return answer;
            }
            assert!(answer.starts_with("HTTP/1.1 100 "), "{answer}");
        }
    };
    tokio::select! {
        answer = refused => assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer}"),
        () = crowd => panic!("never full"),
    }
}

#[tokio::test]
async fn a_full_server_sends_nobody_away_to_come_back_in_vain() {
    let app = App::spawn_with(&[("QUEUE_LENGTH", "0")]).await;
    let crowd = async {
        loop {
            statuses(&app, 4).await;
        }
    };
    let ask = async |headers: &str| {
        let mut connection = app.connect().await;
        connection.send(head(headers)).await;
        let answer = connection.read_until("\r\n\r\n").await;
        answer["HTTP/1.1 ".len()..][..3].to_owned()
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
        () = crowd => unreachable!("it never ends"),
    }
}

#[tokio::test]
pub(super) async fn an_answer_that_does_not_come_in_time_is_given_up() {
    let app = App::spawn_with(&[("REQUEST_TIMEOUT", "10ms")]).await;
    // On a busy machine the body may be what is late.
    for _ in 0..1000 {
        let answer = app.predict_form("", bytes("cat.png")).send().await.unwrap();
        if answer.status() == StatusCode::REQUEST_TIMEOUT {
            continue;
        }
        let detail = problem(answer, 504, "late").await;
        assert!(detail.contains("did not come in time"), "{detail}");
        return;
    }
    panic!("every body was late");
}
