//! What decided a cause, line by line.

use std::fmt::{self, Display, Write as _};

use serde::{Serialize, Serializer};

/// Ends a line: no name in the kernel and no text of a process can have it.
const END: u8 = 0;

/// Lines of text, the most telling first. They share one piece of memory: a record has some eight of them, and under load
/// a piece for each took longer than to find its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Each with [`END`] behind it.
    text: String,
}

impl Evidence {
    /// Without lines, and with room for what most records have.
    #[must_use]
    pub fn emptied(mut self) -> Self {
        self.text.clear();
        self.text.reserve(448);
        self
    }

    /// Adds a line of pieces that are there already: nearly all records have some, and nothing need be formatted for them.
    pub fn say<const N: usize>(&mut self, pieces: [&str; N]) {
        for piece in pieces {
            self.text.push_str(piece);
        }
        self.text.push(END.into());
    }

    /// Adds a line.
    pub fn push(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        write!(self.text, "{line}{}", char::from(END)).unwrap_or_default();
    }

    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        memchr::memchr_iter(END, self.text.as_bytes())
            .map(move |end| self.text.get(std::mem::replace(&mut start, end + 1)..end).unwrap_or_default())
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// All in one line.
impl Display for Evidence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        self.lines().try_for_each(|line| write!(formatter, "{}{line}", std::mem::replace(&mut separator, "; ")))
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.lines())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_as_they_went_in() {
        let mut evidence = Evidence::default();
        assert!(evidence.is_empty() && evidence.lines().next().is_none());
        for line in ["one", "", "zwölf µs"] {
            evidence.push(line);
        }
        assert!(evidence.lines().eq(["one", "", "zwölf µs"]));
        assert_eq!(evidence.to_string(), "one; ; zwölf µs");
        assert_eq!(serde_json::to_string(&evidence).ok().as_deref(), Some(r#"["one","","zwölf µs"]"#));
    }
}
