//! The picture in a request's body, bounded in size and time.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, future, stream};
use poem::http::header;
use poem::{Body, Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use ssd_detector::picture::FORMATS;
use state_dict::quote;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::context::Context;
use super::problem::{Kind, Problem};
use super::request_log::Record;

/// The form's field that holds the picture.
const FIELD: &str = "image";

/// The media types of pictures, for the document. The format is detected from the bytes.
const PICTURES: [&str; 5] = [
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/gif",
];

/// When to retry if other requests' bodies fill the memory for bodies.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The bytes of the picture: the field `image` of a form (`multipart/form-data`), or the whole body
/// (`image/*`).
#[derive(Debug)]
pub struct Picture(pub Bytes);

impl<'a> ApiExtractor<'a> for Picture {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(_registry: &mut Registry) {}

    fn request_meta() -> Option<MetaRequest> {
        let binary = || MetaSchema::new_with_format("string", "binary");
        let inline = |schema| MetaSchemaRef::Inline(Box::new(schema));
        let field = MetaSchema {
            description: Some(FORMATS),
            ..binary()
        };
        let form = MetaMediaType {
            content_type: "multipart/form-data",
            schema: inline(MetaSchema {
                required: vec![FIELD],
                properties: vec![(FIELD, inline(field))],
                ..MetaSchema::new("object")
            }),
        };
        let pictures = PICTURES.map(|content_type| MetaMediaType {
            content_type,
            schema: inline(binary()),
        });
        Some(MetaRequest {
            description: Some(
                "The picture, as the field `image` of a form or as the whole body. The server detects \
                 its format from its bytes; the name and the media type of the picture do not matter.",
            ),
            content: [form].into_iter().chain(pictures).collect(),
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let media = Media::of(request)?;
        let (whole, permit) = read(request, body.take()?).await?;
        let bytes = match media {
            Media::Form { boundary } => field(whole, boundary).await?,
            Media::Picture => whole,
        };
        Ok(Self(Bytes::from_owner(Permitted {
            bytes,
            _permit: permit,
        })))
    }
}

/// Bytes with the permit for their memory. The permit is released when the last clone is dropped.
struct Permitted {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Permitted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The kind of body that the Content-Type announces.
enum Media {
    Form { boundary: String },
    Picture,
}

impl Media {
    fn of(request: &Request) -> Result<Self, Problem> {
        let unsupported = |what: &str| {
            let detail = format!(
                "{what} Send the picture as the field `image` of a form (curl -F image=@cat.jpg), or as \
                 the body with its own type (curl -H 'Content-Type: image/jpeg' --data-binary @cat.jpg)."
            );
            Problem::new(Kind::UnsupportedMediaType, detail)
        };
        let value = request
            .headers()
            .get(header::CONTENT_TYPE)
            .ok_or_else(|| unsupported("The request has no Content-Type."))?;
        let media: mime::Mime = value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| unsupported("The Content-Type is not a media type."))?;
        match (media.type_(), media.subtype()) {
            (mime::IMAGE, _) => Ok(Self::Picture),
            (mime::MULTIPART, mime::FORM_DATA) => {
                let boundary = media.get_param(mime::BOUNDARY).ok_or_else(|| {
                    malformed(
                        "The Content-Type is multipart/form-data without its `boundary`; let the HTTP \
                         client write that header.",
                    )
                })?;
                Ok(Self::Form {
                    boundary: boundary.to_string(),
                })
            }
            _ => {
                let given = media.essence_str();
                Err(unsupported(&format!("The Content-Type is {given}.")))
            }
        }
    }
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::MalformedBody, detail)
}

/// The body is larger than `limit` bytes.
pub fn too_large(limit: usize) -> Problem {
    let detail = format!("The body is larger than the limit of {limit} bytes.");
    Problem::new(Kind::BodyTooLarge, detail)
}

/// The body took longer than `timeout`.
pub fn timed_out(timeout: Duration) -> Problem {
    // If REQUEST_TIMEOUT ends first, the time that was left for the body is not a round number.
    let seconds = (timeout.as_secs_f64() * 100.0).round() / 100.0;
    let detail = format!("The body did not arrive within {seconds} seconds.");
    Problem::new(Kind::BodyTimeout, detail)
}

/// Refuses a body by its headers, before any of it is read.
pub fn check_headers(request: &Request) -> Result<(), Problem> {
    Media::of(request)?;
    let limit = Context::of(request).options.body_limit;
    let announced: Option<u64> = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    Ok(())
}

/// Reads the whole body. Bytes take permits when they arrive, not when they are announced, so that a client
/// that announces much and sends little cannot lock out others.
async fn read(request: &Request, body: Body) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let (context, record) = (Context::of(request), Record::of(request));
    let (limit, now) = (context.options.body_limit, Instant::now());
    let timeout = context
        .options
        .body_timeout
        .min(context.deadline(request).duration_since(now));
    let mut chunks = pin!(body.into_bytes_stream());
    let mut whole = BytesMut::new();
    let mut permit = acquire(&context.body_bytes, 0)?;
    while let Some(next) = timeout_at(now + timeout, chunks.next())
        .await
        .map_err(|_| timed_out(timeout))?
    {
        let chunk = next.map_err(|error| malformed(format!("The body ended early: {error}.")))?;
        record.received(chunk.len());
        if whole.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        permit.merge(acquire(&context.body_bytes, chunk.len())?);
        whole.extend_from_slice(&chunk);
    }
    record.received_all();
    Ok((whole.freeze(), permit))
}

/// A permit for bytes in memory, at most `u32::MAX`.
fn acquire(budget: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    budget
        .clone()
        .try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX))
        .map_err(|_| Problem::busy("The memory for request bodies is full.", RETRY_AFTER))
}

/// The one field `image` of a form; other fields are skipped. Takes the whole form at once, since multer
/// would parse it again with every chunk.
async fn field(form: Bytes, boundary: String) -> Result<Bytes, Problem> {
    let whole = stream::once(future::ready(Ok::<_, Infallible>(form)));
    let mut form = multer::Multipart::new(whole, boundary);
    let (mut picture, mut others) = (None, Vec::new());
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        if field.name() != Some(FIELD) {
            if others.len() < 5 {
                others.push(quote(field.name().unwrap_or_default()));
            }
            continue;
        }
        if picture.is_some() {
            return Err(Problem::new(
                Kind::NoImage,
                "The form has more than one field `image`; send one picture per request.",
            ));
        }
        picture = Some(field.bytes().await.map_err(unreadable)?);
    }
    picture.ok_or_else(|| {
        let has = if others.is_empty() {
            "no fields".to_owned()
        } else {
            format!("no field `image`, but {}", others.join(", "))
        };
        let detail =
            format!("The form has {has}; send the picture as `image` (curl -F image=@cat.jpg).");
        Problem::new(Kind::NoImage, detail)
    })
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn unreadable(error: multer::Error) -> Problem {
    // Some of multer's errors contain a whole name from the form, escaped.
    let problem: String = error.to_string().chars().take(200).collect();
    malformed(format!("The multipart form cannot be read: {problem}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_released_with_the_last_of_the_bytes() {
        let budget = Arc::new(Semaphore::new(10));
        let mut permit = acquire(&budget, 6).unwrap();
        permit.merge(acquire(&budget, 3).unwrap());
        assert!(acquire(&budget, 2).is_err());
        let bytes = Bytes::from_owner(Permitted {
            bytes: Bytes::from_static(b"picture"),
            _permit: permit,
        });
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!(budget.available_permits(), 1);
        drop(part);
        assert_eq!(budget.available_permits(), 10);
    }
}
