//! `--config FILE`: the same names as the command line, in TOML. Each setting becomes the flag that it is named after, so
//! there is nothing that one can say and the other cannot; what the command line says goes first. All faults of a file are
//! told together, in its order.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt, io, iter,
    ops::Range,
    path::{Path, PathBuf},
};

use clap::{
    ArgAction, Command, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    cli::Cli,
    input_file, mistakes,
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
    /// The file is malformed, or settings are unknown, have wrong values, or do not go together.
    Faults {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong, in the order of the file; not empty.
        faults: Vec<FileFault>,
    },
}

/// A fault of a file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileFault {
    /// Line, from 1.
    line: usize,
    /// Column, from 1.
    column: usize,
    /// Reason, one line.
    message: String,
}

impl fmt::Display for ConfigError {
    /// Writes one line for each fault.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => write!(formatter, "cannot read {}: {error}", path.display()),
            Self::Faults { path, faults } => {
                for (number, FileFault { line, column, message }) in faults.iter().enumerate() {
                    let separator = if number == 0 { "" } else { "\n" };
                    write!(formatter, "{separator}{}:{line}:{column}: {message}", path.display())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads a command line and the file that it names. Blocks as [`input_file::read`] does. Fails when one of them is
/// malformed, and for help that was asked for.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Refusal> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(asked) = help_of(&arguments) {
        arguments = asked;
    }
    // What is wrong is told when all of it is there: a flag may need another that the file has.
    let said = Cli::command().ignore_errors(true).try_get_matches_from(&arguments).map_err(Refusal::Usage)?;
    let file = said.try_get_one::<PathBuf>("config").ok().flatten();
    if let Some(path) = file {
        let is_said =
            |id: &str| said.try_contains_id(id).is_ok() && said.value_source(id) == Some(ValueSource::CommandLine);
        let file = ConfigFile::read(path, is_said).map_err(Refusal::File)?;
        file.check().map_err(Refusal::File)?;
        // Before whatever the command line has behind `--`.
        arguments.splice(1..1, file.flags().map(OsString::from));
    }
    command_line(&arguments).map_err(|error| {
        let words: Vec<String> = arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        Refusal::Usage(mistakes::advise(error, &words))
    })
}

/// `rsttrace --help` for `rsttrace help`, and `rsttrace SUBCOMMAND --help` for `rsttrace help SUBCOMMAND`; `None` for all else. Not
/// by a subcommand of clap's, which completions and man pages would have too.
fn help_of(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let help = || OsString::from("--help");
    match arguments {
        [program, word] if word == "help" => Some(vec![program.clone(), help()]),
        [program, word, name] if word == "help" => {
            Cli::command().find_subcommand(name)?;
            Some(vec![program.clone(), name.clone(), help()])
        }
        _ => None,
    }
}

fn command_line<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Cli, clap::Error> {
    Cli::command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches))
}

/// Place in a text, and what is wrong there.
type Wrong = (Range<usize>, String);

/// One flag of a file.
struct Setting {
    name: String,
    /// Place of its value.
    place: Range<usize>,
    flag: String,
}

/// A file as a command line, with everything that is wrong with it.
pub(crate) struct ConfigFile {
    path: PathBuf,
    text: String,
    /// The flags that go together, without those that the command line has.
    settings: Vec<Setting>,
    faults: Vec<Wrong>,
    /// Whether the file has any setting, also a flag that is off.
    has_settings: bool,
}

impl ConfigFile {
    /// Reads a file; settings for which `is_said` is true are checked and left out. Blocks as [`input_file::read`] does.
    /// Fails when it cannot be read; what is wrong in it, [`Self::check`] tells.
    fn read(path: &Path, is_said: impl Fn(&str) -> bool) -> Result<Self, ConfigError> {
        let text = input_file::read(path).map_err(|error| ConfigError::Read { path: path.into(), error })?;
        Ok(Self::parse(path, text, is_said))
    }

