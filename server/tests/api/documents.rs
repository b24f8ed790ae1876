//! The OpenAPI document and the pages made from it.

use std::path::PathBuf;

use serde_json::{Value, json};
use ssd_server::api::document;

use super::app::{App, json};

#[test]
fn the_committed_document_is_the_program_s() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        committed == document(None),
        "run `make docs` and commit server/openapi.json"
    );
}

#[tokio::test]
async fn the_server_serves_the_document_and_a_page_that_loads_only_from_it() {
    let app = App::spawn().await;
    let mut served = json(app.get("/openapi.json").await).await;
    // The weights of the tests state no threshold; the default of their family is 0.6.
    for (index, default) in [0.6.into(), 0.45.into(), 200.into()]
        .into_iter()
        .enumerate()
    {
        for path in ["/predict", "/v1/vision/detection"] {
            let parameter = &mut served["paths"][path]["post"]["parameters"][index];
            let schema = parameter["schema"].as_object_mut().unwrap();
            assert_eq!(schema.remove("default").as_ref(), Some(&default));
        }
    }
    // The labels of the model, wherever a request can name classes.
    let mut forget_labels = |pointer: &str| {
        let items = served
            .pointer_mut(pointer)
            .unwrap()
            .as_object_mut()
            .unwrap();
        let labels = items.remove("enum").unwrap();
        assert_eq!(
            (labels.as_array().unwrap().len(), &labels[0]),
            (20, &json!("airplane"))
        );
    };
    let body = "/paths/~1predict/post/requestBody/content";
    for pointer in [
        "/paths/~1predict/post/parameters/3/schema/items",
        "/paths/~1v1~1vision~1detection/post/parameters/3/schema/items",
        &format!("{body}/multipart~1form-data/schema/properties/classes/items"),
        &format!("{body}/application~1json/schema/properties/classes/items"),
        "/components/schemas/InferenceRequest/properties/parameters/properties/classes/items",
    ] {
        forget_labels(pointer);
    }
    assert_eq!(
        served,
        serde_json::from_str::<Value>(&document(None)).unwrap()
    );
    let page = app.get("/docs").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("http"));
    let html = page.text().await.unwrap();
    assert!(html.contains("SwaggerUIBundle({"));
    for loads in ["<script src", "<link", "@import"] {
        assert!(!html.contains(loads), "{loads}");
    }
}

#[test]
fn every_status_is_documented_with_its_body() {
    let document: Value = serde_json::from_str(&document(None)).unwrap();
    let operation = &document["paths"]["/predict"]["post"];
    let responses = operation["responses"].as_object().unwrap();
    for (status, response) in responses {
        let expected: &[&str] = match status.as_str() {
            "200" => &["application/json", "image/jpeg", "image/png"],
            _ => &["application/problem+json"],
        };
        let content = response["content"].as_object().unwrap();
        let media: Vec<&str> = content.keys().map(String::as_str).collect();
        assert_eq!(media, expected, "{status}");
        assert!(content.values().all(|form| form["schema"].is_object()));
        assert!(!response["description"].as_str().unwrap().is_empty());
        if let Some(example) = content
            .get("application/problem+json")
            .and_then(|media| media.get("example"))
        {
            let of = example["status"].as_u64().unwrap().to_string();
            assert_eq!(&of, if status == "default" { "404" } else { status });
        }
    }
    assert_eq!(operation["security"][0]["basic"], Value::Array(vec![]));
}

#[test]
fn the_form_has_a_field_for_the_picture_and_for_each_query_parameter() {
    let document: Value = serde_json::from_str(&document(None)).unwrap();
    let operation = &document["paths"]["/predict"]["post"];
    let form = &operation["requestBody"]["content"]["multipart/form-data"]["schema"];
    assert_eq!(form["additionalProperties"], false);
    assert_eq!(form["required"], json!(["image"]));
    let mut fields = form["properties"].as_object().unwrap().clone();
    assert_eq!(fields.remove("image").unwrap()["format"], "binary");
    for parameter in operation["parameters"].as_array().unwrap() {
        let mut field = fields.remove(parameter["name"].as_str().unwrap()).unwrap();
        let description = field.as_object_mut().unwrap().remove("description");
        assert_eq!(description.as_ref(), Some(&parameter["description"]));
        assert_eq!(field, parameter["schema"]);
    }
    assert!(fields.is_empty());
}

#[tokio::test]
async fn no_address_in_the_document_or_the_pages_leaves_the_path_of_the_server() {
    let app = App::spawn().await;
    let document: Value = serde_json::from_str(&document(None)).unwrap();
    // Relative to the document: a proxy may serve it under any path.
    assert_eq!(document["servers"].as_array().unwrap().len(), 1);
    assert_eq!(document["servers"][0]["url"], ".");
    let page = app
        .client
        .get(app.url("/"))
        .basic_auth("ugain", Some("ugain"));
    let page = page.send().await.unwrap().text().await.unwrap();
    for attribute in ["href=\"", "src=\"", "action=\""] {
        for (at, _) in page.match_indices(attribute) {
            let address = &page[at + attribute.len()..];
            assert!(
                address.starts_with(char::is_alphabetic),
                "{}",
                &address[..40]
            );
        }
    }
}
