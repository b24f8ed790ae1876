//! JSON bodies (RFC 8259) that hold a picture as text. The text is decoded as it arrives, so that memory holds the
//! picture, but never its text.

use memchr::memchr2;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::data_url::Decoder;
use super::problem::{Kind, Problem};

/// Maximum bytes of a body without its picture.
const LIMIT: usize = 64 << 10;

/// The member that holds the picture.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    pub name: &'static str,
    /// How many brackets are open before it; 1 in the outermost object.
    pub depth: usize,
}

/// Separates the picture from the JSON. It only finds where strings begin and end; whether the rest is valid JSON
/// shows when that is parsed.
#[derive(Debug)]
pub struct Reader {
    member: Member,
    state: State,
    depth: usize,
    /// The last string, as a range of `json`.
    last: (usize, usize),
    /// Whether a string here is the picture.
    is_picture: bool,
    picture: Option<Decoder>,
    /// The JSON, with an empty string for the picture.
    json: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Structure,
    Text {
        is_escaped: bool,
    },
    Picture,
    /// After a backslash in the picture.
    Escape,
    /// In `\uXXXX` in the picture: how many digits were read, and their value.
    Unicode(u8, u32),
}

impl Reader {
    pub fn new(member: Member) -> Self {
        Self {
            member,
            state: State::Structure,
            depth: 0,
            last: (0, 0),
            is_picture: false,
            picture: None,
            json: Vec::new(),
        }
    }

    /// Reads the next bytes of the body.
    ///
    /// # Errors
    /// 400 if there is a second picture, the picture is not base64, or the rest of the JSON is too long.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), Problem> {
        let mut rest = chunk;
        while let Some((&byte, after)) = rest.split_first() {
            if let State::Picture = self.state {
                let end = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                self.decode(&rest[..end])?;
                rest = &rest[end..];
                if let Some((&byte, after)) = rest.split_first() {
                    rest = after;
                    if byte == b'"' {
                        self.json.push(byte);
                        self.state = State::Structure;
                    } else {
                        self.state = State::Escape;
                    }
                }
                continue;
            }
            rest = after;
            self.take(byte)?;
        }
        Ok(())
    }

    /// The JSON without its picture, and the bytes of the picture if there is one.
    ///
    /// # Errors
    /// 400 if the picture is not base64.
    pub fn finish(self) -> Result<(Vec<u8>, Option<Vec<u8>>), Problem> {
        let picture = self.picture.map(Decoder::finish).transpose();
        let picture = picture.map_err(|what| wrong(self.member, &what))?;
        Ok((self.json, picture))
    }

    fn take(&mut self, byte: u8) -> Result<(), Problem> {
        match self.state {
            State::Escape => {
                let character = match byte {
                    b'u' => {
                        self.state = State::Unicode(0, 0);
                        return Ok(());
                    }
                    b'n' | b'r' | b't' => b' ',
                    other => other,
                };
                self.state = State::Picture;
                return self.decode(&[character]);
            }
            State::Unicode(digits, value) => {
                let digit = char::from(byte)
                    .to_digit(16)
                    .ok_or_else(|| wrong(self.member, "has an escape `\\u` without four digits"))?;
                let value = value * 16 + digit;
                self.state = State::Unicode(digits + 1, value);
                if digits == 3 {
                    self.state = State::Picture;
                    let character = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
                    self.decode(character.encode_utf8(&mut [0; 4]).as_bytes())?;
                }
                return Ok(());
            }
            _ => {}
        }
        if self.json.len() == LIMIT {
            let name = self.member.name;
            let detail = format!(
                "Without its picture, the JSON is longer than {LIMIT} bytes. Send the picture as one base64 \
                 string in `{name}`."
            );
            return Err(Problem::new(Kind::MalformedBody, detail));
        }
        self.json.push(byte);
        let end = self.json.len();
        match (self.state, byte) {
            (State::Text { is_escaped: true }, _) => self.state = State::Text { is_escaped: false },
            (State::Text { .. }, b'\\') => self.state = State::Text { is_escaped: true },
            (State::Text { .. }, b'"') => {
                self.last.1 = end;
                self.state = State::Structure;
            }
            (State::Text { .. }, _) => {}
            (_, b'"') if self.is_picture => {
                if self.picture.replace(Decoder::default()).is_some() {
                    let detail = "The JSON has more than one picture; send one per request.";
                    return Err(Problem::new(Kind::NoImage, detail));
                }
                self.state = State::Picture;
            }
            (_, b'"') => {
                self.last = (end - 1, end);
                self.state = State::Text { is_escaped: false };
            }
            (_, b':') => self.is_picture = self.depth == self.member.depth && self.is_named(),
            // The elements of an array are inside it; so a comma there does not end the member.
            (_, b',') => self.is_picture &= self.depth > self.member.depth,
            (_, b'[') => self.depth += 1,
            (_, b'{') => {
                self.depth += 1;
                self.is_picture = false;
            }
            (_, b']' | b'}') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        Ok(())
    }

    /// Whether the last string is the member's name.
    fn is_named(&self) -> bool {
        let (begin, end) = self.last;
        // A name may have escapes.
        let name = serde_json::from_slice::<String>(&self.json[begin..end]);
        name.is_ok_and(|name| name == self.member.name)
    }

    fn decode(&mut self, text: &[u8]) -> Result<(), Problem> {
        let member = self.member;
        let picture = self.picture.get_or_insert_default();
        picture.push(text).map_err(|what| wrong(member, &what))
    }
}

