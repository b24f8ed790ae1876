//! Makes untrusted text safe for an error, a log or a response.

use std::fmt::Write as _;

/// Maximum number of characters that are shown.
pub(crate) const SHOWN: usize = 80;

/// The text in backquotes, with control characters escaped, cut after 80 characters.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted = String::from("`");
    let mut rest = text.chars();
    for character in rest.by_ref().take(SHOWN) {
        // `escape_debug` escapes control characters and characters that change the direction of text. It would also
        // escape quotes, which are harmless.
        if matches!(character, '"' | '\'') {
            quoted.push(character);
        } else {
            let _ = write!(quoted, "{}", character.escape_debug());
        }
    }
    if rest.next().is_some() {
        quoted.push('…');
    }
    quoted.push('`');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn control_characters_are_escaped_and_long_text_is_cut() {
        assert_eq!(quote("a\u{1b}[2J\n\u{202e}b"), "`a\\u{1b}[2J\\n\\u{202e}b`");
        assert_eq!(quote(&"x".repeat(80)), format!("`{}`", "x".repeat(80)));
        assert_eq!(quote(&"x".repeat(81)), format!("`{}…`", "x".repeat(80)));
    }
}
