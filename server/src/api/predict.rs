//! `POST /predict`.

use bytes::Bytes;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::OpenApi;
use poem_openapi::payload::{Binary, Json};
use ssd_detector::boxes::Criteria;
use ssd_detector::picture::Encoding;

use super::accept::{self, Representation};
use super::auth::Authenticated;
use super::call::Call;
use super::criteria::{Classes, Fields, Iou, Param, Threshold, TopK, check_names};
use super::document::{DetectionErrors, Tag};
use super::media::Media;
use super::problem::{Details, Failure};
use super::response::{Content, PredictResponse, Prediction, server_timing};
use super::upload::Upload;
use crate::engine::{Detections, Engine, Error};

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
    #[expect(clippy::too_many_arguments, reason = "they are the request's")]
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
        /// The labels to detect, separated by commas; the default is all labels of the model.
        #[oai(style = "form", explode = false)]
        classes: Param<Classes>,
        asked: Asked,
        upload: Upload,
    ) -> Result<PredictResponse, Failure<Details, DetectionErrors>> {
        let Asked {
            call,
            representation,
        } = asked;
        let body = upload.fields;
        let criteria = Fields {
            threshold: threshold.or(body.threshold)?,
            iou: iou.or(body.iou)?,
            top_k: top_k.or(body.top_k)?,
            classes: classes.or(body.classes)?,
        };
        let criteria = criteria.or(call.defaults.clone());
        let detecting = detect(&call.engine, upload.picture, criteria, representation);
        let (detections, content) = call.detections(detecting).await?;
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

/// What is known before the body is read, so that a request is refused before that.
struct Asked {
    call: Call,
    representation: Representation,
}

impl<'a> FromRequest<'a> for Asked {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        check_names(request.uri())?;
        let representation = accept::choose(request.headers())?;
        Ok(Self {
            call: Call::begin(request, |request| Media::of(request).map(drop))?,
            representation,
        })
    }
}
