//! `GET /model`.

use serde_json::json;

use super::app::{App, json as parsed, problem};

#[tokio::test]
async fn the_model_its_defaults_and_its_limits_are_told_to_users() {
    let settings = [
        ("THRESHOLD", "0.35"),
        ("BODY_LIMIT", "1MiB"),
        ("PIXEL_LIMIT", "1000000"),
        ("QUEUE_LENGTH", "3"),
        ("REQUEST_TIMEOUT", "1500ms"),
    ];
    let app = App::spawn_with(&settings).await;
    let request = app.client.get(app.url("/model"));
    let request = request.basic_auth("ugain", Some("ugain"));
    let mut model = parsed(request.send().await.unwrap()).await;
    let classes = model["classes"].take();
    let labels: Vec<&str> = classes
        .as_array()
        .unwrap()
        .iter()
        .map(|label| label.as_str().unwrap())
        .collect();
    // COCO's names of VOC's classes, in the order of VOC.
    assert_eq!(
        (labels.len(), labels[0], labels[11], labels[19]),
        (20, "airplane", "dog", "tv")
    );
    assert!(model["precision_reason"].take().is_string());
    assert_eq!(
        model,
        json!({
            "name": "small", "family": "ssd300-voc", "classes": null, "input": {"width": 300, "height": 300},
            "precision": "f32", "precision_reason": null, "device": "cpu",
            "defaults": {"threshold": 0.35, "iou": 0.45, "top_k": 200},
            "limits": {"body_bytes": 1 << 20, "pixels": 1_000_000, "queue": 3, "request_seconds": 1.5},
        })
    );
    problem(app.get("/model").await, 401, "unauthorized").await;
}
