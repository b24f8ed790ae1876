//! The Open Inference Protocol v2 over HTTP, as KServe and Triton speak it: `/v2`.
//!
//! The picture is one BYTES element, in base64 in the JSON or as raw bytes after it (Triton's binary data extension).
//! <https://github.com/kserve/open-inference-protocol>
//!
//! ```text
//! request    the JSON and the raw bytes of a request
//! response   the outputs
//! ```

mod request;
mod response;

use poem::Request;
use poem::http::HeaderName;
use poem_openapi::param::Path;
use poem_openapi::{Object, OpenApi};
use ssd_detector::Model;

use super::auth::Authenticated;
use super::context::Context;
use super::document::{InferenceErrors, LivenessErrors, LoginErrors, ReadinessErrors, Tag};
use super::form::IMAGE;
use super::problem::{ErrorBody, Failure, Problem};
use super::response::JsonResponse;
use request::{Asked, JsonLength};
pub use response::Output;
use response::Outputs;

/// Says how many bytes of a body are JSON; raw tensors follow.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The operations.
#[derive(Debug)]
pub struct OpenInference;

type Failed<D> = Failure<Error, D>;

/// An error of the Open Inference Protocol.
#[derive(Debug, Object)]
#[oai(rename = "InferenceError")]
pub struct Error {
    /// What was wrong with this request, and what is accepted or what to do.
    pub error: String,
}

impl ErrorBody for Error {
    const MEDIA_TYPE: &'static str = "application/json";

    fn of(problem: &Problem) -> Self {
        Self {
            error: problem.detail().to_owned(),
        }
    }
}

/// The server.
#[derive(Debug, Object)]
#[oai(rename = "InferenceServer")]
struct Server {
    /// The name of the server.
    name: String,
    /// Its version.
    version: String,
    /// The extensions of the protocol that it has.
    extensions: Vec<String>,
}

/// Whether the server is alive.
#[derive(Debug, Object)]
#[oai(rename = "InferenceLive")]
struct Live {
    /// Whether it is.
    live: bool,
}

/// Whether the server, or a model, gets requests.
#[derive(Debug, Object)]
#[oai(rename = "InferenceReady", skip_serializing_if_is_none)]
struct Ready {
    /// The name of the model.
    name: Option<String>,
    /// Whether it does.
    ready: bool,
}

/// A model, its inputs and its outputs.
#[derive(Debug, Object)]
#[oai(rename = "InferenceModel")]
struct ModelMetadata {
    /// The name of the model.
    name: String,
    /// Empty: there is one version of a model.
    versions: Vec<String>,
    /// What runs the model.
    platform: String,
    /// Its inputs.
    inputs: Vec<TensorMetadata>,
    /// Its outputs.
    outputs: Vec<TensorMetadata>,
}

/// An input or an output of a model.
#[derive(Debug, Object)]
#[oai(rename = "InferenceTensorMetadata")]
struct TensorMetadata {
    /// Its name.
    name: String,
    /// The type of its elements.
    datatype: String,
    /// Its sides; -1 for the number of detections.
    shape: Vec<i64>,
}

