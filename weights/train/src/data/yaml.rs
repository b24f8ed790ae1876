//! As much of YAML as names a YOLO set: keys at the margin, whose values are a text, a list of texts or a map of
//! texts, in either style. What other keys hold is not looked at.

/// A key at the margin and what follows it.
pub(super) struct Entry<'a> {
    pub key: String,
    /// Its line, from 1.
    pub line: usize,
    rest: &'a str,
    body: Vec<&'a str>,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
    Map(Vec<(String, String)>),
}

/// The keys of a document; or the line, from 1, that is none.
pub(super) fn entries(text: &str) -> Result<Vec<Entry<'_>>, usize> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let bare = line.trim();
        let goes_on =
            line.starts_with([' ', '\t', ']', '}']) || bare == "-" || bare.starts_with("- ");
        if bare.is_empty()
            || bare.starts_with('#')
            || line.starts_with("---")
            || line.starts_with('%')
        {
            continue;
        }
        match (goes_on, entries.last_mut()) {
            (true, Some(entry)) => entry.body.push(line),
            (true, None) => return Err(index + 1),
            (false, _) => {
                let (key, rest) = pair(bare).ok_or(index + 1)?;
                entries.push(Entry {
                    key: scalar(key).ok_or(index + 1)?,
                    line: index + 1,
                    rest,
                    body: Vec::new(),
                });
            }
        }
    }
    Ok(entries)
}

impl Entry<'_> {
    /// The value, where it is a text, a list or a map of texts.
    pub(super) fn value(&self) -> Option<Value> {
        let rest = without_comment(self.rest);
        if rest.starts_with(['[', '{']) {
            let lines = std::iter::once(self.rest).chain(self.body.iter().copied());
            let lines: Vec<&str> = lines.map(without_comment).collect();
            return flow(&lines.join(" "));
        }
        if !rest.is_empty() {
            return self
                .body
                .is_empty()
                .then(|| scalar(rest).map(Value::Text))?;
        }
        block(&self.body)
    }
}

/// A list or map of a line each.
fn block(body: &[&str]) -> Option<Value> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let Some(first) = body.first() else {
        return Some(Value::Text(String::new()));
    };
    if body.iter().any(|line| indent(line) != indent(first)) {
        return None;
    }
    let lines = body.iter().map(|line| line.trim());
    let item = |line: &str| -> Option<String> {
        let rest = line.strip_prefix('-')?;
        let is_item = rest.is_empty() || rest.starts_with(' ');
        is_item.then(|| scalar(rest))?
    };
    let items: Option<Vec<String>> = lines.clone().map(item).collect();
    if let Some(items) = items {
        return Some(Value::List(items));
    }
    let entry = |line: &str| -> Option<(String, String)> {
        let (key, value) = pair(line)?;
        Some((scalar(key)?, scalar(value)?))
    };
    lines.map(entry).collect::<Option<_>>().map(Value::Map)
}

/// A list or map in brackets, not one in another.
fn flow(text: &str) -> Option<Value> {
    let (is_list, end) = if text.starts_with('[') {
        (true, ']')
    } else {
        (false, '}')
    };
    let mut items = Vec::new();
    let mut rest = &text[1..];
    loop {
        let at = rest_of_item(rest, end)?;
        let item = rest[..at].trim();
        let ends = rest[at..].starts_with(end);
        rest = &rest[at + 1..];
        // A comma may follow the last item.
        if !(ends && item.is_empty()) {
            items.push(item);
        }
        if ends {
            break;
        }
    }
    if !rest.trim().is_empty() {
        return None;
    }
    if is_list {
        let items: Option<Vec<String>> = items.into_iter().map(scalar).collect();
        return items.map(Value::List);
    }
    let entry = |item: &str| -> Option<(String, String)> {
        let (key, value) = pair(item)?;
        Some((scalar(key)?, scalar(value)?))
    };
    items
        .into_iter()
        .map(entry)
        .collect::<Option<_>>()
        .map(Value::Map)
}

/// Where the comma or bracket is that ends an item.
fn rest_of_item(text: &str, end: char) -> Option<usize> {
    let mut quotes = Quotes::default();
    for (at, letter) in text.char_indices() {
        if quotes.is_outside(letter) {
            if letter == ',' || letter == end {
                return Some(at);
            }
            if matches!(letter, '[' | '{' | ']' | '}') {
                return None;
            }
        }
    }
    None
}

