//! The criteria of `/predict`: numbers, each within its range, as query parameters or as fields of the form.

use std::ops::RangeInclusive;
use std::str::FromStr;

use poem::http::Uri;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaSchema, MetaSchemaRef};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use ssd_detector::boxes::Criteria;

use super::problem::{Kind, Problem, quote_bytes};

/// The names of all criteria.
pub const NAMES: [&str; 3] = [Threshold::NAME, Iou::NAME, TopK::NAME];

/// Where a request states a criterion.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    Query,
    Form,
}

impl Source {
    fn noun(self) -> &'static str {
        match self {
            Self::Query => "query parameter",
            Self::Form => "form field",
        }
    }

    fn problem(self, detail: String) -> Problem {
        let kind = match self {
            Self::Query => Kind::BadQuery,
            Self::Form => Kind::BadField,
        };
        Problem::new(kind, detail)
    }

    /// A name that is none of those that exist.
    pub fn unknown(self, name: &[u8], known: &[&str]) -> Problem {
        let (noun, name, known) = (self.noun(), quote_bytes(name), known.join(", "));
        self.problem(format!(
            "There is no {noun} {name}; the {noun}s are {known}."
        ))
    }

    fn twice(self, name: &str) -> Problem {
        self.problem(format!("The {} `{name}` is given twice.", self.noun()))
    }
}

/// A criterion: its name, and which numbers it accepts. The OpenAPI document, the check and the error text use
/// it.
pub trait Bounded {
    /// `f64`, or `u32` for whole numbers.
    type Number: Type + FromStr + Copy + Into<f64>;
    /// Its name as a query parameter and as a form field.
    const NAME: &'static str;
    /// The kind of number, in words.
    const NOUN: &'static str;

    /// The numbers that are accepted.
    fn range() -> RangeInclusive<f64>;

    /// The number that a request states.
    fn parse(source: Source, value: &[u8]) -> Result<Self::Number, Problem> {
        let text = str::from_utf8(value).ok();
        text.and_then(|text| text.parse().ok())
            .filter(|number: &Self::Number| Self::range().contains(&(*number).into()))
            .ok_or_else(|| Self::refused(source, value))
    }

    /// A value that is not accepted.
    fn refused(source: Source, value: &[u8]) -> Problem {
        let (name, noun, range) = (Self::NAME, Self::NOUN, Self::range());
        source.problem(format!(
            "The {} `{name}` is {}; it accepts {noun} from {} to {}.",
            source.noun(),
            quote_bytes(value),
            range.start(),
            range.end()
        ))
    }
}

/// [`Criteria::threshold`].
pub struct Threshold;

impl Bounded for Threshold {
    type Number = f64;
    const NAME: &'static str = "threshold";
    const NOUN: &'static str = "a number";

    fn range() -> RangeInclusive<f64> {
        (*Criteria::THRESHOLD.start()).into()..=(*Criteria::THRESHOLD.end()).into()
    }
}

/// [`Criteria::iou`].
pub struct Iou;

impl Bounded for Iou {
    type Number = f64;
    const NAME: &'static str = "iou";
    const NOUN: &'static str = Threshold::NOUN;

    fn range() -> RangeInclusive<f64> {
        (*Criteria::IOU.start()).into()..=(*Criteria::IOU.end()).into()
    }
}

/// [`Criteria::top_k`].
pub struct TopK;

impl Bounded for TopK {
    type Number = u32;
    const NAME: &'static str = "top_k";
    const NOUN: &'static str = "a whole number";

    fn range() -> RangeInclusive<f64> {
        *Criteria::top_k().start() as f64..=*Criteria::top_k().end() as f64
    }
}

/// An optional query parameter.
pub struct Param<B: Bounded>(Option<B::Number>);

impl<B: Bounded> Param<B> {
    /// The number in the query or in the form's field.
    ///
    /// # Errors
    /// 400 if both are given.
    pub fn or(self, field: Option<B::Number>) -> Result<Option<B::Number>, Problem> {
        if self.0.is_some() && field.is_some() {
            let name = B::NAME;
            let detail = format!("`{name}` is a query parameter and a form field; give it once.");
            return Err(Source::Form.problem(detail));
        }
        Ok(self.0.or(field))
    }
}

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
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let given = pairs(request.uri()).find(|(name, _)| name == B::NAME);
        let number = given.map(|(_, value)| B::parse(Source::Query, value.as_bytes()));
        Ok(Self(number.transpose()?))
    }
}

/// Refuses query parameters that do not exist or are given twice. Otherwise a misspelt parameter would
/// silently do nothing.
pub fn check_names(uri: &Uri) -> Result<(), Problem> {
    let mut seen = Vec::new();
    for (name, _) in pairs(uri) {
        if !NAMES.contains(&name.as_str()) {
            return Err(Source::Query.unknown(name.as_bytes(), &NAMES));
        }
        if seen.contains(&name) {
            return Err(Source::Query.twice(&name));
        }
        seen.push(name);
    }
    Ok(())
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned()
}

/// The criteria that a form states.
#[derive(Debug, Default)]
pub struct Fields {
    pub threshold: Option<f64>,
    pub iou: Option<f64>,
    pub top_k: Option<u32>,
}

impl Fields {
    /// Takes a field; `false` if it is no criterion.
    pub fn take(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Problem> {
        fn set<B: Bounded>(field: &mut Option<B::Number>, value: &[u8]) -> Result<bool, Problem> {
            match field.replace(B::parse(Source::Form, value)?) {
                Some(_) => Err(Source::Form.twice(B::NAME)),
                None => Ok(true),
            }
        }
        match str::from_utf8(name) {
            Ok(Threshold::NAME) => set::<Threshold>(&mut self.threshold, value),
            Ok(Iou::NAME) => set::<Iou>(&mut self.iou, value),
            Ok(TopK::NAME) => set::<TopK>(&mut self.top_k, value),
            _ => Ok(false),
        }
    }
}
