//! Text that came from outside, made harmless for a terminal.

use std::fmt::{self, Display, Formatter, Write as _};

/// Shows text without anything that a terminal obeys: control characters, escape sequences, and the marks that turn
/// the direction of writing come out as `\u{1b}`.
pub struct Harmless<'a>(pub &'a str);

impl Display for Harmless<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if is_harmful(character) {
                write!(formatter, "{}", character.escape_unicode())?;
            } else {
                formatter.write_char(character)?;
            }
        }
        Ok(())
    }
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{61c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The first `width` characters of a harmless text; what is cut off shows as `…`.
pub fn cut(text: &str, width: usize) -> String {
    let harmless = Harmless(text).to_string();
    if harmless.chars().count() <= width {
        return harmless;
    }
    harmless.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_comes_through() {
        for text in ["\u{1b}[31mred", "a\nb", "a\rb", "\u{202e}evil", "\u{9b}31m", "\u{7f}", "\u{2066}x"] {
            let shown = Harmless(text).to_string();
            assert!(!shown.chars().any(is_harmful), "{shown:?}");
        }
        assert_eq!(Harmless("nginx: worker – ünï").to_string(), "nginx: worker – ünï");
    }

    #[test]
    fn cut_counts_characters() {
        assert_eq!(cut("übergröße", 5), "über…");
        assert_eq!(cut("java", 4), "java");
        assert_eq!(cut("", 4), "");
    }
}
