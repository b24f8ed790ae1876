//! Annotated pictures.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE, VARY};
use reqwest_middleware::RequestBuilder;
use ssd_detector::annotate::colour;
use ssd_detector::labels::{VOC, VOC_TO_COCO};

use super::app::{App, bytes, head, json, problem};

async fn accepting(request: RequestBuilder, accept: &str) -> Response {
    request.header(ACCEPT, accept).send().await.unwrap()
}

/// The picture in a response, which must have that media type.
async fn picture(response: Response, media: &str) -> RgbImage {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[CONTENT_TYPE], media);
    let format = ImageFormat::from_mime_type(media).unwrap();
    let bytes = response.bytes().await.unwrap();
    let picture = image::load_from_memory_with_format(&bytes, format).unwrap();
    picture.into_rgb8()
}

fn decoded(name: &str) -> RgbImage {
    image::load_from_memory(&bytes(name)).unwrap().into_rgb8()
}

/// Mean absolute difference, in levels of 0 to 255.
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let pairs = a.as_raw().iter().zip(b.as_raw());
    let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.as_raw().len() as f64
}

#[tokio::test]
async fn boxes_are_drawn_where_the_json_says_in_the_colour_of_the_class() {
    let app = App::spawn().await;
    let request = || app.predict_form("?top_k=1", bytes("cat.png"));
    let response = json(accepting(request(), "application/json").await).await;
    let found = &response["predictions"][0];
    let side = |name: &str| found["box"][name].as_f64().unwrap();
    let (left, top) = (side("x"), side("y"));
    let (right, bottom) = (left + side("width"), top + side("height"));
    let label = found["label"].as_str().unwrap();
    let class = VOC.iter().position(|voc| {
        let coco = VOC_TO_COCO.iter().find(|(name, _)| name == voc);
        coco.map_or(*voc, |(_, coco)| coco) == label
    });
    let own = colour(class.unwrap() + 1);

    let shown = picture(accepting(request(), "image/png").await, "image/png").await;
    let (middle, centre) = (f64::midpoint(left, right), f64::midpoint(top, bottom));
    for (x, y) in [
        (left.round(), centre),
        (right.round() - 1.0, centre),
        (middle, bottom.round() - 1.0),
    ] {
        assert_eq!(*shown.get_pixel(x as u32, y as u32), own, "{x}, {y}");
    }
    let original = decoded("cat.png");
    assert_eq!(shown.dimensions(), original.dimensions());
    // No line and no label is that wide.
    let far = |at: f64, edge: f64| (at - edge).abs() > 30.0;
    let mut same = 0;
    for (x, y, pixel) in shown.enumerate_pixels() {
        let (column, row) = (f64::from(x), f64::from(y));
        if far(row, top) && far(row, bottom) && far(column, left) && far(column, right) {
            assert_eq!(pixel, original.get_pixel(x, y), "{x}, {y}");
            same += 1;
        }
    }
    assert!(same > 1000, "{same}");

    let again = accepting(request(), "image/png").await;
    assert!(picture(again, "image/png").await == shown);
    let jpeg = picture(accepting(request(), "image/jpeg").await, "image/jpeg").await;
    assert!(difference(&jpeg, &shown) < 3.0);
}

#[tokio::test]
async fn without_detections_the_response_is_the_upright_picture() {
    let app = App::spawn().await;
    let reference = decoded("pictures/reference.png");
    for orientation in 1..=8 {
        // Lossless: the pixels are the same.
        let sent = bytes(&format!("pictures/exif{orientation}.webp"));
        let request = app.predict_form("?threshold=1", sent);
        let shown = picture(accepting(request, "image/png").await, "image/png").await;
        assert!(shown == reference, "{orientation}");
    }
    let request = app.predict_form("?threshold=1", bytes("pictures/exif6.jpg"));
    let shown = picture(accepting(request, "image/jpeg").await, "image/jpeg").await;
    assert!(difference(&shown, &reference) < 5.0);
}

#[tokio::test]
async fn pictures_of_every_shape_are_annotated() {
    let app = App::spawn().await;
    for (width, height) in [(1, 1), (3, 2000), (2000, 3)] {
        let mut png = std::io::Cursor::new(Vec::new());
        RgbImage::new(width, height)
            .write_to(&mut png, ImageFormat::Png)
            .unwrap();
        for media in ["image/png", "image/jpeg"] {
            let request = app.predict_form("?threshold=0.01", png.get_ref().clone());
            let shown = picture(accepting(request, media).await, media).await;
            assert_eq!(shown.dimensions(), (width, height));
        }
    }
}

