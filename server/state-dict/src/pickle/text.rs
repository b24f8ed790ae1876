//! Text in the encodings of pickles.

use std::borrow::Cow;

/// A Python 2 `str`: UTF-8 if it is valid, else Latin-1.
pub(super) fn from_python2(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

/// The bytes of a Python string literal as `repr` writes it, such as `'it\'s'`.
pub(super) fn unescape_literal(literal: &[u8]) -> Option<Vec<u8>> {
    let inner = match literal.trim_ascii() {
        [first @ (b'\'' | b'"'), inner @ .., last] if first == last => inner,
        _ => return None,
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        bytes.push(match escape {
            b'\\' | b'\'' | b'"' => escape,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let code = hexadecimal(rest.get(..2)?)?;
                rest = &rest[2..];
                u8::try_from(code).ok()?
            }
            // `repr` writes no other escapes.
            _ => return None,
        });
    }
    Some(bytes)
}

/// The text in Python's `raw-unicode-escape` codec: Latin-1, with `\uXXXX` and `\UXXXXXXXX`.
pub(super) fn from_raw_unicode_escape(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = match after.first() {
            Some(b'u') if byte == b'\\' => 4,
            Some(b'U') if byte == b'\\' => 8,
            _ => {
                text.push(char::from(byte));
                rest = after;
                continue;
            }
        };
        text.push(char::from_u32(hexadecimal(after.get(1..=digits)?)?)?);
        rest = &after[1 + digits..];
    }
    Some(text)
}

/// The number in a few hexadecimal digits.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |number, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        number.checked_mul(16)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_repr_writes_them() {
        assert_eq!(
            unescape_literal(b"'it\\'s\\n\\x41\\\\'").as_deref(),
            Some(b"it's\nA\\".as_slice())
        );
        assert_eq!(
            unescape_literal(b"\"a\"\r").as_deref(),
            Some(b"a".as_slice())
        );
        for broken in [
            b"'".as_slice(),
            b"",
            b"abc",
            b"'a\"",
            b"'\\x4'",
            b"'\\'",
            b"'\\q'",
        ] {
            assert_eq!(unescape_literal(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn raw_unicode_escapes_are_read() {
        assert_eq!(
            from_raw_unicode_escape(b"a\\u00e9\xe9\\\\\\U0001f600").as_deref(),
            Some("aéé\\\\😀")
        );
        assert_eq!(from_raw_unicode_escape(b"\\ud800"), None);
        assert_eq!(from_raw_unicode_escape(b"\\u12"), None);
    }

    #[test]
    fn python2_text_is_utf8_or_else_latin1() {
        assert_eq!(from_python2("é".as_bytes()), "é");
        assert_eq!(from_python2(b"\xe9"), "é");
    }
}
