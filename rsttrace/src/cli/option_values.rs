//! Values of options: parsers with their messages, and candidates for completions.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr as _,
    time::Duration,
};

use clap::{
    Arg, Command as ClapCommand, Error,
    builder::{PathBufValueParser, PossibleValue, TypedValueParser},
    error::ErrorKind,
};

use crate::{
    diagnose::catalogue,
    report::ReportFormat,
    sink::SinkSpec,
    util::{size, spelling, time_span},
};

/// Parser of a value with candidates for the completions of shells. Help does not list them, and messages keep the
/// parser's own words, where clap would list fifty values.
#[derive(Clone)]
pub(super) struct Completed<P> {
    pub(super) parser: P,
    pub(super) candidates: fn() -> Vec<PossibleValue>,
}

impl<P: TypedValueParser> TypedValueParser for Completed<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &ClapCommand, argument: Option<&Arg>, value: &OsStr) -> Result<P::Value, Error> {
        self.parser.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.candidates)().into_iter()))
    }
}

/// Parser of `--sink`. Its errors do not quote what may be secret, as clap's own would.
#[derive(Clone)]
pub(super) struct SinkParser;

impl TypedValueParser for SinkParser {
    type Value = SinkSpec;

    fn parse_ref(&self, command: &ClapCommand, argument: Option<&Arg>, value: &OsStr) -> Result<SinkSpec, Error> {
        let text = value.to_string_lossy();
        if SinkSpec::redacted(&text) == text {
            return SinkSpec::from_str.parse_ref(command, argument, value);
        }
        SinkSpec::from_str(&text).map_err(|error| {
            let message = format!("invalid value '{}' for '--sink <SPEC>': {error}", SinkSpec::redacted(&text));
            Error::raw(ErrorKind::ValueValidation, message).format(&mut command.clone())
        })
    }
}

/// Beginnings of the values of `--sink`.
pub(super) fn sink_beginnings() -> Vec<PossibleValue> {
    SinkSpec::beginnings().map(|&(beginning, what)| PossibleValue::new(beginning).help(what)).collect()
}

/// Codes of the catalogue, each once and with a summary.
pub(super) fn cause_codes() -> Vec<PossibleValue> {
    let mut rows: Vec<_> = catalogue::causes().chain([&catalogue::UNKNOWN]).collect();
    rows.sort_by_key(|row| row.code);
    rows.dedup_by_key(|row| row.code);
    rows.into_iter().map(|row| PossibleValue::new(row.code).help(row.summary)).collect()
}

/// Replaces the beginning of an option's help: the first of each pair by the second.
pub(super) fn reworded(argument: Arg, beginnings: &[(&str, &str)]) -> Arg {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    match beginnings.iter().find_map(|(shown, other)| Some((other, help.strip_prefix(shown)?))) {
        Some((other, rest)) => argument.help(format!("{other}{rest}")),
        None => argument,
    }
}

/// Lets `--cause` take only codes of the catalogue, which the filters do not know. (`mut_arg` would move it to the end of the
/// completions.)
pub(super) fn check_cause(argument: Arg) -> Arg {
    if argument.get_id() != "cause" {
        return argument;
    }
    argument.value_parser(Completed { parser: cause_code, candidates: cause_codes }).hide_possible_values(true)
}

/// What to type instead of a code that there is not; a part of a sentence.
pub(crate) fn unknown_cause(code: &str) -> String {
    let list = "'rsttrace explain' lists the codes";
    match spelling::similar(code, catalogue::causes().map(|row| row.code)) {
        Some(similar) => format!("did you mean '{similar}'? {list}"),
        None => list.to_owned(),
    }
}

pub(super) fn count(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| "expected a number from 1 on".into())
}

pub(super) fn buffer_size(text: &str) -> Result<u32, String> {
    let bytes = size::parse(text)?;
    let bytes = u32::try_from(bytes).ok().filter(|bytes| (1..=1 << 30).contains(bytes));
    bytes.ok_or_else(|| "expected a size of more than 0, up to 1G".into())
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port.or_else(|_| text.parse()).map_err(|_error| {
        let expected = "expected a port up to 65535, or an address such as 10.0.0.5:9477";
        match text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
            Some(("" | "*", port)) => {
                format!("{expected}; 0.0.0.0:{port} is every address of IPv4, {port} the loopback one")
            }
            Some(("localhost", port)) => format!("{expected}; {port} alone is on the loopback address"),
            _ => expected.into(),
        }
    })
}

pub(super) fn peers(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number <= 10_000);
    number.ok_or_else(|| "expected a number from 0 to 10000".into())
}

/// File of a report, whose extension has to tell the format.
pub(super) fn report_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match ReportFormat::of_file(&path) {
        Ok(_) => Ok(path),
        Err(other) => {
            Err(format!("'.{other}' is no format of a report: a page is .html, text .md, the main plot .svg"))
        }
    })
}

pub(super) fn queue(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1 << 20).contains(number));
    number.ok_or_else(|| "expected a number from 1 to 1048576".into())
}

/// Shortest interval of summaries: a shorter one would show nothing else.
pub(super) const INTERVAL_MIN: Duration = Duration::from_millis(100);

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = time_span::parse(text)?;
    if interval < INTERVAL_MIN { Err("expected a time of 0.1 s or more".into()) } else { Ok(interval) }
}

fn cause_code(text: &str) -> Result<String, String> {
    let known = catalogue::find(text).next().map(|row| row.code.to_owned());
    known.ok_or_else(|| unknown_cause(text))
}
