//! JSON as the body of a prediction.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::app::{App, bytes, head, json as parsed, problem};

impl App {
    async fn predict_json(&self, query: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.predict(query).header(CONTENT_TYPE, "application/json");
        request.body(body).send().await.unwrap()
    }
}

fn cat() -> String {
    STANDARD.encode(bytes("cat.png"))
}

#[tokio::test]
async fn json_has_the_detections_of_a_form() {
    let app = App::spawn().await;
    let form = parsed(app.predict_form("", bytes("cat.png")).send().await.unwrap()).await;
    let url = format!("data:image/png;base64,{}", cat());
    let lines: Vec<_> = cat()
        .as_bytes()
        .chunks(76)
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect();
    for text in [
        cat(),
        cat().trim_end_matches('=').to_owned(),
        url,
        lines.join("\r\n"),
    ] {
        let response = app
            .predict_json("", json!({ "image": text }).to_string())
            .await;
        assert_eq!(parsed(response).await, form);
    }
    // Some encoders escape characters of base64.
    let escaped = cat().replace('/', "\\/").replace('+', "\\u002B");
    let response = app
        .predict_json("", format!(r#"{{"image":"{escaped}"}}"#))
        .await;
    assert_eq!(parsed(response).await, form);
    let request = app
        .predict("")
        .header(CONTENT_TYPE, "Application/JSON; charset=utf-8");
    let response = request
        .body(json!({ "image": cat() }).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(parsed(response).await, form);
}

#[tokio::test]
async fn members_have_the_effect_of_the_query() {
    let app = App::spawn().await;
    for (query, members) in [
        ("?threshold=0.05", json!({"threshold": 0.05})),
        (
            "?threshold=0.05&iou=1",
            json!({"threshold": 0.05, "iou": 1}),
        ),
        (
            "?threshold=0.05&top_k=1",
            json!({"threshold": 0.05, "top_k": 1}),
        ),
        (
            "?threshold=0.05&classes=cat,dog",
            json!({"threshold": 0.05, "classes": "cat,dog"}),
        ),
        (
            "?threshold=0.05&classes=cat,dog",
            json!({"threshold": 0.05, "classes": ["cat", "dog"]}),
        ),
        (
            "",
            json!({"threshold": null, "iou": null, "top_k": null, "classes": null}),
        ),
    ] {
        let expected = app
            .predict_form(query, bytes("cat.png"))
            .send()
            .await
            .unwrap();
        let expected = parsed(expected).await;
        let mut before = members.clone();
        before["image"] = json!(cat());
        let mut after = json!({"image": cat()});
        after
            .as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        for body in [before, after] {
            let response = app.predict_json("", body.to_string()).await;
            assert_eq!(parsed(response).await, expected, "{members}");
        }
    }
}

impl App {
    /// Checks the errors of bodies: the body, the error's type, and what its detail contains.
    async fn refuses(&self, cases: Vec<(String, &str, &str)>) {
        for (body, kind, expected) in cases {
            let detail = problem(self.predict_json("", body.clone()).await, 400, kind).await;
            assert!(
                detail.contains(expected) && detail.len() < 400,
                "{body:.99}: {detail}"
            );
        }
    }
}

/// A body with a picture and another member.
fn with(member: &str) -> String {
    let picture = STANDARD.encode(bytes("pictures/rgb.bmp"));
    format!(r#"{{"image":"{picture}",{member}}}"#)
}

#[tokio::test]
async fn a_refused_member_has_the_error_of_the_query_parameter() {
    let app = App::spawn().await;
    app.refuses(vec![
        (
            with(r#""threshold":2"#),
            "bad-field",
            "The JSON member `threshold` is `2`; it accepts a number from 0 to 1.",
        ),
        (
            with(r#""threshold":"0.5""#),
            "bad-field",
            "`threshold` is `\"0.5\"`; it accepts",
        ),
        (
            with(r#""threshold":0.5,"threshold":0.6"#),
            "bad-field",
            "The JSON member `threshold` is given twice.",
        ),
        (
            with(r#""top_k":1.5"#),
            "bad-field",
            "`top_k` is `1.5`; it accepts a whole number",
        ),
        (
            with(r#""classes":"dgo""#),
            "bad-field",
            "no class `dgo`; similar ones are `dog`",
        ),
        (
            with(r#""classes":[1]"#),
            "bad-field",
            "`classes` is neither text nor an array of texts",
        ),
        (with(r#""classes":[]"#), "bad-field", "`classes` is empty"),
        (
            with(r#""treshold":1"#),
            "bad-field",
            "There is no JSON member `treshold`; the JSON members are image, threshold, iou, top_k, classes.",
        ),
    ])
    .await;
    let both = app.predict_json("?iou=1", with(r#""iou":1"#)).await;
    let detail = problem(both, 400, "bad-field").await;
    assert_eq!(
        detail,
        "`iou` is in the query and in the body; give it once."
    );
}

#[tokio::test]
async fn json_without_one_picture_says_what_is_accepted() {
    let app = App::spawn().await;
    let small = STANDARD.encode(bytes("pictures/rgb.bmp"));
    app.refuses(vec![
        (
            with(r#""image":"QUJD""#),
            "no-image",
            "more than one picture",
        ),
        (
            r#"{"threshold":0.5}"#.to_owned(),
            "no-image",
            "The JSON has no picture; send it as base64",
        ),
        (
            r#"{"image":null}"#.to_owned(),
            "no-image",
            "The JSON has no picture",
        ),
        (
            r#"{"image":[]}"#.to_owned(),
            "no-image",
            "The JSON has no picture",
        ),
        (
            format!(r#"{{"image":["{small}"]}}"#),
            "no-image",
            "The JSON has no picture",
        ),
        (
            r#"{"image":""}"#.to_owned(),
            "empty-image",
            "The picture is empty",
        ),
        (
            r#"{"image":"QU-D"}"#.to_owned(),
            "malformed-body",
            "`image` is not base64: `-` is no character of its alphabet.",
        ),
        (
            r#"{"image":"http://10.0.0.1/cat.jpg"}"#.to_owned(),
            "malformed-body",
            "this server fetches no URLs",
        ),
        (
            r#"{"image":"file:///etc/passwd"}"#.to_owned(),
            "malformed-body",
            "this server fetches no URLs",
        ),
        (
            r#"["QUJD"]"#.to_owned(),
            "malformed-body",
            "expected an object",
        ),
        (
            String::new(),
            "malformed-body",
            "not the JSON that is expected",
        ),
        (
            format!(r#"{{"image":"{small}"#),
            "malformed-body",
            "not the JSON that is expected",
        ),
        (
            with(r#""a":"#),
            "malformed-body",
            "not the JSON that is expected",
        ),
        (
            with(&format!(r#""a":{}"#, "[".repeat(10_000))),
            "malformed-body",
            "recursion limit",
        ),
        (
            with(&format!(r#""classes":"{}""#, "x".repeat(70_000))),
            "malformed-body",
            "longer than 65536 bytes",
        ),
    ])
    .await;
}

#[tokio::test]
async fn json_has_the_limits_of_other_bodies() {
    let app = App::spawn_with(&[("BODY_LIMIT", "64KiB")]).await;
    let body = json!({"image": "QUJD".repeat(20_000)}).to_string();
    problem(app.predict_json("", body).await, 413, "body-too-large").await;

    // It is refused as soon as it is known to be wrong, not at its end.
    let mut connection = app.connect().await;
    let headers = "Content-Type: application/json\r\nContent-Length: 60000\r\n";
    connection
        .send(head(headers) + r#"{"image":"http://example.org/"#)
        .await;
    connection.send("x".repeat(300)).await;
    let response = connection.read_until("}").await;
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");

    let bomb = STANDARD.encode([b"\xff\xd8\xff".as_slice(), &[0; 100]].concat());
    let response = app
        .predict_json("", json!({ "image": bomb }).to_string())
        .await;
    assert_ne!(response.status(), StatusCode::OK);
    let _: Value = parsed(response).await;
}
