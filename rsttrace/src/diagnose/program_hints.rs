//! Hints for programs: the setting of each that a cause is about. An embedded table, which the user's file extends.

use std::{collections::BTreeMap, path::Path, sync::LazyLock};

use foldhash::HashMap;
use serde::Deserialize;
use toml::Spanned;

use super::{
    catalogue::{self, CauseSpec},
    data_file::{self, DataFileError, TableError},
};
use crate::{
    model::{Direction, Process},
    util::spelling::similar,
};

/// The embedded table. A test parses it, so that the empty default is never used.
static TABLE: LazyLock<EmbeddedFile> =
    LazyLock::new(|| data_file::parse(include_str!("program_hints.toml")).unwrap_or_default());

/// The embedded file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddedFile {
    /// Programs that accept connections only to forward them.
    forwarders: Vec<String>,
    /// Codes of causes by topic, as `CODE`, `sent/CODE` or `received/CODE`.
    topics: BTreeMap<String, Vec<String>>,
    /// Programs, in the order in which they are tried.
    program: Vec<Program>,
}

/// The user's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HintsFile {
    /// Programs, in the order in which they are tried. Their hints are by `CODE`, `sent/CODE` or `received/CODE`.
    #[serde(default)]
    program: Vec<Spanned<Program>>,
}

/// One program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    /// Prefixes of its comm or of the file name of its executable.
    #[serde(default)]
    names: Vec<String>,
    /// Parts of its command line, for programs that run in an interpreter.
    #[serde(default)]
    command_line: Vec<String>,
    /// Hints by topic, or by code.
    hints: BTreeMap<Spanned<String>, String>,
}

impl EmbeddedFile {
    /// Every hint with its program, and a code and direction of a cause, in the order of programs.
    fn entries(&self) -> impl Iterator<Item = ((&str, Direction), &Program, &str)> {
        self.program.iter().flat_map(move |program| {
            program.hints.iter().flat_map(move |(topic, hint)| {
                let codes = self.topics.get(topic.get_ref()).into_iter().flatten();
                codes.flat_map(|code| causes_of(code)).map(move |cause| (cause, program, hint.as_str()))
            })
        })
    }
}

/// The code of `CODE`, `sent/CODE` or `received/CODE`, with each direction that it stands for.
fn causes_of(entry: &str) -> impl Iterator<Item = (&str, Direction)> {
    [(Direction::Sent, "sent/"), (Direction::Received, "received/")].into_iter().filter_map(
        move |(direction, prefix)| {
            let code = entry.strip_prefix(prefix).or_else(|| (!entry.contains('/')).then_some(entry))?;
            Some((code, direction))
        },
    )
}

impl Program {
    /// Whether a process runs it. `executable` is the file name of the process's executable.
    fn matches(&self, process: &Process, executable: Option<&str>) -> bool {
        let command_line = process.command_line.as_deref().unwrap_or_default();
        let is_named =
            |name: &String| [Some(&*process.comm), executable].into_iter().flatten().any(|own| own.starts_with(name));
        self.command_line.iter().any(|part| command_line.contains(part)) || self.names.iter().any(is_named)
    }
}

/// Names by which the program of a process is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProgramName<'a> {
    /// Comm of the process.
    pub(super) comm: &'a str,
    /// File name of its executable; `None` where that is not known.
    pub(super) executable: Option<&'a str>,
    /// Its command line; empty where that is not known.
    pub(super) command_line: &'a str,
}

/// Programs that run other programs: their own name tells nothing.
const INTERPRETERS: [&str; 6] = ["java", "python", "ruby", "perl", "php", "dotnet"];

impl<'a> ProgramName<'a> {
    /// Names of a process.
    pub(super) fn of(process: &'a Process) -> Self {
        Self {
            comm: &process.comm,
            executable: process.executable.as_deref().map(file_name),
            command_line: process.command_line.as_deref().unwrap_or_default(),
        }
    }

    /// Whether its comm or the file name of its executable begins with a name, or the command line of an interpreter contains it.
    pub(super) fn matches(self, name: &str) -> bool {
        let is_named = [Some(self.comm), self.executable].into_iter().flatten().any(|own| own.starts_with(name));
        is_named || self.is_interpreter() && self.command_line.contains(name)
    }

    /// Whether it runs other programs.
    pub(super) fn is_interpreter(self) -> bool {
        INTERPRETERS.iter().any(|interpreter| self.comm.starts_with(interpreter))
    }
}

/// What follows the last slash of a path.
fn file_name(path: &str) -> &str {
    memchr::memrchr(b'/', path.as_bytes()).and_then(|slash| path.get(slash + 1..)).unwrap_or(path)
}

/// Whether a process runs a program that accepts connections only to forward them: it ends none for a reason of its own.
pub(super) fn is_forwarder(process: &Process) -> bool {
    let executable = process.executable.as_deref().map(file_name);
    TABLE.forwarders.iter().any(|name| **name == *process.comm || executable == Some(name))
}

