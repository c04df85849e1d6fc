//! `--config FILE`: the same names as the command line, in TOML. Each setting becomes the flag that it is named after, so
//! there is nothing that one can say and the other cannot; what the command line says goes first.

use std::{
    ffi::OsString,
    fmt, io, iter,
    ops::Range,
    path::{Path, PathBuf},
};

use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, error::ErrorKind, parser::ValueSource};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    cli::Cli,
    input_file,
    util::{spelling, text_position::line_and_column},
};

/// Flags that make no sense in a file.
const NOT_IN_A_FILE: [&str; 3] = ["config", "help", "version"];

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The command line, or help that was asked for.
    Usage(clap::Error),
    /// The file.
    File(ConfigError),
}

/// Reason why a file is no command line.
#[derive(Debug)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        error: io::Error,
    },
    /// The file is malformed, or a setting is unknown or has a wrong value.
    Setting {
        /// Path of the file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Reason, one line.
        message: String,
    },
    /// Settings need others, or do not go together.
    Combination {
        /// Path of the file.
        path: PathBuf,
        /// Reason, one line.
        message: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => write!(formatter, "cannot read {} of --config: {error}", path.display()),
            Self::Setting { path, line, column, message } => {
                write!(formatter, "{}:{line}:{column}: {message}", path.display())
            }
            Self::Combination { path, message } => write!(formatter, "{}: {message}", path.display()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads a command line and the file that it names. Blocks as [`input_file::read`] does. Fails when one of them is
/// malformed, and for help that was asked for.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Refusal> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // What is wrong is told when all of it is there: a flag may need another that the file has.
    let said = Cli::command().ignore_errors(true).try_get_matches_from(&arguments).map_err(Refusal::Usage)?;
    let file = said.try_get_one::<PathBuf>("config").ok().flatten();
    if let Some(path) = file {
        let is_said =
            |id: &str| said.try_contains_id(id).is_ok() && said.value_source(id) == Some(ValueSource::CommandLine);
        let more = read(path, is_said).map_err(Refusal::File)?;
        // Before whatever the command line has behind `--`.
        arguments.splice(1..1, more);
    }
    command_line(arguments).map_err(Refusal::Usage)
}

/// Reads a file as a command line of its own. Blocks as [`input_file::read`] does. Fails when it cannot be read or is
/// malformed.
pub(crate) fn parse_file(path: &Path) -> Result<Cli, ConfigError> {
    let arguments = read(path, |_| false)?;
    command_line(iter::once("rsttrace".into()).chain(arguments))
        .map_err(|error| ConfigError::Combination { path: path.into(), message: first_line(&error) })
}

fn command_line(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches))
}

/// The flags that a file stands for, without those that have been said already.
fn read(path: &Path, is_said: impl Fn(&str) -> bool) -> Result<Vec<OsString>, ConfigError> {
    let text = input_file::read(path).map_err(|error| ConfigError::Read { path: path.into(), error })?;
    flags(&text, is_said).map_err(|(place, message)| {
        let (line, column) = line_and_column(&text, place.start);
        ConfigError::Setting { path: path.into(), line, column, message }
    })
}

type Wrong = (Range<usize>, String);

fn flags(text: &str, is_said: impl Fn(&str) -> bool) -> Result<Vec<OsString>, Wrong> {
    let table = DeTable::parse(text)
        .map_err(|error| (error.span().unwrap_or_default(), error.message().replace('\n', ", ")))?
        .into_inner();
    let mut flags = Vec::new();
    for (name, value) in &table {
        let command = Cli::command();
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_long() == Some(name.get_ref()))
            .filter(|_| !NOT_IN_A_FILE.contains(&name.get_ref().as_ref()));
        let Some(argument) = argument else {
            return Err((name.span(), unknown_setting(name.get_ref(), &command)));
        };
        let made = match (argument.get_action(), value.get_ref()) {
            (ArgAction::SetTrue, DeValue::Boolean(is_on)) => {
                is_on.then(|| format!("--{}", name.get_ref())).into_iter().map(|flag| (value.span(), flag)).collect()
            }
            (ArgAction::SetTrue, _) => return Err((value.span(), "expected true or false, without quotes".to_owned())),
            (ArgAction::Append, DeValue::Array(values)) => {
                values.iter().map(|value| flag(name.get_ref(), value)).collect::<Result<Vec<_>, _>>()?
            }
            _ => vec![flag(name.get_ref(), value)?],
        };
        for (place, flag) in made {
            alone(&flag).map_err(|message| (place, message))?;
            if !is_said(argument.get_id().as_str()) {
                flags.push(flag.into());
            }
        }
    }
    Ok(flags)
}

