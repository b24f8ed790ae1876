//! The response of `/predict` as JSON, or as an annotated picture.

use bytes::Bytes;
use poem_openapi::payload::{Binary, Json};
use poem_openapi::types::{Example, ToJSON};
use poem_openapi::{ApiResponse, Object, ResponseContent};

use super::request_log::milliseconds;
use crate::engine::{Detections, Stages};

/// How long each stage took (W3C Server Timing).
pub fn server_timing(stages: &Stages) -> String {
    let entries = stages
        .named()
        .map(|(name, time)| format!("{name};dur={}", milliseconds(time)));
    entries.collect::<Vec<_>>().join(", ")
}

/// The response to a picture.
#[derive(Debug, ApiResponse)]
pub enum PredictResponse {
    /// The detections. As JSON: a list, empty if nothing was detected. As a picture: the picture with a
    /// box, a label and a score for each object.
    #[oai(status = 200)]
    Detections(
        Content,
        /// How long each stage took, in milliseconds (W3C Server Timing).
        #[oai(header = "Server-Timing")]
        String,
        /// `Accept`, the header that selects the representation.
        #[oai(header = "Vary")]
        String,
    ),
}

/// A response that is always JSON. Its media type has no `charset`: JSON has none (RFC 8259, section 11).
#[derive(Debug, ApiResponse)]
pub enum JsonResponse<T: ToJSON + Send + Sync> {
    // `document` describes it by its schema.
    #[oai(status = 200, content_type = "application/json")]
    Body(Json<T>),
}

impl<T: ToJSON + Send + Sync> From<T> for JsonResponse<T> {
    fn from(body: T) -> Self {
        Self::Body(Json(body))
    }
}

/// The representations of a response.
#[derive(Debug, ResponseContent)]
pub enum Content {
    /// Labels, scores and boxes.
    #[oai(content_type = "application/json")]
    Json(Json<Prediction>),
    /// The annotated picture as a JPEG: smaller, lossy.
    #[oai(content_type = "image/jpeg")]
    Jpeg(Binary<Bytes>),
    /// The annotated picture as a PNG: lossless outside the annotations.
    #[oai(content_type = "image/png")]
    Png(Binary<Bytes>),
}

/// The detections of a picture.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(example)]
pub struct Prediction {
    /// The model: the name of its weights file.
    pub model: String,
    /// The size of the picture that the boxes refer to.
    pub image: Size,
    /// The detected objects, the highest score first.
    pub predictions: Vec<DetectedObject>,
}

/// The size in pixels of the upright picture (EXIF orientation applied).
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

/// A detected object.
#[derive(Debug, Clone, PartialEq, Object)]
pub struct DetectedObject {
    /// The label of its class.
    pub label: String,
    /// The score of its class.
    #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
    pub probability: f64,
    /// Its bounding box.
    #[oai(rename = "box")]
    pub bounding_box: BoundingBox,
}

/// A box inside the upright picture, in pixels from the picture's top left corner.
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
    /// Detections of the model named `model`. Scores are rounded to a millionth, boxes to a hundredth of a
    /// pixel.
    #[must_use]
    pub fn new(model: &str, detections: &Detections) -> Self {
        let predictions = detections.objects.iter().map(|found| {
            let corners = found.corners;
            let (x1, y1) = (hundredths(corners.x1), hundredths(corners.y1));
            let (x2, y2) = (hundredths(corners.x2), hundredths(corners.y2));
            DetectedObject {
                label: found.label.clone(),
                probability: (f64::from(found.score) * 1e6).round() / 1e6,
                bounding_box: BoundingBox {
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
                bounding_box: BoundingBox {
                    x: 60.25,
                    y: 4.5,
                    width: 301.75,
                    height: 295.5,
                },
            }],
        }
    }
}
