//! The picture out of a request's body, in memory, bounded in size and time.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, future, stream};
use poem::http::header;
use poem::{Body, Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use tokio::time::Instant;

use super::budget::{Budget, Share};
use super::deadline::Deadline;
use super::problem::{Kind, Problem};
use super::request_log::Notes;
use state_dict::quote;

/// The form's field that holds the picture.
const FIELD: &str = "image";

/// The media types of pictures, for the document. What the bytes are is told from the bytes.
const PICTURES: [&str; 5] = [
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/gif",
];

/// Bounds on a body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes of the whole body.
    pub size: usize,
    /// From the first byte that is asked for to the last.
    pub time: Duration,
}

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
        let form = MetaSchema {
            required: vec![FIELD],
            properties: vec![(
                FIELD,
                inline(MetaSchema {
                    description: Some("The picture: JPEG, PNG, WebP, BMP or GIF."),
                    ..binary()
                }),
            )],
            ..MetaSchema::new("object")
        };
        let form = MetaMediaType {
            content_type: "multipart/form-data",
            schema: inline(form),
        };
        let pictures = PICTURES.map(|content_type| MetaMediaType {
            content_type,
            schema: inline(binary()),
        });
        Some(MetaRequest {
            description: Some(
                "The picture, as the field `image` of a form or as the whole body. Its kind is told \
                 from its bytes, not from its name or its media type.",
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
        let limits: &BodyLimits = request.data().expect("given with the routes");
        let notes = request.data().cloned().unwrap_or_default();
        let form = Shape::of(request)?;
        let left = Deadline::of(request).duration_since(Instant::now());
        let limits = BodyLimits {
            time: limits.time.min(left),
            ..*limits
        };
        let budget: &Budget = request.data().expect("given with the routes");
        let share = budget.open();
        let chunks = bounded(body.take()?, limits, notes, share.clone());
        let whole = gather(chunks).await?;
        let picture = match form {
            Shape::Form { boundary } => field(whole, boundary).await?,
            Shape::Picture => whole,
        };
        Ok(Self(share.keep(picture)))
    }
}

/// What the Content-Type announces.
enum Shape {
    Form { boundary: String },
    Picture,
}

impl Shape {
    fn of(request: &Request) -> Result<Self, Problem> {
        let advice = "Send the picture as the field `image` of a form (curl -F image=@cat.jpg), or as \
                      the body with its own type (curl -H 'Content-Type: image/jpeg' \
                      --data-binary @cat.jpg).";
        let unsupported =
            |is: String| Problem::new(Kind::UnsupportedMediaType, format!("{is} {advice}"));
        let Some(value) = request.headers().get(header::CONTENT_TYPE) else {
            return Err(unsupported("The request has no Content-Type.".to_owned()));
        };
        let media: Option<mime::Mime> = value.to_str().ok().and_then(|text| text.parse().ok());
        let Some(media) = media else {
            return Err(unsupported("The Content-Type cannot be read.".to_owned()));
        };
        match (media.type_(), media.subtype()) {
            (mime::MULTIPART, mime::FORM_DATA) => match media.get_param(mime::BOUNDARY) {
                Some(boundary) => Ok(Self::Form {
                    boundary: boundary.as_str().to_owned(),
                }),
                None => Err(Problem::new(
                    Kind::MalformedBody,
                    "The Content-Type is multipart/form-data without its `boundary`; let the HTTP \
                     client write that header.",
                )),
            },
            (mime::IMAGE, _) => Ok(Self::Picture),
            _ => Err(unsupported(format!(
                "The Content-Type is {}.",
                media.essence_str()
            ))),
        }
    }
}

fn too_large(limits: &BodyLimits) -> Problem {
    let most = limits.size;
    Problem::new(
        Kind::BodyTooLarge,
        format!("The body is larger than {most} bytes, the most that is taken."),
    )
}

/// Refuses a body by what its head announces, before a byte of it is asked for, and before anybody is told to
/// come back with it when there is room.
pub fn refuse_announced(request: &Request) -> Result<(), Problem> {
    Shape::of(request)?;
    let limits: &BodyLimits = request.data().expect("given with the routes");
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let length: Option<u64> = announced.and_then(|text| text.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > limits.size as u64 => Err(too_large(limits)),
        _ => Ok(()),
    }
}

/// How long to wait for others' bodies to be done with.
const SOON: Duration = Duration::from_secs(1);

/// The body's chunks until it ends, or an error where it is too large or too slow, or there are too
/// many others.
fn bounded(
    body: Body,
    limits: BodyLimits,
    notes: Notes,
    share: Share,
) -> impl Stream<Item = Result<Bytes, Problem>> + Send + 'static {
    let deadline = Instant::now() + limits.time;
    let chunks = Box::pin(body.into_bytes_stream());
    stream::try_unfold(
        (chunks, notes, share, 0),
        move |(mut chunks, notes, share, before)| async move {
            let next = tokio::time::timeout_at(deadline, chunks.next()).await;
            let chunk = match next {
                Err(_) => {
                    // Rounded: of the request's own time a little has gone by.
                    let seconds = (limits.time.as_secs_f64() * 100.0).round() / 100.0;
                    let detail = format!("The body did not arrive within {seconds} seconds.");
                    return Err(Problem::new(Kind::BodyTimeout, detail));
                }
                Ok(None) => {
                    notes.received_all();
                    return Ok(None);
                }
                Ok(Some(Err(error))) => {
                    let detail = format!("The body ended early: {error}.");
                    return Err(Problem::new(Kind::MalformedBody, detail));
                }
                Ok(Some(Ok(chunk))) => chunk,
            };
            notes.received(chunk.len());
            let size = before + chunk.len();
            if size > limits.size {
                return Err(too_large(&limits));
            }
            if !share.take(chunk.len()) {
                let detail = "The bodies of others take all the memory that there is for bodies.";
                return Err(Problem::busy(detail, SOON));
            }
            Ok(Some((chunk, (chunks, notes, share, size))))
        },
    )
}

