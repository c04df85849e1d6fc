//! Advice for values of another form than an option takes.

use clap::Command;

/// Fields of `--group-by` under other names.
const FIELDS: &[(&[&str], &str)] = &[
    (
        &["port", "ports"],
        "'server' is the address and port that the client connected to, 'local-port' and 'peer-port' are those of one end",
    ),
    (&["comm", "name", "command", "program", "owner", "app", "exe"], "did you mean 'process'?"),
    (&["reason", "code", "why"], "did you mean 'cause'?"),
    (&["address", "addr", "ip", "host", "remote", "client", "dst", "src"], "did you mean 'peer'?"),
    (&["service"], "'unit' is the systemd unit, 'server' the address and port that the client connected to"),
    (&["ns", "namespace"], "'netns' is the network namespace, 'pod' has the namespace of Kubernetes"),
    (&["dir", "type", "kind"], "did you mean 'direction'?"),
];

/// Advice for the value of an option.
pub(super) fn tip(option: &str, value: &str, program: &Command) -> Option<String> {
    match option {
        "--time" => zone(value),
        "--group-by" => {
            let (_, tip) = FIELDS.iter().find(|(names, _)| names.contains(&value.to_ascii_lowercase().as_str()))?;
            Some((*tip).to_owned())
        }
        "--output" if value.contains(',') => {
            Some("standard output takes one format; '--sink json:PATH' also writes JSON to a file".to_owned())
        }
        _ if value.contains(',') => {
            let argument = program.get_arguments().find(|argument| argument.get_long() == option.strip_prefix("--"))?;
            let is_choice = !argument.get_possible_values().is_empty() && !argument.is_hide_possible_values_set();
            is_choice.then(|| format!("'{option}' takes one value"))
        }
        _ => None,
    }
}

/// Advice for a value that is empty, as a whole or beside a comma.
pub(super) fn empty(option: &str, words: &[String]) -> Option<String> {
    let values: Vec<&str> =
        words.iter().map(|word| word.split_once('=').map_or(word.as_str(), |(_, value)| value)).collect();
    if values.contains(&"") {
        return Some("the value is empty, as that of an unset variable of the shell is".to_owned());
    }
    let is_incomplete = |value: &&str| value.starts_with(',') || value.ends_with(',') || value.contains(",,");
    let place = values.iter().position(is_incomplete)?;
    let (list, next) = (values.get(place)?, values.get(place + 1).filter(|next| !next.starts_with('-')));
    let mut whole: Vec<&str> = list.split(',').chain(next.copied()).filter(|value| !value.is_empty()).collect();
    whole.dedup();
    (!whole.is_empty())
        .then(|| format!("write the list without blanks and empty values: '{option} {}'", whole.join(",")))
}

/// Advice for a time zone where a form of times is expected.
fn zone(zone: &str) -> Option<String> {
    if let Some((sign, hours)) = offset(zone) {
        let west = if sign == '+' { '-' } else { '+' };
        return Some(format!(
            "for UTC{sign}{hours} set TZ=UTC{west}{hours} in the environment (its sign counts to the west), with '--time local'"
        ));
    }
    let is_zone = zone.contains('/') || zone.len() > 2 && zone.chars().all(|letter| letter.is_ascii_uppercase());
    is_zone.then(|| format!("times of another zone: TZ={zone} in the environment, with '--time local'"))
}

/// Sign and whole hours of an offset such as `utc+2`, `+02:00` or `GMT-5`.
fn offset(zone: &str) -> Option<(char, u8)> {
    let lower = zone.to_ascii_lowercase();
    let rest = lower.strip_prefix("utc").or_else(|| lower.strip_prefix("gmt")).unwrap_or(&lower);
    let sign = rest.chars().next().filter(|sign| ['+', '-'].contains(sign))?;
    let digits = rest.get(1..)?;
    let digits = digits.strip_suffix(":00").or_else(|| digits.strip_suffix("00").filter(|hours| hours.len() == 2));
    let hours = digits.unwrap_or_else(|| rest.get(1..).unwrap_or_default()).parse().ok();
    hours.filter(|hours| (1..=14).contains(hours)).map(|hours| (sign, hours))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::{cli::Cli, model::GroupField};

    #[test]
    fn zones_are_recognised() {
        assert_eq!((zone("xml"), zone("Europe/Berlin").is_some(), zone("CET").is_some()), (None, true, true));
        for (text, expected) in [
            ("utc+2", "TZ=UTC-2 "),
            ("+02:00", "TZ=UTC-2 "),
            ("GMT-5", "TZ=UTC+5 "),
            ("+0200", "TZ=UTC-2 "),
            ("-10", "TZ=UTC+10 "),
        ] {
            assert!(zone(text).is_some_and(|tip| tip.contains(expected)), "{text}: {:?}", zone(text));
        }
        assert_eq!((offset("utc"), offset("utc+"), offset("+02:30"), offset("+99")), (None, None, None, None));
    }

    #[test]
    fn fields_under_other_names_are_none_here() {
        for (names, _) in FIELDS {
            for name in *names {
                assert!(GroupField::from_str(name, true).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn empty_values_are_told_from_incomplete_lists() {
        let tip = |words: &[&str]| empty("--port", &words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert!(tip(&["--port", ""]).is_some_and(|tip| tip.contains("unset variable")));
        assert!(tip(&["--port="]).is_some_and(|tip| tip.contains("unset variable")));
        assert!(tip(&["--port", "80,"]).is_some_and(|tip| tip.ends_with("'--port 80'")));
        assert!(tip(&["--port", "80,", "90"]).is_some_and(|tip| tip.ends_with("'--port 80,90'")));
        assert!(tip(&["--port=80,,90", "--sent"]).is_some_and(|tip| tip.ends_with("'--port 80,90'")));
        assert_eq!(tip(&["--port"]), None);
    }

    #[test]
    fn options_with_one_value_say_so() {
        let program = Cli::command();
        assert!(tip("--color", "auto,never", &program).is_some_and(|tip| tip.contains("one value")));
        assert!(tip("--output", "text,json", &program).is_some_and(|tip| tip.contains("--sink json:PATH")));
        assert_eq!(tip("--peer", "10.0.0.1,x", &program), None);
    }
}