#[expect(clippy::unused_async, reason = "poem-openapi wants it")]
#[OpenApi]
impl OpenInference {
    /// The server's name and version
    ///
    /// Also the extensions of the protocol that it has.
    #[oai(
        path = "/v2",
        method = "get",
        operation_id = "inference_server",
        tag = "Tag::OpenInference"
    )]
    async fn server(
        &self,
        _user: Authenticated,
    ) -> Result<JsonResponse<Server>, Failed<LoginErrors>> {
        Ok(JsonResponse::from(Server {
            name: "ssd".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: vec!["binary_tensor_data".to_owned()],
        }))
    }

    /// Liveness in the protocol's form
    ///
    /// Like `/livez`.
    #[oai(
        path = "/v2/health/live",
        method = "get",
        operation_id = "inference_live",
        tag = "Tag::OpenInference"
    )]
    async fn live(&self, request: &Request) -> Result<JsonResponse<Live>, Failed<LivenessErrors>> {
        Context::of(request).readiness.alive()?;
        Ok(JsonResponse::from(Live { live: true }))
    }

    /// Readiness in the protocol's form
    ///
    /// Like `/readyz`.
    #[oai(
        path = "/v2/health/ready",
        method = "get",
        operation_id = "inference_ready",
        tag = "Tag::OpenInference"
    )]
    async fn ready(
        &self,
        request: &Request,
    ) -> Result<JsonResponse<Ready>, Failed<ReadinessErrors>> {
        Context::of(request).readiness.ready_now().await?;
        Ok(JsonResponse::from(Ready {
            name: None,
            ready: true,
        }))
    }

    /// The model's inputs and outputs
    ///
    /// Their names, types and shapes are the same for every model.
    #[oai(
        path = "/v2/models/:name",
        method = "get",
        operation_id = "inference_model",
        tag = "Tag::OpenInference"
    )]
    async fn model(
        &self,
        _user: Authenticated,
        /// The name of the model: that of its weights file, without extension.
        name: Path<String>,
        request: &Request,
    ) -> Result<JsonResponse<ModelMetadata>, Failed<LoginErrors>> {
        let engine = Context::of(request).engine()?;
        check_name(&name.0, engine.model())?;
        let tensor = |name: &str, datatype: &str, shape| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape,
        };
        let outputs =
            Output::ALL.map(|output| tensor(output.name(), output.datatype(), output.shape(-1)));
        Ok(JsonResponse::from(ModelMetadata {
            name: name.0,
            versions: Vec::new(),
            platform: "ssd_libtorch".to_owned(),
            inputs: vec![tensor(IMAGE, "BYTES", vec![1])],
            outputs: outputs.into(),
        }))
    }

    /// The model's readiness
    ///
    /// There is one model, so it is ready when the server is.
    #[oai(
        path = "/v2/models/:name/ready",
        method = "get",
        operation_id = "inference_model_ready",
        tag = "Tag::OpenInference"
    )]
    async fn model_ready(
        &self,
        _user: Authenticated,
        /// The name of the model.
        name: Path<String>,
        request: &Request,
    ) -> Result<JsonResponse<Ready>, Failed<LoginErrors>> {
        let context = Context::of(request);
        check_name(&name.0, context.engine()?.model())?;
        context.readiness.ready_now().await?;
        Ok(JsonResponse::from(Ready {
            name: Some(name.0),
            ready: true,
        }))
    }

    /// Find objects in a picture
    ///
    /// The input `image` has one BYTES element: the picture's bytes by the binary data extension, or base64 in JSON.
    /// The outputs, best detection first: `boxes` (left, top, right and bottom edge in pixels of the upright
    /// picture), `scores` and `labels`. The request's `parameters` may have `threshold`, `iou`, `top_k` and
    /// `classes`, as the query of `/predict`.
    #[oai(
        path = "/v2/models/:name/infer",
        method = "post",
        operation_id = "inference_infer",
        tag = "Tag::OpenInference"
    )]
    async fn infer(
        &self,
        _user: Authenticated,
        /// The name of the model.
        name: Path<String>,
        /// How many bytes of the body are JSON, if raw bytes follow.
        #[oai(name = "Inference-Header-Content-Length")]
        _json_length: JsonLength,
        asked: Asked,
    ) -> Result<Outputs, Failed<InferenceErrors>> {
        let Asked {
            call,
            picture,
            criteria,
            requested,
        } = asked;
        let criteria = criteria.or(call.defaults.clone());
        let detections = call.detect(picture, criteria).await?;
        Ok(Outputs::new(name.0, requested, &detections))
    }
}

fn check_name(asked: &str, model: &Model) -> Result<(), Problem> {
    if asked == model.name() {
        Ok(())
    } else {
        Err(Problem::no_model(asked, model.name()))
    }
}
