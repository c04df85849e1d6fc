//! What decided a cause, line by line.

use std::{
    borrow::Cow,
    fmt::{self, Display, Write as _},
};

use serde::{Serialize, Serializer};

/// What the diagnosis says.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// Stable name of the cause, see `rsttrace explain`.
    pub code: &'static str,
    /// Who put the reset on the wire.
    pub sender: Sender,
    /// Who has something to change.
    pub fault: Fault,
    /// How sure the diagnosis is.
    pub confidence: CauseConfidence,
    /// Whether it is nothing to worry about.
    pub benign: bool,
    /// One sentence.
    pub summary: Cow<'static, str>,
    /// What decided it, with figures; empty until [`crate::diagnose::Diagnosis::explain`] has been asked for it.
    pub evidence: Evidence,
    /// What to do, with the setting of the owner's program where that is known.
    pub advice: Cow<'static, str>,
}

/// Who put the reset on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sender {
    /// A process of this host, by closing a socket.
    LocalProcess,
    /// The kernel of this host.
    LocalKernel,
    /// The packet filter of this host.
    LocalFirewall,
    /// The other end.
    Peer,
    /// Something in between.
    Path,
    /// Not known.
    Unknown,
}

impl Sender {
    /// For a person.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::LocalProcess => "a process of this host",
            Self::LocalKernel => "this host's kernel",
            Self::LocalFirewall => "this host's packet filter",
            Self::Peer => "the peer",
            Self::Path => "something between the two ends",
            Self::Unknown => "nobody that is known",
        }
    }
}

/// Who has something to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// This host.
    Local,
    /// The other end.
    Peer,
    /// Something in between.
    Path,
    /// Nobody: it is harmless.
    None,
    /// Not known.
    Unknown,
}

impl Fault {
    /// For a person.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Local => "this host's side has something to change",
            Self::Peer => "the peer's side has something to change",
            Self::Path => "something between the two ends has something to change",
            Self::None => "it is harmless",
            Self::Unknown => "whose side has something to change is not known",
        }
    }
}

/// How sure the diagnosis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseConfidence {
    /// The kernel's state proves it.
    Certain,
    /// The fingerprint fits and nothing contradicts.
    Likely,
    /// The best of several explanations.
    Guess,
}

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
