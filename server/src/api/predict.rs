//! `POST /predict`.

use bytes::Bytes;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::payload::{Binary, Json};
use poem_openapi::{OpenApi, Tags};
use ssd_detector::boxes::Criteria;
use ssd_detector::picture::Encoding;
use tokio::time::{Instant, timeout_at};

use super::accept::{self, Representation};
use super::auth::Authenticated;
use super::body::{self, Upload};
use super::context::Context;
use super::criteria::{Iou, Param, Threshold, TopK, check_names};
use super::problem::Problem;
use super::request_log::{Record, milliseconds};
use super::response::{Content, PredictResponse, Prediction};
use crate::engine::{Detections, Engine, Error, Health, Stages};

/// Groups of operations.
#[derive(Tags)]
enum Tag {
    /// Find objects in pictures.
    Detection,
}

/// The operation.
#[derive(Debug)]
pub struct Predict;

#[OpenApi]
impl Predict {
    /// Find objects in a picture
    ///
    /// Returns every object with a score of at least `threshold`, the highest score first. The EXIF
    /// orientation of a JPEG, PNG or WebP is applied: boxes refer to the upright picture. Of an
    /// animation, the first frame is used.
    ///
    /// The header `Accept` selects the representation. `application/json` is the default, also for
    /// `*/*`. `image/jpeg` (also for `image/*`) and `image/png` return the picture with boxes, labels
    /// and scores drawn into it: at most the 200 objects with the highest scores, each class in the
    /// same colour in every picture. The returned picture has neither metadata nor transparency.
    #[oai(
        path = "/predict",
        method = "post",
        operation_id = "predict",
        tag = "Tag::Detection"
    )]
    async fn predict(
        &self,
        _user: Authenticated,
        /// Minimum score of a detection; the default is the setting `THRESHOLD`. Detections with a
        /// score of 0.01 or less are never returned.
        threshold: Param<Threshold>,
        /// NMS threshold: of two boxes of a class with a greater intersection over union (IoU), only
        /// the one with the higher score is kept; the default is the setting `NMS_IOU`.
        iou: Param<Iou>,
        /// Maximum number of detections; the default is the setting `TOP_K`.
        top_k: Param<TopK>,
        call: Call,
        upload: Upload,
    ) -> Result<PredictResponse, Problem> {
        let (defaults, fields) = (call.defaults, upload.fields);
        let threshold = threshold.or(fields.threshold)?;
        let iou = iou.or(fields.iou)?;
        let top_k = top_k.or(fields.top_k)?;
        let criteria = Criteria {
            threshold: threshold.map_or(defaults.threshold, |given| given as f32),
            iou: iou.map_or(defaults.iou, |given| given as f32),
            top_k: top_k.map_or(defaults.top_k, |given| given as usize),
        };
        let detecting = detect(&call.engine, upload.picture, criteria, call.representation);
        let (detections, content) = timeout_at(call.deadline, detecting)
            .await
            .map_err(|_| Problem::late())??;
        call.record.detected(&detections);
        Ok(PredictResponse::Detections(
            content,
            server_timing(&detections.stages),
            "Accept".to_owned(),
        ))
    }
}

/// The detections, and their representation.
async fn detect(
    engine: &Engine,
    picture: Bytes,
    criteria: Criteria,
    representation: Representation,
) -> Result<(Detections, Content), Error> {
    let Representation::Picture(encoding) = representation else {
        let detections = engine.detect(picture, criteria).await?;
        let prediction = Prediction::new(engine.model().name(), &detections);
        return Ok((detections, Content::Json(Json(prediction))));
    };
    let (detections, annotated) = engine.annotate(picture, criteria, encoding).await?;
    let content = match encoding {
        Encoding::Jpeg => Content::Jpeg(Binary(annotated)),
        Encoding::Png => Content::Png(Binary(annotated)),
    };
    Ok((detections, content))
}

/// How long each stage took (W3C Server Timing).
fn server_timing(stages: &Stages) -> String {
    let entries = stages
        .named()
        .map(|(name, time)| format!("{name};dur={}", milliseconds(time)));
    entries.collect::<Vec<_>>().join(", ")
}

/// What a request needs besides its parameters and its body. It is extracted before the body, so that
/// a request is refused before its body is read.
struct Call {
    engine: Engine,
    representation: Representation,
    defaults: Criteria,
    deadline: Instant,
    record: Record,
}

impl<'a> FromRequest<'a> for Call {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let context = Context::of(request);
        check_names(request.uri())?;
        let representation = accept::choose(request.headers())?;
        let engine = context.engine()?;
        // Before 429, so that no client retries a body that will be refused.
        body::check_headers(request)?;
        if engine.health() == Health::Hanging {
            return Err(Problem::not_ready("A forward pass hangs.").into());
        }
        engine.has_room().map_err(Problem::from)?;
        Ok(Self {
            engine: engine.clone(),
            representation,
            defaults: context.criteria()?,
            deadline: context.deadline(request),
            record: Record::of(request),
        })
    }
}
