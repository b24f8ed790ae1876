//! The OpenAPI document: poem-openapi's output, with fixes for documentation viewers and client generators.

use std::time::Duration;

use poem::endpoint::BoxEndpoint;
use poem::http::header;
use poem::{EndpointExt as _, IntoEndpoint as _, Request, Response};
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::ToJSON as _;
use poem_openapi::{ApiResponse, ExtraHeader, LicenseObject, OpenApiService, ServerObject, Tags};
use serde_json::{Map, Value, json};
use ssd_detector::Model;
use ssd_detector::boxes::Criteria;
use ssd_detector::picture;

use super::context::Context;
use super::criteria::{Bounded as _, Source, Threshold};
use super::deepstack::{self, DeepStack};
use super::health::{self, Probes};
use super::model::Models;
use super::open_inference::{self, OpenInference};
use super::predict::Predict;
use super::problem::{Details, ErrorBody, Failure, Kind, Problem};
use super::{accept, body, form, routes};
use crate::engine::{Full, QUEUE_FULL};

/// Swagger UI is one page with inline script and style; nothing comes from another origin. Its icons are
/// `data:` URLs, and the responses that it shows are `blob:` URLs.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src 'self' blob: data:; connect-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Groups of operations.
#[derive(Tags)]
pub enum Tag {
    /// Find objects in pictures.
    Detection,
    /// The model, liveness and readiness.
    Server,
    /// The Open Inference Protocol v2, for clients of KServe and Triton.
    OpenInference,
    /// DeepStack's API, for Frigate and Home Assistant.
    DeepStack,
}

type Operations = (Predict, Models, Probes, OpenInference, DeepStack);

/// The operations, and what the document says about all of them.
fn service() -> OpenApiService<Operations, ()> {
    let operations = (Predict, Models, Probes, OpenInference, DeepStack);
    OpenApiService::new(operations, "ssd", env!("CARGO_PKG_VERSION"))
        .description("Object detection: a picture in, labelled boxes out.")
        .license(
            LicenseObject::new("Apache-2.0").url("https://www.apache.org/licenses/LICENSE-2.0"),
        )
        // Relative to the document, which a proxy may serve under a path of its own.
        .server(ServerObject::new(".").description("The server that serves this document"))
        .extra_response_header::<String, _>(ExtraHeader::new("X-Request-Id").description(
            "The request's id in the server's log. It is the client's `X-Request-Id` if that has 1 to 128 characters, each an ASCII letter, a digit, or one of `-_.:`; else a new id.",
        ))
}

/// The document as `/openapi.json` serves it, with the labels of the model and the defaults of the query parameters if
/// they are known.
#[must_use]
pub fn document(known: Option<(&Model, &Criteria)>) -> String {
    let mut document = described(known);
    // Before the defaults, so that the fields have none: generated clients would send them in the query and the form.
    give_fields(&mut document);
    give_defaults(&mut document, known);
    format!("{document:#}\n")
}

/// The document without the form's fields for the criteria, and without defaults.
///
/// # Panics
/// If poem-openapi does not write JSON, which every test would find.
fn described(known: Option<(&Model, &Criteria)>) -> Value {
    let mut document = serde_json::from_str(&service().spec()).expect("poem-openapi writes JSON");
    name_once(&mut document);
    describe_successes(&mut document);
    say_what_needs_no_login(&mut document);
    give_examples(&mut document);
    give_labels(&mut document, known);
    narrow_inference(&mut document);
    // poem-openapi sorts the groups by name.
    let order = ["Detection", "Server", "OpenInference", "DeepStack"];
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.sort_by_key(|tag| order.iter().position(|name| tag["name"] == *name));
    }
    document
}

/// The operations.
pub fn operations() -> BoxEndpoint<'static> {
    service().into_endpoint().map_to_response().boxed()
}

/// `GET /openapi.json`.
pub fn openapi(request: &Request) -> Response {
    Response::builder()
        .content_type("application/json")
        .body(with_known(request, document))
}

/// `GET /docs`: a page on which users can read the document and try the API. Swagger UI fills in and sends every
/// field of a form, so its form has only the picture, and the criteria are in the query.
pub fn docs(request: &Request) -> Response {
    let document = with_known(request, |known| {
        let mut document = described(known);
        give_defaults(&mut document, known);
        document
    });
    let service = service();
    let page = service
        .swagger_ui_html()
        .replace(&service.spec(), &document.to_string());
    Response::builder()
        .content_type("text/html; charset=utf-8")
        .header(header::CONTENT_SECURITY_POLICY, DOCS_POLICY)
        .body(page)
}

