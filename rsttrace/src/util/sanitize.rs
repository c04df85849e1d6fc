//! Sanitizing of untrusted text: for terminals, and for readers of JSON lines.

use std::{
    borrow::Cow,
    fmt::{self, Display, Formatter, Write as _},
    io,
};

/// Shows text without characters that a terminal obeys or does not show: control characters, escape sequences,
/// bidirectional controls and invisible characters come out as `\u{1b}`.
pub struct Sanitized<'a>(pub &'a str);

impl Display for Sanitized<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| show(character, formatter))
    }
}

/// Shows text like [`Sanitized`], but keeps its line feeds.
pub struct SanitizedLines<'a>(pub &'a str);

impl Display for SanitizedLines<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\n' => formatter.write_char(character),
            _ => show(character, formatter),
        })
    }
}

fn show(character: char, formatter: &mut Formatter<'_>) -> fmt::Result {
    if is_unsafe_for_terminal(character) {
        write!(formatter, "{}", character.escape_unicode())
    } else {
        formatter.write_char(character)
    }
}

/// Whether a character is a control character of either set, a line or paragraph separator, a bidirectional control, or
/// what Unicode calls default ignorable: it has no glyph, so that two names would look alike. Variation selectors are
/// allowed, they belong to emoji.
pub(crate) fn is_unsafe_for_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The first `width` characters of a text, sanitized. A text that is longer ends in `…`.
pub fn truncate(text: &str, width: usize) -> Cow<'_, str> {
    // As almost all texts are.
    if text.len() <= width && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.into();
    }
    // As many characters as can be shown, and one to tell that there are more.
    let end = text.char_indices().nth(width + 1).map_or(text.len(), |(end, _)| end);
    let sanitized = Sanitized(text.get(..end).unwrap_or(text)).to_string();
    if sanitized.chars().count() <= width {
        return sanitized.into();
    }
    sanitized.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Replaces unsafe characters in a line of JSON by JSON's own escapes, which mean the same. serde keeps everything
/// beyond ASCII, among it the control characters from 0x7f to 0x9f and the separators at which some readers end a line.
pub(crate) fn escape_json(line: &mut Vec<u8>) {
    let mut escaped = Vec::with_capacity(line.len() + 64);
    for character in String::from_utf8_lossy(line).chars() {
        if is_unsafe_for_terminal(character) {
            escape_char_in_json(character, &mut escaped);
        } else {
            escaped.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    *line = escaped;
}

/// Appends a character as a JSON escape, in UTF-16 units.
pub(crate) fn escape_char_in_json(character: char, to: &mut impl io::Write) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        // Writing to memory cannot fail.
        let _ignored = write!(to, "\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_terminal_obeys() {
        for text in
            ["\u{1b}[31mred", "a\nb", "a\rb", "\u{202e}evil", "\u{9b}31m", "\u{7f}", "\u{2066}x", "\u{e0041}", "\u{ad}"]
        {
            let shown = Sanitized(text).to_string();
            assert!(!shown.chars().any(is_unsafe_for_terminal), "{shown:?}");
        }
        for text in ["nginx: worker – ünï", "日本語", "❤\u{fe0f}", "\u{fffd}", "e\u{301}"] {
            assert_eq!(Sanitized(text).to_string(), text);
        }
        assert_eq!(SanitizedLines("a\n\tb\r\n").to_string(), "a\n\\u{9}b\\u{d}\n");
    }

    #[test]
    fn truncate_counts_characters() {
        assert_eq!(truncate("übergröße", 5), "über…");
        assert_eq!(truncate("java", 4), "java");
        assert_eq!(truncate("", 4), "");
        assert_eq!(truncate("\u{1b}x", 4), "\\u{…");
        assert_eq!(truncate("ab", 0), "…");
    }

    #[test]
    fn json_escapes_keep_the_text() {
        for text in
            ["plain", "ünï", "\u{7f}\u{9b}31m", "\u{85}\u{2028}", "\u{202e}evil", "\u{e0041}\u{feff}", "\u{1b}\n\"\\"]
        {
            let mut line = serde_json::to_vec(text).expect("JSON");
            escape_json(&mut line);
            let line = String::from_utf8(line).expect("UTF-8");
            assert!(!line.chars().any(is_unsafe_for_terminal), "{line:?}");
            assert_eq!(serde_json::from_str::<String>(&line).ok().as_deref(), Some(text));
        }
    }
}