    /// Reads a file as a command line of its own, of the settings that are good. Blocks and fails as [`Self::read`] does.
    pub(crate) fn read_alone(path: &Path) -> Result<(Self, Cli), ConfigError> {
        let mut file = Self::read(path, |_| false)?;
        file.find_lacks();
        let arguments = iter::once("rsttrace").chain(file.flags()).map(OsString::from);
        match command_line(arguments) {
            Ok(cli) => Ok((file, cli)),
            Err(error) => {
                file.faults.push((0..0, one_line(error)));
                Err(file.error())
            }
        }
    }

    fn parse(path: &Path, text: String, is_said: impl Fn(&str) -> bool) -> Self {
        let (table, errors) = DeTable::parse_recoverable(&text);
        let mut faults: Vec<Wrong> = errors
            .into_iter()
            .map(|error| (error.span().unwrap_or_default(), error.message().replace('\n', ", ")))
            .collect();
        // What a malformed line says otherwise is a guess of the parser.
        let line = |place: &Range<usize>| line_and_column(&text, place.start).0;
        let malformed: BTreeSet<usize> = faults.iter().map(|(place, _)| line(place)).collect();
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        let has_settings = !entries.is_empty();
        entries.sort_by_key(|(name, _)| name.span().start);
        let command = Cli::command();
        let mut settings: Vec<Setting> = Vec::new();
        for (name, value) in entries {
            let (id, made) = setting(&command, name, value);
            let is_left_out = id.is_some_and(&is_said);
            // A list may be long: its values are looked at one by one only where one of them is wrong.
            let flags: Vec<&str> = made.iter().flatten().map(|setting| setting.flag.as_str()).collect();
            let are_good = alone(&flags).is_ok();
            // What goes with what is a matter of the options, not of their values.
            let conflict = flags.first().map_or(Ok(()), |flag| beside(&settings, flag, is_left_out));
            for made in made {
                let checked = made.and_then(|setting| {
                    let is_good = if are_good { Ok(()) } else { alone(&[&setting.flag]) };
                    let found = is_good.and_then(|()| conflict.clone());
                    found
                        .map_err(|message| (setting.place.clone(), message))
                        .map(|()| (!is_left_out).then_some(setting))
                });
                match checked {
                    Ok(setting) => settings.extend(setting),
                    Err((place, _)) if malformed.contains(&line(&place)) => {}
                    Err(wrong) => faults.push(wrong),
                }
            }
        }
        Self { path: path.into(), text, settings, faults, has_settings }
    }

    /// The flags of the good settings.
    fn flags(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().map(|setting| setting.flag.as_str())
    }

    /// Whether the file has any setting, good or not.
    pub(crate) const fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// Adds a fault at the first value of a setting.
    pub(crate) fn add_fault(&mut self, name: &str, message: impl fmt::Display) {
        let place = self.settings.iter().find(|setting| setting.name == name).map(|setting| setting.place.clone());
        self.faults.push((place.unwrap_or_default(), message.to_string()));
    }

    /// Fails with every fault, in the order of the file.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.error()) }
    }

    fn error(&self) -> ConfigError {
        let fault = |(place, message): &Wrong| {
            let (line, column) = line_and_column(&self.text, place.start);
            FileFault { line, column, message: message.clone() }
        };
        let faults: BTreeSet<FileFault> = self.faults.iter().map(fault).collect();
        ConfigError::Faults { path: self.path.clone(), faults: faults.into_iter().collect() }
    }

    /// Moves the settings that need another, which the file does not have, to the faults.
    fn find_lacks(&mut self) {
        let settings = std::mem::take(&mut self.settings);
        let doubtful_names: BTreeSet<String> = first_of_each(&settings)
            .filter(|setting| lack(&[&setting.flag]).is_some())
            .map(|setting| setting.name.clone())
            .collect();
        let (good, doubtful): (Vec<_>, Vec<_>) =
            settings.into_iter().partition(|setting| !doubtful_names.contains(&setting.name));
        let flags: Vec<&str> = first_of_each(&good).map(|setting| setting.flag.as_str()).collect();
        let (lacking, complete): (Vec<_>, Vec<_>) = doubtful
            .into_iter()
            .map(|setting| (lack(&[flags.as_slice(), &[&setting.flag]].concat()), setting))
            .partition(|(lack, _)| lack.is_some());
        let fault = |(lack, Setting { name, place, .. }): (Option<String>, _)| {
            Some((place, format!("'{name}' needs '{}' too", lack?)))
        };
        self.faults.extend(lacking.into_iter().filter_map(fault));
        self.settings = good;
        self.settings.extend(complete.into_iter().map(|(_, setting)| setting));
    }
}