/// Whether a name of a process is that of a program in the built-in table, with or without a version (`python3.11`).
pub(crate) fn is_well_known(comm: &str) -> bool {
    let is_version = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let mut names = TABLE.program.iter().flat_map(|program| &program.names);
    names.any(|name| comm.strip_prefix(&**name).is_some_and(is_version))
}

/// Built-in hints for a cause, one for each program that has any.
pub(super) fn for_cause(cause: &CauseSpec) -> impl Iterator<Item = &'static str> {
    // A cause of both directions has the same hints in either.
    let direction = cause.direction.unwrap_or(Direction::Sent);
    TABLE.entries().filter(move |&(of, ..)| of == (cause.code, direction)).map(|(.., hint)| hint)
}

/// Hint of a program for one cause.
#[derive(Clone, Debug)]
struct Hint {
    /// The program, as an index of the table.
    program: usize,
    /// Empty: none, and no later program is asked.
    text: String,
}

/// Table of hints.
#[derive(Clone, Debug, Default)]
pub struct ProgramHints {
    programs: Vec<Program>,
    /// By code and direction of the cause, since most causes concern few programs; in the order of programs.
    by_cause: HashMap<(&'static str, Direction), Vec<Hint>>,
}

impl ProgramHints {
    /// The user's file before the embedded table. Blocks as reading the file does. Fails when the file cannot be read or is
    /// malformed.
    pub fn read(file: Option<&Path>) -> Result<Self, TableError> {
        let mut hints = Self::default();
        data_file::apply_file("--hints", file, |text| hints.append_file(text))?;
        hints.append_embedded();
        Ok(hints)
    }

    /// The embedded table alone.
    pub fn embedded() -> Self {
        let mut hints = Self::default();
        hints.append_embedded();
        hints
    }

    /// Parses a file without the embedded table. Fails when it is malformed.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(text: &str) -> Result<Self, DataFileError> {
        let mut hints = Self::default();
        hints.append_file(text).map(|()| hints)
    }

    fn append_embedded(&mut self) {
        let before = self.programs.len();
        self.programs.extend(TABLE.program.iter().cloned());
        for (number, program) in TABLE.program.iter().enumerate() {
            for (topic, text) in &program.hints {
                for code in TABLE.topics.get(topic.get_ref()).into_iter().flatten() {
                    self.append_hint(code, before + number, text);
                }
            }
        }
    }

    /// Appends the programs of a file. Fails when it is malformed.
    fn append_file(&mut self, text: &str) -> Result<(), DataFileError> {
        let file: HintsFile = data_file::parse(text)?;
        for program in file.program {
            let place = program.span().start;
            let program = program.into_inner();
            let mut names = program.names.iter().chain(&program.command_line).peekable();
            // An empty prefix would match every process.
            if names.peek().is_none() || names.any(String::is_empty) {
                let message =
                    "a program needs names = [\"COMM\"] or command_line = [\"PART\"], none of them empty".to_owned();
                return Err(DataFileError::at(text, place, message));
            }
            for (code, hint) in &program.hints {
                if !self.append_hint(code.get_ref(), self.programs.len(), hint) {
                    return Err(DataFileError::at(text, code.span().start, unknown_code(code.get_ref())));
                }
            }
            self.programs.push(program);
        }
        Ok(())
    }

    /// Appends a hint of a program for `CODE`, `sent/CODE` or `received/CODE`. False if there is no such cause.
    fn append_hint(&mut self, entry: &str, program: usize, text: &str) -> bool {
        let mut is_known = false;
        for (code, direction) in causes_of(entry) {
            let Some(cause) = catalogue::find_in(code, direction) else { continue };
            is_known = true;
            self.by_cause.entry((cause.code, direction)).or_default().push(Hint { program, text: text.into() });
        }
        is_known
    }

    /// Hint for a cause in the program of this process; `None` if there is none.
    pub(super) fn find(&self, process: &Process, code: &'static str, direction: Direction) -> Option<&str> {
        let hints = self.by_cause.get(&(code, direction))?;
        let executable = process.executable.as_deref().map(file_name);
        let matches = |hint: &&Hint| self.programs.get(hint.program).is_some_and(|it| it.matches(process, executable));
        hints.iter().find(matches).map(|hint| hint.text.as_str()).filter(|text| !text.is_empty())
    }
}

