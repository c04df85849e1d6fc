//! Known idle timeouts: a table with owners and sources, which the user's file extends.

use std::{fmt::Write as _, ops::RangeInclusive, path::Path};

use serde::{Deserialize, Deserializer};

use super::{
    data_file::{self, DataFileError, TableError},
    program_hints::{self, ProgramName},
};
use crate::model::{Reset, Role};

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
    /// Prefixes of the comm of its processes, or of the file name of their executable; where they run in an interpreter, parts
    /// of the command line. Empty for what runs on no host of one's own.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Whether it is in the user's file, and no default.
    #[serde(skip)]
    is_users: bool,
}

/// Program that ended an idle connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeoutOwner<'a> {
    /// Its process.
    program: ProgramName<'a>,
    /// Role in which it ended the connection; `None` where that is not known.
    kind: Option<TimeoutKind>,
}

impl<'a> TimeoutOwner<'a> {
    /// The process of this host that owns the socket.
    pub(crate) fn of_socket(reset: &'a Reset) -> Option<Self> {
        let kind = match reset.role() {
            Some(Role::Server) => Some(TimeoutKind::Server),
            Some(Role::Client) => Some(TimeoutKind::Client),
            _ => None,
        };
        Some(Self { program: ProgramName::of(reset.process.as_ref()?), kind })
    }

    /// The process at the peer's end, where that is on this host.
    pub(crate) fn of_peer(reset: &'a Reset) -> Option<Self> {
        let owner = Self::server(&reset.other_end.as_ref()?.process.as_ref()?.comm);
        Some(if reset.role() == Some(Role::Client) { owner } else { Self { kind: None, ..owner } })
    }

    /// A server, by the comm of its process.
    pub(crate) const fn server(comm: &'a str) -> Self {
        let program = ProgramName { comm, executable: None, command_line: "" };
        Self { program, kind: Some(TimeoutKind::Server) }
    }
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
        timeouts.apply(EMBEDDED, false).map_err(TableError::Embedded)?;
        data_file::apply_file("--timeouts", file, |text| timeouts.apply(text, true))?;
        Ok(timeouts)
    }

    /// Parses a file without the embedded table. Fails when it is malformed.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(text: &str) -> Result<Self, DataFileError> {
        let mut timeouts = Self::default();
        timeouts.apply(text, true).map(|()| timeouts)
    }

    /// Applies a file, the embedded one or the user's, to the table. Changes nothing if it is malformed.
    fn apply(&mut self, text: &str, is_users: bool) -> Result<(), DataFileError> {
        let file: TimeoutsFile = data_file::parse(text).map_err(|mut error| {
            if !has_form(text) {
                error.message += FORM;
            }
            error
        })?;
        for row in file.timeout {
            self.rows.retain(|known| !known.owner.eq_ignore_ascii_case(&row.owner));
            if row.seconds > 0.0 {
                self.rows.push(Timeout { is_users, ..row });
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

    /// What is known of an idle time, in milliseconds, in words: the owners of the timeouts that it matches, by timeout, such as
    /// `60 s, a default of AWS ALB, nginx upstream, Tomcat default`. Where the program that ended the connection is known, other
    /// programs' defaults say nothing.
    pub(crate) fn describe(&self, idle_ms: f64, owner: Option<TimeoutOwner<'_>>) -> String {
        let mut text = String::new();
        let mut last = None;
        for row in self.matching_of(idle_ms, owner) {
            // Writing to a String cannot fail.
            let _ignored = match last {
                Some(last) if last == (row.seconds, row.is_users) => write!(text, ", {}", row.owner),
                _ => {
                    let separator = if last.is_some() { "; " } else { "" };
                    let whose = if row.is_users { "the timeout" } else { "a default" };
                    write!(text, "{separator}{} s, {whose} of {}", row.seconds, row.owner)
                }
            };
            last = Some((row.seconds, row.is_users));
        }
        match (last, owner.and_then(|owner| self.identify(owner.program))) {
            (Some(_), _) => text,
            (None, Some(name)) => format!("no default of {name}"),
            (None, None) => "no known timeout".to_owned(),
        }
    }

    /// As [`Self::matching`], and where the program that ended the connection is known those of that program alone, and the user's.
    pub(crate) fn matching_of<'a>(
        &'a self,
        idle_ms: f64,
        owner: Option<TimeoutOwner<'a>>,
    ) -> impl Iterator<Item = &'a Timeout> {
        let known = owner.filter(|owner| self.identify(owner.program).is_some());
        self.matching(idle_ms).filter(move |row| match known {
            Some(owner) => row.is_users || row.is_of(owner.program) && owner.kind.is_none_or(|kind| row.kind == kind),
            None => true,
        })
    }

    /// Name of a process's program; `None` where that may be any, as for an interpreter whose command line tells nothing.
    fn identify<'a>(&self, program: ProgramName<'a>) -> Option<&'a str> {
        let is_known = || !program.is_interpreter() && program_hints::is_well_known(program.comm);
        (self.rows.iter().any(|row| row.is_of(program)) || is_known()).then_some(program.comm)
    }
}

