//! The detections of a picture.

use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::app::{App, bytes, data, json};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Left, top, right, bottom.
fn corners(found: &Value) -> [f64; 4] {
    let bounds = &found["box"];
    let (x, y) = (number(&bounds["x"]), number(&bounds["y"]));
    [
        x,
        y,
        x + number(&bounds["width"]),
        y + number(&bounds["height"]),
    ]
}

fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let overlap = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |c: [f64; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let both = overlap(0) * overlap(1);
    both / (area(a) + area(b) - both)
}

#[tokio::test]
async fn the_detections_of_the_cat_are_the_reference_s() {
    let app = App::spawn().await;
    let response = json(app.predict_form("", bytes("cat.png")).send().await.unwrap()).await;
    assert_eq!(response["model"], "small");
    assert_eq!(
        (&response["image"]["width"], &response["image"]["height"]),
        (&451.into(), &300.into())
    );

    let golden: Value = serde_json::from_slice(&bytes("golden-detections.json")).unwrap();
    let mut theirs = golden["detections"].as_array().unwrap().clone();
    let mut ours = response["predictions"].as_array().unwrap().clone();
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.is_sorted_by(|a, b| number(&a["probability"]) >= number(&b["probability"])));
    // The reference goes class by class, each best first; so does this order.
    theirs.sort_by(|a, b| number(&b["probability"]).total_cmp(&number(&a["probability"])));
    ours.sort_by(|a, b| number(&b["probability"]).total_cmp(&number(&a["probability"])));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!((number(&ours["probability"]) - number(&theirs["probability"])).abs() <= 1e-3);
        let side = |i: usize, most: f64| number(&theirs["box"][i]).clamp(0.0, most);
        let clipped = [
            side(0, 451.0),
            side(1, 300.0),
            side(2, 451.0),
            side(3, 300.0),
        ];
        assert!(iou(corners(ours), clipped) >= 0.99);
    }
}