#[tokio::test]
async fn accept_selects_the_representation_with_the_greatest_weight() {
    let app = App::spawn().await;
    let (json, jpeg, png) = ("application/json", "image/jpeg", "image/png");
    let cases = [
        ("", json),
        (",", json),
        ("*/*", json),
        ("application/json", json),
        ("application/*", json),
        ("APPLICATION/JSON;Charset=UTF-8", json),
        ("image/jpeg", jpeg),
        ("Image/PNG", png),
        ("image/*", jpeg),
        ("image/png, */*", json),
        ("image/png, */*;q=0.9", png),
        ("image/png, application/json", json),
        ("image/png;q=0.8, application/json;q=0.7", png),
        ("image/*;q=0.5, image/jpeg;q=0.1, */*;q=0.2", png),
        ("*/*, application/json;q=0", jpeg),
        ("image/*, image/jpeg;q=0", png),
        ("text/html, image/webp, image/apng, */*;q=0.8", json),
        ("text/html, image/png ; q=0.001", png),
        ("image/jpeg; level=1 ; Q=0.3 , image/png;q=0.2", jpeg),
        // Invalid ranges are ignored.
        (
            "image/jpeg;q=high, image/png;q=2, application/json;q=0.1",
            json,
        ),
        ("*, image/jpeg", jpeg),
    ];
    for (accept, expected) in cases {
        let request = app.predict_form("", bytes("pictures/rgb.bmp"));
        let response = accepting(request, accept).await;
        assert_eq!(response.status(), 200, "{accept}");
        assert_eq!(response.headers()[CONTENT_TYPE], expected, "{accept}");
        assert_eq!(response.headers()[VARY], "Accept");
    }
    // Several lines are one list.
    let request = app
        .predict_form("", bytes("pictures/rgb.bmp"))
        .header(ACCEPT, "application/json;q=0.5");
    let response = accepting(request, "image/png;q=0.6").await;
    assert_eq!(response.headers()[CONTENT_TYPE], png);
}

#[tokio::test]
async fn without_accept_the_response_is_json() {
    let app = App::spawn().await;
    let picture = bytes("pictures/rgb.bmp");
    let mut connection = app.connect().await;
    let length = format!("Content-Length: {}\r\n", picture.len());
    let headers = length + "Content-Type: image/bmp\r\nConnection: close\r\n";
    connection.send(head(&headers)).await;
    connection.send(&picture).await;
    let response = connection.read_all().await;
    assert!(
        response.contains("content-type: application/json\r\n"),
        "{response}"
    );
}

#[tokio::test]
async fn an_accept_that_matches_nothing_is_406_before_the_body_is_read() {
    let app = App::spawn().await;
    for accept in [
        "text/html",
        "image/webp",
        "json",
        "*/*;q=0",
        "application/json;q=0",
        "application/problem+json",
    ] {
        let response = accepting(app.predict(""), accept).await;
        assert_eq!(response.headers()[VARY], "Accept");
        let detail = problem(response, 406, "not-acceptable").await;
        let expected = "; the server can send application/json, image/jpeg, image/png.";
        assert!(detail.ends_with(expected), "{detail}");
        assert!(detail.contains(&format!("`{accept}`")), "{detail}");
    }
    // Other errors are problem details, whatever the client accepts.
    let broken = app.predict_form("", b"no picture".to_vec());
    problem(
        accepting(broken, "image/png").await,
        415,
        "unsupported-picture",
    )
    .await;
}

#[tokio::test]
async fn a_picture_too_long_for_jpeg_is_returned_as_png_only() {
    let app = App::spawn().await;
    let mut png = std::io::Cursor::new(Vec::new());
    let long = RgbImage::new(65_536, 1);
    long.write_to(&mut png, ImageFormat::Png).unwrap();
    let request = || app.predict_form("?threshold=1", png.get_ref().clone());
    let refused = accepting(request(), "image/jpeg").await;
    let detail = problem(refused, 406, "not-acceptable").await;
    assert!(
        detail.contains("at most 65535 pixels; request PNG"),
        "{detail}"
    );
    let shown = picture(accepting(request(), "image/png").await, "image/png").await;
    assert!(shown == long);
}

#[tokio::test]
async fn annotating_is_a_stage_of_annotated_responses() {
    let app = App::spawn_with(&[("MANAGEMENT_PORT", "0")]).await;
    let timing = async |accept: &str| {
        let request = app.predict_form("", bytes("pictures/rgb.bmp"));
        let response = accepting(request, accept).await;
        response.headers()["server-timing"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert!(!timing("application/json").await.contains("annotate"));
    assert!(timing("image/png").await.contains(", annotate;dur="));
    let metrics = app.metrics().await;
    for (stage, count) in [("annotate", 1), ("forward", 2)] {
        let line = format!("ssd_request_duration_seconds_count{{stage=\"{stage}\"}} {count}\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

/// A bitmap of noise, which no encoding makes small.
fn noise() -> Vec<u8> {
    let mut state = 1_u32;
    let pixels = RgbImage::from_fn(3000, 2000, |_, _| {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        image::Rgb([24, 16, 8].map(|shift| (state >> shift) as u8))
    });
    let mut bitmap = Cursor::new(Vec::new());
    pixels.write_to(&mut bitmap, ImageFormat::Bmp).unwrap();
    bitmap.into_inner()
}

#[tokio::test]
async fn clients_that_do_not_read_their_annotated_pictures_keep_no_other_from_its_detections() {
    let limits = [
        ("PIXEL_LIMIT", "6000000"),
        ("BODY_LIMIT", "32MiB"),
        ("THRESHOLD", "1"),
    ];
    let app = App::spawn_with(&limits).await;
    let picture = noise();
    let request = |accept| {
        let request = app.predict("").header(CONTENT_TYPE, "image/bmp");
        accepting(request.body(picture.clone()), accept)
    };
    // More than the operating system buffers, and all of the memory for such pictures.
    let unread = request("image/png").await;
    assert_eq!(unread.status(), 200);
    let refused = request("image/png").await;
    assert_eq!(refused.status(), 429);
    let detail = json(refused).await["detail"].to_string();
    assert!(detail.contains("annotated pictures"), "{detail}");
    assert_eq!(request("application/json").await.status(), 200);
    drop(unread);
}