/// The first setting that flags need and that is not among them.
fn lack(flags: &[&str]) -> Option<String> {
    let error = Cli::command().try_get_matches_from(iter::once(&"rsttrace").chain(flags)).err()?;
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return None };
    let missing = missing.first().filter(|_| error.kind() == ErrorKind::MissingRequiredArgument)?;
    missing.split_whitespace().next().map(|flag| flag.trim_start_matches('-').to_owned())
}

/// Identifier of the argument that a setting is named after, and its flags or what is wrong with them.
fn setting<'a>(
    command: &'a Command,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> (Option<&'a str>, Vec<Result<Setting, Wrong>>) {
    let text = name.get_ref().as_ref();
    let argument = command
        .get_arguments()
        .find(|argument| argument.get_long() == Some(text))
        .filter(|_| !NOT_IN_A_FILE.contains(&text));
    let Some(argument) = argument else { return (None, vec![Err((name.span(), unknown_setting(text, command)))]) };
    let made = match (argument.get_action(), value.get_ref()) {
        (ArgAction::SetTrue, DeValue::Boolean(false)) => vec![],
        (ArgAction::SetTrue, DeValue::Boolean(true)) => {
            vec![Ok(Setting { name: text.to_owned(), place: value.span(), flag: format!("--{text}") })]
        }
        (ArgAction::SetTrue, _) => vec![Err((value.span(), "expected true or false, without quotes".to_owned()))],
        (ArgAction::Append, DeValue::Array(values)) => values.iter().map(|value| with_value(text, value)).collect(),
        _ => vec![with_value(text, value)],
    };
    (Some(argument.get_id().as_str()), made)
}

/// What is wrong with the name of a setting that there is not.
fn unknown_setting(name: &str, command: &Command) -> String {
    let known = command.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(clap::Arg::get_long);
    match spelling::similar(name, known.filter(|name| !NOT_IN_A_FILE.contains(name))) {
        Some(similar) => format!("unknown setting '{name}': did you mean '{similar}'?"),
        None => format!("unknown setting '{name}': settings are named after the options"),
    }
}

/// A flag with its value.
fn with_value(name: &str, value: &Spanned<DeValue<'_>>) -> Result<Setting, Wrong> {
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
    Ok(Setting { name: name.to_owned(), place: value.span(), flag: format!("--{name}={text}") })
}

/// Whether flags of one name are good by themselves. What they need beside them, or do not go with, shows with others.
fn alone(flags: &[&str]) -> Result<(), String> {
    match Cli::command().try_get_matches_from(iter::once(&"rsttrace").chain(flags)) {
        Err(error) if !matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict) => {
            Err(one_line(error))
        }
        _ => Ok(()),
    }
}

/// Whether a flag goes with the good ones before it. One that the command line has instead is not compared.
fn beside(settings: &[Setting], flag: &str, is_left_out: bool) -> Result<(), String> {
    let others = first_of_each(settings).map(|setting| setting.flag.as_str());
    match Cli::command().try_get_matches_from(iter::once("rsttrace").chain(others).chain([flag])) {
        Err(error) if error.kind() == ErrorKind::ArgumentConflict && !is_left_out => Err(one_line(error)),
        _ => Ok(()),
    }
}

