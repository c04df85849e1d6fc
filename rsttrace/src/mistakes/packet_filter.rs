//! Filter expressions of tcpdump and ss, as options of rsttrace.

use std::{iter::Peekable, str::SplitWhitespace};

use clap::CommandFactory as _;

use crate::cli::Cli;

/// Words that begin an expression and are no options here.
const WORDS: [&str; 16] = [
    "tcp",
    "ip",
    "ip6",
    "host",
    "port",
    "portrange",
    "net",
    "src",
    "dst",
    "and",
    "or",
    "not",
    "sport",
    "dport",
    "!",
    "(",
];

/// Whether a word is one of an expression, or a whole one.
pub(super) fn is_expression(word: &str) -> bool {
    let first = word.split_whitespace().next().unwrap_or_default();
    WORDS.contains(&first) || first.starts_with("tcp[")
}

/// The options for the expression that begins with this one of the words; `None` where it has no simple equivalent.
pub(super) fn from(words: &[String], word: &str) -> Option<String> {
    let place = words.iter().position(|other| other == word).filter(|_| is_expression(word))?;
    options(&words.get(place..)?.join(" "))
}

/// The options for the expression behind an option.
pub(super) fn after(words: &[String], option: &str) -> Option<String> {
    let place = words.iter().position(|word| word.split('=').next() == Some(option))?;
    let value = words.get(place)?.split_once('=').map(|(_, value)| value.to_owned());
    options(&value.or_else(|| Some(words.get(place + 1..)?.join(" ")))?)
}

/// Translates an expression whose parts are joined by `and`, or by `or` with values of one option.
fn options(expression: &str) -> Option<String> {
    let mut words = expression.split_whitespace().peekable();
    let mut options: Vec<(&'static str, String)> = Vec::new();
    let mut is_or = None;
    while words.peek().is_some() {
        match words.peek().copied()? {
            "tcp" => {
                words.next();
            }
            joint @ ("and" | "&&" | "or" | "||") => {
                words.next();
                let or = matches!(joint, "or" | "||");
                if options.is_empty() && or || *is_or.get_or_insert(or) != or {
                    return None;
                }
            }
            _ => options.push(part(&mut words)?),
        }
    }
    let is_or = is_or == Some(true);
    let mut joined: Vec<(&str, String)> = Vec::new();
    for (name, value) in options {
        match joined.iter_mut().find(|(other, _)| *other == name) {
            // Any of the values of an option to show, and none of one to hide.
            Some((_, values)) if is_or != name.starts_with("--not-") => values.extend([",", &value]),
            Some(_) => return None,
            None => joined.push((name, value)),
        }
    }
    if is_or && joined.len() > 1 {
        return None;
    }
    let words: Vec<&str> =
        joined.iter().flat_map(|(name, value)| [*name, value.as_str()]).filter(|word| !word.is_empty()).collect();
    let is_good = !words.is_empty() && Cli::command().try_get_matches_from(["rsttrace"].iter().chain(&words)).is_ok();
    is_good.then(|| words.join(" "))
}

/// Takes one part, such as `not src port 80`: an option and its value.
fn part(words: &mut Peekable<SplitWhitespace<'_>>) -> Option<(&'static str, String)> {
    let mut word = words.next()?;
    let is_not = matches!(word, "not" | "!");
    if is_not {
        word = words.next()?;
    }
    // The ends of a packet; which one is this host's depends on its direction.
    if matches!(word, "src" | "dst") {
        word = words.next()?;
    }
    let option = match (word, is_not) {
        ("ip", false) => return Some(("--ipv4", String::new())),
        ("ip6", false) => return Some(("--ipv6", String::new())),
        ("port" | "portrange", false) => "--port",
        ("port" | "portrange", true) => "--not-port",
        ("sport", false) => "--local-port",
        ("dport", false) => "--peer-port",
        ("host" | "net", false) => "--peer",
        ("host" | "net", true) => "--not-peer",
        _ => {
            let option = if is_not { "--not-peer" } else { "--peer" };
            return Some((option, word.to_owned()));
        }
    };
    let value = words.next()?;
    // Of ss: `sport = :443`.
    let value = if matches!(value, "=" | "==" | "eq") { words.next()? } else { value };
    Some((option, value.trim_start_matches(':').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_expressions_are_translated() {
        for (expression, expected) in [
            ("tcp port 80", Some("--port 80")),
            ("port 80", Some("--port 80")),
            ("tcp and port https", Some("--port https")),
            ("host 10.0.0.1 and port 443", Some("--peer 10.0.0.1 --port 443")),
            ("tcp and src host 10.0.0.1", Some("--peer 10.0.0.1")),
            ("src 10.0.0.1 and not port 22", Some("--peer 10.0.0.1 --not-port 22")),
            ("port 80 or port 443", Some("--port 80,443")),
            ("not port 22 and not port 80", Some("--not-port 22,80")),
            ("net 10.0.0.0/8 and ip", Some("--peer 10.0.0.0/8 --ipv4")),
            ("portrange 80-90", Some("--port 80-90")),
            ("sport = :443", Some("--local-port 443")),
            ("dport :5432", Some("--peer-port 5432")),
            ("tcp", None),
            ("port", None),
            ("or port 80", None),
            ("port 80 or host 10.0.0.1", None),
            ("port 80 and port 90", None),
            ("not port 22 or not port 80", None),
            ("port 80 and host 10.0.0.1 or port 90", None),
            ("host example.org", None),
            ("tcp[tcpflags] & tcp-rst != 0", None),
            ("not ip", None),
            ("(port 80)", None),
        ] {
            assert_eq!(options(expression).as_deref(), expected, "{expression}");
        }
    }

    #[test]
    fn expressions_are_found_in_a_command_line() {
        let words: Vec<String> = ["--sent", "tcp", "port", "443"].map(str::to_owned).into();
        assert_eq!(from(&words, "tcp").as_deref(), Some("--port 443"));
        assert_eq!(from(&words, "nginx"), None);
        for words in [&["--filter", "tcp port 443"][..], &["--filter=port 443"], &["--filter", "port", "443"]] {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(after(&words, "--filter").as_deref(), Some("--port 443"), "{words:?}");
        }
        assert!(is_expression("tcp[tcpflags] & tcp-rst != 0") && is_expression("tcp port 80") && !is_expression("a b"));
    }
}