#[tokio::test]
async fn labels_are_coco_s_names_for_the_reference_s_voc_classes() {
    let app = App::spawn().await;
    let response = json(app.predict_form("", bytes("cat.png")).send().await.unwrap()).await;
    let golden: Value = serde_json::from_slice(&bytes("golden-detections.json")).unwrap();
    let mut theirs: Vec<&str> = golden["detections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| match found["label"].as_str().unwrap() {
            "aeroplane" => "airplane",
            "motorbike" => "motorcycle",
            "diningtable" => "dining table",
            "pottedplant" => "potted plant",
            "sofa" => "couch",
            "tvmonitor" => "tv",
            same => same,
        })
        .collect();
    let found = response["predictions"].as_array().unwrap();
    let mut ours: Vec<&str> = found.iter().map(|f| f["label"].as_str().unwrap()).collect();
    theirs.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn boxes_lie_inside_the_picture() {
    let app = App::spawn().await;
    let response = json(
        app.predict_form("?threshold=0.1", bytes("cat.png"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    for found in response["predictions"].as_array().unwrap() {
        let [left, top, right, bottom] = corners(found);
        assert!(
            0.0 <= left && left <= right && right <= 451.0 + 1e-9,
            "{found}"
        );
        assert!(
            0.0 <= top && top <= bottom && bottom <= 300.0 + 1e-9,
            "{found}"
        );
    }
}

#[tokio::test]
async fn a_form_a_raw_picture_and_chunks_have_the_same_detections() {
    let app = App::spawn().await;
    let cat = bytes("cat.png");
    let form = json(app.predict_form("", cat.clone()).send().await.unwrap()).await;
    // The type is the client's claim only: the bytes are a PNG.
    for claim in ["image/png", "image/jpeg", "image/x-anything"] {
        let raw = app
            .predict("")
            .header(CONTENT_TYPE, claim)
            .body(cat.clone());
        assert_eq!(json(raw.send().await.unwrap()).await, form, "{claim}");
    }
    let mut connection = app.connect().await;
    connection
        .send(super::app::head(
            "Content-Type: image/png\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n",
        ))
        .await;
    for chunk in cat.chunks(7919) {
        connection.send(format!("{:x}\r\n", chunk.len())).await;
        connection.send(chunk).await;
        connection.send("\r\n").await;
    }
    connection.send("0\r\n\r\n").await;
    let response = connection.read_all().await;
    let body = response.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), form);
}

#[tokio::test]
async fn the_query_wins_over_the_settings() {
    let app = App::spawn_with(&[("THRESHOLD", "0.9"), ("TOP_K", "7")]).await;
    let count = async |query: &str| {
        let response = json(
            app.predict_form(query, bytes("cat.png"))
                .send()
                .await
                .unwrap(),
        )
        .await;
        response["predictions"].as_array().unwrap().len()
    };
    let few = count("").await;
    assert!((1..=7).contains(&few));
    assert_eq!(count("?top_k=1").await, 1);
    let many = count("?threshold=0.6&top_k=8732").await;
    assert_eq!(many, 108, "as the reference finds");
    assert!(count("?threshold=0.6&top_k=8732&iou=1").await > many);
    assert_eq!(count("?threshold=1").await, 0);
}

#[tokio::test]
async fn every_format_is_accepted_and_its_upright_size_returned() {
    let app = App::spawn().await;
    let folder = std::fs::read_dir(data("pictures")).unwrap();
    let mut names: Vec<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.contains(".py"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 41);
    for name in names {
        let picture = bytes(&format!("pictures/{name}"));
        let response = app.predict_form("", picture).send().await.unwrap();
        assert_eq!(response.status(), 200, "{name}");
        let size = json(response).await["image"].clone();
        assert_eq!(
            (&size["width"], &size["height"]),
            (&90.into(), &60.into()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_eight_exif_orientations_give_the_same_boxes() {
    let app = App::spawn().await;
    let reference = app.predict_form("", bytes("pictures/reference.png"));
    let expected = json(reference.send().await.unwrap()).await;
    assert!(!expected["predictions"].as_array().unwrap().is_empty());
    // Lossless: the pixels are the same.
    for orientation in 1..=8 {
        let picture = bytes(&format!("pictures/exif{orientation}.webp"));
        let response = json(app.predict_form("", picture).send().await.unwrap()).await;
        assert_eq!(response, expected, "{orientation}");
    }
}

#[tokio::test]
async fn each_of_many_concurrent_requests_gets_its_own_detections() {
    let app = App::spawn_with(&[("QUEUE_LENGTH", "24"), ("WORKERS", "2")]).await;
    let expected = json(app.predict_form("", bytes("cat.png")).send().await.unwrap()).await;
    let small = json(
        app.predict_form("", bytes("pictures/rgb.bmp"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    let requests = (0..24).map(|number| {
        let (name, expected) = if number % 2 == 0 {
            ("cat.png", expected.clone())
        } else {
            ("pictures/rgb.bmp", small.clone())
        };
        let request = app.predict_form("", bytes(name));
        tokio::spawn(async move {
            assert_eq!(json(request.send().await.unwrap()).await, expected);
        })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
}

#[tokio::test]
async fn server_timing_names_every_stage() {
    let app = App::spawn().await;
    let response = app.predict_form("", bytes("cat.png")).send().await.unwrap();
    let timing = response.headers()["server-timing"]
        .to_str()
        .unwrap()
        .to_owned();
    for stage in ["decode", "preprocess", "wait", "forward", "postprocess"] {
        assert!(timing.contains(&format!("{stage};dur=")), "{timing}");
    }
}

#[tokio::test]
async fn plain_request_ids_are_echoed_and_others_replaced() {
    let app = App::spawn().await;
    let echo = async |sent: &[u8]| {
        let request = app
            .client
            .get(app.url("/livez"))
            .header("x-request-id", sent);
        let response = request.send().await.unwrap();
        response.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(echo(b"trace-1.a:B_2").await, "trace-1.a:B_2");
    let long = "x".repeat(129);
    for sent in [
        &b"two words"[..],
        b"quote\"d",
        b"\xffbytes",
        b"",
        long.as_bytes(),
    ] {
        let id = echo(sent).await;
        assert_eq!((id.len(), id.as_bytes() == sent), (36, false));
    }
}

#[tokio::test]
async fn only_the_named_classes_are_detected() {
    let app = App::spawn().await;
    let found = async |query: &str| {
        let request = app.predict_form(
            &format!("?threshold=0.05&top_k=8732&{query}"),
            bytes("cat.png"),
        );
        let response = json(request.send().await.unwrap()).await;
        response["predictions"].as_array().unwrap().clone()
    };
    let label = |found: &Value| found["label"].as_str().unwrap().to_owned();
    let all = found("").await;
    let mut labels: Vec<String> = all.iter().map(label).collect();
    labels.dedup();
    let (first, last) = (&labels[0], labels.last().unwrap());
    assert_ne!(first, last);
    for names in [vec![first], vec![first, last], vec![last, first, last]] {
        let text: Vec<String> = names.iter().map(|name| name.replace(' ', "+")).collect();
        for comma in [",", ",+", "&classes="] {
            let some = found(&format!("classes={}", text.join(comma))).await;
            let expected = all.iter().filter(|found| names.contains(&&label(found)));
            assert!(some.iter().eq(expected), "{names:?}");
        }
    }
    // The limit counts those detections only.
    let query = format!("?threshold=0.05&top_k=1&classes={}", last.replace(' ', "+"));
    let request = app.predict_form(&query, bytes("cat.png"));
    let one = json(request.send().await.unwrap()).await;
    let best = all.iter().find(|found| &label(found) == last).unwrap();
    assert_eq!(one["predictions"], serde_json::json!([best]));
}
