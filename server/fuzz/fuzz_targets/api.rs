//! Requests to `/predict`, through every layer but the socket: three lines, of which the first is the
//! query, the second the `Content-Type` and the third the `Accept`, and a body.
//!
//! The model is an SSD300 of one channel and one class, which sees that four times in every picture: a
//! forward pass takes little, and every answer has boxes.

#![no_main]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use poem::endpoint::BoxEndpoint;
use poem::http::{Method, StatusCode, Uri, header};
use poem::{Endpoint as _, EndpointExt as _, Request, Response};
use serde_json::Value;
use ssd_server::api::{Options, Readiness, routes};
use ssd_server::config::{Settings, Variables};
use ssd_server::detector::family;
use ssd_server::detector::picture::Header;
use ssd_server::engine::{Engine, Files, Limits};
use ssd_server::telemetry::Metrics;
use ssd_server::weights::{Dtype, NewTensor, write_safetensors};
use ssd_server_fuzz::{assert_fit_for_a_log, bounded};
use tokio::runtime::Runtime;

fuzz_target!(
    init: {
        // As in the server: a decoder that panics has refused a picture, and whatever else panics is
        // answered by 500.
        drop(std::panic::take_hook());
        LazyLock::force(&SERVER);
    },
    |bytes: &[u8]| {
        if let Some(request) = request(bytes) {
            bounded(bytes.len(), || {
                let answering = async {
                    let response = SERVER.routes.call(request).await;
                    check(response.expect("errors are answers")).await;
                };
                SERVER.runtime.block_on(answering);
            });
        }
    }
);

fn request(bytes: &[u8]) -> Option<Request> {
    let mut parts = bytes.splitn(4, |&byte| byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (query, content_type, accept, body) = (part(), part(), part(), part());
    let uri = Uri::try_from([b"/predict?", query].concat()).ok()?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::AUTHORIZATION, "Basic dWdhaW46dWdhaW4=")
        .body(body.to_vec());
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::ACCEPT, accept),
    ] {
        request.headers_mut().insert(name, value.try_into().ok()?);
    }
    Some(request)
}

async fn check(response: Response) {
    let status = response.status();
    let is_picture = response
        .content_type()
        .is_some_and(|kind| kind.starts_with("image/"));
    let body = response.into_body().into_bytes().await.unwrap();
    if is_picture {
        assert_eq!(status, StatusCode::OK);
        Header::read(&body, u64::MAX).unwrap();
        return;
    }
    let json: Value = serde_json::from_slice(&body).unwrap();
    if status == StatusCode::OK {
        let sides = ["width", "height"].map(|side| json["image"][side].as_f64().unwrap());
        for found in json["predictions"].as_array().unwrap() {
            let [x, y, width, height] =
                ["x", "y", "width", "height"].map(|part| found["box"][part].as_f64().unwrap());
            assert!(
                x >= 0.0 && y >= 0.0 && width >= 0.0 && height >= 0.0,
                "{found}"
            );
            // Both are rounded to hundredths.
            assert!(
                x + width <= sides[0] + 0.011 && y + height <= sides[1] + 0.011,
                "{found}"
            );
        }
        return;
    }
    assert!(status.is_client_error(), "{json}");
    assert_eq!(json["status"], status.as_u16());
    assert_fit_for_a_log(json["detail"].as_str().unwrap());
}

struct Server {
    runtime: Runtime,
    routes: BoxEndpoint<'static>,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let variables: Variables = [
        ("LOG_FILTER", "off"),
        ("PIXEL_LIMIT", "500000"),
        ("THREADS", "1"),
        ("PRECISION", "f32"),
        ("BODY_LIMIT", "64KiB"),
        ("COCO_LABELS_PATH", "labels"),
    ]
    .into_iter()
    .collect();
    let settings = Settings::load(None, &variables).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = Files {
        weights: folder.path().join("weights.safetensors"),
        labels: folder.path().join(&settings.labels_path),
    };
    write_safetensors(&files.weights, tensors(), &BTreeMap::new()).unwrap();
    std::fs::write(&files.labels, "thing\n").unwrap();
    let limits = Limits::from(&settings);
    let readiness = Readiness::default();
    readiness.ready(Engine::start(&files, settings.arithmetic, limits).unwrap());
    let options = Options::from(&settings);
    Server {
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap(),
        routes: routes(&options, &readiness, &Metrics::default()).boxed(),
    }
});

/// The weights: zeros, and biases by which the boxes of the last head are of the class with a probability
/// of 0.73.
fn tensors() -> Vec<NewTensor<'static>> {
    let vgg = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33];
    let mut tensors = vec![tensor("L2Norm.weight".to_owned(), &[1], &[1.0])];
    let mut convolution = |name: String, inputs: usize, side: usize, biases: &[f32]| {
        let shape = [biases.len(), inputs, side, side];
        let zeros = vec![0.0; shape.iter().product()];
        tensors.push(tensor(format!("{name}.weight"), &shape, &zeros));
        tensors.push(tensor(format!("{name}.bias"), &[biases.len()], biases));
    };
    for layer in vgg {
        let inputs = if layer == 0 { 3 } else { 1 };
        let side = if layer == 33 { 1 } else { 3 };
        convolution(format!("vgg.{layer}"), inputs, side, &[0.0]);
    }
    for layer in 0..8 {
        convolution(format!("extras.{layer}"), 1, 1 + layer % 2 * 2, &[0.0]);
    }
    for (head, map) in (family::VOC.prior_maps)().into_iter().enumerate() {
        let boxes = map.shapes.len();
        convolution(format!("loc.{head}"), 1, 3, &[0.0; 4].repeat(boxes));
        let odds = if head == 5 { 1.0 } else { -9.0 };
        convolution(format!("conf.{head}"), 1, 3, &[0.0, odds].repeat(boxes));
    }
    tensors
}

fn tensor(name: String, shape: &[usize], values: &[f32]) -> NewTensor<'static> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    NewTensor {
        name: Cow::Owned(name),
        dtype: Dtype::F32,
        shape: Cow::Owned(shape.to_vec()),
        bytes: Cow::Owned(bytes),
    }
}
