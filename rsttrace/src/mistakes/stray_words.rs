//! Advice for words where only options and subcommands may stand.

use std::{ffi::OsStr, net::IpAddr, path::Path};

use clap::{ArgAction, Command, CommandFactory as _};

use super::{EXPRESSION, foreign_options::takes_value, packet_filter};
use crate::{cli::Cli, diagnose::catalogue};

/// Advice for a word where a subcommand may stand.
pub(super) fn tip(word: &str, words: &[String]) -> Option<String> {
    if let Some(options) = packet_filter::from(words, word) {
        return Some(format!("filters are options: '{options}'"));
    }
    if packet_filter::is_expression(word) {
        return Some(EXPRESSION.to_owned());
    }
    second_value(word, words).or_else(|| alone(word, words))
}

/// Advice for a word too many behind a subcommand.
pub(super) fn tip_in(subcommand: &Command) -> Option<String> {
    let name = subcommand.get_name();
    match subcommand.get_positionals().next() {
        Some(argument) if argument.get_action().takes_values() && subcommand.get_positionals().count() == 1 => {
            let value = argument.get_value_names().and_then(<[_]>::first)?;
            Some(format!("'{name}' takes one {value}"))
        }
        None => Some(format!("'{name}' takes only options")),
        Some(_) => None,
    }
}

/// Advice for a word behind the value of an option, of which it is another value, or behind a flag that takes none.
fn second_value(word: &str, words: &[String]) -> Option<String> {
    let place = words.iter().position(|other| other == word)?;
    let before = words.get(place.checked_sub(1)?)?;
    if (before == "-n" || before == "--numeric") && word.parse::<u64>().is_ok() {
        return Some(format!("did you mean '--count {word}'? '{before}' shows numbers in place of names"));
    }
    // What would need quotes is no word of a list that was forgotten.
    if !word.chars().all(|character| character.is_ascii_graphic() && character != '\'') {
        return None;
    }
    let (option, value) = match before.split_once('=') {
        Some(parts) => parts,
        None => (words.get(place.checked_sub(2)?)?.as_str(), before.as_str()),
    };
    let program = Cli::command();
    let argument = program.get_arguments().find(|argument| {
        let long = argument.get_long().is_some_and(|name| option.strip_prefix("--") == Some(name));
        long || argument.get_short().is_some_and(|name| option.strip_prefix('-') == Some(name.encode_utf8(&mut [0; 4])))
    })?;
    if !takes_value(argument) || !matches!(argument.get_action(), ArgAction::Append) {
        return None;
    }
    if Cli::command().try_get_matches_from(["rsttrace", option, word]).is_err()
        || specific(word).is_some_and(|_| option_takes_any(option))
    {
        return None;
    }
    Some(match argument.get_value_delimiter() {
        Some(delimiter) => format!("did you mean '{option} {}{delimiter}{word}'?", value.trim_end_matches(delimiter)),
        None => format!("did you mean '{option} {value} {option} {word}'?"),
    })
}

/// Whether an option takes any text, so that a word that is something else in all likelihood is a value of it too.
fn option_takes_any(option: &str) -> bool {
    !(option.ends_with("port") || option.ends_with("pid") || option == "-p" || option.ends_with("peer"))
}

/// Advice for a word by itself.
fn alone(word: &str, words: &[String]) -> Option<String> {
    match word {
        "help" => {
            let subcommand = words.iter().skip_while(|other| *other != word).nth(1);
            let program = Cli::command();
            let known = subcommand.and_then(|name| program.find_subcommand(name));
            return Some(match known {
                Some(known) => format!("'rsttrace {} --help' shows its options", known.get_name()),
                None => "'--help' shows the options".to_owned(),
            });
        }
        "version" => return Some("'--version' shows the version".to_owned()),
        "play" | "read" => return Some("did you mean the subcommand 'replay'?".to_owned()),
        "view" | "live" | "tui" | "ui" => return Some("did you mean the subcommand 'top'?".to_owned()),
        "trace" | "run" | "start" | "watch" => return Some("rsttrace traces without a subcommand".to_owned()),
        _ => {}
    }
    if let Some(tip) = specific(word) {
        return Some(tip);
    }
    let command = Cli::command();
    let mut subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    if let Some(subcommand) = subcommands.find(|subcommand| is_short_for(word, subcommand.get_name())) {
        return Some(format!("did you mean the subcommand '{}'?", subcommand.get_name()));
    }
    let is_name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    (!word.is_empty() && word.chars().all(is_name)).then(|| format!("'--comm {word}' selects processes of this name"))
}

