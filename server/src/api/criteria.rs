//! The criteria of a request: numbers, each within its range, and classes. A request states them as query
//! parameters, as fields of a form, or as members of JSON.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use poem::http::Uri;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaSchema, MetaSchemaRef};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::Value;
use ssd_detector::UnknownClass;
use ssd_detector::boxes::Criteria;

use super::context::Context;
use super::problem::{Kind, Problem, quote_bytes, sentence};

/// The names of all criteria.
pub const NAMES: [&str; 4] = [Threshold::NAME, Iou::NAME, TopK::NAME, Classes::NAME];

/// Where a request states a criterion.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    Query,
    Form,
    Json,
}

impl Source {
    fn noun(self) -> &'static str {
        match self {
            Self::Query => "query parameter",
            Self::Form => "form field",
            Self::Json => "JSON member",
        }
    }

    fn problem(self, detail: String) -> Problem {
        let kind = match self {
            Self::Query => Kind::BadQuery,
            Self::Form | Self::Json => Kind::BadField,
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

/// A criterion: its name, and how a request states it.
pub trait Criterion {
    type Value;

    /// Its name as a query parameter, a form field and a JSON member.
    fn name() -> &'static str;

    /// Its schema as a query parameter.
    fn schema() -> MetaSchemaRef;

    /// The value that text states.
    fn parse(source: Source, text: &[u8], context: &Context) -> Result<Self::Value, Problem>;

    /// The value that JSON states.
    fn parse_json(value: &Value, context: &Context) -> Result<Self::Value, Problem> {
        // The JSON text of a string has quotation marks, so that it is no number.
        Self::parse(Source::Json, value.to_string().as_bytes(), context)
    }

    /// The value of a criterion that is given twice; `None` if it may be given once.
    fn merge(_one: &Self::Value, _other: &Self::Value) -> Option<Self::Value> {
        None
    }
}

/// Takes a value that a request states.
fn add<C: Criterion>(
    field: &mut Option<C::Value>,
    source: Source,
    value: C::Value,
) -> Result<(), Problem> {
    let merged = match field {
        None => Some(value),
        Some(before) => C::merge(before, &value),
    };
    *field = Some(merged.ok_or_else(|| source.twice(C::name()))?);
    Ok(())
}

/// A number as a criterion. The OpenAPI document, the check and the error text use its range.
pub trait Bounded {
    /// `f64`, or `u32` for whole numbers.
    type Number: Type + FromStr + Copy + Into<f64>;
    const NAME: &'static str;
    /// The kind of number, in words.
    const NOUN: &'static str;

    /// The numbers that are accepted.
    fn range() -> RangeInclusive<f64>;

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

impl<B: Bounded> Criterion for B {
    type Value = B::Number;

    fn name() -> &'static str {
        B::NAME
    }

    fn schema() -> MetaSchemaRef {
        let range = MetaSchema {
            minimum: Some(*B::range().start()),
            maximum: Some(*B::range().end()),
            ..MetaSchema::ANY
        };
        B::Number::schema_ref().merge(range)
    }

    fn parse(source: Source, text: &[u8], _context: &Context) -> Result<B::Number, Problem> {
        let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number
            .filter(|number: &B::Number| B::range().contains(&(*number).into()))
            .ok_or_else(|| B::refused(source, text))
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

/// The threshold under DeepStack's name.
pub struct MinConfidence;

impl Bounded for MinConfidence {
    type Number = f64;
    const NAME: &'static str = "min_confidence";
    const NOUN: &'static str = Threshold::NOUN;

    fn range() -> RangeInclusive<f64> {
        Threshold::range()
    }
}

/// [`Criteria::classes_by_label`]: labels, separated by commas or in a JSON array.
pub struct Classes;

impl Classes {
    const NAME: &'static str = "classes";

    fn select(
        source: Source,
        labels: &[&str],
        context: &Context,
    ) -> Result<Arc<[Vec<usize>]>, Problem> {
        let labels: Vec<&str> = labels.iter().map(|label| label.trim()).collect();
        if labels.concat().is_empty() {
            return Err(Self::refused(source, "is empty"));
        }
        let model = context.engine()?.model();
        model.classes_named(labels).map_err(|error: UnknownClass| {
            source.problem(format!(
                "{} GET /model lists all.",
                sentence(&error.to_string())
            ))
        })
    }

    fn refused(source: Source, what: &str) -> Problem {
        let (noun, name) = (source.noun(), Self::NAME);
        source.problem(format!(
            "The {noun} `{name}` {what}; it accepts labels, separated by commas: cat,dog."
        ))
    }
}

impl Criterion for Classes {
    type Value = Arc<[Vec<usize>]>;

    fn name() -> &'static str {
        Self::NAME
    }

    fn schema() -> MetaSchemaRef {
        let label = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            items: Some(Box::new(label)),
            min_items: Some(1),
            ..MetaSchema::new("array")
        }))
    }

    fn parse(source: Source, text: &[u8], context: &Context) -> Result<Self::Value, Problem> {
        match str::from_utf8(text) {
            Ok(text) => Self::select(source, &text.split(',').collect::<Vec<_>>(), context),
            Err(_) => Err(Self::refused(source, "is not UTF-8")),
        }
    }

    /// Client generators repeat a list's name for each of its elements.
    fn merge(one: &Self::Value, other: &Self::Value) -> Option<Self::Value> {
        let mut more = other
            .iter()
            .filter(|classes| !one.contains(classes))
            .peekable();
        // A form of the maximum size can repeat the name a hundred thousand times.
        Some(match more.peek() {
            None => Arc::clone(one),
            Some(_) => one.iter().chain(more).cloned().collect(),
        })
    }

    /// In an array, a label may contain a comma.
    fn parse_json(value: &Value, context: &Context) -> Result<Self::Value, Problem> {
        let labels: Option<Vec<&str>> = match value {
            Value::String(text) => Some(text.split(',').collect()),
            Value::Array(labels) => labels.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let wrong = || Self::refused(Source::Json, "is neither text nor an array of texts");
        Self::select(Source::Json, &labels.ok_or_else(wrong)?, context)
    }
}

/// An optional query parameter.
pub struct Param<C: Criterion>(Option<C::Value>);

impl<C: Criterion> Param<C> {
    /// The value in the query or in the body.
    ///
    /// # Errors
    /// 400 if both are given.
    pub fn or(self, body: Option<C::Value>) -> Result<Option<C::Value>, Problem> {
        if self.0.is_some() && body.is_some() {
            let name = C::name();
            let detail = format!("`{name}` is in the query and in the body; give it once.");
            return Err(Source::Form.problem(detail));
        }
        Ok(self.0.or(body))
    }
}

impl<'a, C: Criterion> ApiExtractor<'a> for Param<C>
where
    C::Value: Send,
{
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Query)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(C::schema())
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let context = Context::of(request);
        let mut field = None;
        for (_, text) in pairs(request.uri()).filter(|(name, _)| name == C::name()) {
            let value = C::parse(Source::Query, text.as_bytes(), context)?;
            add::<C>(&mut field, Source::Query, value)?;
        }
        Ok(Self(field))
    }
}

