//! Every response that a test gets, compared with the OpenAPI document; and a request for each documented
//! status.

use std::collections::BTreeSet;
use std::io;
use std::sync::LazyLock;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use poem::http::{Extensions, Method, header};
use poem::{Body, Endpoint, Request as ServerRequest, RequestBuilder};
use reqwest::{Request, Response};
use reqwest_middleware::{Next, Result};
use serde_json::Value;
use ssd_server::api::{Readiness, document};

use super::app::{bytes, endpoint, loaded};

fn request(method: Method, target: &str) -> RequestBuilder {
    ServerRequest::builder()
        .method(method)
        .uri_str(target)
        .header(header::HOST, "ssd")
}

/// A request to predict, with the right login and a picture's Content-Type.
fn predict(query: &str) -> RequestBuilder {
    request(Method::POST, &format!("/predict{query}"))
        .header(header::AUTHORIZATION, "Basic dWdhaW46dWdhaW4=")
        .content_type("image/bmp")
}

/// The same with a body of so many bytes, which then neither continues nor ends.
fn unfinished(length: usize) -> ServerRequest {
    let begin = stream::iter([Ok::<_, io::Error>(vec![0; length])]);
    predict("").body(Body::from_bytes_stream(begin.chain(stream::pending())))
}

/// The documented status of the response.
async fn status(
    endpoint: &impl Endpoint<Output = poem::Response>,
    request: ServerRequest,
) -> String {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = endpoint.call(request).await.unwrap();
    let (status, media) = (response.status().as_u16(), response.content_type());
    documented(method.as_str(), &path, status, media).unwrap()
}

#[tokio::test]
async fn every_documented_status_is_sent() {
    let ready = loaded().await;
    let plain = endpoint(&[], &ready);
    let picture = bytes("pictures/rgb.bmp");
    let mut sent = BTreeSet::new();
    for request in [
        predict("").body(picture.clone()),
        predict("?threshold=2").finish(),
        request(Method::POST, "/predict").finish(),
        predict("").header(header::ACCEPT, "text/html").finish(),
        predict("")
            .header(header::CONTENT_LENGTH, u64::MAX)
            .finish(),
        predict("").body("not a picture"),
        predict("").body(picture[..1000].to_vec()),
        request(Method::GET, "/nothing").finish(),
    ] {
        sent.insert(status(&plain, request).await);
    }
    let unready = endpoint(&[], &Readiness::default());
    sent.insert(status(&unready, predict("").finish()).await);
    let impatient = endpoint(&[("BODY_TIMEOUT", "1ms")], &ready);
    sent.insert(status(&impatient, unfinished(0)).await);
    let late = endpoint(&[("REQUEST_TIMEOUT", "1ms")], &ready);
    sent.insert(status(&late, predict("").body(bytes("cat.png"))).await);
    let small = [("BODY_LIMIT", "1KiB"), ("BODIES_LIMIT", "1KiB")];
    let busy = endpoint(&small, &ready);
    tokio::select! {
        biased;
        _ = status(&busy, unfinished(1000)) => unreachable!("it never ends"),
        status = status(&busy, predict("").body(vec![0; 100])) => sent.insert(status),
    };
    // 500 needs a model that fails: see health.rs.
    let responses = &operation("POST", "/predict").unwrap()["responses"];
    let documented = responses.as_object().unwrap().keys().cloned();
    sent.insert("500".to_owned());
    assert_eq!(sent, documented.collect());
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(&document(None)).unwrap());

/// The operation of the document that a request is for.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let is_path = |template: &str| {
        let (mut parts, mut given) = (template.split('/'), path.split('/'));
        let is_part = |part: &str, given: &str| part == given || part.starts_with('{');
        loop {
            match (parts.next(), given.next()) {
                (None, None) => return true,
                (Some(part), Some(given)) if is_part(part, given) => {}
                _ => return false,
            }
        }
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let (_, operations) = paths.iter().find(|(template, _)| is_path(template))?;
    operations.get(method.to_lowercase())
}

/// A middleware of the tests' client.
pub fn compare<'a>(
    request: Request,
    extensions: &'a mut Extensions,
    next: Next<'a>,
) -> BoxFuture<'a, Result<Response>> {
    async move {
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = next.run(request, extensions).await?;
        let media = response.headers().get("content-type");
        documented(
            method.as_str(),
            &path,
            response.status().as_u16(),
            media.map(|value| value.to_str().unwrap()),
        );
        if path == "/predict" {
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        }
        Ok(response)
    }
    .boxed()
}

/// The same for the responses, as they came, to the request with that request line.
pub fn compare_text(line: &str, responses: &str) {
    let mut words = line.split([' ', '?']);
    let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
    for (start, _) in responses.match_indices("HTTP/1.1 ") {
        let head = responses[start..].split("\r\n\r\n").next().unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 100 {
            assert!(head.contains("\r\nx-request-id: "), "{head}");
            let media = head.split("\r\n").find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                (name == "content-type").then_some(value)
            });
            documented(method, path, status, media);
        }
    }
}

/// The status as the document has it, if the request is one of the API's.
///
/// # Panics
/// If the document has no such response.
pub fn documented(method: &str, path: &str, status: u16, media: Option<&str>) -> Option<String> {
    let is_other = matches!(status, 400 | 404 | 405 | 414 | 431);
    let operation = operation(method, path).or_else(|| {
        // Pages and metrics are no operations of the API, but their errors are those of all paths.
        let (method, path) = match path.split('/').nth(1) {
            Some("v2") => ("GET", "/v2"),
            Some("v1") => ("POST", "/v1/vision/detection"),
            _ => ("GET", "/model"),
        };
        is_other.then(|| operation(method, path).unwrap())
    })?;
    let responses = &operation["responses"];
    let own = status.to_string();
    let key = if is_other && responses.get(&own).is_none() {
        "default".to_owned()
    } else {
        own
    };
    let content = &responses[&key]["content"];
    assert!(
        media.is_some_and(|media| content.get(media).is_some()),
        "the document has no response of {method} {path} with status {status} and type {media:?}"
    );
    Some(key)
}