fn wrong(member: Member, what: &str) -> Problem {
    let detail = format!("The JSON member `{}` {what}.", member.name);
    Problem::new(Kind::MalformedBody, detail)
}

/// Parses JSON.
///
/// # Errors
/// 400 if it is not valid JSON of type `T`.
pub fn parse<T: for<'a> Deserialize<'a>>(json: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(json).map_err(|error| {
        // Its column is that of the JSON without the picture.
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        Problem::new(
            Kind::MalformedBody,
            format!("The body is not the JSON that is expected: {what}."),
        )
    })
}

/// The members of an object, in order; a name may occur twice.
#[derive(Debug)]
pub struct Members(pub Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (String, Option<Vec<u8>>);

    fn read(depth: usize, body: &str, piece: usize) -> Result<Read, Problem> {
        let mut reader = Reader::new(Member {
            name: "image",
            depth,
        });
        for piece in body.as_bytes().chunks(piece) {
            reader.push(piece)?;
        }
        let (json, picture) = reader.finish()?;
        Ok((String::from_utf8(json).unwrap(), picture))
    }

    #[test]
    fn the_picture_is_taken_out_of_bodies_in_pieces_of_any_size() {
        let abc = || Some(b"ABC".to_vec());
        for (depth, body, json, picture) in [
            (1, r#"{"image":"QUJD"}"#, r#"{"image":""}"#, abc()),
            (
                1,
                r#"{ "image" : "QUJD" , "a":1}"#,
                r#"{ "image" : "" , "a":1}"#,
                abc(),
            ),
            // Names and base64 may have escapes; PHP writes \/ and .NET writes \u002B.
            (
                1,
                r#"{"im\u0061ge":"\u0051UJ\u0044"}"#,
                r#"{"im\u0061ge":""}"#,
                abc(),
            ),
            (
                1,
                r#"{"image":"Pz8\/"}"#,
                r#"{"image":""}"#,
                Some(b"???".to_vec()),
            ),
            (1, r#"{"image":"QU\nJD"}"#, r#"{"image":""}"#, abc()),
            // Text that only looks like the member.
            (
                1,
                r#"{"a":"\"image\":\"QUJD\""}"#,
                r#"{"a":"\"image\":\"QUJD\""}"#,
                None,
            ),
            (
                1,
                r#"{"a":"image","b":"x"}"#,
                r#"{"a":"image","b":"x"}"#,
                None,
            ),
            (1, r#"{"a":{"image":"x"}}"#, r#"{"a":{"image":"x"}}"#, None),
            (1, r#"{"image":{"b":"x"}}"#, r#"{"image":{"b":"x"}}"#, None),
            (
                1,
                r#"{"image":null,"b":"x"}"#,
                r#"{"image":null,"b":"x"}"#,
                None,
            ),
            (1, r#""image""#, r#""image""#, None),
            (
                3,
                r#"{"in":[{"image":["QUJD"]}]}"#,
                r#"{"in":[{"image":[""]}]}"#,
                abc(),
            ),
            (
                3,
                r#"{"in":[{"image":[["QUJD"]],"c":"x"}]}"#,
                r#"{"in":[{"image":[[""]],"c":"x"}]}"#,
                abc(),
            ),
        ] {
            for piece in 1..8 {
                let expected = (json.to_owned(), picture.clone());
                assert_eq!(read(depth, body, piece), Ok(expected), "{body}");
            }
        }
    }

    #[test]
    fn bodies_that_cannot_be_read_are_refused() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(LIMIT));
        for (depth, body, expected) in [
            (
                1,
                r#"{"image":"QUJD","image":"QUJD"}"#,
                "more than one picture",
            ),
            (
                3,
                r#"{"in":[{"image":["QUJD","QUJD"]}]}"#,
                "more than one picture",
            ),
            (
                1,
                r#"{"image":"QU*D"}"#,
                "The JSON member `image` is not base64",
            ),
            (1, r#"{"image":"\uXXXX"}"#, "four digits"),
            (1, r#"{"image":"\ud800"}"#, "no character of its alphabet"),
            (1, long.as_str(), "longer than 65536 bytes"),
        ] {
            let refused = read(depth, body, 3).unwrap_err().to_string();
            assert!(refused.contains(expected), "{body:.40}: {refused}");
        }
    }
}
