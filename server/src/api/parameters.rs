//! Header values with parameters, such as `form-data; name="image"` (RFC 9110, section 5.6.6).
//!
//! More is accepted than the RFC's grammar where only one reading is possible, because clients send it: white
//! space around `=` and `;`, and text without quotation marks that is no token (`boundary=a/b`).

/// The value before the parameters.
pub fn value(header: &[u8]) -> &[u8] {
    split(header, b";").0.trim_ascii()
}

/// The parameter `name`, if the header has it. Text in quotation marks is not searched for parameters, and the
/// names of parameters have no case.
///
/// # Errors
/// What is wrong with the header, if it can be read in more than one way or in none.
pub fn get(header: &[u8], name: &str) -> Result<Option<Vec<u8>>, &'static str> {
    let mut found = None;
    let (_, mut rest) = split(header, b";");
    while let Some(parameter) = rest.strip_prefix(b";") {
        let (key, after) = split(parameter, b"=;");
        let key = key.trim_ascii();
        let Some(after) = after.strip_prefix(b"=").map(<[u8]>::trim_ascii_start) else {
            if !key.is_empty() {
                return Err("a parameter has no value");
            }
            rest = after;
            continue;
        };
        let (text, after) = match after.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted)?,
            None => unquoted(after)?,
        };
        rest = after.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b";") {
            return Err("between two parameters there is no `;`");
        }
        if key.eq_ignore_ascii_case(name.as_bytes()) && found.replace(text).is_some() {
            return Err("a parameter is given twice");
        }
    }
    Ok(found)
}

/// What precedes the first of the bytes `ends`, and the rest.
fn split<'a>(text: &'a [u8], ends: &[u8]) -> (&'a [u8], &'a [u8]) {
    let end = text.iter().position(|byte| ends.contains(byte));
    text.split_at(end.unwrap_or(text.len()))
}

/// A quoted string, of which the opening mark is gone, and the rest (RFC 9110, section 5.6.4).
fn unquote(text: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let mut value = Vec::new();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return Ok((value, bytes.as_slice())),
            b'\\' => value.extend(bytes.next()),
            _ => value.push(*byte),
        }
    }
    Err("a quotation mark is not closed")
}

fn unquoted(text: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let (value, rest) = split(text, b";");
    if value.contains(&b'"') {
        return Err("a quotation mark stands inside a value");
    }
    Ok((value.trim_ascii_end().to_vec(), rest))
}