/// Refuses query parameters that do not exist. Otherwise a misspelt parameter would silently do nothing.
pub fn check_names(uri: &Uri) -> Result<(), Problem> {
    match pairs(uri).find(|(name, _)| !NAMES.contains(&name.as_str())) {
        Some((name, _)) => Err(Source::Query.unknown(name.as_bytes(), &NAMES)),
        None => Ok(()),
    }
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned()
}

/// The criteria that a body states.
#[derive(Debug, Default)]
pub struct Fields {
    pub threshold: Option<f64>,
    pub iou: Option<f64>,
    pub top_k: Option<u32>,
    pub classes: Option<Arc<[Vec<usize>]>>,
}

/// The value of a field.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    Form(&'a [u8]),
    Json(&'a Value),
}

impl Fields {
    /// Takes a field; `false` if it is no criterion. A JSON member that is null counts as absent.
    pub fn take(&mut self, name: &[u8], value: Given, context: &Context) -> Result<bool, Problem> {
        fn set<C: Criterion>(
            field: &mut Option<C::Value>,
            value: Given,
            context: &Context,
        ) -> Result<bool, Problem> {
            let (source, value) = match value {
                Given::Form(text) => (Source::Form, C::parse(Source::Form, text, context)?),
                Given::Json(Value::Null) => return Ok(true),
                Given::Json(value) => (Source::Json, C::parse_json(value, context)?),
            };
            add::<C>(field, source, value)?;
            Ok(true)
        }
        match str::from_utf8(name) {
            Ok(Threshold::NAME) => set::<Threshold>(&mut self.threshold, value, context),
            Ok(Iou::NAME) => set::<Iou>(&mut self.iou, value, context),
            Ok(TopK::NAME) => set::<TopK>(&mut self.top_k, value, context),
            Ok(Classes::NAME) => set::<Classes>(&mut self.classes, value, context),
            _ => Ok(false),
        }
    }

    /// These criteria, and the defaults for those that are not stated.
    pub fn or(self, defaults: Criteria) -> Criteria {
        Criteria {
            threshold: self
                .threshold
                .map_or(defaults.threshold, |given| given as f32),
            iou: self.iou.map_or(defaults.iou, |given| given as f32),
            top_k: self.top_k.map_or(defaults.top_k, |given| given as usize),
            classes_by_label: self.classes.or(defaults.classes_by_label),
        }
    }
}
