//! Advice for options that there are not: those of other tools, and opposites of options that there are.

use clap::{Arg, Command, CommandFactory as _};

use super::{EXPRESSION, packet_filter, stray_words::of_path};
use crate::cli::Cli;

/// Advice for a time in the past.
const PAST: &str = "a run shows what happens from its start on, and '--duration TIME' stops it; 'rsttrace record' records, \
     'rsttrace replay FILE --since WHEN' shows what was recorded";
/// Advice for an input.
const READ: &str = "'rsttrace replay FILE' shows what was recorded, 'rsttrace replay FILE --since WHEN' a part of it";
/// Advice for an output.
const WRITE: &str = "'rsttrace record DIR' records in a directory, '--sink json:PATH' also writes records to a file";
/// Advice for an input of `replay` that grows.
const GROWING: &str =
    "'replay' ends at the end of its input; 'tail -F FILE | rsttrace replay -' follows a file of JSON lines";

/// Options of other tools, and what stands for them here.
const OPTIONS: &[(&[&str], &str)] = &[
    (&["--json", "--jsonl", "-j"], "'--output json' writes records as JSON, one in a line"),
    (
        &["--format", "--out", "--output-format"],
        "'--output FORMAT' sets the format: text, long, json, json-flat or none",
    ),
    (&["--verbose", "--details", "-v", "-l", "-e", "-A", "-X", "-x"], "'--output long' shows each incident in full"),
    (
        &["--interface", "--iface", "--device", "--dev", "-i"],
        "resets of this host need no interface; '--forwarded IFACE' also shows those that arrive there and are forwarded",
    ),
    (&["--follow", "-f"], "rsttrace runs until Ctrl-C; '--duration' and '--count' stop it earlier"),
    (&["--since", "--until", "--from", "--start", "--last"], PAST),
    (&["--read", "--input", "--replay", "-r"], READ),
    (&["--file", "--write", "--record", "--log", "-w"], WRITE),
    (
        &["--all", "-a"],
        "all resets that this host sends and receives are shown; '--ignored' and '--forwarded' add others",
    ),
    (&["--tcp", "-t"], "every record is of a TCP connection"),
    (&["--benign"], "harmless resets are shown by default; '--no-benign' hides them"),
    (&["--not-benign", "--hide-benign", "--only-problems"], "'--no-benign' hides harmless resets"),
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
    (&["--not-cause", "--no-cause"], "'--cause CODE,…' selects causes, '--no-benign' hides the harmless ones"),
];

/// Options that a subcommand has not, and what stands for them there.
const OF_SUBCOMMANDS: &[(&str, &[&str], &str)] = &[
    ("record", &["--output", "--sink", "-o", "--json"], "'rsttrace --sink recording:DIR' records beside other outputs"),
    ("record", &["--file", "--dir", "--directory", "--path", "-w"], "'rsttrace record DIR' records in a directory"),
    (
        "record",
        &["--rotate", "--max-size", "--limit"],
        "'--size' and '--age' limit the recording, '--segment' its files",
    ),
    ("record", &["--keep", "--retention", "--days", "--max-age"], "'--age 30d' keeps what is up to thirty days old"),
    ("record", &["--since", "--until"], "'rsttrace replay DIR --since WHEN' shows what was recorded"),
    ("replay", &["--follow", "--tail", "-f", "-F"], GROWING),
    (
        "replay",
        &["--read", "--input", "--file", "--dir", "-r", "-i"],
        "'rsttrace replay FILE' takes it without an option",
    ),
    ("replay", &["--from", "--start", "--after", "--to", "--end", "--before"], "'--since' and '--until' select times"),
    ("replay", &["--last", "--duration", "-d"], "'--since 10m' selects the last ten minutes, '--until' ends earlier"),
];

/// Advice for an option of the program that there is not.
pub(super) fn tip(option: &str, words: &[String]) -> Option<String> {
    if option.chars().nth(1).is_some_and(|digit| digit.is_ascii_digit()) {
        return negative(words);
    }
    if ["--filter", "--expression"].contains(&option)
        && let Some(options) = packet_filter::after(words, option)
    {
        return Some(format!("filters are options: '{options}'"));
    }
    if let Some((_, tip)) = OPTIONS.iter().find(|(names, _)| names.contains(&option)) {
        let file = if *tip == READ { value(words, option).and_then(of_path) } else { None };
        return Some(file.unwrap_or_else(|| (*tip).to_owned()));
    }
    let program = Cli::command();
    let name = option.strip_prefix("--not-").or_else(|| option.strip_prefix("--exclude-"))?;
    let known = program.get_arguments().find(|argument| argument.get_long() == Some(name))?.get_long()?;
    match ["peer", "port", "host"].iter().find(|hidden| known.ends_with(**hidden)) {
        Some(hidden) => Some(format!("'--not-{hidden}' hides resets")),
        None => Some(format!("'--{known}' only selects; '--not-peer', '--not-host' and '--not-port' hide resets")),
    }
}

/// The value behind an option.
fn value<'a>(words: &'a [String], option: &str) -> Option<&'a str> {
    let place = words.iter().position(|word| word.split('=').next() == Some(option))?;
    let own = words.get(place)?.split_once('=').map(|(_, value)| value);
    own.or_else(|| words.get(place + 1).map(String::as_str))
}

