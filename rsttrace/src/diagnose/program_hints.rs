//! Hints for common programs: the setting of each that a cause is about.

use std::{collections::BTreeMap, sync::LazyLock};

use foldhash::HashMap;
use serde::Deserialize;

use super::{catalogue::CauseSpec, data_file};
use crate::model::{Direction, Process};

/// The embedded table. A test parses it, so that the empty default is never used.
static TABLE: LazyLock<HintsFile> =
    LazyLock::new(|| data_file::parse(include_str!("program_hints.toml")).unwrap_or_default());

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HintsFile {
    /// Programs that accept connections only to forward them.
    forwarders: Vec<String>,
    /// Codes of causes by topic, as `CODE`, `sent/CODE` or `received/CODE`.
    topics: BTreeMap<String, Vec<String>>,
    /// Programs, in the order in which they are tried.
    program: Vec<Program>,
}

/// One program.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    /// Prefixes of its comm or of the file name of its executable.
    #[serde(default)]
    names: Vec<String>,
    /// Parts of its command line, for programs that run in an interpreter.
    #[serde(default)]
    command_line: Vec<String>,
    /// Hints by topic.
    hints: BTreeMap<String, String>,
}

impl HintsFile {
    /// Every hint with its program, and a code and direction of a cause, in the order of programs.
    fn entries(&self) -> impl Iterator<Item = ((&str, Direction), &Program, &str)> {
        self.program.iter().flat_map(move |program| {
            program.hints.iter().flat_map(move |(topic, hint)| {
                let codes = self.topics.get(topic).into_iter().flatten();
                codes.flat_map(|code| causes_of(code)).map(move |cause| (cause, program, hint.as_str()))
            })
        })
    }
}

/// The code of an entry in a topic, with each direction that it stands for.
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

/// What follows the last slash of a path.
fn file_name(path: &str) -> &str {
    memchr::memrchr(b'/', path.as_bytes()).and_then(|slash| path.get(slash + 1..)).unwrap_or(path)
}

/// Whether a process runs a program that accepts connections only to forward them: it ends none for a reason of its own.
pub(super) fn is_forwarder(process: &Process) -> bool {
    let executable = process.executable.as_deref().map(file_name);
    TABLE.forwarders.iter().any(|name| **name == *process.comm || executable == Some(name))
}

/// Hints for a cause, one for each program that has any.
pub(super) fn for_cause(cause: &CauseSpec) -> impl Iterator<Item = &'static str> {
    // A cause of both directions has the same hints in either.
    let direction = cause.direction.unwrap_or(Direction::Sent);
    TABLE.entries().filter(move |&(of, ..)| of == (cause.code, direction)).map(|(.., hint)| hint)
}

/// The table indexed by code and direction of the cause, since most causes concern few programs.
pub(super) struct HintsByCause(HashMap<(&'static str, Direction), Vec<(&'static Program, &'static str)>>);

impl Default for HintsByCause {
    fn default() -> Self {
        let mut hints: HashMap<_, Vec<_>> = HashMap::default();
        for (cause, program, hint) in TABLE.entries() {
            hints.entry(cause).or_default().push((program, hint));
        }
        Self(hints)
    }
}

impl HintsByCause {
    /// Hint for a cause in the program of this process; `None` if there is none.
    pub(super) fn find(&self, process: &Process, code: &'static str, direction: Direction) -> Option<&'static str> {
        let programs = self.0.get(&(code, direction))?;
        let executable = process.executable.as_deref().map(file_name);
        programs.iter().find(|(program, _)| program.matches(process, executable)).map(|&(_, hint)| hint)
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
        let table: HintsFile = data_file::parse(include_str!("program_hints.toml")).expect("it is TOML of this form");
        assert!(table.program.len() > 15);
        for program in &table.program {
            assert!(!program.names.is_empty() || !program.command_line.is_empty());
            for (topic, hint) in &program.hints {
                assert!(table.topics.contains_key(topic), "{topic}");
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
        let hints = HintsByCause::default();
        let found = |comm, executable, line| {
            hints.find(&process(comm, executable, line), "listen-overflow", Direction::Sent).unwrap_or("")
        };
        assert!(found("nginx", "/usr/sbin/nginx", "nginx: worker process").starts_with("nginx: "));
        assert!(found("python3", "/usr/bin/python3.13", "python3 /usr/bin/gunicorn app:app").starts_with("gunicorn: "));
        assert!(found("MainThread", "/usr/bin/node", "node server.js").starts_with("Node.js: "));
        assert!(found("java", "/usr/bin/java", "java -Dcatalina.home=/opt/t Bootstrap").starts_with("Tomcat: "));
        assert_eq!(found("own-server", "/opt/own", "own"), "");
    }
}
