//! What the body of `/predict` brings: a form (`multipart/form-data`), a picture (`image/*`), or JSON.

use bytes::Bytes;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use ssd_detector::picture::FORMATS;

use super::context::Context;
use super::criteria::{Fields, Given, Source};
use super::media::Media;
use super::problem::{Kind, Problem};
use super::{body, form, json};

/// The media types of pictures, for the document. The format is detected from the bytes.
const PICTURES: [&str; 5] = [
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/gif",
];

/// A picture, and the criteria that its body states.
#[derive(Debug)]
pub struct Upload {
    pub picture: Bytes,
    pub fields: Fields,
}

impl<'a> ApiExtractor<'a> for Upload {
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
                required: vec![form::IMAGE],
                properties: vec![(form::IMAGE, inline(field))],
                ..MetaSchema::new("object")
            }),
        };
        let image = MetaSchema {
            description: Some(
                "The picture as base64, or as a `data:` URL with base64. Other URLs are refused: the server \
                 fetches nothing.",
            ),
            ..MetaSchema::new_with_format("string", "byte")
        };
        let json = MetaMediaType {
            content_type: "application/json",
            schema: inline(MetaSchema {
                required: vec![form::IMAGE],
                properties: vec![(form::IMAGE, inline(image))],
                ..MetaSchema::new("object")
            }),
        };
        let pictures = PICTURES.map(|content_type| MetaMediaType {
            content_type,
            schema: inline(binary()),
        });
        Some(MetaRequest {
            description: Some(
                "The picture, as the field `image` of a form, as the whole body, or as base64 in the member \
                 `image` of JSON. The server detects its format from its bytes; the name and the media type of \
                 the picture do not matter. A form may have fields, and JSON may have members, with the names and \
                 meanings of the query parameters; state each of them once, in the query or in the body.",
            ),
            content: [form, json].into_iter().chain(pictures).collect(),
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let (media, body) = (Media::of(request)?, body.take()?);
        let mut fields = Fields::default();
        let picture = match media {
            Media::Form { boundary } => {
                let (form, permit) = body::read_whole(request, body).await?;
                let context = Context::of(request);
                let take = |name: &[u8], text: &[u8]| fields.take(name, Given::Form(text), context);
                body::hold(form::read(&form, &boundary, take)?, permit)
            }
            Media::Json => {
                let mut reader = json::Reader::new(json::Member {
                    name: form::IMAGE,
                    depth: 1,
                });
                let permit = body::read(request, body, |chunk| reader.push(chunk)).await?;
                let (json, picture) = reader.finish()?;
                read_members(&json, &mut fields, Context::of(request))?;
                let picture = picture.ok_or_else(no_image)?;
                body::hold(picture.into(), permit)
            }
            Media::Picture => {
                let (picture, permit) = body::read_whole(request, body).await?;
                body::hold(picture, permit)
            }
        };
        Ok(Self { picture, fields })
    }
}

/// Takes the criteria of a JSON body, whose picture is gone.
fn read_members(json: &[u8], fields: &mut Fields, context: &Context) -> Result<(), Problem> {
    let json::Members(members) = json::parse(json)?;
    for (name, value) in members {
        if name == form::IMAGE {
            if !value.is_string() {
                return Err(no_image());
            }
        } else if !fields.take(name.as_bytes(), Given::Json(&value), context)? {
            return Err(Source::Json.unknown(name.as_bytes(), &form::fields()));
        }
    }
    Ok(())
}

fn no_image() -> Problem {
    let detail = "The JSON has no picture; send it as base64 in the member `image`: {\"image\": \"/9j/4AAQ...\"}.";
    Problem::new(Kind::NoImage, detail)
}