/// The first setting of each name; those of one name are together.
fn first_of_each(settings: &[Setting]) -> impl Iterator<Item = &Setting> {
    settings.chunk_by(|one, next| one.name == next.name).filter_map(<[Setting]>::first)
}

/// What clap says in its first line, what can be chosen from, and what is similar.
fn one_line(error: clap::Error) -> String {
    let error = mistakes::advise(error, &[]);
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
    let line = lines.join(" ").trim_start_matches("error: ").to_owned();
    match (error.get(ContextKind::SuggestedValue), error.get(ContextKind::Suggested)) {
        (Some(ContextValue::String(value)), _) => format!("{line}: did you mean '{value}'?"),
        (_, Some(ContextValue::StyledStrs(tips))) => tips.iter().fold(line, |line, tip| format!("{line}; {tip}")),
        _ => line,
    }
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

    /// Faults of a file as the lines of its error, without the path.
    fn faults(text: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let error = ConfigFile::read_alone(file.path()).and_then(|(file, _)| file.check()).expect_err(text).to_string();
        let path = format!("{}:", file.path().display());
        error.lines().map(|line| line.strip_prefix(&path).expect(line).to_owned()).collect()
    }

    #[test]
    fn all_faults_are_told_in_order() {
        let text = "output = 'jsn'\nzone = 'x'\nport = [80, 'x', 443, 90-80]\npeer = '10.0.0.0/33'\nmetric = 9477\nsent = 1\n\
                    duration = '30s'\nbuffer-size = \ntime = 'Europe/Berlin'\ncount = 0\n";
        let expected = [
            "1:10: invalid value 'jsn' for '--output <FORMAT>' [possible values: text, long, json, json-flat, none]: did you mean 'json'?",
            "2:1: unknown setting 'zone'",
            "3:",
            "4:8: ",
            "5:1: unknown setting 'metric': did you mean 'metrics'?",
            "6:8: expected true or false",
            "8:",
            "9:8: invalid value 'Europe/Berlin' for '--time <ZONE>' [possible values: ",
            "10:9: ",
        ];
        let faults = faults(text);
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.starts_with(expected), "{fault}");
        }
        let Err(Refusal::File(error)) = with(text, &[]) else { panic!("that is good") };
        assert_eq!(error.to_string().lines().count(), faults.len());
    }

    #[test]
    fn settings_that_do_not_go_together_have_a_place() {
        let conflict = "2:12: the argument '--sent' cannot be used with '--received'";
        assert_eq!(faults("sent = true\nreceived = true"), [conflict]);
        assert_eq!(faults("metrics-peers = 5\ncount = 3"), ["1:17: 'metrics-peers' needs 'metrics' too"]);
        let all = faults("received = true\nmetrics-peers = 5\nport = ['x', 'y']\nsent = true");
        assert_eq!(all.len(), 4, "{all:#?}");
        let Ok(cli) = with("metrics-peers = 5", &["--metrics", "9477"]) else { panic!("the command line has it") };
        assert_eq!(cli.trace.output.metrics_peers, 5);
    }

    #[test]
    fn faults_of_the_host_are_told_with_the_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "count = 0\nnetns = 'blue'\nsnet = true").unwrap();
        let (mut file, cli) = ConfigFile::read_alone(file.path()).expect("it can be read");
        assert_eq!(cli.trace.filters.netns.as_deref(), Some("blue"));
        file.add_fault("netns", "there is none");
        let error = file.check().expect_err("three faults").to_string();
        let places: Vec<_> = error.lines().map(|line| line.rsplit(": ").last().expect("a line").to_owned()).collect();
        assert!(error.lines().nth(1).is_some_and(|line| line.ends_with(":2:9: there is none")), "{places:?}");
        assert_eq!(places.len(), 3, "{error}");
    }

    #[test]
    fn conflicting_options_are_refused() {
        assert!(matches!(with("sent = true\nreceived = true", &[]), Err(Refusal::File(_))));
        assert!(matches!(with("sent = true", &["--received"]), Err(Refusal::Usage(_))));
    }
}
