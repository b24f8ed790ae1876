//! Forms (`multipart/form-data`, RFC 7578): the picture and the criteria in one.
//!
//! The whole form is in memory. Its parts are slices of it, found in one pass.

use bytes::Bytes;
use memchr::memmem::{self, Finder};

use super::criteria::{NAMES, Source};
use super::parameters;
use super::problem::{Kind, Problem, quote_bytes};

/// The field that holds the picture.
pub const IMAGE: &str = "image";

/// How many names of other fields an error lists.
const LISTED: usize = 5;

/// The names of all fields.
pub fn fields() -> Vec<&'static str> {
    [IMAGE].into_iter().chain(NAMES).collect()
}

/// The one picture of a form. Gives the name and the value of every other field to `take`, which returns false if
/// there is no such field.
///
/// # Errors
/// 400 if the form is malformed, has a field that does not exist, or does not have exactly one picture.
pub fn read(
    form: &Bytes,
    boundary: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<bool, Problem>,
) -> Result<Bytes, Problem> {
    let mut parts = Parts::new(form, boundary)?;
    let mut picture = None;
    let (mut others, mut unknown) = (Vec::new(), None);
    while let Some(Part { name, data }) = parts.next()? {
        if name == IMAGE.as_bytes() {
            if picture.replace(data).is_some() {
                let detail =
                    "The form has more than one field `image`; send one picture per request.";
                return Err(Problem::new(Kind::NoImage, detail));
            }
            continue;
        }
        if others.len() < LISTED {
            others.push(quote_bytes(&name));
        }
        if !take(&name, &data)? {
            unknown.get_or_insert(name);
        }
    }
    let picture = picture.ok_or_else(|| no_image(&others))?;
    match unknown {
        Some(name) => Err(Source::Form.unknown(&name, &fields())),
        None => Ok(picture),
    }
}

fn no_image(others: &[String]) -> Problem {
    let has = if others.is_empty() {
        "no fields".to_owned()
    } else {
        format!("no field `image`, but {}", others.join(", "))
    };
    let detail =
        format!("The form has {has}; send the picture as `image` (curl -F image=@cat.jpg).");
    Problem::new(Kind::NoImage, detail)
}

/// A part of a form.
struct Part {
    /// The name of its field.
    name: Vec<u8>,
    data: Bytes,
}

/// The parts of a form, in order (RFC 2046, section 5.1.1).
struct Parts<'a> {
    form: &'a Bytes,
    /// The end of a line, `--` and the boundary.
    delimiter: Finder<'a>,
    /// Where the last boundary that was found ends.
    at: usize,
    /// The number of the part that begins there.
    number: usize,
}

impl<'a> Parts<'a> {
    /// Skips the preamble.
    fn new(form: &'a Bytes, boundary: &[u8]) -> Result<Self, Problem> {
        let delimiter = [b"\r\n--", boundary].concat();
        let finder = Finder::new(&delimiter).into_owned();
        // At the very beginning, no end of a line precedes the boundary.
        let begin = if form.starts_with(&delimiter[2..]) {
            Some(delimiter.len() - 2)
        } else {
            finder.find(form).map(|found| found + delimiter.len())
        };
        match begin {
            Some(at) => Ok(Self {
                form,
                delimiter: finder,
                at,
                number: 1,
            }),
            None if memmem::find(form, &delimiter[1..]).is_some() => Err(line_feeds()),
            None => Err(no_boundary(form, boundary)),
        }
    }

    /// The next part; `None` after the last one. What follows that (the epilogue) is ignored.
    fn next(&mut self) -> Result<Option<Part>, Problem> {
        let rest = &self.form[self.at..];
        if rest.starts_with(b"--") {
            return Ok(None);
        }
        let padding = rest.iter().take_while(|byte| b" \t".contains(byte));
        let line_end = &rest[padding.count()..];
        if !line_end.starts_with(b"\r\n") {
            return Err(self.no_line_end(line_end));
        }
        // If the part has no headers, the empty line that ends them is this one.
        let head = memmem::find(line_end, b"\r\n\r\n")
            .ok_or_else(|| self.no_empty_line(&line_end[2..]))?;
        let name = name(line_end.get(2..head).unwrap_or_default(), self.number)?;
        // If the part has no data, the end of the empty line begins the delimiter.
        let after_head = &line_end[head + 2..];
        let end = self
            .delimiter
            .find(after_head)
            .ok_or_else(|| self.no_delimiter(&after_head[2..], &name))?;
        self.at = self.form.len() - after_head.len() + end + self.delimiter.needle().len();
        self.number += 1;
        let data = self.form.slice_ref(&after_head[2..end.max(2)]);
        Ok(Some(Part { name, data }))
    }