/// Error message for a code that no cause has.
fn unknown_code(entry: &str) -> String {
    let (prefix, code) = entry.split_once('/').map_or(("", entry), |(direction, code)| (direction, code));
    let codes = || catalogue::causes().map(|cause| cause.code);
    match (prefix, similar(code, codes())) {
        ("sent" | "received", Some(known)) if known == code => {
            format!("no {prefix} reset has the cause '{code}'")
        }
        (_, Some(known)) => format!("unknown cause '{entry}': did you mean '{known}'?"),
        (_, None) => format!("unknown cause '{entry}'; 'rsttrace explain' lists them"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        diagnose::catalogue,
        model::{OwnerConfidence, Provenance},
    };

    fn process(comm: &str, executable: &str, line: &str) -> Process {
        Process {
            pid: 1,
            comm: comm.into(),
            executable: Some(executable.into()),
            command_line: Some(line.into()),
            uid: None,
            user: None,
            cgroup: None,
            provenance: Provenance::Connect,
            confidence: OwnerConfidence::Exact,
        }
    }

    #[test]
    fn the_table_is_well_formed() {
        let table: EmbeddedFile =
            data_file::parse(include_str!("program_hints.toml")).expect("it is TOML of this form");
        assert!(table.program.len() > 15);
        for program in &table.program {
            assert!(!program.names.is_empty() || !program.command_line.is_empty());
            for (topic, hint) in &program.hints {
                assert!(table.topics.contains_key(topic.get_ref()), "{topic:?}");
                assert!(hint.ends_with('.'), "{hint}");
            }
        }
        let mut codes = HashSet::new();
        for (code, direction) in table.topics.values().flatten().flat_map(|entry| causes_of(entry)) {
            assert!(catalogue::find(code).next().is_some(), "{code}");
            assert!(codes.insert((code, direction == Direction::Sent)), "{code} has two topics");
        }
    }

    #[test]
    fn forwarders_have_an_exact_name() {
        assert!(is_forwarder(&process("ssh", "/usr/bin/ssh", "ssh -L 1:b:2 a")));
        assert!(is_forwarder(&process("renamed", "/usr/bin/docker-proxy", "")));
        assert!(!is_forwarder(&process("sshd", "/usr/sbin/sshd", "sshd: a")));
        assert!(!is_forwarder(&process("ssh-agent", "/usr/bin/ssh-agent", "")));
    }

    #[test]
    fn the_file_name_is_what_follows_the_last_slash() {
        for (path, name) in
            [("/usr/sbin/nginx", "nginx"), ("nginx", "nginx"), ("/usr/sbin/", ""), ("", ""), ("/ä/ö", "ö")]
        {
            assert_eq!(file_name(path), name);
        }
    }

    #[test]
    fn finds_programs_that_run_in_an_interpreter() {
        let hints = ProgramHints::embedded();
        let found = |comm, executable, line| {
            hints.find(&process(comm, executable, line), "listen-overflow", Direction::Sent).unwrap_or("")
        };
        assert!(found("nginx", "/usr/sbin/nginx", "nginx: worker process").starts_with("nginx: "));
        assert!(found("python3", "/usr/bin/python3.13", "python3 /usr/bin/gunicorn app:app").starts_with("gunicorn: "));
        assert!(found("MainThread", "/usr/bin/node", "node server.js").starts_with("Node.js: "));
        assert!(found("java", "/usr/bin/java", "java -Dcatalina.home=/opt/t Bootstrap").starts_with("Tomcat: "));
        assert_eq!(found("own-server", "/opt/own", "own"), "");
    }

    #[test]
    fn the_hints_of_a_file_come_first() {
        let text = "[[program]]\nnames = ['nginx']\n[program.hints]\nlisten-overflow = 'ours: somaxconn.'\n\
            'sent/keepalive-race' = ''\n[[program]]\ncommand_line = ['/srv/own']\nhints = { unknown = 'own: ask us.' }\n";
        let mut hints = ProgramHints::parse(text).expect("a good file");
        hints.append_embedded();
        let nginx = process("nginx", "/usr/sbin/nginx", "nginx: worker process");
        let found = |code, direction| hints.find(&nginx, code, direction);
        assert_eq!(found("listen-overflow", Direction::Sent), Some("ours: somaxconn."));
        assert_eq!(found("keepalive-race", Direction::Sent), None);
        // What the file does not name is as it was.
        assert!(found("keepalive-race", Direction::Received).is_some_and(|hint| hint.starts_with("nginx: ")));
        let own = process("own", "/bin/sh", "sh /srv/own");
        for direction in [Direction::Sent, Direction::Received] {
            assert_eq!(hints.find(&own, "unknown", direction), Some("own: ask us."));
        }
    }

    #[test]
    fn errors_of_a_file_have_line_and_column() {
        for (text, expected) in [
            (
                "[[program]]\nnames = ['a']\n[program.hints]\nlisten-overflown = 'x'\n",
                "4:1: unknown cause 'listen-overflown': did you mean 'listen-overflow'?",
            ),
            (
                "[[program]]\nnames = ['a']\nhints = { 'received/listen-overflow' = 'x' }\n",
                "3:11: no received reset has the cause 'listen-overflow'",
            ),
            (
                "[[program]]\nnames = ['a']\nhints = { zzz = 'x' }\n",
                "3:11: unknown cause 'zzz'; 'rsttrace explain' lists them",
            ),
            ("[[program]]\nhints = { unknown = 'x' }\n", "1:1: a program needs names"),
            ("[[program]]\nnames = ['a', '']\nhints = { unknown = 'x' }\n", "1:1: a program needs names"),
            ("[[program]]\nnames = ['a']\n", "missing field `hints`"),
            ("[[program]]\nnames = ['a']\nhints = { unknown = 3 }\n", "3:21: invalid type"),
            ("[[programs]]\n", "1:3: unknown field `programs`, expected `program`"),
        ] {
            let error = ProgramHints::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
