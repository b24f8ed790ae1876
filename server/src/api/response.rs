//! The answer of `/predict` as JSON, or as an annotated picture.

use bytes::Bytes;
use poem_openapi::payload::{Binary, Json};
use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Object, ResponseContent};

use crate::engine::Detections;

/// The answer to a picture.
#[derive(Debug, ApiResponse)]
pub enum PredictResponse {
    /// What was found: as JSON, an empty list where nothing was; or the picture itself, with a box, a
    /// label and a probability for each object.
    #[oai(status = 200)]
    Detections(
        Content,
        /// How long each stage took, in milliseconds (W3C Server Timing).
        #[oai(header = "Server-Timing")]
        String,
        /// `Accept`: what the form of the answer depends on.
        #[oai(header = "Vary")]
        String,
    ),
}

/// The forms of an answer.
#[derive(Debug, ResponseContent)]
pub enum Content {
    /// Numbers and names.
    #[oai(content_type = "application/json")]
    Json(Json<Prediction>),
    /// The annotated picture, small.
    #[oai(content_type = "image/jpeg")]
    Jpeg(Binary<Bytes>),
    /// The annotated picture, every other pixel as it was.
    #[oai(content_type = "image/png")]
    Png(Binary<Bytes>),
}

/// What was found in a picture.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(example)]
pub struct Prediction {
    /// The model that answered: the name of its weights file.
    pub model: String,
    /// The picture that boxes refer to.
    pub image: Size,
    /// The objects found, the most probable first.
    pub predictions: Vec<DetectedObject>,
}

/// The size of the picture as it is shown upright (EXIF orientation obeyed), in pixels.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "ImageSize")]
pub struct Size {
    /// Pixels in a row.
    #[oai(validator(minimum(value = "1")))]
    pub width: u32,
    /// Rows.
    #[oai(validator(minimum(value = "1")))]
    pub height: u32,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Object)]
pub struct DetectedObject {
    /// The label of its class.
    pub label: String,
    /// How sure the model is.
    #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
    pub probability: f64,
    /// Where it is.
    #[oai(rename = "box")]
    pub place: BoundingBox,
}

/// A box in pixels of the upright picture, from its top left corner; it lies inside the picture.
#[derive(Debug, Clone, PartialEq, Object)]
pub struct BoundingBox {
    /// From the picture's left edge to the box's.
    #[oai(validator(minimum(value = "0")))]
    pub x: f64,
    /// From the picture's top edge to the box's.
    #[oai(validator(minimum(value = "0")))]
    pub y: f64,
    /// The box's width.
    #[oai(validator(minimum(value = "0")))]
    pub width: f64,
    /// The box's height.
    #[oai(validator(minimum(value = "0")))]
    pub height: f64,
}

impl Prediction {
    /// The answer of the model of that name. Probabilities are rounded to a millionth, boxes to a
    /// hundredth of a pixel: more says nothing.
    #[must_use]
    pub fn new(model: &str, detections: &Detections) -> Self {
        let predictions = detections.objects.iter().map(|found| {
            let corners = found.corners;
            let (x1, y1) = (hundredths(corners.x1), hundredths(corners.y1));
            let (x2, y2) = (hundredths(corners.x2), hundredths(corners.y2));
            DetectedObject {
                label: found.label.clone(),
                probability: (f64::from(found.score) * 1e6).round() / 1e6,
                place: BoundingBox {
                    x: x1 / 100.0,
                    y: y1 / 100.0,
                    width: (x2 - x1) / 100.0,
                    height: (y2 - y1) / 100.0,
                },
            }
        });
        Self {
            model: model.to_owned(),
            image: Size {
                width: detections.width,
                height: detections.height,
            },
            predictions: predictions.collect(),
        }
    }
}

fn hundredths(pixels: f32) -> f64 {
    (f64::from(pixels) * 100.0).round()
}

impl Example for Prediction {
    fn example() -> Self {
        Self {
            model: "ssd300_mAP_77.43_v2".to_owned(),
            image: Size {
                width: 451,
                height: 300,
            },
            predictions: vec![DetectedObject {
                label: "cat".to_owned(),
                probability: 0.987_654,
                place: BoundingBox {
                    x: 60.25,
                    y: 4.5,
                    width: 301.75,
                    height: 295.5,
                },
            }],
        }
    }
}