    /// What follows the boundary, `rest`, does not begin with the end of the line.
    fn no_line_end(&self, rest: &[u8]) -> Problem {
        if rest.starts_with(b"\n") {
            line_feeds()
        } else if rest.is_empty() || rest == b"\r" || rest == b"-" {
            self.cut_short("after a boundary")
        } else {
            malformed(format!(
                "A line of the form begins with the boundary and goes on with {}; nothing may follow a boundary \
                 but `--`.",
                quote_bytes(rest)
            ))
        }
    }

    /// The headers at the beginning of `rest` do not end.
    fn no_empty_line(&self, rest: &[u8]) -> Problem {
        if has_line_feed(rest) {
            line_feeds()
        } else {
            self.cut_short(&format!("in the headers of part {}", self.number))
        }
    }

    /// The data of the field `name` do not end.
    fn no_delimiter(&self, data: &[u8], name: &[u8]) -> Problem {
        if memmem::find(data, &self.delimiter.needle()[1..]).is_some() {
            line_feeds()
        } else {
            let (name, bytes) = (quote_bytes(name), data.len());
            self.cut_short(&format!(
                "in its field {name}, of which {bytes} bytes arrived"
            ))
        }
    }

    fn cut_short(&self, place: &str) -> Problem {
        let last = [&self.delimiter.needle()[2..], b"--"].concat();
        malformed(format!(
            "The form is cut short: it ends {place}. Its last line, {}, is missing.",
            quote_bytes(&last)
        ))
    }
}

/// The name of a part's field, by the headers of the part.
fn name(head: &[u8], number: usize) -> Result<Vec<u8>, Problem> {
    if has_line_feed(head) {
        return Err(line_feeds());
    }
    let refused = |what: String| malformed(format!("Part {number} of the form {what}."));
    let mut disposition = None;
    for header in headers(head) {
        let Some(colon) = memchr::memchr(b':', header) else {
            let header = quote_bytes(header);
            return Err(refused(format!("has a line that is no header: {header}")));
        };
        let (name, value) = (&header[..colon], header[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"Content-Disposition") {
            if disposition.replace(value).is_some() {
                return Err(refused("has two headers Content-Disposition".to_owned()));
            }
        } else if name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") && !is_plain(value) {
            let value = quote_bytes(value);
            return Err(refused(format!(
                "has the Content-Transfer-Encoding {value}; send its bytes as they are (RFC 7578, section 4.7)"
            )));
        }
    }
    let value =
        disposition.ok_or_else(|| refused("has no header Content-Disposition".to_owned()))?;
    named(value).map_err(|reason| {
        let value = quote_bytes(value);
        refused(format!("has the Content-Disposition {value}: {reason}"))
    })
}

/// The headers of a part. A header may continue on lines that begin with white space: libraries for e-mail write
/// long ones so.
fn headers(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    memmem::find_iter(head, b"\r\n")
        .filter(|end| !matches!(head.get(end + 2), Some(b' ' | b'\t')))
        .chain([head.len()])
        .map(move |end| &head[std::mem::replace(&mut begin, end + 2)..end])
        .filter(|header| !header.is_empty())
}

/// The name in a Content-Disposition (RFC 7578, section 4.2).
fn named(disposition: &[u8]) -> Result<Vec<u8>, &'static str> {
    if !parameters::value(disposition).eq_ignore_ascii_case(b"form-data") {
        return Err("it must begin with `form-data`");
    }
    parameters::get(disposition, "name")?.ok_or("it has no `name`")
}

/// Whether a Content-Transfer-Encoding leaves the bytes as they are (RFC 2045, section 6.2).
fn is_plain(encoding: &[u8]) -> bool {
    let plain = ["binary", "8bit", "7bit"];
    plain
        .iter()
        .any(|plain| encoding.eq_ignore_ascii_case(plain.as_bytes()))
}

/// Whether a line of the headers ends in LF alone.
fn has_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|end| !head[..end].ends_with(b"\r"))
}

fn line_feeds() -> Problem {
    malformed(
        "The lines of the form end in LF; they must end in CRLF (RFC 2046, section 4.1.1). This often comes \
         from writing the form by hand or saving it in an editor; let the HTTP client write it (curl -F \
         image=@cat.jpg).",
    )
}

/// No line of the form begins with the boundary.
fn no_boundary(form: &[u8], boundary: &[u8]) -> Problem {
    let announced = quote_bytes(boundary);
    if form.is_empty() {
        return malformed(format!(
            "The Content-Type announces a form with the boundary {announced}, but the body is empty."
        ));
    }
    malformed(format!(
        "The Content-Type announces the boundary {announced}, but no line of the body is `--` and the boundary; \
         the body begins with {}. Let the HTTP client write the Content-Type and the form.",
        quote_bytes(form)
    ))
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::MalformedBody, detail)
}