impl Timeout {
    /// Whether it is one of this program.
    fn is_of(&self, program: ProgramName<'_>) -> bool {
        self.programs.iter().any(|name| program.matches(name))
    }

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
        let describe = |idle_ms: f64| known().describe(idle_ms, None);
        let names = describe(60_004.0);
        for owner in ["60 s, a default of AWS ALB, ", "nginx upstream", "Tomcat default"] {
            assert!(names.contains(owner), "{names}");
        }
        for idle_ms in [37_000.0, 61_300.0, 58_900.0] {
            assert_eq!(describe(idle_ms), "no known timeout");
        }
        // Half a second is much of two seconds.
        assert_eq!(describe(1_700.0), "no known timeout");
        assert_eq!(describe(2_050.0), "2 s, a default of gunicorn");
    }

    /// The defaults of other programs say nothing of one that is known.
    #[test]
    fn names_the_defaults_of_a_known_program_alone() {
        let mut timeouts = known();
        let describe = |timeouts: &Timeouts, idle_ms: f64, comm: &str, command_line: &str| {
            let program = ProgramName { comm, executable: None, command_line };
            timeouts.describe(idle_ms, Some(TimeoutOwner { program, kind: Some(TimeoutKind::Server) }))
        };
        for (idle_ms, comm, command_line, expected) in [
            (2_000.0, "nginx", "nginx: worker process", "no default of nginx"),
            (75_000.0, "nginx", "nginx: worker process", "75 s, a default of nginx"),
            // The pool of an upstream is another's.
            (60_000.0, "nginx", "", "no default of nginx"),
            (2_000.0, "gunicorn", "", "2 s, a default of gunicorn"),
            (2_000.0, "haproxy", "", "no default of haproxy"),
            (5_000.0, "python3.11", "python3 -m uvicorn app:app", "5 s, a default of uvicorn"),
            // Any server may run in these.
            (2_000.0, "python3", "python3 app.py", "2 s, a default of gunicorn"),
            (30_000.0, "java", "java -jar app.jar", "30 s, a default of Jetty, JDK HttpClient"),
            (2_000.0, "payments", "", "2 s, a default of gunicorn"),
        ] {
            assert_eq!(describe(&timeouts, idle_ms, comm, command_line), expected, "{comm}");
        }
        timeouts.apply("[[timeout]]\nowner='our proxy'\nseconds=2", true).expect("a good file");
        assert_eq!(describe(&timeouts, 2_000.0, "nginx", ""), "2 s, the timeout of our proxy");
    }

    #[test]
    fn a_file_adds_replaces_and_removes() {
        let mut timeouts = known();
        let text = "[[timeout]]\nowner='ours'\nseconds=37.5\n[[timeout]]\nowner='Gunicorn'\nseconds=1\n[[timeout]]\nowner='Puma'\nseconds=0";
        timeouts.apply(text, true).expect("a good file");
        assert_eq!(timeouts.describe(37_500.0, None), "37.5 s, the timeout of ours");
        assert_eq!(timeouts.describe(1_000.0, None), "1 s, the timeout of Gunicorn");
        assert_eq!(timeouts.describe(2_000.0, None), "no known timeout");
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
