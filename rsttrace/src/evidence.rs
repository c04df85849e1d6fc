//! What decided a cause, line by line.

use std::fmt::{self, Display, Write as _};

use serde::{Serialize, Serializer};

/// Lines of text, the most telling first. They share one piece of memory: a record has some eight of them, and under load
/// a piece for each took longer than to find its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    text: String,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Evidence {
    /// With room for what most records have.
    pub fn with_room() -> Self {
        Self { text: String::with_capacity(448), ends: Vec::with_capacity(12) }
    }

    /// Adds a line of pieces that are there already: nearly all records have some, and to format them took three times as
    /// long.
    pub fn say<const N: usize>(&mut self, pieces: [&str; N]) {
        for piece in pieces {
            self.text.push_str(piece);
        }
        self.ends.push(self.text.len());
    }

    /// Adds a line.
    pub fn push(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        write!(self.text, "{line}").unwrap_or_default();
        self.ends.push(self.text.len());
    }

    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| self.text.get(start..end).unwrap_or_default())
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
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
