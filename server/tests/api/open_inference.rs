//! The Open Inference Protocol v2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::app::{App, bytes, json as parsed};

const LENGTH: &str = "inference-header-content-length";

impl App {
    async fn v2(&self, path: &str) -> Response {
        let request = self.client.get(self.url(&format!("/v2{path}")));
        request
            .basic_auth("ugain", Some("ugain"))
            .send()
            .await
            .unwrap()
    }

    /// Sends JSON, and raw bytes after it.
    async fn infer(&self, json: &Value, raw: Option<&[u8]>) -> Response {
        let text = json.to_string();
        let mut request = self
            .client
            .post(self.url("/v2/models/small/infer"))
            .basic_auth("ugain", Some("ugain"));
        if raw.is_some() {
            request = request.header(LENGTH, text.len());
        }
        let body = [text.as_bytes(), raw.unwrap_or_default()].concat();
        request.body(body).send().await.unwrap()
    }
}

/// An input with base64 in the JSON.
fn input() -> Value {
    let data = STANDARD.encode(bytes("cat.png"));
    json!({"name": "image", "shape": [1], "datatype": "BYTES", "data": [data]})
}

/// An input whose bytes follow the JSON, and those bytes.
fn raw_input() -> (Value, Vec<u8>) {
    let cat = bytes("cat.png");
    let raw = [&(cat.len() as u32).to_le_bytes()[..], &cat].concat();
    let parameters = json!({"binary_data_size": raw.len()});
    (
        json!({"name": "image", "shape": [1], "datatype": "BYTES", "parameters": parameters}),
        raw,
    )
}

