//! The width of a terminal, and text that fits into it.

use std::os::fd::AsFd;

/// Columns below which text is not wrapped: nothing readable fits.
const NARROWEST: usize = 40;

/// Columns of the terminal that a descriptor refers to; `None` where it is none. Asks anew each time: it may be resized. Its rows
/// do not matter: some pseudoterminals have none.
pub(crate) fn columns(descriptor: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(descriptor).ok()?;
    Some(size.ws_col.into()).filter(|&columns| columns >= NARROWEST)
}

/// Wraps lines at words. The rest of a line is indented by as many columns as `indent` says for it.
pub(crate) fn wrap(text: &str, columns: usize, indent: impl Fn(&str) -> usize) -> String {
    let mut wrapped = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        if body.len() <= columns {
            wrapped.push_str(line);
            continue;
        }
        let blanks = " ".repeat(indent(body));
        let options = textwrap::Options::new(columns)
            .subsequent_indent(&blanks)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        wrapped.push_str(&textwrap::fill(body, options));
        wrapped.push_str(end);
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_words_and_are_indented() {
        let text = "  name       one two three four five\nshort\n";
        assert_eq!(wrap(text, 24, |_| 13), "  name       one two\n             three four\n             five\nshort\n");
        // A word that is too long stays whole: it is to be copied.
        assert_eq!(
            wrap("a [2001:db8:85a3:8d3:1319:8a2e:370:7348]:65535", 10, |_| 2),
            "a\n  [2001:db8:85a3:8d3:1319:8a2e:370:7348]:65535"
        );
        assert_eq!(wrap("a\tb", 80, |_| 2), "a\tb");
    }
}
