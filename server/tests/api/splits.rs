//! How the network splits a request changes nothing.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use tokio::runtime::Runtime;

use super::app::{App, bytes, head};

#[test]
fn a_split_body_has_the_response_of_the_whole() {
    let runtime = Runtime::new().unwrap();
    let app = runtime.block_on(App::spawn());
    let picture = bytes("pictures/baseline.jpg");
    let form = (
        "multipart/form-data; boundary=b",
        [
            b"--b\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n",
            &picture[..],
            b"\r\n--b--\r\n",
        ]
        .concat(),
    );
    let raw = ("image/jpeg", picture);
    let whole = runtime.block_on(response(&app, raw.0, vec![&raw.1], false));
    assert!(whole.contains("\"label\""), "{whole}");
    // The same in every run.
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(300),
        ..ProptestConfig::default()
    };
    let cuts = prop::collection::vec(any::<Index>(), 0..6);
    proptest!(config, |(is_form: bool, is_chunked: bool, cuts in cuts)| {
        let (content_type, body) = if is_form { &form } else { &raw };
        let pieces = split(body, &cuts);
        let split = runtime.block_on(response(&app, content_type, pieces, is_chunked));
        prop_assert_eq!(&split, &whole);
    });
}

/// The pieces between the cuts, none of them empty.
fn split<'a>(body: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len())).collect();
    ends.extend([0, body.len()]);
    ends.sort_unstable();
    ends.dedup();
    ends.windows(2)
        .map(|ends| &body[ends[0]..ends[1]])
        .collect()
}

/// The body of the response to a request whose body is sent piece by piece.
async fn response(app: &App, content_type: &str, pieces: Vec<&[u8]>, is_chunked: bool) -> String {
    let length = if is_chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", pieces.concat().len())
    };
    let headers = format!("Content-Type: {content_type}\r\n{length}\r\nConnection: close\r\n");
    let mut connection = app.connect().await;
    connection.send(head(&headers)).await;
    for piece in pieces {
        let sent = if is_chunked {
            [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
        } else {
            piece.to_vec()
        };
        connection.send(sent).await;
        // The server reads this piece before the next one arrives.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    if is_chunked {
        connection.send("0\r\n\r\n").await;
    }
    let response = connection.read_all().await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{response}");
    body.to_owned()
}