/// The outputs with these names, from the detections of /predict.
async fn expected(app: &App, query: &str) -> [Value; 3] {
    let response = parsed(
        app.predict_form(query, bytes("cat.png"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    let found = response["predictions"].as_array().unwrap();
    let all = |of: fn(&Value) -> Value| found.iter().map(of).collect::<Vec<_>>();
    let boxes = found.iter().flat_map(|found| {
        let side = |side: &str| found["box"][side].as_f64().unwrap();
        [
            side("x"),
            side("y"),
            side("x") + side("width"),
            side("y") + side("height"),
        ]
    });
    let scores = all(|found| found["probability"].clone());
    [
        json!(boxes.collect::<Vec<_>>()),
        json!(scores),
        json!(all(|found| found["label"].clone())),
    ]
}

fn assert_near(ours: &Value, theirs: &Value, tolerance: f64) {
    let numbers = |all: &Value| -> Vec<f64> {
        all.as_array()
            .unwrap()
            .iter()
            .map(|number| number.as_f64().unwrap())
            .collect()
    };
    let (ours, theirs) = (numbers(ours), numbers(theirs));
    assert_eq!(ours.len(), theirs.len());
    assert!(
        ours.iter()
            .zip(&theirs)
            .all(|(a, b)| (a - b).abs() < tolerance),
        "{ours:?} {theirs:?}"
    );
}

#[tokio::test]
async fn the_server_and_its_model_describe_themselves() {
    let app = App::spawn().await;
    let server = parsed(app.v2("").await).await;
    assert_eq!(server["name"], "ssd");
    assert_eq!(server["extensions"], json!(["binary_tensor_data"]));
    assert_eq!(
        parsed(app.get("/v2/health/live").await).await,
        json!({"live": true})
    );
    assert_eq!(
        parsed(app.get("/v2/health/ready").await).await,
        json!({"ready": true})
    );
    let ready = parsed(app.v2("/models/small/ready").await).await;
    assert_eq!(ready, json!({"name": "small", "ready": true}));
    let tensor = |name: &str, datatype: &str, shape: Value| json!({"name": name, "datatype": datatype, "shape": shape});
    let model = parsed(app.v2("/models/small").await).await;
    assert_eq!(
        model["inputs"],
        json!([tensor("image", "BYTES", json!([1]))])
    );
    let outputs = [
        tensor("boxes", "FP32", json!([-1, 4])),
        tensor("scores", "FP32", json!([-1])),
        tensor("labels", "BYTES", json!([-1])),
    ];
    assert_eq!(model["outputs"], json!(outputs));
}

#[tokio::test]
async fn a_member_may_be_null_if_the_document_says_so() {
    let app = App::spawn().await;
    let document = parsed(app.get("/openapi.json").await).await;
    let of = |schema: &str| document["components"]["schemas"][schema]["properties"].clone();
    let (request, output) = (of("InferenceRequest"), of("InferenceRequestedOutput"));
    let full = json!({
        "id": "a-7", "parameters": {}, "inputs": [input()], "outputs": [{"name": "boxes", "parameters": {}}]
    });
    let mut nulls = 0;
    for (place, properties) in [
        ("", &request),
        ("/parameters", &request["parameters"]["properties"]),
        ("/inputs/0", &of("InferenceInput")),
        ("/outputs/0", &output),
        ("/outputs/0/parameters", &output["parameters"]["properties"]),
    ] {
        for (name, property) in properties.as_object().unwrap() {
            let mut body = full.clone();
            body.pointer_mut(place).unwrap()[name] = Value::Null;
            let may = property["nullable"] == true;
            let status = app.infer(&body, None).await.status();
            assert_eq!(status, if may { 200 } else { 400 }, "{place}/{name}");
            nulls += usize::from(may);
        }
    }
    assert!(nulls > 8);
}

#[tokio::test]
async fn the_outputs_are_the_detections_of_predict() {
    let app = App::spawn().await;
    let [boxes, scores, labels] = expected(&app, "?threshold=0.3&classes=cat,dog&top_k=9").await;
    let count = labels.as_array().unwrap().len();
    assert!(count > 1);
    let parameters = json!({"threshold": 0.3, "classes": "cat,dog", "top_k": 9});
    let (raw_input, raw) = raw_input();
    for (input, raw) in [(input(), None), (raw_input, Some(raw.as_slice()))] {
        let request = json!({"id": "a-7", "model_name": "small", "parameters": parameters, "inputs": [input]});
        let response = app.infer(&request, raw).await;
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(response.headers().contains_key("server-timing"));
        let response = parsed(response).await;
        assert_eq!(
            (&response["id"], &response["model_name"]),
            (&json!("a-7"), &json!("small"))
        );
        let shape = |index: usize| response["outputs"][index]["shape"].clone();
        assert_eq!(
            [shape(0), shape(1), shape(2)],
            [json!([count, 4]), json!([count]), json!([count])]
        );
        let data = |index: usize| &response["outputs"][index]["data"];
        assert_near(data(0), &boxes, 0.011);
        assert_near(data(1), &scores, 1e-6);
        assert_eq!(data(2), &labels);
    }
}

#[tokio::test]
async fn outputs_are_selected_and_sent_as_raw_bytes_on_request() {
    let app = App::spawn().await;
    let [_, scores, labels] = expected(&app, "").await;
    let outputs = json!([
        {"name": "labels", "parameters": {"binary_data": true}},
        {"name": "scores", "parameters": {"binary_data": true}},
        {"name": "labels"},
    ]);
    let response = app
        .infer(&json!({"inputs": [input()], "outputs": outputs}), None)
        .await;
    assert_eq!(
        response.headers()["content-type"],
        "application/octet-stream"
    );
    let length: usize = response.headers()[LENGTH]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let body = response.bytes().await.unwrap();
    let (json, mut raw) = body.split_at(length);
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][2]["data"], labels);
    assert_eq!(json["outputs"][0].get("data"), None);
    let mut texts = Vec::new();
    let mut take = |count: usize| {
        let (taken, rest) = raw.split_at(count);
        raw = rest;
        taken
    };
    for _ in labels.as_array().unwrap() {
        let length = u32::from_le_bytes(take(4).try_into().unwrap());
        texts.push(String::from_utf8(take(length as usize).to_vec()).unwrap());
    }
    assert_eq!(json!(texts), labels);
    let (numbers, rest) = raw.as_chunks::<4>();
    let numbers: Vec<f32> = numbers
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    assert_near(&json!(numbers), &scores, 1e-6);
    assert!(rest.is_empty());
    let size = |index: usize| {
        json["outputs"][index]["parameters"]["binary_data_size"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(size(0) + size(1), (body.len() - length) as u64);

    // All as raw bytes, and none because nothing was found.
    let parameters = json!({"binary_data_output": true, "threshold": 1});
    let response = app
        .infer(
            &json!({"inputs": [input()], "parameters": parameters}),
            None,
        )
        .await;
    let length: usize = response.headers()[LENGTH]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(response.bytes().await.unwrap().len(), length);
}

async fn refused(response: Response, status: u16, expected: &str) {
    assert_eq!(response.status(), status, "{expected}");
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = parsed(response).await;
    let error = body["error"].as_str().unwrap();
    assert!(error.contains(expected) && error.len() < 400, "{error}");
}

/// A request whose input has another value of a member.
fn with(member: &str, value: Value) -> Value {
    let mut input = input();
    input[member] = value;
    json!({"inputs": [input]})
}

#[tokio::test]
async fn a_refused_request_says_what_is_accepted() {
    let app = App::spawn().await;
    let (raw_input, raw) = raw_input();
    let raw_input = json!({"inputs": [raw_input]});
    for (request, expected) in [
        (json!({}), "missing field `inputs`"),
        (json!([]), "not the JSON that is expected"),
        (
            json!({"inputs": []}),
            "The request has 0 inputs; it must have one, `image`.",
        ),
        (
            json!({"inputs": [input(), input()]}),
            "more than one picture",
        ),
        (with("name", json!("img")), "There is no input `img`"),
        (
            with("datatype", json!("UINT8")),
            "has the datatype `UINT8`, but must have BYTES",
        ),
        (
            with("shape", json!([2])),
            "has the shape [2], but must have one element, [1]",
        ),
        (
            with("shape", json!([u64::MAX, u64::MAX])),
            "but must have one element",
        ),
        (with("shape", json!([])), "but must have one element"),
        (with("data", json!(["QU*D"])), "`data` is not base64"),
        (
            with("data", json!([])),
            "has neither `data` nor `binary_data_size`",
        ),
        (
            with("data", json!([1, 2])),
            "has neither `data` nor `binary_data_size`",
        ),
        (
            with("parameters", json!({"binary_data_size": 4})),
            "has `data` and raw bytes",
        ),
        (
            raw_input.clone(),
            "0 raw bytes follow the JSON, but `binary_data_size` is",
        ),
        (
            json!({"inputs": [input()], "parameters": {"threshold": 2}}),
            "`threshold` is `2`",
        ),
        (
            json!({"inputs": [input()], "parameters": {"treshold": 1}}),
            "no JSON member `treshold`",
        ),
        (
            json!({"inputs": [input()], "parameters": {"binary_data_output": "yes"}}),
            r#"The parameter `binary_data_output` is `"yes"`; it must be `true` or `false`."#,
        ),
        (
            json!({"inputs": [input()], "outputs": [{"name": "boxes", "parameters": {"binary_data": 1}}]}),
            "The parameter `binary_data` is `1`",
        ),
        (
            json!({"inputs": [input()], "outputs": [{"name": "masks"}]}),
            "There is no output `masks`; the outputs are boxes, scores, labels.",
        ),
    ] {
        refused(app.infer(&request, None).await, 400, expected).await;
    }
    for (raw, expected) in [
        (&raw[..raw.len() - 1], "raw bytes follow the JSON"),
        (
            &[raw.as_slice(), b"x"].concat(),
            "raw bytes follow the JSON",
        ),
        (&[b"\0", &raw[1..]].concat(), "must be one element"),
    ] {
        refused(app.infer(&raw_input, Some(raw)).await, 400, expected).await;
    }
}

#[tokio::test]
async fn errors_have_the_protocol_s_form() {
    let app = App::spawn().await;
    let text = json!({"inputs": [raw_input().0]}).to_string();
    let post = |path: &str| {
        let request = app.client.post(app.url(path));
        request.basic_auth("ugain", Some("ugain"))
    };
    for (length, expected) in [
        ("x", "is no whole number"),
        ("-1", "is no whole number"),
        ("99999", "bytes shorter than"),
    ] {
        let request = post("/v2/models/small/infer")
            .header(LENGTH, length)
            .body(text.clone());
        refused(request.send().await.unwrap(), 400, expected).await;
    }
    let other = "There is no model `other`; this server has `small`.";
    refused(app.v2("/models/other").await, 404, other).await;
    refused(app.v2("/models/other/ready").await, 404, other).await;
    refused(
        post("/v2/models/other/infer").send().await.unwrap(),
        404,
        other,
    )
    .await;
    for path in [
        "/v2/x",
        "/v2/models/small/versions/1/infer",
        "/v2/repository/index",
    ] {
        refused(
            post(path).send().await.unwrap(),
            404,
            "The paths of this port",
        )
        .await;
    }
    refused(
        app.client
            .request(Method::PUT, app.url("/v2"))
            .send()
            .await
            .unwrap(),
        405,
        "GET",
    )
    .await;
    let anonymous = app
        .client
        .post(app.url("/v2/models/small/infer"))
        .send()
        .await
        .unwrap();
    assert!(anonymous.headers().contains_key("www-authenticate"));
    refused(anonymous, 401, "user name and password").await;
    let gzip = post("/v2/models/small/infer").header("content-encoding", "gzip");
    refused(gzip.send().await.unwrap(), 415, "gzip").await;
    refused(
        app.infer(&with("data", json!(["QUJDREVGRw=="])), None)
            .await,
        415,
        "",
    )
    .await;
    let cut = STANDARD.encode(&bytes("cat.png")[..1000]);
    refused(app.infer(&with("data", json!([cut])), None).await, 422, "").await;
}

#[tokio::test]
async fn a_server_that_is_not_ready_says_so_in_the_protocol_s_form() {
    let mut app = App::spawn_with(&[("DRAIN_DELAY", "10s")]).await;
    app.stop();
    app.until("/v2/health/ready", 503).await;
    let response = app.get("/v2/health/ready").await;
    assert!(response.headers().contains_key("retry-after"));
    assert!(parsed(response).await["error"].is_string());
    assert_eq!(app.v2("/models/small/ready").await.status(), 503);
    assert_eq!(app.get("/v2/health/live").await.status(), 200);
}
