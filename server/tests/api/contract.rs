//! What the OpenAPI document says of /predict, compared with every answer that a test gets.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use poem::http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Next, Result};
use serde_json::Value;
use ssd_server::api::document;

use super::{annotate, bodies, errors, health, load, predict};

/// Each documented status, and a test that gets it. But for 500, a mistake of this program's, which no
/// request can cause: `api` has a test that makes one.
const GOT: [(&str, fn()); 12] = [
    (
        "200",
        predict::the_cat_is_answered_as_the_reference_answers_it,
    ),
    (
        "400",
        errors::queries_that_are_not_accepted_are_told_by_name_and_value,
    ),
    (
        "401",
        errors::whoever_has_not_the_right_user_and_password_is_told_how_to_log_in,
    ),
    (
        "406",
        annotate::who_accepts_nothing_that_there_is_is_told_so_before_the_body_is_read,
    ),
    ("408", bodies::a_body_that_does_not_come_in_time_is_refused),
    ("413", bodies::a_bomb_is_refused_by_its_header),
    (
        "415",
        errors::bytes_that_are_no_picture_are_refused_with_the_formats_that_are_read,
    ),
    ("422", errors::damaged_pictures_are_undecodable),
    (
        "429",
        load::whoever_finds_every_place_taken_is_told_when_to_come_back,
    ),
    (
        "503",
        health::the_server_is_ready_from_the_end_of_the_warm_up_to_the_begin_of_the_shutdown,
    ),
    (
        "504",
        load::an_answer_that_does_not_come_in_time_is_given_up,
    ),
    (
        "default",
        errors::paths_and_methods_that_do_not_exist_are_told_so,
    ),
];

thread_local! {
    /// The documented statuses that this thread's tests got.
    static SEEN: RefCell<BTreeSet<String>> = RefCell::default();
}

#[test]
fn every_documented_status_is_sent() {
    for (status, test) in GOT {
        SEEN.take();
        test();
        assert!(SEEN.take().contains(status), "{status}");
    }
    let documented = RESPONSES.as_object().unwrap().keys();
    let documented: Vec<_> = documented.filter(|status| *status != "500").collect();
    assert_eq!(documented, GOT.map(|(status, _)| status));
}

static RESPONSES: LazyLock<Value> = LazyLock::new(|| {
    let mut document: Value = serde_json::from_str(&document(None)).unwrap();
    document["paths"]["/predict"]["post"]["responses"].take()
});

/// A middleware of the tests' client.
pub fn compare<'a>(
    request: Request,
    extensions: &'a mut Extensions,
    next: Next<'a>,
) -> BoxFuture<'a, Result<Response>> {
    async move {
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let answer = next.run(request, extensions).await?;
        let media = answer.headers().get("content-type");
        let media = media.map(|value| value.to_str().unwrap());
        compare_answer(method.as_str(), &path, answer.status().as_u16(), media);
        if path == "/predict" {
            assert_eq!(answer.headers()["cache-control"], "no-store");
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        }
        Ok(answer)
    }
    .boxed()
}

/// The same for the answers to the request that began with the line `asked`, as they came.
pub fn compare_text(asked: &str, answers: &str) {
    let mut words = asked.split([' ', '?']);
    let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
    for (start, _) in answers.match_indices("HTTP/1.1 ") {
        let head = answers[start..].split("\r\n\r\n").next().unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        // What is no HTTP request comes to no route, where it would get an id.
        if status != 100 && !head.contains("\r\nx-request-id: ") {
            assert!([400, 414, 431].contains(&status), "{head}");
            assert!(head.contains("\r\ncontent-length: 0"), "{head}");
            assert!(head.contains("\r\nconnection: close"), "{head}");
        } else if status != 100 {
            let media = head.split("\r\n").find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                (name == "content-type").then_some(value)
            });
            compare_answer(method, path, status, media);
        }
    }
}

/// Fails where the document says nothing of such an answer to such a request.
pub fn compare_answer(method: &str, path: &str, status: u16, media: Option<&str>) {
    let operation = (method, path) == ("POST", "/predict");
    let key = match status {
        404 | 405 if !operation => "default".to_owned(),
        _ if operation => status.to_string(),
        // Health, documents, metrics: no operations of the API.
        _ => return,
    };
    let content = &RESPONSES[&key]["content"];
    assert!(
        media.is_some_and(|media| content.get(media).is_some()),
        "{method} {path} is answered by {status} as {media:?}, which the document does not say"
    );
    SEEN.with_borrow_mut(|seen| seen.insert(key));
}
