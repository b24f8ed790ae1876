//! `POST /predict`.

use bytes::Bytes;
use poem::http::Uri;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::param::Query;
use poem_openapi::payload::{Binary, Json};
use poem_openapi::{OpenApi, Tags};

use super::accept::{self, Form};
use super::auth::Authenticated;
use super::body::{Picture, refuse_announced};
use super::deadline::Deadline;
use super::health::Readiness;
use super::not_ready;
use super::problem::{Kind, Problem};
use super::request_log::{Notes, milliseconds};
use super::response::{Content, PredictResponse, Prediction};
use crate::engine::{self, Detections, Engine, Full, Stages};
use ssd_detector::boxes::Criteria;
use ssd_detector::picture::{self, Encoding};
use state_dict::quote;

/// The query parameters, and what each accepts.
const PARAMETERS: [(&str, &str); 3] = [
    ("threshold", "a number from 0 to 1"),
    ("iou", "a number from 0 to 1"),
    ("top_k", "a whole number from 1 to 8732"),
];

/// Groups of operations.
#[derive(Tags)]
enum Tag {
    /// Pictures in, labelled boxes out.
    Detection,
}

/// The operation.
#[derive(Debug)]
pub struct Predict;

#[OpenApi]
impl Predict {
    /// Find objects in a picture
    ///
    /// Answers every object that the model sees with at least the probability `threshold`, the most
    /// probable first. A JPEG's, PNG's or WebP's EXIF orientation is obeyed: boxes refer to the
    /// picture as it is shown upright. Of an animation the first picture is taken.
    ///
    /// The header `Accept` chooses the form of the answer: `application/json`, which is also what
    /// `*/*` and a request without it get, or the picture with boxes, labels and probabilities drawn
    /// into it, `image/jpeg` (which `image/*` gets) or `image/png`. A class has the same colour in
    /// every picture; the 200 most probable objects are drawn. Nothing of the picture's file is kept
    /// but the pixels: no metadata, no transparency.
    #[oai(
        path = "/predict",
        method = "post",
        operation_id = "predict",
        tag = "Tag::Detection"
    )]
    async fn predict(
        &self,
        _user: Authenticated,
        /// The least probability that is answered; by default the setting `THRESHOLD`. Below 0.01
        /// nothing is answered in any case.
        #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
        threshold: Query<Option<f64>>,
        /// Of two boxes of one class that overlap by more than this (intersection over union), the
        /// more probable is kept; by default the setting `NMS_IOU`.
        #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
        iou: Query<Option<f64>>,
        /// The most objects that are answered; by default the setting `TOP_K`.
        #[oai(validator(minimum(value = "1"), maximum(value = "8732")))]
        top_k: Query<Option<u32>>,
        call: Call,
        picture: Picture,
    ) -> Result<PredictResponse, Problem> {
        let criteria = Criteria {
            threshold: threshold
                .0
                .map_or(call.criteria.threshold, |given| given as f32),
            iou: iou.0.map_or(call.criteria.iou, |given| given as f32),
            top_k: top_k.0.map_or(call.criteria.top_k, |given| given as usize),
        };
        let answering = answer(&call.engine, picture.0, criteria, call.form);
        let answered = tokio::time::timeout_at(call.deadline, answering).await;
        let (detections, content) = answered
            .map_err(|_| late())?
            .map_err(|error| explain(error, &call.notes))?;
        call.notes.answered(&detections);
        let timing = server_timing(&detections.stages);
        Ok(PredictResponse::Detections(
            content,
            timing,
            "Accept".to_owned(),
        ))
    }
}

/// What was found, and the same in the form that the client would rather have.
async fn answer(
    engine: &Engine,
    picture: Bytes,
    criteria: Criteria,
    form: Form,
) -> Result<(Detections, Content), engine::Error> {
    let Form::Picture(encoding) = form else {
        let detections = engine.detect(picture, criteria).await?;
        let prediction = Prediction::new(engine.model().name(), &detections);
        return Ok((detections, Content::Json(Json(prediction))));
    };
    let (detections, annotated) = engine.annotate(picture, criteria, encoding).await?;
    let annotated = Binary(annotated);
    let content = match encoding {
        Encoding::Jpeg => Content::Jpeg(annotated),
        Encoding::Png => Content::Png(annotated),
    };
    Ok((detections, content))
}

