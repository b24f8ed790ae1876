//! The outputs of the Open Inference Protocol.

use poem::http::header;
use poem::{IntoResponse, Response};
use poem_openapi::registry::{
    MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::{ToJSON as _, Type as _};
use poem_openapi::{ApiResponse, Object};
use serde_json::Value;
use state_dict::quote;

use super::JSON_LENGTH;
use super::request::Requested;
use crate::api::document::decimal;
use crate::api::problem::{Kind, Problem};
use crate::api::response::{JsonResponse, server_timing};
use crate::engine::Detections;

/// The outputs for a picture.
#[derive(Debug, Object)]
#[oai(rename = "InferenceResponse", skip_serializing_if_is_none)]
struct Inferred {
    /// The name of the model.
    model_name: String,
    /// The id of the request, if it has one.
    id: Option<String>,
    /// The outputs that were requested; all of them by default.
    outputs: Vec<Tensor>,
}

/// An output.
#[derive(Debug, Object)]
#[oai(rename = "InferenceTensor", skip_serializing_if_is_none)]
struct Tensor {
    /// `boxes`, `scores` or `labels`.
    name: String,
    /// `FP32` or `BYTES`.
    datatype: String,
    /// Its sides. The first is the number of detections.
    shape: Vec<usize>,
    /// Its elements in one list, unless they follow the JSON as raw bytes.
    data: Option<Value>,
    /// How many raw bytes it has after the JSON.
    parameters: Option<TensorParameters>,
}

/// Parameters of an output.
#[derive(Debug, Object)]
#[oai(rename = "InferenceTensorParameters")]
struct TensorParameters {
    /// How many raw bytes it has after the JSON.
    binary_data_size: usize,
}

/// An output of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Boxes,
    Scores,
    Labels,
}

impl Output {
    pub const ALL: [Self; 3] = [Self::Boxes, Self::Scores, Self::Labels];

    pub fn name(self) -> &'static str {
        match self {
            Self::Boxes => "boxes",
            Self::Scores => "scores",
            Self::Labels => "labels",
        }
    }

    pub fn datatype(self) -> &'static str {
        match self {
            Self::Boxes | Self::Scores => "FP32",
            Self::Labels => "BYTES",
        }
    }

    /// Its sides, of which the first is the number of detections.
    pub fn shape<N: From<u8>>(self, count: N) -> Vec<N> {
        match self {
            Self::Boxes => vec![count, N::from(4)],
            Self::Scores | Self::Labels => vec![count],
        }
    }

    pub fn named(name: &str) -> Result<Self, Problem> {
        let found = Self::ALL.into_iter().find(|output| output.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            let detail = format!(
                "There is no output {}; the outputs are {names}.",
                quote(name)
            );
            Problem::new(Kind::BadField, detail)
        })
    }

    /// Its elements; edges in the order left, top, right, bottom.
    fn elements(self, detections: &Detections) -> Elements {
        let objects = detections.objects.iter();
        match self {
            Self::Boxes => {
                let edges = objects.flat_map(|found| {
                    let corners = found.corners;
                    [corners.x1, corners.y1, corners.x2, corners.y2]
                });
                Elements::Numbers(edges.collect())
            }
            Self::Scores => Elements::Numbers(objects.map(|found| found.score).collect()),
            Self::Labels => Elements::Texts(objects.map(|found| found.label.clone()).collect()),
        }
    }
}

/// The elements of a tensor.
enum Elements {
    Numbers(Vec<f32>),
    Texts(Vec<String>),
}

impl Elements {
    fn json(self) -> Value {
        match self {
            Self::Numbers(numbers) => numbers.into_iter().map(decimal).collect(),
            Self::Texts(texts) => texts.into(),
        }
    }

    /// Numbers in four bytes, texts after their length in four bytes, least significant first.
    fn raw(self) -> Vec<u8> {
        match self {
            Self::Numbers(numbers) => numbers.into_iter().flat_map(f32::to_le_bytes).collect(),
            Self::Texts(texts) => {
                let element = |text: String| {
                    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                    [length.to_le_bytes().as_slice(), text.as_bytes()].concat()
                };
                texts.into_iter().flat_map(element).collect()
            }
        }
    }
}

/// JSON, and the raw bytes of the outputs that were requested so.
pub struct Outputs {
    response: Inferred,
    raw: Vec<u8>,
    timing: String,
}

impl Outputs {
    pub fn new(model_name: String, requested: Requested, detections: &Detections) -> Self {
        let count = detections.objects.len();
        let mut raw = Vec::new();
        let tensor = |(output, is_raw): (Output, bool)| {
            let elements = output.elements(detections);
            let (data, parameters) = if is_raw {
                let bytes = elements.raw();
                let binary_data_size = bytes.len();
                raw.extend(bytes);
                (None, Some(TensorParameters { binary_data_size }))
            } else {
                (Some(elements.json()), None)
            };
            Tensor {
                name: output.name().to_owned(),
                datatype: output.datatype().to_owned(),
                shape: output.shape(count),
                data,
                parameters,
            }
        };
        let outputs = requested.outputs.into_iter().map(tensor).collect();
        Self {
            response: Inferred {
                model_name,
                id: requested.id,
                outputs,
            },
            raw,
            timing: server_timing(&detections.stages),
        }
    }
}

impl IntoResponse for Outputs {
    fn into_response(self) -> Response {
        let is_raw = |tensor: &Tensor| tensor.parameters.is_some();
        let has_raw = self.response.outputs.iter().any(is_raw);
        let timed =
            |response: Response| response.with_header("Server-Timing", self.timing.as_str());
        if !has_raw {
            return timed(JsonResponse::from(self.response).into_response()).into_response();
        }
        let json = self.response.to_json_string();
        let length = json.len();
        let response = Response::builder()
            .header(JSON_LENGTH, length)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body([json.into_bytes(), self.raw].concat());
        timed(response).into_response()
    }
}

impl ApiResponse for Outputs {
    fn meta() -> MetaResponses {
        let binary =
            MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "binary")));
        let content = [
            ("application/json", Inferred::schema_ref()),
            ("application/octet-stream", binary),
        ];
        let content = content.map(|(content_type, schema)| MetaMediaType {
            content_type,
            schema,
        });
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The outputs. If one was requested as raw bytes: JSON and raw bytes, and the header \
                    `Inference-Header-Content-Length` says how many bytes are JSON.",
                status: Some(200),
                status_range: None,
                content: content.into(),
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        Inferred::register(registry);
    }
}
