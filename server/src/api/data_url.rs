//! A picture as text: base64 (RFC 4648, section 4), or a `data:` URL with base64 (RFC 2397).
//!
//! As in the WHATWG's "forgiving-base64 decode", white space is skipped and the padding may be missing.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use state_dict::quote;

const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Maximum characters of a URL before its data. Media types with parameters are shorter.
const HEAD: usize = 256;

/// Decodes text that arrives in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Text that is not decoded yet: the beginning until it is known to be no URL, then less than four characters.
    pending: Vec<u8>,
    has_begun: bool,
    has_padding: bool,
    bytes: Vec<u8>,
}

impl Decoder {
    /// Decodes the next piece of the text.
    ///
    /// # Errors
    /// What is wrong with the text, as the end of a sentence.
    pub fn push(&mut self, text: &[u8]) -> Result<(), String> {
        let visible = text.iter().filter(|byte| !byte.is_ascii_whitespace());
        self.pending.extend(visible);
        if self.has_begun || self.begin(false)? {
            self.decode(self.pending.len() / 4 * 4)?;
        }
        Ok(())
    }

    /// The bytes of the whole text.
    ///
    /// # Errors
    /// Like [`push`](Self::push).
    pub fn finish(mut self) -> Result<Vec<u8>, String> {
        if !self.has_begun {
            self.begin(true)?;
        }
        self.decode(self.pending.len())?;
        Ok(self.bytes)
    }

    /// Removes the head of a `data:` URL. Returns false if more text is needed to know.
    fn begin(&mut self, is_whole: bool) -> Result<bool, String> {
        // No character of base64 is a colon.
        let colon = self
            .pending
            .iter()
            .take(HEAD)
            .position(|byte| *byte == b':');
        if let Some(colon) = colon {
            let scheme = &self.pending[..colon];
            if !scheme.eq_ignore_ascii_case(b"data") {
                return Err(not_fetched(scheme));
            }
            let Some(comma) = self
                .pending
                .iter()
                .take(HEAD)
                .position(|byte| *byte == b',')
            else {
                if is_whole || self.pending.len() >= HEAD {
                    return Err("is a `data:` URL without a comma before its data".to_owned());
                }
                return Ok(false);
            };
            let head = self.pending[..comma].to_ascii_lowercase();
            if !head.ends_with(b";base64") {
                return Err("is a `data:` URL without `;base64,` before its data".to_owned());
            }
            self.pending.drain(..=comma);
        } else if !is_whole && self.pending.len() < HEAD {
            return Ok(false);
        }
        self.has_begun = true;
        Ok(true)
    }

    /// Decodes the first characters of the pending text.
    fn decode(&mut self, length: usize) -> Result<(), String> {
        let text = &self.pending[..length];
        if text.is_empty() {
            return Ok(());
        }
        if self.has_padding {
            return Err("is not base64: text follows the padding `=`".to_owned());
        }
        self.has_padding = text.ends_with(b"=");
        FORGIVING
            .decode_vec(text, &mut self.bytes)
            .map_err(|error| format!("is not base64: {}", reason(text, &error)))?;
        self.pending.drain(..length);
        Ok(())
    }
}

/// A URL of another scheme. A server that fetches URLs can be made to attack its own network.
fn not_fetched(scheme: &[u8]) -> String {
    let scheme = quote(&String::from_utf8_lossy(scheme));
    format!(
        "begins with {scheme} and a colon; it accepts base64 or a `data:` URL, since this server fetches no \
         URLs: it could be made to send requests inside its own network. Fetch the picture and send its bytes"
    )
}

fn reason(text: &[u8], error: &base64::DecodeError) -> String {
    use base64::DecodeError as E;
    match error {
        E::InvalidByte(_, b'=') => "text follows the padding `=`".to_owned(),
        E::InvalidByte(at, _) => {
            // A character of UTF-8, not its first byte.
            let rest = String::from_utf8_lossy(&text[*at..text.len().min(at + 4)]).into_owned();
            let character: String = rest.chars().take(1).collect();
            format!("{} is no character of its alphabet", quote(&character))
        }
        _ => "it is cut short".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str, piece: usize) -> Result<Vec<u8>, String> {
        let mut decoder = Decoder::default();
        for piece in text.as_bytes().chunks(piece) {
            decoder.push(piece)?;
        }
        decoder.finish()
    }

    #[test]
    fn text_in_pieces_of_any_size_has_the_bytes_of_the_text() {
        for length in [0, 1, 2, 3, 4, 100, 300, 1000] {
            let bytes: Vec<u8> = (0..length).map(|at: u32| (at * 7) as u8).collect();
            let padded = base64::engine::general_purpose::STANDARD.encode(&bytes);
            let bare = padded.trim_end_matches('=').to_owned();
            let lines: String = padded.chars().flat_map(|letter| [letter, '\n']).collect();
            let url = format!("data:image/jpeg;base64,{padded}");
            for text in [&padded, &bare, &lines, &url] {
                for piece in [1, 2, 3, 5, 64, 4096] {
                    assert_eq!(
                        decode(text, piece).as_ref(),
                        Ok(&bytes),
                        "{length} in {piece}"
                    );
                }
            }
        }
    }

    #[test]
    fn text_that_is_not_base64_is_refused_in_pieces_of_any_size() {
        let long = "QUJD".repeat(200);
        for (text, expected) in [
            ("QUJD*UJD".to_owned(), "`*` is no character of its alphabet"),
            ("QUJDé".to_owned(), "no character of its alphabet"),
            ("QUJDR".to_owned(), "cut short"),
            (format!("{long}R"), "cut short"),
            ("QQ==QUJD".to_owned(), "text follows the padding `=`"),
            (format!("QQ=={long}"), "text follows the padding `=`"),
            ("http://localhost/cat.jpg".to_owned(), "`http` and a colon"),
            ("https://example.org/cat.jpg".to_owned(), "fetches no URLs"),
            ("data:image/png,abc".to_owned(), "without `;base64,`"),
            ("data:image/png;base64".to_owned(), "without a comma"),
            (format!("data:{long}"), "without a comma"),
        ] {
            for piece in [1, 3, 4, 4096] {
                let refused = decode(&text, piece).unwrap_err();
                assert!(refused.contains(expected), "{text}: {refused}");
            }
        }
    }
}
