//! The OpenAPI document: poem-openapi's, mended where readers and generators of clients stumble.

use poem_openapi::{ExtraHeader, LicenseObject, OpenApiService, ServerObject};
use serde_json::{Value, json};

use super::predict::Predict;
use super::problem;
use ssd_detector::boxes::Criteria;

/// The operations, and what the document says of all of them.
pub fn service() -> OpenApiService<Predict, ()> {
    OpenApiService::new(Predict, "ssd", env!("CARGO_PKG_VERSION"))
        .description("Object detection: a picture in, labelled boxes out.")
        .license(
            LicenseObject::new("Apache-2.0").url("https://www.apache.org/licenses/LICENSE-2.0"),
        )
        .server(ServerObject::new("/").description("The server that shows this document"))
        .extra_response_header::<String, _>(ExtraHeader::new("X-Request-Id").description(
            "This request's id in the server's log: the client's own where it sent a plain one.",
        ))
}

/// The document as `/openapi.json` serves it; with the defaults that are in force, where they are known.
///
/// # Panics
/// Where poem-openapi writes no JSON, which every test would find.
#[must_use]
pub fn document(in_force: Option<&Criteria>) -> String {
    let mut document = serde_json::from_str(&service().spec()).expect("poem-openapi writes JSON");
    name_once(&mut document);
    give_examples(&mut document);
    if let Some(criteria) = in_force {
        give_defaults(&mut document, criteria);
    }
    format!("{document:#}\n")
}

/// The document as a page to read and to try it on.
pub fn page(in_force: Option<&Criteria>) -> String {
    let service = service();
    let page = service.swagger_ui_html();
    page.replace(&service.spec(), document(in_force).trim_end())
}

/// Where a described field has a schema with a name, poem-openapi merges (`allOf`) that schema with one
/// of nothing but the description, which stands beside them already. Generators make a second type of
/// such a merger, or none where the schema is an enumeration.
fn name_once(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Array(merged)) = members.get_mut("allOf") {
                merged.retain(|schema| schema.get("$ref").is_some());
            }
            members.values_mut().for_each(name_once);
        }
        Value::Array(items) => items.iter_mut().for_each(name_once),
        _ => {}
    }
}

/// The default of each query parameter.
fn give_defaults(document: &mut Value, criteria: &Criteria) {
    let defaults = [
        // As they were written: single precision shows nine digits of 0.45.
        ("threshold", json!(decimal(criteria.threshold))),
        ("iou", json!(decimal(criteria.iou))),
        ("top_k", json!(criteria.top_k)),
    ];
    let parameters = &mut document["paths"]["/predict"]["post"]["parameters"];
    for parameter in parameters.as_array_mut().into_iter().flatten() {
        let default = defaults.iter().find(|(name, _)| parameter["name"] == *name);
        if let Some((_, default)) = default {
            parameter["schema"]["default"] = default.clone();
        }
    }
}

/// The number of double precision that is written as shortly.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Each error's own example: that of the schema, which they share, fits one of them only.
fn give_examples(document: &mut Value) {
    let responses = &mut document["paths"]["/predict"]["post"]["responses"];
    for (status, example) in problem::examples() {
        responses[status]["content"][problem::MEDIA_TYPE]["example"] = example;
    }
}
