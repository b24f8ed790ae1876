//! Any request for detections, through every layer but the socket, has a response that the document describes.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use poem::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use poem::{Endpoint as _, Request, Response};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use serde_json::Value;
use ssd_detector::picture::Header;
use tokio::runtime::Runtime;

use super::app::{bytes, data, endpoint, loaded, parts};
use super::contract::documented;

const FORM: &str = "multipart/form-data; boundary=b";
const JSON: &str = "application/json";
const INFER: &str = "/v2/models/small/infer";
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
const IMAGE: &str = "Content-Disposition: form-data; name=\"image\"";

static PICTURES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut names: Vec<_> = std::fs::read_dir(data("pictures"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.contains(".py"))
        .collect();
    names.sort();
    names
        .iter()
        .map(|name| bytes(&format!("pictures/{name}")))
        .collect()
});

/// Mostly one of these, else any text of that pattern.
fn mostly(usual: &'static [&'static str], other: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![9 => select(usual).prop_map(str::to_owned), 1 => other]
}

fn query() -> impl Strategy<Value = String> {
    mostly(
        &[
            "",
            "threshold=0",
            "threshold=0.01&top_k=8732",
            "iou=1&top_k=1",
            "threshold=1e-9&iou=0",
            "threshold=NaN",
            "top_k=1.5",
            "iou=%ff",
            "threshold=0&threshold=0",
            "classes=cat,dog&classes=person",
            "classes=",
        ],
        "([a-z%]{0,9}=[!-~]{0,9}&?){0,3}",
    )
}

fn accept() -> impl Strategy<Value = String> {
    mostly(
        &[
            "",
            "*/*",
            "application/json",
            "image/*",
            "image/png;q=0.5",
            "text/html",
        ],
        "[ -~]{0,30}",
    )
}

/// A form of some parts, most of them well-formed.
fn form() -> impl Strategy<Value = Vec<u8>> {
    let headers = mostly(
        &[
            "Content-Disposition: form-data; name=\"image\"",
            "content-disposition: FORM-DATA; filename=\"; name=x\"; NAME=image",
            "Content-Disposition: form-data; name=\"threshold\"",
            "Content-Disposition: form-data; name=top_k",
            "Content-Disposition: form-data; name=\"comment\"",
            "Content-Disposition: form-data; name=\"min_confidence\"",
        ],
        "(Content-Disposition: form-data)?[ -~\r\n]{0,30}",
    );
    let value = prop_oneof![
        select(&**PICTURES),
        mostly(&["0", "0.5", "1", "7"], "[ -~\r\n]{0,9}").prop_map(String::into_bytes),
    ];
    let end = || mostly(&["\r\n"], "[\r\n -]{0,3}");
    let part = (headers, end(), end(), value, end()).prop_map(|(headers, a, b, value, c)| {
        [
            format!("--b{a}{headers}\r\n{b}").as_bytes(),
            &value,
            c.as_bytes(),
        ]
        .concat()
    });
    let parts = prop::collection::vec(part, 0..4);
    (parts, mostly(&["--b--\r\n"], "(--b)?[ -~\r\n]{0,9}"))
        .prop_map(|(parts, last)| [parts.concat(), last.into_bytes()].concat())
}

/// JSON of `/predict` or of the Open Inference Protocol, most of it well-formed.
fn json() -> impl Strategy<Value = Vec<u8>> {
    let text = select(&**PICTURES).prop_map(|picture| STANDARD.encode(picture));
    let text = (mostly(&["", "data:image/png;base64,"], "[ -~]{0,30}"), text);
    let text = text.prop_map(|(head, text)| head + &text);
    let before = mostly(
        &["", "\"threshold\":0,", "\"parameters\":{\"top_k\":3},"],
        "[ -~]{0,9}",
    );
    let after = mostly(
        &[
            "",
            ",\"classes\":[\"cat\"]",
            ",\"outputs\":[{\"name\":\"labels\"}]",
        ],
        "[ -~]{0,9}",
    );
    (before, text, after, any::<bool>()).prop_map(|(before, text, after, is_v2)| {
        let picture = if is_v2 {
            format!(
                r#""inputs":[{{"name":"image","shape":[1],"datatype":"BYTES","data":["{text}"]}}]"#
            )
        } else {
            format!(r#""image":"{text}""#)
        };
        format!("{{{before}{picture}{after}}}").into_bytes()
    })
}

/// A request of the binary data extension, and how many bytes of it are JSON.
fn raw() -> impl Strategy<Value = (String, Vec<u8>)> {
    let output = mostly(
        &["", ",\"parameters\":{\"binary_data_output\":true}"],
        "[ -~]{0,9}",
    );
    let length = prop_oneof![9 => Just(0), 1 => -5..5_i64];
    (select(&**PICTURES), output, length).prop_map(|(picture, output, wrong)| {
        let size = picture.len() + 4;
        let json = format!(
            r#"{{"inputs":[{{"name":"image","shape":[1],"datatype":"BYTES","parameters":{{"binary_data_size":{size}}}}}]{output}}}"#
        );
        let element = (picture.len() as u32).to_le_bytes();
        let body = [json.as_bytes(), &element, &picture].concat();
        ((json.len() as i64 + wrong).to_string(), body)
    })
}

/// A Content-Type, and a picture or a form with one. Some bytes are changed, and the end may be missing.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let media = mostly(&["", "", "", "text/plain", "image/x", FORM], "[ -~]{0,30}");
    let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..3);
    let end = prop::option::weighted(0.2, any::<Index>());
    let whole = prop_oneof![
        select(&**PICTURES).prop_map(|picture| ("image/jpeg", picture)),
        select(&**PICTURES).prop_map(|picture| (FORM, parts(&[(IMAGE, &picture)]))),
        form().prop_map(|form| (FORM, form)),
        json().prop_map(|json| (JSON, json)),
    ];
    (whole, media, changes, end).prop_map(|((own, mut body), media, changes, end)| {
        for (index, byte) in changes {
            let index = index.index(body.len());
            body[index] = byte;
        }
        body.truncate(end.map_or(body.len(), |end| end.index(body.len())));
        let media = if media.is_empty() {
            own.to_owned()
        } else {
            media
        };
        (media, body)
    })
}

