//! Known idle timeouts: data with owners and sources, to which the user's own file adds.

use std::{fmt::Write as _, ops::RangeInclusive, path::Path};

use serde::{Deserialize, Deserializer};

use crate::{config::place, exit::Failure, input_file};

/// What the project knows.
const KNOWN: &str = include_str!("timeouts.toml");

/// One timeout.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeout {
    /// Whose it is.
    #[serde(deserialize_with = "named")]
    pub owner: String,
    /// How long.
    #[serde(deserialize_with = "span")]
    pub seconds: f64,
    /// What kind of thing has it.
    #[serde(default)]
    pub kind: Kind,
    /// What else there is to know.
    pub note: Option<String>,
    /// Where this is written down.
    pub source: Option<String>,
}

/// What kind of thing has a timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It closes idle connections of its clients.
    #[default]
    Server,
    /// It closes idle connections of its own pool.
    Client,
    /// Connections pass through it, and it forgets them.
    Path,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    timeout: Vec<Timeout>,
}

/// Every known timeout, the shortest first.
#[derive(Clone, Debug, Default)]
pub struct Timeouts {
    rows: Vec<Timeout>,
}

impl Timeouts {
    /// What the project knows, and what this file adds or replaces.
    pub fn read(file: Option<&Path>) -> Result<Self, Failure> {
        let mut timeouts = Self::default();
        timeouts.add(KNOWN).map_err(|error| Failure::Running(anyhow::anyhow!("the known timeouts: {error}")))?;
        if let Some(path) = file {
            let shown = path.display();
            let text = input_file::read(path)
                .map_err(|error| Failure::usage(format_args!("cannot read {shown} of --timeouts: {error}")))?;
            timeouts.add(&text).map_err(|error| Failure::usage(format_args!("{shown}:{error}")))?;
        }
        Ok(timeouts)
    }

    /// What a file says alone.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of(text: &str) -> Result<Self, String> {
        let mut timeouts = Self::default();
        timeouts.add(text).map(|()| timeouts)
    }

    /// Adds what a file says. The error begins with line and column.
    fn add(&mut self, text: &str) -> Result<(), String> {
        let file: File = toml::from_str(text).map_err(|error| {
            let (line, column) = place(text, error.span().map_or(0, |span| span.start));
            format!("{line}:{column}: {}", error.message().replace('\n', ", "))
        })?;
        for row in file.timeout {
            self.rows.retain(|known| !known.owner.eq_ignore_ascii_case(&row.owner));
            if row.seconds > 0.0 {
                self.rows.push(row);
            }
        }
        self.rows.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        Ok(())
    }

    /// All of them, the shortest first.
    pub fn rows(&self) -> &[Timeout] {
        &self.rows
    }

    /// Those that a silence of so many milliseconds matches.
    pub fn matching(&self, silence_ms: f64) -> impl Iterator<Item = &Timeout> {
        let silence = silence_ms / 1000.0;
        // In their order, both ends of what they match go up.
        let first = self.rows.partition_point(|row| *row.range().end() < silence);
        self.rows.get(first..).unwrap_or_default().iter().take_while(move |row| *row.range().start() <= silence)
    }

    /// Whether a silence matches one of these kinds.
    pub fn matches(&self, silence_ms: f64, kinds: &[Kind]) -> bool {
        self.matching(silence_ms).any(|row| kinds.contains(&row.kind))
    }

    /// The owners that a silence matches, `60 s: AWS ALB, nginx upstream, Tomcat default`, each time once.
    pub fn names(&self, silence_ms: f64) -> Option<String> {
        let mut names = String::new();
        let mut last = None;
        for row in self.matching(silence_ms) {
            if last == Some(row.seconds) {
                names += ", ";
            } else {
                if last.is_some() {
                    names += "; ";
                }
                // Writing to a string cannot fail.
                write!(names, "{} s: ", row.seconds).unwrap_or_default();
                last = Some(row.seconds);
            }
            names += &row.owner;
        }
        last.map(|_| names)
    }
}

impl Timeout {
    /// Silences in seconds that it matches: within a second, and within a tenth where that is less. Later than that up to
    /// a quarter: a server looks only now and then at what has been idle for too long.
    fn range(&self) -> RangeInclusive<f64> {
        let early = (self.seconds / 10.0).min(1.0);
        let late = (self.seconds / 4.0).min(1.0);
        self.seconds - early..=self.seconds + late
    }
}

fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.trim().is_empty() { Err(serde::de::Error::custom("an owner needs a name")) } else { Ok(name) }
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if seconds.is_finite() && seconds >= 0.0 {
        Ok(seconds)
    } else {
        Err(serde::de::Error::custom("seconds are a number from 0 up"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Timeouts {
        Timeouts::read(None).expect("the known timeouts")
    }

    #[test]
    fn every_row_says_where_it_is_written_down() {
        let known = known();
        assert!(known.rows().len() > 40);
        for row in known.rows() {
            assert!(row.source.as_deref().is_some_and(|source| !source.is_empty()), "{}", row.owner);
        }
    }

    #[test]
    fn a_silence_is_named_with_its_owners() {
        let names = known().names(60_004.0).expect("a minute is known");
        for owner in ["60 s: ", "AWS ALB", "nginx upstream", "Tomcat default"] {
            assert!(names.contains(owner), "{names}");
        }
        assert_eq!(known().names(37_000.0), None);
        assert_eq!(known().names(61_300.0), None);
        assert_eq!(known().names(58_900.0), None);
        // Half a second is much of two seconds.
        assert_eq!(known().names(1_700.0), None);
        assert_eq!(known().names(2_050.0).as_deref(), Some("2 s: gunicorn"));
    }

    #[test]
    fn a_file_adds_replaces_and_takes_away() {
        let mut timeouts = known();
        let text = "[[timeout]]\nowner='ours'\nseconds=37.5\n[[timeout]]\nowner='Gunicorn'\nseconds=1\n[[timeout]]\nowner='Puma'\nseconds=0";
        timeouts.add(text).expect("a good file");
        assert_eq!(timeouts.names(37_500.0).as_deref(), Some("37.5 s: ours"));
        assert_eq!(timeouts.names(1_000.0).as_deref(), Some("1 s: Gunicorn"));
        assert_eq!(timeouts.names(2_000.0), None);
        assert!(!timeouts.rows().iter().any(|row| row.owner == "Puma"));
    }

    #[test]
    fn errors_have_line_and_column() {
        for (text, said) in [
            ("[[timeout]]\nowner = 'x'\nseconds = 'soon'\n", "3:11: "),
            ("[[timeout]]\nowner = 'x'\nseconds = -1\n", "seconds are a number"),
            ("[[timeout]]\nowner = 'x'\nsecond = 1\n", "3:1: "),
            ("[[timeout]]\nowner = ''\nseconds = 1\n", "2:9: an owner needs a name"),
            ("[[timeout]]\nowner = 'x'\n", "seconds"),
            ("[[timeout]\n", "1:"),
            ("[[timeouts]]\nowner = 'x'\n", "1:3: "),
        ] {
            let error = Timeouts::default().add(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
