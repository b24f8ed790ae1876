//! A request of the Open Inference Protocol: JSON with the picture in it, or raw bytes after it.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use poem::{Request, RequestBody};
use poem_openapi::registry::{
    MetaMediaType, MetaParamIn, MetaRequest, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::Type as _;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, Object};
use serde::Deserialize;
use serde_json::Value;
use state_dict::quote;

use super::response::Output;
use super::{JSON_LENGTH, check_name};
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::criteria::{Fields, Given, NAMES, Source};
use crate::api::form::IMAGE;
use crate::api::problem::{Kind, Problem};
use crate::api::{body, json};

/// Parameters that clients of the protocol send by themselves. They are hints for schedulers.
const HINTS: [&str; 6] = [
    "binary_data_output",
    "priority",
    "sequence_end",
    "sequence_id",
    "sequence_start",
    "timeout",
];

/// An admitted request with its body.
pub struct Asked {
    pub call: Call,
    pub picture: Bytes,
    pub criteria: Fields,
    pub requested: Requested,
}

/// The response that a request asks for.
pub struct Requested {
    pub id: Option<String>,
    /// The outputs to send, and whether each is raw bytes.
    pub outputs: Vec<(Output, bool)>,
}

type Parameters = HashMap<String, Value>;

/// The JSON of a request.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "InferenceRequest")]
struct InferRequest {
    /// Repeated in the response.
    id: Option<String>,
    /// `threshold`, `iou`, `top_k`, `classes`; and `binary_data_output`: whether outputs are raw bytes by default.
    parameters: Option<Parameters>,
    /// The picture.
    inputs: Vec<InputTensor>,
    /// The outputs to send; all by default.
    outputs: Option<Vec<RequestedOutput>>,
}

/// An input.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "InferenceInput")]
struct InputTensor {
    /// `image`.
    name: String,
    /// One element.
    shape: Vec<u64>,
    /// `BYTES`.
    datatype: String,
    /// `binary_data_size`, if the element follows the JSON as raw bytes.
    parameters: Option<Parameters>,
    /// The picture as base64, or as a `data:` URL with base64.
    data: Option<Value>,
}

/// A requested output.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "InferenceRequestedOutput")]
struct RequestedOutput {
    /// `boxes`, `scores` or `labels`.
    name: String,
    /// `binary_data`: whether it is sent as raw bytes.
    parameters: Option<Parameters>,
}

impl<'a> ApiExtractor<'a> for Asked {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        InferRequest::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let json = MetaMediaType {
            content_type: "application/json",
            schema: InferRequest::schema_ref(),
        };
        let binary = MetaMediaType {
            content_type: "application/octet-stream",
            schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format(
                "string", "binary",
            ))),
        };
        Some(MetaRequest {
            description: Some(
                "JSON; or JSON and raw bytes, if the header `Inference-Header-Content-Length` says how many bytes \
                 are JSON. The media type does not matter.",
            ),
            content: vec![json, binary],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let context = Context::of(request);
        let parameters: HashMap<String, String> = request.path_params()?;
        let name = parameters.get("name").map_or("", String::as_str);
        check_name(name, context.engine()?.model())?;
        // tritonclient sends no Content-Type.
        let call = Call::begin(request, |_| Ok(()))?;
        let JsonLength(json_length) = JsonLength::of(request)?;
        let mut reader = json::Reader::new(json::Member {
            name: "data",
            depth: 3,
        });
        let (mut left, mut raw) = (json_length.unwrap_or(usize::MAX), BytesMut::new());
        let permit = body::read(request, body.take()?, |chunk| {
            let (json, rest) = chunk.split_at(left.min(chunk.len()));
            left -= json.len();
            raw.extend_from_slice(rest);
            reader.push(json)
        })
        .await?;
        if json_length.is_some() && left > 0 {
            let detail = format!("The body is {left} bytes shorter than `{JSON_LENGTH}` says.");
            return Err(malformed(detail).into());
        }
        let (json, picture) = reader.finish()?;
        let request: InferRequest = json::parse(&json)?;
        let size = check_input(&request.inputs)?;
        let picture = match (picture, size) {
            (Some(picture), None) if raw.is_empty() && request.inputs[0].data.is_some() => {
                picture.into()
            }
            (None, Some(size)) => element(&raw.freeze(), size)?,
            (None, None) => {
                return Err(no_image("has neither `data` nor `binary_data_size`").into());
            }
            _ => return Err(no_image("has `data` and raw bytes").into()),
        };
        Ok(Self {
            call,
            picture: body::hold(picture, permit),
            criteria: criteria(request.parameters.as_ref(), context)?,
            requested: Requested::new(request)?,
        })
    }
}

