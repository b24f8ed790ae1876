//! What the headers say about a body: a form or a picture, without a content coding.

use poem::Request;
use poem::http::{HeaderMap, header};

use super::parameters;
use super::problem::{Kind, Problem, quote_bytes};

/// The kind of body that the Content-Type announces.
pub enum Media {
    Form { boundary: Vec<u8> },
    Picture,
    Json,
}

impl Media {
    /// # Errors
    /// 415 if the body is neither a form nor a picture nor JSON; 400 if it is a form without a usable boundary.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let header = request.headers().get(header::CONTENT_TYPE);
        let content_type = header
            .ok_or_else(|| unsupported("The request has no Content-Type."))?
            .as_bytes();
        let media = parameters::value(content_type).to_ascii_lowercase();
        if media == b"multipart/form-data" {
            Ok(Self::Form {
                boundary: boundary(content_type)?,
            })
        } else if media.starts_with(b"image/") {
            Ok(Self::Picture)
        } else if media == b"application/json" {
            Ok(Self::Json)
        } else {
            let given = quote_bytes(content_type);
            Err(unsupported(&format!("The Content-Type is {given}.")))
        }
    }

    /// The boundary of a form.
    ///
    /// # Errors
    /// 415 if the body is no form; 400 if it has no usable boundary.
    pub fn form(request: &Request) -> Result<Vec<u8>, Problem> {
        match Self::of(request)? {
            Self::Form { boundary } => Ok(boundary),
            Self::Picture | Self::Json => Err(Problem::new(
                Kind::UnsupportedMediaType,
                "Send the picture as the field `image` of a form (curl -F image=@cat.jpg).",
            )),
        }
    }
}

fn unsupported(what: &str) -> Problem {
    let detail = format!(
        "{what} Send the picture as the field `image` of a form (curl -F image=@cat.jpg), as the body with \
         its own type (curl -H 'Content-Type: image/jpeg' --data-binary @cat.jpg), or as base64 in the member \
         `image` of application/json."
    );
    Problem::new(Kind::UnsupportedMediaType, detail)
}

/// The text that separates the parts of a form.
///
/// RFC 2046, section 5.1.1, allows letters, digits, `'()+_,-./:=?` and spaces inside. HTTP allows the other
/// characters of a token (RFC 9110, section 5.6.2), and clients do send `boundary=*****`.
fn boundary(content_type: &[u8]) -> Result<Vec<u8>, Problem> {
    let refused = |what: &str| {
        let detail = format!("{what} Let the HTTP client write the Content-Type.");
        Problem::new(Kind::MalformedBody, detail)
    };
    let boundary = parameters::get(content_type, "boundary")
        .map_err(|reason| {
            let given = quote_bytes(content_type);
            refused(&format!("The Content-Type is {given}: {reason}."))
        })?
        .ok_or_else(|| {
            refused("The Content-Type is multipart/form-data without its `boundary`.")
        })?;
    let is_allowed =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? !#$%&*^`|~".contains(byte);
    if (1..=70).contains(&boundary.len())
        && boundary.iter().all(is_allowed)
        && !boundary.ends_with(b" ")
    {
        Ok(boundary)
    } else {
        Err(refused(&format!(
            "The boundary in the Content-Type is {}; it must have 1 to 70 characters, each a letter, a digit, \
             one of `'()+_,-./:=?` or a space inside (RFC 2046, section 5.1.1).",
            quote_bytes(&boundary)
        )))
    }
}

/// Refuses every content coding but `identity`, which is none (RFC 9110, section 8.4).
pub fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let is_none = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
    match codings.find(|coding| !is_none(coding)) {
        Some(coding) => Err(Problem::unsupported_coding(coding)),
        None => Ok(()),
    }
}
