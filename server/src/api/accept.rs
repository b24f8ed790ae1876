//! Which representation a client prefers: proactive negotiation (RFC 9110, section 12.5.1).

use std::cmp::Reverse;

use poem::http::{HeaderMap, header};
use ssd_detector::picture::Encoding;
use state_dict::quote;

use super::problem::Problem;

/// A representation of detections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// Labels, scores and boxes.
    Json,
    /// The annotated picture.
    Picture(Encoding),
}

/// The media types that the server can send. If several have the greatest weight, the first is sent.
const OFFERS: [(&str, Representation); 3] = [
    ("application/json", Representation::Json),
    ("image/jpeg", Representation::Picture(Encoding::Jpeg)),
    ("image/png", Representation::Picture(Encoding::Png)),
];

/// Chooses the representation with the greatest weight in `Accept`. A missing or empty header accepts all.
///
/// Parameters of a media range other than its weight are ignored: `application/json; charset=utf-8` is
/// `application/json`. If several ranges match a type, the most precise one counts.
///
/// # Errors
/// 406 if the header accepts no representation. Problem details are sent even if it does not accept them.
pub fn choose(headers: &HeaderMap) -> Result<Representation, Problem> {
    // A line that is not ASCII matches nothing.
    let lines = headers.get_all(header::ACCEPT).iter();
    let accept = lines
        .map(|line| line.to_str().unwrap_or("?"))
        .collect::<Vec<_>>()
        .join(", ");
    let elements: Vec<&str> = accept
        .split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .collect();
    if elements.is_empty() {
        return Ok(Representation::Json);
    }
    let ranges: Vec<Range> = elements.into_iter().filter_map(Range::parse).collect();
    OFFERS
        .into_iter()
        .map(|(media, representation)| (weight(&ranges, media), representation))
        .filter(|(weight, _)| *weight > 0)
        .min_by_key(|(weight, _)| Reverse(*weight))
        .map(|(_, representation)| representation)
        .ok_or_else(|| not_acceptable(&accept))
}

/// The header `Accept` matches no representation.
pub fn not_acceptable(accept: &str) -> Problem {
    let offers = OFFERS.map(|(media, _)| media).join(", ");
    Problem::not_acceptable(format!(
        "The header Accept is {}; the server can send {offers}.",
        quote(accept)
    ))
}

/// The weight of a media type in thousandths, from the most precise range that matches it.
fn weight(ranges: &[Range], media: &str) -> u16 {
    let matching = ranges
        .iter()
        .filter_map(|range| Some((range.precision(media)?, range.weight)));
    matching.max().map_or(0, |(_, weight)| weight)
}

/// A media range with its weight, in thousandths.
#[derive(Debug)]
struct Range {
    media: String,
    weight: u16,
}

impl Range {
    /// `None` if it is not a media range.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
        let media = parts.next()?;
        let weight = parts
            .find_map(|part| Some(part.strip_prefix("q=")?.parse::<f32>()))
            .unwrap_or(Ok(1.0))
            .ok()?;
        (0.0..=1.0).contains(&weight).then(|| Self {
            media,
            weight: (weight * 1000.0).round() as u16,
        })
    }

    /// How precisely it names a media type; `None` if it does not match.
    fn precision(&self, media: &str) -> Option<u8> {
        if self.media == media {
            return Some(2);
        }
        match self.media.strip_suffix("/*")? {
            "*" => Some(0),
            kind => media.strip_prefix(kind)?.starts_with('/').then_some(1),
        }
    }
}