/// Calls `write` with the model and its default criteria, once the model is loaded.
fn with_known<T>(request: &Request, write: impl Fn(Option<(&Model, &Criteria)>) -> T) -> T {
    let context = Context::of(request);
    match (context.engine(), context.criteria()) {
        (Ok(engine), Ok(criteria)) => write(Some((engine.model(), &criteria))),
        _ => write(None),
    }
}

/// The errors of an operation: what each status means, and an example.
pub trait Errors {
    fn all() -> Vec<(&'static str, Problem)>;
}

/// The error of every operation that needs a login.
fn login() -> (&'static str, Problem) {
    (
        "The user name or password is missing or wrong. The body was not read.",
        Problem::unauthorized(),
    )
}

/// The errors that operations share with unknown paths.
fn others() -> (&'static str, Problem) {
    (
        "Other paths, models and methods: 404 if nothing is at the path; 405, with `Allow`, if the path does not support the method. Invalid HTTP gets 400, 414 or 431 on any path, and the connection is closed.",
        routes::nothing_there(),
    )
}

/// The errors of an operation that has a login and no body.
pub struct LoginErrors;

impl Errors for LoginErrors {
    fn all() -> Vec<(&'static str, Problem)> {
        let loading = "The model is not ready. Retry after the number of seconds in `Retry-After`.";
        vec![
            login(),
            (loading, Problem::not_ready("The model is loading.")),
            others(),
        ]
    }
}

/// The errors of liveness probes.
pub struct LivenessErrors;

impl Errors for LivenessErrors {
    fn all() -> Vec<(&'static str, Problem)> {
        let dead = "The model has failed several times in a row, or a forward pass hangs: the process should be restarted.";
        vec![(dead, Problem::not_alive()), others()]
    }
}

/// The errors of readiness probes.
pub struct ReadinessErrors;

impl Errors for ReadinessErrors {
    fn all() -> Vec<(&'static str, Problem)> {
        let unready = "The model is loading, fails or hangs, or the server is stopping.";
        vec![(unready, health::not_ready()), others()]
    }
}

/// The errors of an operation that detects, and has one representation of its response.
pub struct InferenceErrors;

impl Errors for InferenceErrors {
    fn all() -> Vec<(&'static str, Problem)> {
        let mut errors = DetectionErrors::all();
        errors.retain(|(_, problem)| problem.kind != Kind::NotAcceptable);
        errors
    }
}

/// The errors of `POST /predict`.
pub struct DetectionErrors;

impl Errors for DetectionErrors {
    fn all() -> Vec<(&'static str, Problem)> {
        vec![
            (
                "A query parameter or a field of the body is not accepted, the body is malformed, it does not have exactly one picture, or the picture is empty.",
                Threshold::refused(Source::Query, b"1.5"),
            ),
            login(),
            (
                "The header `Accept` names no media type that the server can send; the body was not read. Also if a JPEG is requested and a side of the picture is longer than 65535 pixels.",
                accept::not_acceptable("text/html"),
            ),
            (
                "The body did not arrive in time.",
                body::timed_out(Duration::from_secs(30)),
            ),
            (
                "The body is too large, and was not read to its end; or the picture has too many pixels, and was not decoded.",
                body::too_large(10 << 20),
            ),
            (
                "The body is neither a form nor a picture nor JSON, it has a content coding, or the picture's format is not supported.",
                Problem::from(picture::Error::Unknown {
                    begin: "`hello, world`".to_owned(),
                }),
            ),
            (
                "The picture is damaged or cut short.",
                Problem::from(picture::Error::Undecodable {
                    format: "JPEG",
                    problem: "it is cut short: its end is missing".to_owned(),
                }),
            ),
            (
                "A limit is reached: the queue, the queue of large pictures, the memory for request bodies, or the memory for unread annotated pictures; `detail` says which. If the queue was already full when the headers arrived, the body was not read. Retry after the number of seconds in `Retry-After`.",
                Problem::from(Full {
                    cause: QUEUE_FULL,
                    retry_after: Duration::ZERO,
                }),
            ),
            (
                "The server failed. Its log shows the cause under this response's `X-Request-Id`.",
                Problem::internal("an example"),
            ),
            (
                "The model is loading, or a forward pass hangs. Retry after the number of seconds in `Retry-After`.",
                Problem::not_ready("The model is loading."),
            ),
            ("The server did not respond in time.", Problem::late()),
            others(),
        ]
    }
}

/// The status, or `None` for the default: the errors of other paths and methods.
fn documented_status(problem: &Problem) -> Option<u16> {
    (problem.kind != Kind::NotFound).then(|| problem.kind.status().as_u16())
}

impl<B: ErrorBody, D: Errors> ApiResponse for Failure<B, D> {
    fn meta() -> MetaResponses {
        let responses = D::all()
            .into_iter()
            .map(|(description, problem)| MetaResponse {
                description,
                status: documented_status(&problem),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: B::MEDIA_TYPE,
                    schema: B::schema_ref(),
                }],
                headers: header_of(problem.kind).into_iter().collect(),
            });
        MetaResponses {
            responses: responses.collect(),
        }
    }

    fn register(registry: &mut Registry) {
        B::register(registry);
    }
}

