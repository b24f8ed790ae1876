//! `POST /v1/vision/detection`, as DeepStack has it. Frigate, Home Assistant and Blue Iris are clients of it.

use bytes::Bytes;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, Object, OpenApi};

use super::auth::Authenticated;
use super::call::Call;
use super::context::Context;
use super::criteria::{
    Bounded as _, Classes, Criterion as _, Fields, Iou, MinConfidence, Param, Source, Threshold,
    TopK, check_names,
};
use super::document::{InferenceErrors, Tag};
use super::media::Media;
use super::problem::{ErrorBody, Failure, Problem};
use super::response::{JsonResponse, Prediction};
use super::{body, form};

/// The operation.
#[derive(Debug)]
pub struct DeepStack;

/// An error in DeepStack's form.
#[derive(Debug, Object)]
#[oai(rename = "VisionError")]
pub struct Error {
    /// False.
    success: bool,
    /// What was wrong with this request, and what is accepted or what to do.
    error: String,
}

impl ErrorBody for Error {
    const MEDIA_TYPE: &'static str = "application/json";

    fn of(problem: &Problem) -> Self {
        Self {
            success: false,
            error: problem.detail().to_owned(),
        }
    }
}

/// The detected objects.
#[derive(Debug, Object)]
#[oai(rename = "VisionDetections")]
struct Vision {
    /// True.
    success: bool,
    /// The detected objects, the highest confidence first.
    predictions: Vec<Found>,
}

/// A detected object. Its edges are in whole pixels of the upright picture.
#[derive(Debug, Object)]
#[oai(rename = "VisionDetection")]
struct Found {
    /// The label of its class.
    label: String,
    /// Its score.
    #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
    confidence: f64,
    /// Its left edge.
    x_min: u32,
    /// Its top edge.
    y_min: u32,
    /// Its right edge.
    x_max: u32,
    /// Its bottom edge.
    y_max: u32,
}

#[OpenApi]
impl DeepStack {
    /// Find objects in a picture, for clients of DeepStack
    ///
    /// The form has the picture in `image`. Fields that this server does not know are ignored, since DeepStack's
    /// clients send some, such as `api_key`. The query has the criteria of `/predict`: clients that cannot send
    /// fields of their own can have them in their URL.
    #[oai(
        path = "/v1/vision/detection",
        method = "post",
        operation_id = "vision_detection",
        tag = "Tag::DeepStack"
    )]
    #[expect(clippy::too_many_arguments, reason = "they are the request's")]
    async fn detect(
        &self,
        _user: Authenticated,
        /// Minimum confidence of a detection, also as the field `min_confidence`; the default is the setting
        /// `THRESHOLD`.
        threshold: Param<Threshold>,
        /// NMS threshold; the default is the setting `NMS_IOU`.
        iou: Param<Iou>,
        /// Maximum number of detections; the default is the setting `TOP_K`.
        top_k: Param<TopK>,
        /// The labels to detect, separated by commas; the default is all labels of the model.
        #[oai(style = "form", explode = false)]
        classes: Param<Classes>,
        admitted: Admitted,
        form: Form,
    ) -> Result<JsonResponse<Vision>, Failure<Error, InferenceErrors>> {
        let Admitted(call) = admitted;
        let criteria = Fields {
            threshold: threshold.or(form.min_confidence)?,
            iou: iou.or(None)?,
            top_k: top_k.or(None)?,
            classes: classes.or(None)?,
        };
        let criteria = criteria.or(call.defaults.clone());
        let detections = call.detect(form.picture, criteria).await?;
        let found = Prediction::new(call.engine.model().name(), &detections).predictions;
        let predictions = found.into_iter().map(|found| {
            let sides = found.bounding_box;
            Found {
                label: found.label,
                confidence: found.probability,
                x_min: sides.x.round() as u32,
                y_min: sides.y.round() as u32,
                x_max: (sides.x + sides.width).round() as u32,
                y_max: (sides.y + sides.height).round() as u32,
            }
        });
        Ok(JsonResponse::from(Vision {
            success: true,
            predictions: predictions.collect(),
        }))
    }
}

/// A request that is admitted before its body is read.
struct Admitted(Call);

impl<'a> FromRequest<'a> for Admitted {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        check_names(request.uri())?;
        let check_media = |request: &Request| Media::form(request).map(drop);
        Ok(Self(Call::begin(request, check_media)?))
    }
}

/// The fields of a form.
struct Form {
    picture: Bytes,
    min_confidence: Option<f64>,
}

impl<'a> ApiExtractor<'a> for Form {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(_registry: &mut Registry) {}

    fn request_meta() -> Option<MetaRequest> {
        let inline = |schema| MetaSchemaRef::Inline(Box::new(schema));
        let picture = MetaSchema::new_with_format("string", "binary");
        let form = MetaSchema {
            required: vec![form::IMAGE],
            properties: vec![
                (form::IMAGE, inline(picture)),
                (MinConfidence::NAME, MinConfidence::schema()),
            ],
            ..MetaSchema::new("object")
        };
        Some(MetaRequest {
            description: Some("The picture in a form."),
            content: vec![MetaMediaType {
                content_type: "multipart/form-data",
                schema: inline(form),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let boundary = Media::form(request)?;
        let (whole, permit) = body::read_whole(request, body.take()?).await?;
        let context = Context::of(request);
        let mut min_confidence = None;
        let picture = form::read(&whole, &boundary, |name, text| {
            // Some clients send the field without a value.
            if name == MinConfidence::NAME.as_bytes() && !text.is_empty() {
                min_confidence = Some(MinConfidence::parse(Source::Form, text, context)?);
            }
            Ok(true)
        })?;
        Ok(Self {
            picture: body::hold(picture, permit),
            min_confidence,
        })
    }
}