/// How many bytes of the body are JSON; `None` for all.
pub struct JsonLength(Option<usize>);

impl JsonLength {
    fn of(request: &Request) -> Result<Self, Problem> {
        let Some(value) = request.headers().get(JSON_LENGTH) else {
            return Ok(Self(None));
        };
        let length = value.to_str().ok().and_then(|text| text.parse().ok());
        let wrong = || malformed(format!("The header `{JSON_LENGTH}` is no whole number."));
        length.map(|length| Self(Some(length))).ok_or_else(wrong)
    }
}

impl<'a> ApiExtractor<'a> for JsonLength {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(u64::schema_ref().merge(MetaSchema {
            minimum: Some(0.0),
            ..MetaSchema::ANY
        }))
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self::of(request)?)
    }
}

/// Checks that there is one input with one element. Returns its raw bytes after the JSON, if it has any.
fn check_input(inputs: &[InputTensor]) -> Result<Option<usize>, Problem> {
    let [input] = inputs else {
        let count = inputs.len();
        let detail = format!("The request has {count} inputs; it must have one, `{IMAGE}`.");
        return Err(Problem::new(Kind::NoImage, detail));
    };
    if input.name != IMAGE {
        let name = quote(&input.name);
        let detail = format!("There is no input {name}; the input is `{IMAGE}`.");
        return Err(Problem::new(Kind::NoImage, detail));
    }
    if input.datatype != "BYTES" {
        let datatype = quote(&input.datatype);
        return Err(no_image(&format!(
            "has the datatype {datatype}, but must have BYTES"
        )));
    }
    if input.shape.is_empty() || input.shape.iter().any(|side| *side != 1) {
        let shape = &input.shape;
        return Err(no_image(&format!(
            "has the shape {shape:?}, but must have one element, [1]"
        )));
    }
    let parameters = input.parameters.as_ref();
    let Some(size) = parameters.and_then(|members| members.get("binary_data_size")) else {
        return Ok(None);
    };
    let number = size.as_u64().and_then(|size| size.try_into().ok());
    let wrong = || no_image("has a `binary_data_size` that is no whole number");
    number.map(Some).ok_or_else(wrong)
}

/// The one element of a BYTES tensor: its length in four bytes, least significant first, and its bytes.
fn element(raw: &Bytes, size: usize) -> Result<Bytes, Problem> {
    if raw.len() != size {
        let given = raw.len();
        return Err(malformed(format!(
            "{given} raw bytes follow the JSON, but `binary_data_size` is {size}."
        )));
    }
    let length = raw
        .first_chunk()
        .map(|head| u32::from_le_bytes(*head) as usize);
    if length == raw.len().checked_sub(4) {
        Ok(raw.slice(4..))
    } else {
        Err(malformed(
            "The raw bytes must be one element: its length in four bytes, least significant first, and as many bytes.",
        ))
    }
}

/// The criteria among the parameters of a request.
fn criteria(parameters: Option<&Parameters>, context: &Context) -> Result<Fields, Problem> {
    let mut fields = Fields::default();
    for (name, value) in parameters.into_iter().flatten() {
        if !fields.take(name.as_bytes(), Given::Json(value), context)?
            && !HINTS.contains(&name.as_str())
        {
            return Err(Source::Json.unknown(name.as_bytes(), &NAMES));
        }
    }
    Ok(fields)
}

/// A parameter that is true or false; `None` if it is not given.
fn flag(parameters: Option<&Parameters>, name: &str) -> Result<Option<bool>, Problem> {
    match parameters.and_then(|members| members.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => {
            let given = quote(&other.to_string());
            Err(malformed(format!(
                "The parameter `{name}` is {given}; it must be `true` or `false`."
            )))
        }
    }
}

impl Requested {
    fn new(request: InferRequest) -> Result<Self, Problem> {
        let is_raw = flag(request.parameters.as_ref(), "binary_data_output")?.unwrap_or(false);
        let outputs = match request.outputs {
            None => Output::ALL.map(|output| (output, is_raw)).into(),
            Some(outputs) => {
                let outputs = outputs
                    .into_iter()
                    .map(|RequestedOutput { name, parameters }| {
                        let own = flag(parameters.as_ref(), "binary_data")?;
                        Ok((Output::named(&name)?, own.unwrap_or(is_raw)))
                    });
                outputs.collect::<Result<_, Problem>>()?
            }
        };
        Ok(Self {
            id: request.id,
            outputs,
        })
    }
}

fn no_image(what: &str) -> Problem {
    let detail = format!("The input `{IMAGE}` {what}.");
    Problem::new(Kind::NoImage, detail)
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::MalformedBody, detail)
}
