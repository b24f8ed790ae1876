//! What a picture is answered.

use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::app::{App, bytes, data, json};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Left, top, right, bottom.
fn corners(found: &Value) -> [f64; 4] {
    let place = &found["box"];
    let (x, y) = (number(&place["x"]), number(&place["y"]));
    [
        x,
        y,
        x + number(&place["width"]),
        y + number(&place["height"]),
    ]
}

fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let overlap = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |c: [f64; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let both = overlap(0) * overlap(1);
    both / (area(a) + area(b) - both)
}

#[tokio::test]
pub(super) async fn the_cat_is_answered_as_the_reference_answers_it() {
    let app = App::spawn().await;
    let answer = json(app.predict_form("", bytes("cat.png")).send().await.unwrap()).await;
    assert_eq!(answer["model"], "small");
    assert_eq!(
        (&answer["image"]["width"], &answer["image"]["height"]),
        (&451.into(), &300.into())
    );

    let golden: Value = serde_json::from_slice(&bytes("golden-detections.json")).unwrap();
    let mut theirs = golden["detections"].as_array().unwrap().clone();
    let mut ours = answer["predictions"].as_array().unwrap().clone();
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
    let answer = json(app.predict_form("", bytes("cat.png")).send().await.unwrap()).await;
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
    let found = answer["predictions"].as_array().unwrap();
    let mut ours: Vec<&str> = found.iter().map(|f| f["label"].as_str().unwrap()).collect();
    theirs.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn boxes_lie_inside_the_picture() {
    let app = App::spawn().await;
    let answer = json(
        app.predict_form("?threshold=0.1", bytes("cat.png"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    for found in answer["predictions"].as_array().unwrap() {
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
async fn a_form_and_a_raw_picture_and_any_chunks_are_answered_alike() {
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
    let answer = connection.read_all().await;
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), form);
}

#[tokio::test]
async fn other_fields_of_the_form_are_skipped() {
    let app = App::spawn().await;
    let form = super::app::form(bytes("cat.png")).text("comment", "a cat");
    let answer = app.predict("").multipart(form).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn the_query_wins_over_the_settings() {
    let app = App::spawn_with(&[("THRESHOLD", "0.9"), ("TOP_K", "7")]).await;
    let count = async |query: &str| {
        let answer = json(
            app.predict_form(query, bytes("cat.png"))
                .send()
                .await
                .unwrap(),
        )
        .await;
        answer["predictions"].as_array().unwrap().len()
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
async fn every_format_is_taken_and_its_upright_size_told() {
    let app = App::spawn().await;
    let folder = std::fs::read_dir(data("pictures")).unwrap();
    let mut names: Vec<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "make.py")
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
    let expected = app
        .predict_form("", bytes("pictures/reference.png"))
        .send()
        .await
        .unwrap();
    let expected = json(expected).await;
    assert!(!expected["predictions"].as_array().unwrap().is_empty());
    // Lossless, so that the pixels are the same; tests/pictures.rs sees to those of JPEG.
    for orientation in 1..=8 {
        let picture = bytes(&format!("pictures/exif{orientation}.webp"));
        let answer = json(app.predict_form("", picture).send().await.unwrap()).await;
        assert_eq!(answer, expected, "{orientation}");
    }
}

#[tokio::test]
async fn many_requests_at_one_time_are_each_answered_rightly() {
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
        let (name, expected) = match number % 2 {
            0 => ("cat.png", expected.clone()),
            _ => ("pictures/rgb.bmp", small.clone()),
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
async fn an_answer_tells_how_long_each_stage_took() {
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
async fn ids_of_clients_are_echoed_where_they_are_plain_and_replaced_where_not() {
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
