//! `GET /model`: the model that the server runs, and the limits for its requests.

use poem::Request;
use poem_openapi::{Object, OpenApi};
use tch::Device;

use super::auth::Authenticated;
use super::context::Context;
use super::document::{LoginErrors, Tag, decimal};
use super::problem::{Details, Failure};
use super::response::JsonResponse;

/// The operation.
#[derive(Debug)]
pub struct Models;

/// The model that the server runs.
#[derive(Debug, Object)]
struct Model {
    /// The name of its weights file, without extension.
    name: String,
    /// The family of its weights: its network and the way its pictures are prepared.
    family: String,
    /// The labels of its classes, in order, without the background. Classes may share a label. `N/A` is an unused
    /// number, which is never detected.
    classes: Vec<String>,
    /// The size of the network's input; pictures of any size are resized to it.
    input: InputSize,
    /// The arithmetic of a forward pass.
    precision: String,
    /// Why this precision was selected.
    precision_reason: String,
    /// Where forward passes run: `cpu`, or `cuda:0` for the first GPU.
    device: String,
    /// The criteria for requests that do not state them.
    defaults: Defaults,
    /// What the server accepts.
    limits: Limits,
}

/// The size of the network's input in pixels.
#[derive(Debug, Object)]
struct InputSize {
    /// Pixels in a row.
    width: u32,
    /// Rows.
    height: u32,
}

/// The criteria for requests that do not state them.
#[derive(Debug, Object)]
#[oai(rename = "DefaultCriteria")]
struct Defaults {
    /// Minimum score of a detection.
    threshold: f64,
    /// NMS threshold.
    iou: f64,
    /// Maximum number of detections.
    top_k: usize,
}

/// What the server accepts.
#[derive(Debug, Object)]
struct Limits {
    /// Maximum bytes of a request body.
    body_bytes: usize,
    /// Maximum pixels of a picture.
    pixels: u64,
    /// Maximum pictures that wait for the model; more get 429.
    queue: usize,
    /// How many seconds a request may take from its headers to its response.
    request_seconds: f64,
}

#[expect(clippy::unused_async, reason = "poem-openapi wants it")]
#[OpenApi]
impl Models {
    /// The model and the limits
    ///
    /// What a client needs to know before its first picture: the classes that can be detected, the criteria for requests
    /// that state none, and what the server accepts.
    #[oai(
        path = "/model",
        method = "get",
        operation_id = "model",
        tag = "Tag::Server"
    )]
    async fn model(
        &self,
        _user: Authenticated,
        request: &Request,
    ) -> Result<JsonResponse<Model>, Failure<Details, LoginErrors>> {
        let context = Context::of(request);
        let (engine, criteria, options) =
            (context.engine()?, context.criteria()?, &context.options);
        let (model, selection) = (engine.model(), engine.selection());
        let side = model.family().preprocessing.side as u32;
        Ok(JsonResponse::from(Model {
            name: model.name().to_owned(),
            family: model.family().name.to_owned(),
            classes: model.labels().to_vec(),
            input: InputSize {
                width: side,
                height: side,
            },
            precision: selection.precision.to_string(),
            precision_reason: selection.reason.clone(),
            device: device(selection.device),
            defaults: Defaults {
                threshold: decimal(criteria.threshold),
                iou: decimal(criteria.iou),
                top_k: criteria.top_k,
            },
            limits: Limits {
                body_bytes: options.body_limit,
                pixels: options.pixel_limit,
                queue: engine.queue().capacity,
                request_seconds: options.request_timeout.as_secs_f64(),
            },
        }))
    }
}

fn device(device: Device) -> String {
    match device {
        Device::Cuda(number) => format!("cuda:{number}"),
        other => format!("{other:?}").to_lowercase(),
    }
}