#[test]
fn any_request_has_a_documented_response_that_is_not_500() {
    let runtime = Runtime::new().unwrap();
    let limits = [("PIXEL_LIMIT", "500000"), ("BODY_LIMIT", "64KiB")];
    let endpoint = endpoint(&limits, &runtime.block_on(loaded()));
    // The same in every run.
    let config = ProptestConfig {
        cases: 512,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(300),
        ..ProptestConfig::default()
    };
    let coding = mostly(&["", "identity"], "[ -~]{0,9}");
    let path = select(&["/predict", "/predict", "/v1/vision/detection", INFER][..]);
    let requests = (path, query(), accept(), coding, body());
    proptest!(config.clone(), |((path, query, accept, coding, (media, body)) in requests)| {
        let uri = Uri::try_from(format!("{path}?{query}")).unwrap_or(Uri::from_static(path));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(header::HOST, "ssd")
            .header(header::AUTHORIZATION, "Basic dWdhaW46dWdhaW4=")
            .body(body);
        for (name, value) in [
            (header::CONTENT_TYPE, media),
            (header::ACCEPT, accept),
            (header::CONTENT_ENCODING, coding),
        ] {
            request.headers_mut().insert(name, HeaderValue::try_from(value).unwrap());
        }
        runtime.block_on(async { check(path, endpoint.call(request).await.unwrap()).await });
    });
    proptest!(config, |((length, body) in raw())| {
        let request = Request::builder()
            .method(Method::POST)
            .uri(Uri::from_static(INFER))
            .header(header::HOST, "ssd")
            .header(header::AUTHORIZATION, "Basic dWdhaW46dWdhaW4=")
            .header(JSON_LENGTH, length)
            .body(body);
        runtime.block_on(async { check(INFER, endpoint.call(request).await.unwrap()).await });
    });
}

async fn check(path: &str, response: Response) {
    let status = response.status();
    let media = response.content_type().unwrap().to_owned();
    documented("POST", path, status.as_u16(), Some(&media));
    let length = response.headers().get(JSON_LENGTH).cloned();
    let body = response.into_body().into_bytes().await.unwrap();
    if media.starts_with("image/") {
        assert_eq!(status, StatusCode::OK);
        Header::read(&body, u64::MAX).unwrap();
        return;
    }
    let length = length.map_or(body.len(), |length| {
        length.to_str().unwrap().parse().unwrap()
    });
    let json: Value = serde_json::from_slice(&body[..length]).unwrap();
    if status == StatusCode::OK && path == "/predict" {
        let sides = ["width", "height"].map(|side| json["image"][side].as_f64().unwrap());
        for found in json["predictions"].as_array().unwrap() {
            let number = |part: &str| found["box"][part].as_f64().unwrap();
            for (from, length, side) in [("x", "width", sides[0]), ("y", "height", sides[1])] {
                let (from, length) = (number(from), number(length));
                assert!(from >= 0.0 && length >= 0.0, "{found}");
                // Both are rounded to hundredths.
                assert!(from + length <= side + 0.011, "{found}");
            }
        }
        return;
    }
    if status == StatusCode::OK {
        return;
    }
    assert!(status.is_client_error(), "{json}");
    if path == "/predict" {
        assert_eq!(json["status"], status.as_u16());
    }
    let detail = json.get("detail").unwrap_or_else(|| &json["error"]);
    let detail = detail.as_str().unwrap();
    assert!(!detail.contains(char::is_control), "{detail:?}");
    assert!(detail.len() < 2000, "{} bytes: {detail}", detail.len());
}
