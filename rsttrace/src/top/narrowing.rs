//! The filter of the view: the filters of the command line, typed as words.

use clap::Parser as _;

use crate::{
    cli::Cli,
    diagnose::catalogue,
    filter::RecordFilter,
    model::{Reset, parse_network},
};

/// Longest filter, bytes.
pub(super) const LONGEST: usize = 200;
/// Filters without a value.
const SWITCHES: [&str; 5] = ["sent", "received", "ipv4", "ipv6", "no-benign"];
/// Filters with one, as the command line names them.
const NAMES: [&str; 17] = [
    "cause",
    "fault",
    "peer",
    "not-peer",
    "host",
    "not-host",
    "comm",
    "pid",
    "port",
    "local-port",
    "peer-port",
    "not-port",
    "unit",
    "container",
    "pod",
    "netns",
    "cgroup",
];

/// A filter of the view, which narrows what is shown and not what is counted for the end.
#[derive(Debug)]
pub struct Narrowing {
    text: String,
    filter: RecordFilter,
}

impl Narrowing {
    /// Reads words such as `cause:keepalive-race fault:local peer:10.0.1.9 comm:nginx no-benign`; a word alone is a cause, an
    /// address or network, or the name of a process. `None` for no words. Looks at the path of `netns:`. Fails with what is wrong,
    /// in one line.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let words: Vec<String> = text.split_whitespace().map(option).collect::<Result<_, _>>()?;
        if words.is_empty() {
            return Ok(None);
        }
        let arguments = std::iter::once("rsttrace".to_owned()).chain(words);
        let cli = Cli::try_parse_from(arguments).map_err(|error| first_line(&error.to_string()))?;
        let filter = RecordFilter::for_recording(cli.trace.filters).map_err(|error| first_line(&error.to_string()))?;
        Ok(Some(Self { text: text.split_whitespace().collect::<Vec<_>>().join(" "), filter }))
    }

    /// The words, with single blanks.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, reset: &Reset) -> bool {
        self.filter.matches(reset)
    }
}

/// A word as an option of the command line.
fn option(word: &str) -> Result<String, String> {
    if SWITCHES.contains(&word) {
        return Ok(format!("--{word}"));
    }
    // What it is by its form, before the colons of an IPv6 address are taken for a separator.
    if parse_network(word).is_ok() {
        return Ok(format!("--peer={word}"));
    }
    match word.split_once(':') {
        Some((name, value)) if NAMES.contains(&name) => Ok(format!("--{name}={value}")),
        Some((name, _)) => Err(format!("there is no filter '{name}'; there are {}", NAMES.join(", "))),
        None if catalogue::find(word).next().is_some() => Ok(format!("--cause={word}")),
        None => Ok(format!("--comm={word}")),
    }
}

/// What clap says, without its mark and its usage.
fn first_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let tip = lines.find_map(|line| line.strip_prefix("tip: "));
    let first = first.strip_prefix("error: ").unwrap_or(first);
    tip.map_or_else(|| first.to_owned(), |tip| format!("{first}; {tip}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_filters_of_the_command_line() {
        for (word, expected) in [
            ("cause:keepalive-race", "--cause=keepalive-race"),
            ("keepalive-race", "--cause=keepalive-race"),
            ("fault:local,peer", "--fault=local,peer"),
            ("10.0.0.0/8", "--peer=10.0.0.0/8"),
            ("2001:db8::7", "--peer=2001:db8::7"),
            ("peer:2001:db8::7", "--peer=2001:db8::7"),
            ("nginx", "--comm=nginx"),
            ("no-benign", "--no-benign"),
        ] {
            assert_eq!(option(word).as_deref(), Ok(expected));
            assert!(Narrowing::parse(word).is_ok_and(|narrowing| narrowing.is_some()), "{word}");
        }
        assert!(Narrowing::parse("  ").is_ok_and(|narrowing| narrowing.is_none()));
        let both = Narrowing::parse(" fault:local   comm:nginx ").expect("a filter").expect("words");
        assert_eq!(both.text(), "fault:local comm:nginx");
    }

    #[test]
    fn every_filter_of_the_command_line_can_be_typed() {
        let program = <Cli as clap::CommandFactory>::command();
        let filters = program.get_arguments().filter(|argument| argument.get_help_heading() == Some("Filters"));
        let mut names: Vec<&str> = filters.filter_map(clap::Arg::get_long).collect();
        let mut typed = [&NAMES[..], &SWITCHES].concat();
        names.sort_unstable();
        typed.sort_unstable();
        assert_eq!(typed, names);
    }

    #[test]
    fn what_is_no_filter_is_told_in_one_line() {
        for (text, said) in [
            ("caus:x", "there is no filter 'caus'"),
            ("cause:no-such-cause", "no-such-cause"),
            ("fault:me", "invalid value 'me'"),
            ("peer:10.0.0.300", "not an address"),
            ("port:0", "no connection has port 0"),
            ("sent received", "cannot be used with"),
            ("netns:/nonexistent", "/nonexistent"),
        ] {
            let error = Narrowing::parse(text).expect_err(text);
            assert!(error.contains(said) && !error.contains('\n') && !error.contains("Usage"), "{text}: {error}");
        }
    }
}
