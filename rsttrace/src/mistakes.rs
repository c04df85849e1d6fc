//! Advice for command lines that cannot be read: options that other tools have, and words that name no subcommand.

use std::{net::IpAddr, path::Path};

use clap::{
    CommandFactory as _, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{cli::Cli, diagnose::catalogue};

/// Options of other tools, and what stands for them here.
const OPTIONS: &[(&[&str], &str)] = &[
    (&["--json", "--jsonl", "-j"], "'--output json' writes records as JSON, one in a line"),
    (&["--verbose", "--details", "-v", "-l"], "'--output long' shows each incident in full"),
    (
        &["--interface", "--iface", "--device", "--dev", "-i"],
        "resets of this host need no interface; '--forwarded IFACE' also shows those that arrive there and are forwarded",
    ),
    (&["--follow", "-f"], "rsttrace runs until Ctrl-C; '--duration' and '--count' stop it earlier"),
    (&["--file", "--write", "--log", "-w"], "'--sink json:PATH' writes records to a file"),
    (
        &["--src", "--dst", "--source", "--destination", "--ip", "--addr", "--address", "--remote"],
        "'--peer ADDRESS' selects the other end; its port is '--peer-port', this host's is '--local-port'",
    ),
    (
        &["--sport", "--dport", "--lport", "--rport", "--src-port", "--dst-port", "--remote-port"],
        "'--local-port' selects this host's port, '--peer-port' the other end's, '--port' either",
    ),
    (
        &["--process", "--program", "--command", "--cmd", "--exe"],
        "'--comm NAME' selects processes by name, '--pid PID' by id",
    ),
    (&["--ns", "--namespace", "-N"], "'--netns NAME' selects a network namespace, '--pod NAMESPACE/NAME' a pod"),
    (&["--service"], "'--unit NAME' selects a systemd unit, '--port NAME' a service of /etc/services"),
    (&["--filter", "--grep", "--expression"], EXPRESSION),
    (&["--limit", "--max"], "'--count N' stops after this many records"),
    (&["--timeout"], "'--duration TIME' stops the run; '--timeouts FILE' reads known idle timeouts"),
    (&["--no-color", "--nocolor", "--no-colour"], "'--color never' omits colors"),
    (&["--utc", "--timezone", "--tz"], "'--time utc' shows UTC, and TZ=ZONE in the environment another time zone"),
];

const EXPRESSION: &str = "filters are options, such as '--port 443', '--peer 10.0.0.0/8' or '--comm nginx'";

/// Words of the filter expressions of tcpdump and ss.
const EXPRESSION_WORDS: [&str; 11] = ["tcp", "host", "port", "net", "src", "dst", "and", "or", "not", "sport", "dport"];

/// Adds advice to an error of the command line, in place of clap's own guess. Errors without advice stay as they are.
pub(crate) fn advise(mut error: Error) -> Error {
    if let Some(tip) = tip(&error) {
        // Guesses by spelling, and the usage with what was guessed.
        for guess in [ContextKind::SuggestedArg, ContextKind::Suggested, ContextKind::Usage] {
            error.remove(guess);
        }
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn tip(error: &Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let argument = text(ContextKind::InvalidArg)?;
            if argument.starts_with('-') { option(argument) } else { word(argument) }
        }
        ErrorKind::InvalidSubcommand if error.get(ContextKind::SuggestedSubcommand).is_none() => {
            word(text(ContextKind::InvalidSubcommand)?)
        }
        // Of an option and a word, of which clap takes any for a subcommand.
        ErrorKind::ArgumentConflict => {
            let name = text(ContextKind::InvalidSubcommand)?;
            let is_subcommand = Cli::command().find_subcommand(name).is_some();
            if is_subcommand { None } else { word(name) }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation
            if text(ContextKind::InvalidArg)?.starts_with("--time ") =>
        {
            zone(text(ContextKind::InvalidValue)?)
        }
        _ => None,
    }
}

/// Advice for an option that there is not.
fn option(option: &str) -> Option<String> {
    let (_, tip) = OPTIONS.iter().find(|(names, _)| names.contains(&option))?;
    Some((*tip).to_owned())
}

/// Advice for a word where a subcommand may stand.
fn word(word: &str) -> Option<String> {
    let address = word.split_once('/').map_or(word, |(address, _)| address);
    match word {
        "help" => return Some("'--help' shows the options".to_owned()),
        "version" => return Some("'--version' shows the version".to_owned()),
        "trace" | "run" | "start" | "watch" => return Some("rsttrace traces without a subcommand".to_owned()),
        _ if EXPRESSION_WORDS.contains(&word) => return Some(EXPRESSION.to_owned()),
        _ if word.parse::<u32>().is_ok() => {
            return Some(format!("'--pid {word}' selects a process, '--port {word}' a port"));
        }
        _ if address.parse::<IpAddr>().is_ok() => return Some(format!("'--peer {word}' selects peers")),
        _ if catalogue::find(word).next().is_some() => {
            return Some(format!("'rsttrace explain {word}' describes this cause, '--cause {word}' selects it"));
        }
        _ if Path::new(word).extension().is_some_and(|extension| extension == "toml") => {
            return Some(format!("'--config {word}' reads options from a file"));
        }
        _ => {}
    }
    let command = Cli::command();
    let mut subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    if let Some(subcommand) = subcommands.find(|subcommand| is_short_for(word, subcommand.get_name())) {
        return Some(format!("did you mean the subcommand '{}'?", subcommand.get_name()));
    }
    let is_name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    (!word.is_empty() && word.chars().all(is_name)).then(|| format!("'--comm {word}' selects processes of this name"))
}

/// Whether a word is the beginning of a name and more of its letters, in their order.
fn is_short_for(word: &str, name: &str) -> bool {
    let mut rest = name.chars();
    word.len() > 1
        && word.chars().next() == name.chars().next()
        && word.chars().all(|letter| rest.any(|own| own == letter))
}

/// Advice for a time zone where a form of times is expected.
fn zone(zone: &str) -> Option<String> {
    let is_zone = zone.contains('/') || zone.len() > 2 && zone.chars().all(|letter| letter.is_ascii_uppercase());
    is_zone.then(|| format!("times of another zone: TZ={zone} in the environment, with '--time local'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_options_that_exist() {
        let command = Cli::command();
        let exists = |option: &str| command.get_arguments().any(|argument| argument.get_long() == Some(option));
        for (names, tip) in OPTIONS {
            for option in
                tip.split(|end: char| end.is_whitespace() || end == '\'').filter_map(|word| word.strip_prefix("--"))
            {
                assert!(exists(option), "{tip}");
            }
            for name in *names {
                let error = Cli::command().try_get_matches_from(["rsttrace", name, "x"]).expect_err(name);
                let said = advise(error).to_string();
                assert!(said.contains(&format!("'{name}'")) && said.matches("tip: ").count() == 1, "{said}");
            }
        }
    }

    #[test]
    fn words_are_recognised() {
        for (text, expected) in [
            ("dr", "subcommand 'doctor'"),
            ("exp", "subcommand 'explain'"),
            ("cc", "subcommand 'check-config'"),
            ("nginx", "'--comm nginx'"),
            ("10.0.0.0/8", "'--peer 10.0.0.0/8'"),
            ("443", "'--port 443'"),
            ("keepalive-race", "'rsttrace explain keepalive-race'"),
            ("host", "filters are options"),
        ] {
            assert!(word(text).is_some_and(|tip| tip.contains(expected)), "{text}: {:?}", word(text));
        }
        assert_eq!((word("a b"), word("\u{1b}[2J"), word("")), (None, None, None));
        assert_eq!((zone("xml"), zone("Europe/Berlin").is_some(), zone("CET").is_some()), (None, true, true));
    }
}
