//! The likely cause of a reset, and the evidence for it.

use std::{
    borrow::Cow,
    fmt::{self, Display, Write as _},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::code::{self, Code};

/// Result of the diagnosis.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cause {
    /// Stable code of the cause, see `rsttrace explain`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[a-z0-9-]+$")))]
    #[serde(deserialize_with = "code::deserialize")]
    pub code: Code,
    /// Part of the system that put the reset on the wire.
    pub sender: Sender,
    /// Side that has something to change.
    pub fault: Fault,
    /// How certain the cause is.
    pub confidence: CauseConfidence,
    /// Whether the reset is harmless.
    pub benign: bool,
    /// Payload bytes of this host that the reset threw away: the peer had not acknowledged them. `None` where the kernel
    /// had no socket, or nothing is lost.
    pub lost_bytes: Option<u64>,
    /// Summary in one sentence.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub summary: Cow<'static, str>,
    /// Findings that decided the cause, with figures.
    // Empty until `Diagnosis::explain`.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>", inner(length(min = 1))))]
    pub evidence: Evidence,
    /// Advice, with the setting of the owner's program where it is known.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub advice: Cow<'static, str>,
}

impl Cause {
    /// Cause of a record before its diagnosis: the code `unknown`, without texts.
    pub(crate) fn undiagnosed() -> Self {
        Self {
            code: "unknown",
            sender: Sender::Unknown,
            fault: Fault::Unknown,
            confidence: CauseConfidence::Guess,
            benign: false,
            lost_bytes: None,
            summary: Cow::Borrowed(""),
            evidence: Evidence::default(),
            advice: Cow::Borrowed(""),
        }
    }
}

/// Part of the system that put a reset on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sender {
    /// A process of this host, by closing a socket.
    LocalProcess,
    /// The kernel of this host.
    LocalKernel,
    /// The packet filter of this host.
    LocalFirewall,
    /// The other end of the connection.
    Peer,
    /// A device on the path between the two ends.
    Path,
    /// Not known.
    Unknown,
}

impl Sender {
    /// Description for people, as a part of a sentence.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::LocalProcess => "a process of this host",
            Self::LocalKernel => "this host's kernel",
            Self::LocalFirewall => "this host's packet filter",
            Self::Peer => "the peer",
            Self::Path => "something between the two ends",
            Self::Unknown => "an unknown sender",
        }
    }
}

/// Side that has something to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, clap::ValueEnum)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// This host.
    Local,
    /// The other end of the connection.
    Peer,
    /// A device on the path between the two ends.
    Path,
    /// Neither side: the reset is harmless.
    None,
    /// Not known.
    Unknown,
}

impl Fault {
    /// Description for people, as a phrase after the sender.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Local => "to be fixed on this host",
            Self::Peer => "to be fixed by the peer",
            Self::Path => "to be fixed between the two ends",
            Self::None => "harmless",
            Self::Unknown => "not known who can fix it",
        }
    }
}

/// How certain a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CauseConfidence {
    /// The kernel's state proves it.
    Certain,
    /// The observed state fits, and nothing contradicts.
    Likely,
    /// It is the best of several explanations.
    Guess,
}

impl CauseConfidence {
    /// What follows a verdict or a cause in text, with a space in front; empty where it is certain.
    pub const fn in_brackets(self) -> &'static str {
        match self {
            Self::Certain => "",
            Self::Likely => " (likely)",
            Self::Guess => " (a guess)",
        }
    }
}

/// Terminator of a line: neither a name in the kernel nor a text of a process contains it.
const END: u8 = 0;

/// Lines of evidence, the most significant first. They share one allocation: a record has some eight of them, and under
/// load an allocation for each took longer than formatting it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The lines, each followed by [`END`].
    text: String,
}

impl Evidence {
    /// Removes the lines and reserves room for those of most records.
    #[must_use]
    pub fn cleared(mut self) -> Self {
        self.text.clear();
        self.text.reserve(448);
        self
    }

    /// Appends a line from existing strings, without formatting: nearly all records have such lines.
    pub fn push_parts<const N: usize>(&mut self, parts: [&str; N]) {
        for part in parts {
            self.text.push_str(part);
        }
        self.text.push(END.into());
    }

    /// Formats and appends a line.
    pub fn push(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ignored = write!(self.text, "{line}");
        self.text.push(END.into());
    }

    /// The lines in the order in which they were added.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        memchr::memchr_iter(END, self.text.as_bytes())
            .map(move |end| self.text.get(std::mem::replace(&mut start, end + 1)..end).unwrap_or_default())
    }

    /// Whether there are no lines.
    pub const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// The lines, separated by semicolons.
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

impl<'de> Deserialize<'de> for Evidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut evidence = Self::default();
        for line in Vec::<Cow<'de, str>>::deserialize(deserializer)? {
            // A line never contains the terminator, but a file may.
            evidence.push_parts([&line.replace('\0', " ")]);
        }
        Ok(evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_lines_in_order() {
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