/// What is wrong with the name of a setting that there is not.
fn unknown_setting(name: &str, command: &clap::Command) -> String {
    let known = command.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(clap::Arg::get_long);
    match spelling::similar(name, known.filter(|name| !NOT_IN_A_FILE.contains(name))) {
        Some(similar) => format!("unknown setting '{name}': did you mean '{similar}'?"),
        None => format!("unknown setting '{name}': settings are named after the options"),
    }
}

/// A flag with its value, and where that stands.
fn flag(name: &str, value: &Spanned<DeValue<'_>>) -> Result<(Range<usize>, String), Wrong> {
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        other => {
            let kind = other.type_str();
            let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
            return Err((value.span(), format!("expected a string or a number, not {article} {kind}")));
        }
    };
    Ok((value.span(), format!("--{name}={text}")))
}

/// Whether a flag is good by itself. What it needs beside it, or does not go with, shows with all of them.
fn alone(flag: &str) -> Result<(), String> {
    match Cli::command().try_get_matches_from(["rsttrace", flag]) {
        Err(error) if !matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict) => {
            Err(first_line(&error))
        }
        _ => Ok(()),
    }
}

/// What clap says in its first line, and what can be chosen from.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;

    fn with(text: &str, arguments: &[&str]) -> Result<Cli, Refusal> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().as_os_str().to_owned();
        let all = ["rsttrace".into(), "--config".into(), path];
        parse(all.into_iter().chain(arguments.iter().map(OsString::from)))
    }

    #[test]
    fn a_file_equals_flags() {
        let cli = with(
            "received = true\nsent = false\nport = ['80-90', 443]\npeer = '10.0.0.0/8'\nduration = '30s'\noutput = 'none'
             sink = ['json:/tmp/a', 'journald']\nsink-queue = 500\nmetrics = 9477\nmetrics-peers = 7\nforwarded = ['lo']",
            &["--metrics-peers", "9"],
        )
        .unwrap();
        let trace = cli.trace;
        assert!(trace.filters.received && !trace.filters.sent);
        assert_eq!((trace.filters.port.len(), trace.filters.peer.len()), (2, 1));
        assert_eq!((trace.output.output, trace.output.sink.len(), trace.output.sink_queue), (Format::None, 2, 500));
        assert_eq!(trace.run.duration.unwrap().as_secs(), 30);
        assert_eq!(trace.output.metrics.unwrap().to_string(), "127.0.0.1:9477");
        assert_eq!(trace.output.metrics_peers, 9, "the command line goes first");
        assert_eq!(trace.more.forwarded, ["lo"]);
    }

    #[test]
    fn errors_have_line_and_column() {
        for (text, said) in [
            ("duration = '30s'\nsnet = true", "2:1: unknown setting 'snet'"),
            ("# a comment\n  duration = 'soon'", "2:14: "),
            ("port = [80,\n  'x']", "2:3: "),
            ("sent = 1", "1:8: expected true or false"),
            ("output = 'xml'", "1:10: invalid value 'xml'"),
            ("output = 'xml'", "possible values: text, long, json, json-flat, none"),
            ("duration = [1]", "1:12: expected a string or a number, not an array"),
            ("duration = true", "1:12: expected a string or a number, not a boolean"),
            ("sink = ['pigeon']", "1:9: "),
            ("config = 'x'", "1:1: unknown setting 'config'"),
            ("cause = ['x']", "1:10: invalid value 'x'"),
            ("[filters]\nsent = true", "1:2: unknown setting 'filters'"),
            ("sent = true\nsent = true", "2:1: duplicate key"),
            ("sent = ", "1:8: "),
        ] {
            let Err(Refusal::File(error)) = with(text, &[]) else { panic!("{text} is good") };
            let error = error.to_string();
            assert!(error.contains(said) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn conflicting_options_are_refused() {
        assert!(matches!(with("sent = true\nreceived = true", &[]), Err(Refusal::Usage(_))));
        assert!(matches!(with("sent = true", &["--received"]), Err(Refusal::Usage(_))));
    }
}
