//! Known idle timeouts: a table with owners and sources, which the user's file extends.

use std::{fmt::Write as _, ops::RangeInclusive, path::Path};

use serde::{Deserialize, Deserializer};

use super::data_file::{self, DataFileError, TableError};

/// The embedded table.
const EMBEDDED: &str = include_str!("timeouts.toml");

/// One timeout.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeout {
    /// Software or service that has it.
    #[serde(deserialize_with = "owner_name")]
    pub owner: String,
    /// Duration, seconds, from 0 up. 0 removes the owner's timeouts from the table.
    #[serde(deserialize_with = "duration_seconds")]
    pub seconds: f64,
    /// Role of the owner.
    #[serde(default)]
    pub kind: TimeoutKind,
    /// Remark.
    pub note: Option<String>,
    /// Document that states it.
    pub source: Option<String>,
}

/// Role of the owner of a timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeoutKind {
    /// Closes idle connections of its clients.
    #[default]
    Server,
    /// Closes idle connections of its own pool.
    Client,
    /// Forwards connections and forgets idle ones.
    Path,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeoutsFile {
    #[serde(default)]
    timeout: Vec<Timeout>,
}

/// What is said of a file that is TOML and has another form.
const FORM: &str = "; write a table for each timeout, in three lines: [[timeout]], owner = \"nginx\", seconds = 75";

/// Whether a file has nothing but tables of timeouts, whatever is in them; true as well for one that is no TOML.
fn has_form(text: &str) -> bool {
    let is_row = |row: &toml::Value| row.is_table();
    let is_timeouts = |rows: &toml::Value| rows.as_array().is_some_and(|rows| rows.iter().all(is_row));
    let file = toml::from_str::<toml::Table>(text).unwrap_or_default();
    file.iter().all(|(name, value)| name == "timeout" && is_timeouts(value))
}

/// Table of known timeouts.
#[derive(Clone, Debug, Default)]
pub struct Timeouts {
    /// By duration, the shortest first.
    rows: Vec<Timeout>,
}

impl Timeouts {
    /// Reads the embedded table, and applies the user's file to it: timeouts of an owner in both are replaced, others
    /// added. Blocks as reading the file does. Fails when the file cannot be read or is malformed.
    pub fn read(file: Option<&Path>) -> Result<Self, TableError> {
        let mut timeouts = Self::default();
        timeouts.apply(EMBEDDED).map_err(TableError::Embedded)?;
        data_file::apply_file("--timeouts", file, |text| timeouts.apply(text))?;
        Ok(timeouts)
    }

    /// Parses a file without the embedded table. Fails when it is malformed.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(text: &str) -> Result<Self, DataFileError> {
        let mut timeouts = Self::default();
        timeouts.apply(text).map(|()| timeouts)
    }

    /// Applies a file to the table. Changes nothing if it is malformed.
    fn apply(&mut self, text: &str) -> Result<(), DataFileError> {
        let file: TimeoutsFile = data_file::parse(text).map_err(|mut error| {
            if !has_form(text) {
                error.message += FORM;
            }
            error
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

    /// All timeouts, the shortest first.
    pub fn rows(&self) -> &[Timeout] {
        &self.rows
    }

    /// Timeouts that an idle time, in milliseconds, matches, the shortest first.
    pub fn matching(&self, idle_ms: f64) -> impl Iterator<Item = &Timeout> {
        let idle_s = idle_ms / 1000.0;
        // Both ends of the range grow with the timeout, so the matching rows are adjacent.
        let first = self.rows.partition_point(|row| *row.range().end() < idle_s);
        self.rows.get(first..).unwrap_or_default().iter().take_while(move |row| *row.range().start() <= idle_s)
    }

    /// Returns whether an idle time, in milliseconds, matches a timeout of one of these kinds.
    pub fn matches(&self, idle_ms: f64, kinds: &[TimeoutKind]) -> bool {
        self.matching(idle_ms).any(|row| kinds.contains(&row.kind))
    }

    /// Owners whose timeouts an idle time, in milliseconds, matches, by timeout: `60 s: AWS ALB, nginx upstream, Tomcat
    /// default`. `None` if there are none.
    pub fn names(&self, idle_ms: f64) -> Option<String> {
        let mut names = String::new();
        let mut last = None;
        for row in self.matching(idle_ms) {
            if last == Some(row.seconds) {
                names += ", ";
            } else {
                if last.is_some() {
                    names += "; ";
                }
                // Writing to a String cannot fail.
                let _ignored = write!(names, "{} s: ", row.seconds);
                last = Some(row.seconds);
            }
            names += &row.owner;
        }
        last.map(|_| names)
    }
}

impl Timeout {
    /// Idle times that it matches, seconds: up to a tenth earlier and a quarter later, each at most one second. Later,
    /// because servers look for idle connections only from time to time.
    fn range(&self) -> RangeInclusive<f64> {
        let early = (self.seconds / 10.0).min(1.0);
        let late = (self.seconds / 4.0).min(1.0);
        self.seconds - early..=self.seconds + late
    }
}

fn owner_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.trim().is_empty() { Err(serde::de::Error::custom("an owner needs a name")) } else { Ok(name) }
}

fn duration_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
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
    fn every_row_has_a_source() {
        let known = known();
        assert!(known.rows().len() > 40);
        for row in known.rows() {
            assert!(row.source.as_deref().is_some_and(|source| !source.is_empty()), "{}", row.owner);
        }
    }

    #[test]
    fn names_the_owners_of_an_idle_time() {
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
    fn a_file_adds_replaces_and_removes() {
        let mut timeouts = known();
        let text = "[[timeout]]\nowner='ours'\nseconds=37.5\n[[timeout]]\nowner='Gunicorn'\nseconds=1\n[[timeout]]\nowner='Puma'\nseconds=0";
        timeouts.apply(text).expect("a good file");
        assert_eq!(timeouts.names(37_500.0).as_deref(), Some("37.5 s: ours"));
        assert_eq!(timeouts.names(1_000.0).as_deref(), Some("1 s: Gunicorn"));
        assert_eq!(timeouts.names(2_000.0), None);
        assert!(!timeouts.rows().iter().any(|row| row.owner == "Puma"));
    }

    #[test]
    fn errors_have_line_and_column() {
        for (text, expected) in [
            ("[[timeout]]\nowner = 'x'\nseconds = 'soon'\n", "3:11: "),
            ("[[timeout]]\nowner = 'x'\nseconds = -1\n", "seconds are a number"),
            ("[[timeout]]\nowner = 'x'\nsecond = 1\n", "3:1: "),
            ("[[timeout]]\nowner = ''\nseconds = 1\n", "2:9: an owner needs a name"),
            ("[[timeout]]\nowner = 'x'\n", "seconds"),
            ("[[timeout]\n", "1:"),
            ("[[timeouts]]\nowner = 'x'\n", "1:3: "),
            ("nginx = 2\n", "1:1: unknown field `nginx`, expected `timeout`; write a table for each timeout"),
            ("timeout = 2\n", "in three lines: [[timeout]], owner = \"nginx\", seconds = 75"),
            ("[timeout]\nnginx = 2\n", "in three lines: [[timeout]]"),
        ] {
            let error = Timeouts::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