fn late() -> Problem {
    Problem::new(
        Kind::Late,
        "The answer did not come in time: the server has too much to do, or the picture is very large.",
    )
}

/// How long each stage took, for the client (W3C Server Timing).
fn server_timing(stages: &Stages) -> String {
    let entries = stages
        .named()
        .map(|(name, time)| format!("{name};dur={}", milliseconds(time)));
    entries.collect::<Vec<_>>().join(", ")
}

/// Pictures that cannot be used are the client's; the cause of a fault of ours is the log's.
pub fn explain(error: engine::Error, notes: &Notes) -> Problem {
    use picture::Error as P;
    let error = match error {
        engine::Error::Picture(error) => error,
        engine::Error::Full(full) => return busy(full),
        engine::Error::Internal(cause) => {
            notes.failed(cause);
            return Problem::internal();
        }
    };
    let kind = match error {
        P::TooLong { .. } => return Problem::not_acceptable(sentence(&error.to_string())),
        P::Empty => Kind::EmptyImage,
        P::Unsupported => Kind::UnsupportedPicture,
        P::TooManyPixels { .. } => Kind::TooManyPixels,
        P::Undecodable { .. } => Kind::UndecodablePicture,
    };
    Problem::new(kind, sentence(&error.to_string()))
}

fn busy(full: Full) -> Problem {
    Problem::busy(
        "Others are before, as many as may wait; come back after the seconds of Retry-After.",
        full.retry_after,
    )
}

/// A message as a sentence: a capital, a full stop.
fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    let stop = if message.ends_with('.') { "" } else { "." };
    first.chain(characters).chain(stop.chars()).collect()
}

/// What a request needs beside its parameters and its picture. Taken before the picture, so that
/// what it lacks is said before the body is read.
struct Call {
    engine: Engine,
    form: Form,
    criteria: Criteria,
    deadline: tokio::time::Instant,
    notes: Notes,
}

impl<'a> FromRequest<'a> for Call {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        check_names(request.uri())?;
        let form = accept::choose(request.headers())?;
        let readiness: Option<&Readiness> = request.data();
        let engine = readiness.and_then(Readiness::engine).cloned();
        let engine = engine.ok_or_else(not_ready)?;
        refuse_announced(request)?;
        engine.has_room().map_err(busy)?;
        let criteria = super::in_force(request).ok_or_else(not_ready)?;
        Ok(Self {
            engine,
            form,
            criteria,
            deadline: Deadline::of(request),
            notes: request.data().cloned().unwrap_or_default(),
        })
    }
}

/// Refuses query parameters that do not exist, or stand twice: a misspelt one would silently do
/// nothing.
fn check_names(uri: &Uri) -> Result<(), Problem> {
    let mut seen = Vec::new();
    for (name, _) in pairs(uri) {
        if !PARAMETERS.iter().any(|(known, _)| *known == name) {
            let (name, known) = (quote(&name), PARAMETERS.map(|(name, _)| name).join(", "));
            return Err(bad_query(format!(
                "There is no query parameter {name}; there are {known}."
            )));
        }
        if seen.contains(&name) {
            return Err(bad_query(format!(
                "The query parameter `{name}` stands twice."
            )));
        }
        seen.push(name);
    }
    Ok(())
}

fn bad_query(detail: String) -> Problem {
    Problem::new(Kind::BadQuery, detail)
}

/// A parameter's value is not accepted.
pub fn bad_parameter(name: &str, uri: &Uri) -> Problem {
    let accepts = PARAMETERS.iter().find(|(known, _)| *known == name);
    let accepts = accepts.map_or("another value", |(_, accepts)| accepts);
    let held = pairs(uri).find(|(found, _)| found == name);
    let held = held.map(|(_, value)| value).unwrap_or_default();
    bad_query(format!(
        "The query parameter `{name}` is {}; it accepts {accepts}.",
        quote(&held)
    ))
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    let query = uri.query().unwrap_or_default().as_bytes();
    form_urlencoded::parse(query).into_owned()
}