/// Advice for an option that a subcommand has not: that for the program, where the subcommand has the options that it names.
pub(super) fn tip_in(option: &str, words: &[String], subcommand: &Command) -> Option<String> {
    let has = |name: &str| subcommand.get_arguments().any(|argument| argument.get_long() == Some(name));
    if ["-o", "--output", "--format", "-j"].contains(&option) && has("json") && !has("output") {
        return Some(format!("'rsttrace {} --json' prints JSON", subcommand.get_name()));
    }
    let name = subcommand.get_name();
    if let Some((.., tip)) = OF_SUBCOMMANDS.iter().find(|(of, names, _)| *of == name && names.contains(&option)) {
        return Some((*tip).to_owned());
    }
    let tip = tip(option, words)?;
    let is_of_it = options_in(&tip).next().is_some() && options_in(&tip).all(has);
    is_of_it.then_some(tip)
}

/// Names of the options in a text.
fn options_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|end: char| end.is_whitespace() || end == '\'');
    words.filter_map(|word| word.strip_prefix("--"))
}

/// Advice for a number with a hyphen before it, of which clap takes the first digit for an option.
fn negative(words: &[String]) -> Option<String> {
    let is_number =
        |word: &str| word.len() > 1 && word.strip_prefix('-').is_some_and(|rest| rest.parse::<u64>().is_ok());
    let place = words
        .iter()
        .position(|word| is_number(word) || word.starts_with("-n") && is_number(&word.replacen('n', "", 1)));
    let (place, number) = place.and_then(|place| Some((place, words.get(place)?.trim_start_matches(['-', 'n']))))?;
    let before = place.checked_sub(1).and_then(|place| words.get(place));
    match before.filter(|option| option.ends_with("port")) {
        Some(option) => Some(format!("a range has both ends: '{option} 1-{number}'")),
        None => match before.filter(|option| is_option_with_value(option)) {
            Some(option) => Some(format!("'{option}' takes no value with a hyphen in front")),
            None => Some(format!("'--count {number}' stops after this many records")),
        },
    }
}

/// Whether a word is the name of an option, of the program or a subcommand, that takes a value.
fn is_option_with_value(word: &str) -> bool {
    let command = Cli::command();
    let mut commands = [&command].into_iter().chain(command.get_subcommands());
    let is_named = |argument: &&Arg| {
        let (long, short) = (argument.get_long(), argument.get_short());
        word.strip_prefix("--").is_some_and(|name| long == Some(name))
            || word.strip_prefix('-').is_some_and(|name| name.chars().eq(short))
    };
    commands.any(|command| command.get_arguments().any(|argument| is_named(&argument) && takes_value(argument)))
}

/// Whether an option takes a value.
pub(super) fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_options_that_exist() {
        let command = Cli::command();
        let commands = [&command].into_iter().chain(command.get_subcommands());
        let options: Vec<&str> =
            commands.flat_map(|command| command.get_arguments().filter_map(Arg::get_long)).collect();
        let exists = |option: &str| options.contains(&option);
        for (of, names, tip) in OF_SUBCOMMANDS {
            assert!(options_in(tip).all(exists), "{tip}");
            for name in *names {
                let words = [*of, *name, "x"];
                let error = Cli::command().try_get_matches_from(["rsttrace"].iter().chain(&words)).expect_err(name);
                let said = super::super::advise(error, &words.map(str::to_owned)).to_string();
                assert!(said.contains(&format!("'{name}'")) && said.contains(tip), "{said}");
            }
        }
        for (names, tip) in OPTIONS {
            assert!(options_in(tip).all(exists), "{tip}");
            for name in *names {
                let error = Cli::command().try_get_matches_from(["rsttrace", name, "x"]).expect_err(name);
                let said = super::super::advise(error, &[]).to_string();
                assert!(said.contains(&format!("'{name}'")) && said.matches("tip: ").count() == 1, "{said}");
            }
        }
    }

    #[test]
    fn numbers_with_a_hyphen_are_recognised() {
        let tip = |words: &[&str]| negative(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert!(tip(&["--port", "-80"]).is_some_and(|tip| tip.contains("'--port 1-80'")));
        assert!(tip(&["--sent", "-20"]).is_some_and(|tip| tip.contains("'--count 20'")));
        assert!(tip(&["-n10"]).is_some_and(|tip| tip.contains("'--count 10'")));
        assert_eq!(tip(&["--sent", "-x"]), None);
        for words in [["--user", "-1"], ["-o", "-1"], ["--size", "-5"]] {
            assert_eq!(tip(&words), Some(format!("'{}' takes no value with a hyphen in front", words[0])));
        }
    }

    #[test]
    fn opposites_of_filters_are_recognised() {
        assert!(tip("--not-comm", &[]).is_some_and(|tip| tip.contains("'--comm' only selects")));
        assert!(tip("--not-peer-port", &[]).is_some_and(|tip| tip.contains("'--not-port'")));
        assert_eq!(tip("--not-there", &[]), None);
    }

    #[test]
    fn a_file_that_is_to_be_read_is_named() {
        for (words, expected) in [
            (&["-r", "a.jsonl"][..], "'rsttrace replay a.jsonl'"),
            (&["--read=a.jsonl.gz"], "'rsttrace replay a.jsonl.gz'"),
            (&["-r", "a.pcap"], "'rsttrace replay a.pcap'"),
            (&["-r"], "'rsttrace replay FILE'"),
            (&["-r", "x"], "'rsttrace replay FILE'"),
        ] {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            let option = words[0].split('=').next().unwrap_or_default();
            assert!(tip(option, &words).is_some_and(|tip| tip.contains(expected)), "{words:?}");
        }
    }

    #[test]
    fn a_subcommand_is_advised_its_own_options() {
        let program = Cli::command();
        let doctor = program.find_subcommand("doctor").expect("there is one");
        assert_eq!((tip_in("--verbose", &[], doctor), tip_in("--tcp", &[], doctor)), (None, None));
        assert!(tip_in("--output", &[], doctor).is_some_and(|tip| tip.contains("'rsttrace doctor --json'")));
    }
}
