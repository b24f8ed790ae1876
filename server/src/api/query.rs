//! The query parameters of `/predict`: numbers, each within the range of its criterion.

use std::ops::RangeInclusive;
use std::str::FromStr;

use poem::http::Uri;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaSchema, MetaSchemaRef};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use ssd_detector::boxes::Criteria;
use state_dict::quote;

use super::problem::{Kind, Problem};

const NAMES: [&str; 3] = ["threshold", "iou", "top_k"];

/// Which numbers a query parameter accepts. The OpenAPI document, the check and the error text use it.
pub trait Bounded {
    /// `f64`, or `u32` for whole numbers.
    type Number: Type + FromStr + Copy + Into<f64>;
    /// The kind of number, in words.
    const NOUN: &'static str;

    /// The numbers that are accepted.
    fn range() -> RangeInclusive<f64>;

    /// A value that is not accepted.
    fn refused(name: &str, value: &str) -> Problem {
        let (noun, range) = (Self::NOUN, Self::range());
        bad_query(format!(
            "The query parameter `{name}` is {}; it accepts {noun} from {} to {}.",
            quote(value),
            range.start(),
            range.end()
        ))
    }
}

/// [`Criteria::threshold`].
pub struct Threshold;

impl Bounded for Threshold {
    type Number = f64;
    const NOUN: &'static str = "a number";

    fn range() -> RangeInclusive<f64> {
        (*Criteria::THRESHOLD.start()).into()..=(*Criteria::THRESHOLD.end()).into()
    }
}

/// [`Criteria::iou`].
pub struct Iou;

impl Bounded for Iou {
    type Number = f64;
    const NOUN: &'static str = Threshold::NOUN;

    fn range() -> RangeInclusive<f64> {
        (*Criteria::IOU.start()).into()..=(*Criteria::IOU.end()).into()
    }
}

/// [`Criteria::top_k`].
pub struct TopK;

impl Bounded for TopK {
    type Number = u32;
    const NOUN: &'static str = "a whole number";

    fn range() -> RangeInclusive<f64> {
        *Criteria::top_k().start() as f64..=*Criteria::top_k().end() as f64
    }
}

/// An optional query parameter.
pub struct Param<B: Bounded>(pub Option<B::Number>);

impl<'a, B: Bounded> ApiExtractor<'a> for Param<B> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Query)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        let range = MetaSchema {
            minimum: Some(*B::range().start()),
            maximum: Some(*B::range().end()),
            ..MetaSchema::ANY
        };
        Some(B::Number::schema_ref().merge(range))
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let name = options.name;
        let Some((_, value)) = pairs(request.uri()).find(|(given, _)| given == name) else {
            return Ok(Self(None));
        };
        let number: Option<B::Number> = value.parse().ok();
        if number.is_some_and(|number| B::range().contains(&number.into())) {
            Ok(Self(number))
        } else {
            Err(B::refused(name, &value).into())
        }
    }
}

/// Refuses query parameters that do not exist or are given twice. Otherwise a misspelt parameter would
/// silently do nothing.
pub fn check_names(uri: &Uri) -> Result<(), Problem> {
    let mut seen = Vec::new();
    for (name, _) in pairs(uri) {
        if !NAMES.contains(&name.as_str()) {
            return Err(bad_query(format!(
                "There is no query parameter {}; the query parameters are {}.",
                quote(&name),
                NAMES.join(", ")
            )));
        }
        if seen.contains(&name) {
            let detail = format!("The query parameter `{name}` is given twice.");
            return Err(bad_query(detail));
        }
        seen.push(name);
    }
    Ok(())
}

fn bad_query(detail: String) -> Problem {
    Problem::new(Kind::BadQuery, detail)
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned()
}