/// The header that documented problems of a type have.
fn header_of(kind: Kind) -> Option<MetaHeader> {
    let (name, value, required, description) = match kind {
        Kind::Unauthorized => (
            "WWW-Authenticate",
            "string",
            true,
            "Basic authentication in UTF-8",
        ),
        Kind::NotAcceptable => ("Vary", "string", true, "`Accept`"),
        Kind::Busy | Kind::NotReady => ("Retry-After", "integer", true, "Seconds until a retry"),
        Kind::UnsupportedPicture => (
            "Accept-Encoding",
            "string",
            false,
            "`identity`, if the body has a content coding",
        ),
        Kind::NotFound => (
            "Allow",
            "string",
            false,
            "The methods of the path, if the status is 405",
        ),
        _ => return None,
    };
    Some(MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required,
        deprecated: false,
        schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new(value))),
    })
}

/// Gives each error its own example. Otherwise all would share the example of the schema, which fits only one.
fn give_examples(document: &mut Value) {
    let errors = [
        DetectionErrors::all(),
        LoginErrors::all(),
        LivenessErrors::all(),
        ReadinessErrors::all(),
    ];
    let errors: Vec<_> = errors.into_iter().flatten().collect();
    for (path, operations) in members(&mut document["paths"]) {
        let body: fn(&Problem) -> Option<Value> = match path.split('/').nth(1) {
            Some("v2") => |problem| open_inference::Error::of(problem).to_json(),
            Some("v1") => |problem| deepstack::Error::of(problem).to_json(),
            _ => |problem| Details::of(problem).to_json(),
        };
        for (_, operation) in members(operations) {
            for (_, response) in members(&mut operation["responses"]) {
                let described = response["description"].clone();
                let error = errors
                    .iter()
                    .find(|(description, _)| described == *description);
                let Some((_, problem)) = error else { continue };
                for (_, media) in members(&mut response["content"]) {
                    media["example"] = json!(body(problem));
                }
            }
        }
    }
}

/// An operation without a login says so, rather than nothing.
fn say_what_needs_no_login(document: &mut Value) {
    for operation in all_operations(document) {
        if operation.get("security").is_none() {
            operation["security"] = json!([]);
        }
    }
}

/// Describes each 200 by the schema of its body, if poem-openapi has left it empty.
fn describe_successes(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    for operation in all_operations(document) {
        let success = &mut operation["responses"]["200"];
        if success["description"] == "" {
            let schema = &success["content"]["application/json"]["schema"];
            let name = schema["$ref"]
                .as_str()
                .and_then(|path| path.rsplit('/').next());
            let description = name.map(|name| schemas[name]["description"].clone());
            success["description"] = description.unwrap_or_else(|| json!("It is."));
        }
    }
}

fn all_operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = members(&mut document["paths"]);
    paths.flat_map(|(_, operations)| members(operations).map(|(_, operation)| operation))
}

/// The parameters of all operations: in the query, the path and the headers.
fn all_parameters(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    all_operations(document)
        .filter_map(|operation| operation.get_mut("parameters")?.as_array_mut())
        .flatten()
}

fn members(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flatten()
}

/// A member for each query parameter of `/predict`.
fn criteria(document: &Value) -> Map<String, Value> {
    let parameters = &document["paths"]["/predict"]["post"]["parameters"];
    let parameters = parameters.as_array().into_iter().flatten();
    let members = parameters.map(|parameter| {
        let mut member = parameter["schema"].clone();
        member["description"] = parameter["description"].clone();
        (
            parameter["name"].as_str().unwrap_or_default().to_owned(),
            member,
        )
    });
    members.collect()
}