async fn gather(chunks: impl Stream<Item = Result<Bytes, Problem>>) -> Result<Bytes, Problem> {
    let mut chunks = std::pin::pin!(chunks);
    let mut all = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all.freeze())
}

/// The one field `image` of a form, which has come whole: a parser that is fed while a body arrives
/// begins anew with every piece. Other fields are skipped.
async fn field(form: Bytes, boundary: String) -> Result<Bytes, Problem> {
    let whole = stream::once(future::ready(Ok::<_, Infallible>(form)));
    let mut form = multer::Multipart::new(whole, boundary);
    let (mut picture, mut others) = (None, Vec::new());
    while let Some(field) = form.next_field().await.map_err(malformed)? {
        if field.name() != Some(FIELD) {
            if others.len() < 5 {
                others.push(quote(field.name().unwrap_or_default()));
            }
            continue;
        }
        if picture.is_some() {
            return Err(Problem::new(
                Kind::NoImage,
                "The form has more than one field `image`; send one picture a request.",
            ));
        }
        picture = Some(field.bytes().await.map_err(malformed)?);
    }
    picture.ok_or_else(|| {
        let has = match others.is_empty() {
            true => "no fields at all".to_owned(),
            false => format!("the fields {}", others.join(", ")),
        };
        let detail = format!("The form has {has}, and no field `image` (curl -F image=@cat.jpg).");
        Problem::new(Kind::NoImage, detail)
    })
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn malformed(error: multer::Error) -> Problem {
    // Some show a name from the form, escaped and as long as it is.
    let problem: String = error.to_string().chars().take(200).collect();
    Problem::new(
        Kind::MalformedBody,
        format!("The multipart form cannot be read: {problem}."),
    )
}