/// Advice for a word whose form says what it is.
fn specific(word: &str) -> Option<String> {
    let address = word.split_once('/').map_or(word, |(address, _)| address);
    if word.parse::<u32>().is_ok() {
        Some(format!("'--pid {word}' selects a process, '--port {word}' a port"))
    } else if address.parse::<IpAddr>().is_ok() {
        Some(format!("'--peer {word}' selects peers"))
    } else if catalogue::find(word).next().is_some() {
        Some(format!("'rsttrace explain {word}' describes this cause, '--cause {word}' selects it"))
    } else {
        of_path(word)
    }
}

/// Advice for the name of a file or of a directory.
pub(super) fn of_path(word: &str) -> Option<String> {
    let path = Path::new(word);
    let is_plain = word.chars().all(|character| character.is_ascii_graphic() && character != '\'');
    match path.extension().and_then(OsStr::to_str) {
        Some("toml") => Some(format!("'--config {word}' reads options from a file")),
        Some("pcap" | "pcapng" | "cap") if is_plain => {
            Some(format!("'rsttrace replay {word}' shows the resets of a packet capture"))
        }
        Some("json" | "jsonl" | "ndjson" | "zst" | "gz") if is_plain => Some(format!(
            "'rsttrace replay {word}' shows what was recorded, 'rsttrace replay {word} --since WHEN' a part of it"
        )),
        _ if is_plain && word.contains('/') => {
            Some(format!("'rsttrace replay {word}' shows what was recorded there, 'rsttrace record {word}' records"))
        }
        _ => None,
    }
}

/// Whether a word is the beginning of a name and more of its letters, in their order.
fn is_short_for(word: &str, name: &str) -> bool {
    let mut rest = name.chars();
    word.len() > 1
        && word.chars().next() == name.chars().next()
        && word.chars().all(|letter| rest.any(|own| own == letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
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
            ("/srv/resets.jsonl", "'rsttrace replay /srv/resets.jsonl'"),
            ("a.jsonl.zst", "'rsttrace replay a.jsonl.zst --since WHEN'"),
            ("/var/log/rsttrace", "'rsttrace record /var/log/rsttrace'"),
            ("a.pcapng", "'rsttrace replay a.pcapng'"),
            ("x.toml", "'--config x.toml'"),
            ("rp", "subcommand 'replay'"),
            ("read", "subcommand 'replay'"),
            ("view", "subcommand 'top'"),
        ] {
            let tip = tip(text, &[]);
            assert!(tip.as_ref().is_some_and(|tip| tip.contains(expected)), "{text}: {tip:?}");
        }
        assert_eq!((tip("a b", &[]), tip("\u{1b}[2J", &[]), tip("", &[])), (None, None, None));
    }

    #[test]
    fn a_second_value_is_recognised() {
        for (words, expected) in [
            (&["--port", "80", "90"][..], Some("did you mean '--port 80,90'?")),
            (&["--port=80", "90"], Some("did you mean '--port 80,90'?")),
            (&["--sent", "-p", "7", "8"], Some("did you mean '-p 7,8'?")),
            (&["--comm", "nginx", "envoy"], Some("did you mean '--comm nginx,envoy'?")),
            (&["--peer", "10.0.0.1", "10.0.0.2"], Some("did you mean '--peer 10.0.0.1,10.0.0.2'?")),
            (&["-n", "10"], Some("did you mean '--count 10'? '-n' shows numbers in place of names")),
            (&["--comm", "nginx", "443"], None),
            (&["--port", "80", "nginx"], None),
            (&["--comm", "nginx", "a b"], None),
            (&["--output", "json", "text"], None),
            (&["80"], None),
        ] {
            let last = words.last().expect("a word");
            assert_eq!(second_value(last, &owned(words)).as_deref(), expected, "{words:?}");
        }
    }
}
