//! DeepStack's API, as its clients use it.

use reqwest::Response;
use reqwest::multipart::Form;
use serde_json::{Value, json};

use super::app::{App, bytes, form, json as parsed};

impl App {
    async fn vision(&self, query: &str, form: Form) -> Response {
        let url = self.url(&format!("/v1/vision/detection{query}"));
        let request = self.client.post(url).basic_auth("ugain", Some("ugain"));
        request.multipart(form).send().await.unwrap()
    }
}

#[tokio::test]
async fn the_detections_are_those_of_predict_in_whole_pixels() {
    let app = App::spawn().await;
    let expected = app
        .predict_form("?threshold=0.4", bytes("cat.png"))
        .send()
        .await
        .unwrap();
    let expected = parsed(expected).await;
    let found = expected["predictions"].as_array().unwrap().iter().map(|found| {
        let side = |side: &str| found["box"][side].as_f64().unwrap();
        let whole = |number: f64| number.round() as u32;
        json!({
            "label": found["label"], "confidence": found["probability"],
            "x_min": whole(side("x")), "y_min": whole(side("y")),
            "x_max": whole(side("x") + side("width")), "y_max": whole(side("y") + side("height")),
        })
    });
    let expected = json!({"success": true, "predictions": found.collect::<Vec<_>>()});
    assert_ne!(expected["predictions"], json!([]));
    // The clients send fields that mean nothing here, and some send this one empty.
    let fields = || {
        form(bytes("cat.png"))
            .text("api_key", "")
            .text("typedname", "x")
    };
    let field = app.vision("", fields().text("min_confidence", "0.4")).await;
    assert_eq!(parsed(field).await, expected);
    let query = app
        .vision("?threshold=0.4", fields().text("min_confidence", ""))
        .await;
    assert_eq!(parsed(query).await, expected);
    let label = expected["predictions"][0]["label"].as_str().unwrap();
    let one = app
        .vision(&format!("?threshold=0.4&top_k=1&classes={label}"), fields())
        .await;
    assert_eq!(
        parsed(one).await["predictions"],
        json!([expected["predictions"][0]])
    );
}

#[tokio::test]
async fn errors_have_its_form_and_this_server_s_statuses() {
    let app = App::spawn().await;
    let refused = async |response: Response, status: u16, expected: &str| {
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body: Value = parsed(response).await;
        assert_eq!(body["success"], false);
        let error = body["error"].as_str().unwrap();
        assert!(error.contains(expected), "{error}");
    };
    let cat = || form(bytes("cat.png"));
    let confident = app.vision("", cat().text("min_confidence", "40")).await;
    refused(
        confident,
        400,
        "The form field `min_confidence` is `40`; it accepts a number from 0 to 1.",
    )
    .await;
    let twice = app
        .vision("?threshold=1", cat().text("min_confidence", "1"))
        .await;
    refused(twice, 400, "give it once").await;
    refused(
        app.vision("?threshold=2", cat()).await,
        400,
        "`threshold` is `2`",
    )
    .await;
    refused(
        app.vision("?x=2", cat()).await,
        400,
        "no query parameter `x`",
    )
    .await;
    refused(
        app.vision("", Form::new().text("api_key", "x")).await,
        400,
        "no field `image`",
    )
    .await;
    refused(app.vision("", form(b"text".to_vec())).await, 415, "").await;
    refused(
        app.vision("", form(bytes("cat.png")[..999].to_vec())).await,
        422,
        "",
    )
    .await;
    let url = app.url("/v1/vision/detection");
    let login = app.client.post(&url).multipart(cat()).send().await.unwrap();
    refused(login, 401, "curl -u").await;
    let raw = app.client.post(&url).basic_auth("ugain", Some("ugain"));
    let raw = raw
        .header("content-type", "image/png")
        .body(bytes("cat.png"));
    refused(
        raw.send().await.unwrap(),
        415,
        "as the field `image` of a form",
    )
    .await;
    refused(app.get("/v1/vision/detection").await, 405, "POST").await;
}