/// Many clients send null for what is not set.
fn or_null(members: &mut Map<String, Value>) {
    for member in members.values_mut() {
        member["nullable"] = json!(true);
    }
}

/// Gives the form and the JSON of `/predict` a field for each query parameter, and no others.
fn give_fields(document: &mut Value) {
    let fields = criteria(document);
    let content = &mut document["paths"]["/predict"]["post"]["requestBody"]["content"];
    for media in ["multipart/form-data", "application/json"] {
        let body = &mut content[media]["schema"];
        let mut fields = fields.clone();
        if media == "application/json" {
            or_null(&mut fields);
        }
        for (name, field) in fields {
            body["properties"][name] = field;
        }
        body["additionalProperties"] = json!(false);
    }
}

/// States what the types of a request of the Open Inference Protocol leave open.
fn narrow_inference(document: &mut Value) {
    let flag = json!({"type": "boolean", "nullable": true});
    let mut parameters = criteria(document);
    or_null(&mut parameters);
    parameters.insert("binary_data_output".to_owned(), flag.clone());
    let parameters =
        json!({"type": "object", "additionalProperties": false, "properties": parameters});
    let own = json!({"type": "object", "properties": {"binary_data": flag}});
    let outputs = open_inference::Output::ALL.map(open_inference::Output::name);
    // Patterns rather than enumerations: generated clients have no type for each.
    let outputs = format!("^({})$", outputs.join("|"));
    let one = json!({"type": "integer", "minimum": 1, "maximum": 1});
    let picture = json!({"type": "string", "format": "byte"});
    let schemas = &mut document["components"]["schemas"];
    for (schema, property, narrower) in [
        ("Request", "parameters", parameters),
        ("Request", "inputs", json!({"minItems": 1, "maxItems": 1})),
        (
            "Input",
            "name",
            json!({"pattern": format!("^{}$", form::IMAGE)}),
        ),
        ("Input", "datatype", json!({"pattern": "^BYTES$"})),
        ("Input", "shape", json!({"minItems": 1, "items": one})),
        (
            "Input",
            "data",
            json!({"type": "array", "minItems": 1, "maxItems": 1, "items": picture}),
        ),
        ("RequestedOutput", "name", json!({"pattern": outputs})),
        ("RequestedOutput", "parameters", own),
    ] {
        let property = &mut schemas[format!("Inference{schema}")]["properties"][property];
        for (key, value) in narrower.as_object().into_iter().flatten() {
            property[key] = value.clone();
        }
    }
    // Only raw bytes, which this schema is not for, replace it.
    if let Some(required) = schemas["InferenceInput"]["required"].as_array_mut() {
        required.retain(|name| name != "data");
        required.push(json!("data"));
    }
    for schema in ["Request", "Input", "RequestedOutput"] {
        let schema = &mut schemas[format!("Inference{schema}")];
        let required = schema["required"].clone();
        for (name, property) in members(&mut schema["properties"]) {
            let is_required = required
                .as_array()
                .is_some_and(|names| names.contains(&json!(name)));
            if !is_required {
                property["nullable"] = json!(true);
            }
        }
    }
}

/// The labels that `classes` accepts.
fn give_labels(document: &mut Value, known: Option<(&Model, &Criteria)>) {
    let Some((model, _)) = known else { return };
    let labels: Vec<&str> = model.distinct_labels().collect();
    for parameter in all_parameters(document).filter(|parameter| parameter["name"] == "classes") {
        parameter["schema"]["items"]["enum"] = json!(labels);
    }
}

/// The default of each query parameter.
fn give_defaults(document: &mut Value, known: Option<(&Model, &Criteria)>) {
    let Some((_, criteria)) = known else { return };
    let defaults = [
        // As the user wrote them: 0.45 in single precision is 0.449999988 in double precision.
        ("threshold", json!(decimal(criteria.threshold))),
        ("iou", json!(decimal(criteria.iou))),
        ("top_k", json!(criteria.top_k)),
    ];
    for parameter in all_parameters(document) {
        let default = defaults.iter().find(|(name, _)| parameter["name"] == *name);
        if let Some((_, default)) = default {
            parameter["schema"]["default"] = default.clone();
        }
    }
}

/// The double-precision number with the same shortest decimal form.
pub(crate) fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// If a described field has a named schema, poem-openapi merges (`allOf`) that schema with a second one that
/// holds only the description, which the field states too. Generators make a second type for the merged
/// schema, or no type if it is an enumeration.
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
