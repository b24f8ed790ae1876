//! What form of answer a client would rather have: proactive negotiation (RFC 9110, section 12.5.1).

use std::cmp::Reverse;

use poem::http::{HeaderMap, header};

use super::problem::Problem;
use ssd_detector::picture::Encoding;
use state_dict::quote;

/// A form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Numbers and names.
    Json,
    /// The picture, annotated.
    Picture(Encoding),
}

/// The media types that there are; of those that a client likes alike it gets the first.
const OFFERS: [(&str, &str, Form); 3] = [
    ("application", "json", Form::Json),
    ("image", "jpeg", Form::Picture(Encoding::Jpeg)),
    ("image", "png", Form::Picture(Encoding::Png)),
];

/// Chooses what a request's `Accept` likes best. A header that is missing or empty accepts all.
///
/// What a media range says beside its weight is left out: `application/json; charset=utf-8` asks for
/// what there is. Of several ranges for one type the most precise counts.
///
/// # Errors
/// 406 where it accepts none of them. Problem details are sent whatever it says.
pub fn choose(headers: &HeaderMap) -> Result<Form, Problem> {
    // One that is no text accepts nothing that there is.
    let lines = headers.get_all(header::ACCEPT).iter();
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or("?")).collect();
    let asked = lines.join(", ");
    let elements = asked.split(',').map(str::trim);
    let elements: Vec<&str> = elements.filter(|element| !element.is_empty()).collect();
    if elements.is_empty() {
        return Ok(Form::Json);
    }
    let ranges: Vec<Range> = elements.into_iter().filter_map(Range::parse).collect();
    let liked = OFFERS.map(|(kind, subtype, form)| {
        let matching = ranges
            .iter()
            .filter_map(|range| Some((range.precision(kind, subtype)?, range.weight)));
        let weight = matching.max().map_or(0, |(_, weight)| weight);
        (weight, form)
    });
    let best = liked.into_iter().min_by_key(|(weight, _)| Reverse(*weight));
    match best {
        Some((weight, form)) if weight > 0 => Ok(form),
        _ => Err(Problem::not_acceptable(format!(
            "The header Accept is {}; there are application/json, image/jpeg and image/png.",
            quote(&asked)
        ))),
    }
}

/// A media range with its weight, in thousandths.
#[derive(Debug)]
struct Range {
    kind: String,
    subtype: String,
    weight: u16,
}

impl Range {
    /// `None` where it is none.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
        let range = parts.next()?;
        let (kind, subtype) = range.split_once('/')?;
        let weight = parts.find_map(|part| Some(part.strip_prefix("q=")?.parse::<f32>()));
        let weight = weight.unwrap_or(Ok(1.0)).ok()?;
        (0.0..=1.0).contains(&weight).then(|| Self {
            kind: kind.to_owned(),
            subtype: subtype.to_owned(),
            weight: (weight * 1000.0).round() as u16,
        })
    }

    /// How precisely it names a type; `None` where it does not.
    fn precision(&self, kind: &str, subtype: &str) -> Option<u8> {
        match (self.kind.as_str(), self.subtype.as_str()) {
            (own, exact) if own == kind && exact == subtype => Some(2),
            (own, "*") if own == kind => Some(1),
            ("*", "*") => Some(0),
            _ => None,
        }
    }
}