/// A key and what follows its colon.
fn pair(text: &str) -> Option<(&str, &str)> {
    let mut quotes = Quotes::default();
    for (at, letter) in text.char_indices() {
        let rest = &text[at + letter.len_utf8()..];
        if quotes.is_outside(letter)
            && letter == ':'
            && (rest.is_empty() || rest.starts_with([' ', '\t']))
        {
            return Some((text[..at].trim(), rest.trim()));
        }
    }
    None
}

fn without_comment(text: &str) -> &str {
    let mut quotes = Quotes::default();
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        if quotes.is_outside(letter) && letter == '#' && before.is_whitespace() {
            return text[..at].trim();
        }
        before = letter;
    }
    text.trim()
}

/// A text, plain or in quotes.
fn scalar(text: &str) -> Option<String> {
    let text = without_comment(text);
    if let Some(rest) = text.strip_prefix('\'') {
        let inner = rest.strip_suffix('\'')?.replace("''", "\u{0}");
        return (!inner.contains('\'')).then(|| inner.replace('\u{0}', "'"));
    }
    if text.starts_with('"') {
        // The escapes that tools write are JSON's.
        return serde_json::from_str(text).ok();
    }
    // Anchors, tags, texts of several lines, and what is a list or map again.
    let is_other = text.starts_with(['&', '*', '!', '|', '>', '[', '{', '%', '@', '`']);
    (!is_other).then(|| text.to_owned())
}

/// Whether letters, one after another, are in quotes, which begin where a text does.
#[derive(Default)]
struct Quotes {
    open: Option<char>,
    escaped: bool,
    inside_plain: bool,
}

impl Quotes {
    /// Whether this letter is outside.
    fn is_outside(&mut self, letter: char) -> bool {
        match self.open {
            Some(_) if self.escaped => self.escaped = false,
            Some('"') if letter == '\\' => self.escaped = true,
            Some(open) if open == letter => self.open = None,
            Some(_) => {}
            None if !self.inside_plain && matches!(letter, '"' | '\'') => self.open = Some(letter),
            None => {
                // After these a text may begin; an apostrophe within one is no quote.
                let begins = matches!(letter, ',' | ':' | '[' | '{' | '-');
                self.inside_plain = !begins && (self.inside_plain || !letter.is_whitespace());
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, entries};

    fn value(text: &str) -> Option<Value> {
        entries(text).unwrap().remove(0).value()
    }

    fn list(items: &[&str]) -> Value {
        Value::List(items.iter().map(|&item| item.to_owned()).collect())
    }

    #[test]
    fn a_list_is_read_in_every_style() {
        for text in [
            "names: ['it''s', \"a, b\", c d]  # three",
            "names: [ # three\n  'it''s',\n  \"a, b\", # the second\n  c d,\n]\nnc: 3",
            "names:\n- it's\n- 'a, b'\n- c d # the last\n",
            "names:\n\n  - \"it's\"\n  # a remark\n  - a, b\n  - c d",
        ] {
            assert_eq!(value(text), Some(list(&["it's", "a, b", "c d"])), "{text}");
        }
        assert_eq!(value("names: []"), Some(list(&[])));
    }

    #[test]
    fn a_map_is_read_in_both_styles() {
        let pair = |key: &str, name: &str| (key.to_owned(), name.to_owned());
        let expected = Value::Map(vec![pair("0", "cat"), pair("1", "dog: big")]);
        for text in [
            "names:\n  0: cat\n  1: 'dog: big'",
            "names: {0: cat, 1: 'dog: big'}",
        ] {
            assert_eq!(value(text), Some(expected.clone()), "{text}");
        }
    }

    #[test]
    fn a_text_ends_at_a_remark() {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        assert_eq!(value("train: ../a#b # where"), text("../a#b"));
        assert_eq!(value("train:"), text(""));
        assert_eq!(value("\"train\": \"C:\\\\a b\""), text("C:\\a b"));
    }

    #[test]
    fn what_other_keys_hold_does_not_matter() {
        let text = "download: |\n  import x\n  [\nroboflow:\n  a:\n    b: c\nnames: [cat]";
        let all = entries(text).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[2].value(), Some(list(&["cat"])));
        assert_eq!(all[2].line, 7);
        assert_eq!(all[0].value(), None);
        assert_eq!(all[1].value(), None);
    }

    #[test]
    fn what_is_not_understood_is_no_value() {
        for text in [
            "names: [a",
            "names: [[a], b]",
            "names: &x a",
            "names: a\n  b",
            "names: {a}",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
        assert_eq!(entries("cat\ndog").err(), Some(1));
    }
}
