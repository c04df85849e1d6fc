//! Options behind the destination of a sink: `DESTINATION,name=value,…`.

use std::path::PathBuf;

#[cfg(any(feature = "otlp", feature = "tls"))]
use crate::util::spelling;

/// Names and values of options.
#[cfg(any(feature = "otlp", feature = "tls"))]
pub(super) type Options<'a> = Vec<(&'a str, &'a str)>;

/// Splits the options off a destination; the first one of the text comes first. A comma that no option follows belongs to the
/// destination. The error names an option that is not among the `known` ones.
#[cfg(any(feature = "otlp", feature = "tls"))]
pub(super) fn split<'a>(text: &'a str, known: &[&str]) -> Result<(&'a str, Options<'a>), String> {
    let mut destination = text;
    let mut options = Vec::new();
    while let Some((before, option)) = destination.rsplit_once(',') {
        let Some((name, value)) = option.split_once('=').filter(|(name, _)| is_name(name)) else { break };
        if !known.contains(&name) {
            let similar = spelling::similar(name, known.iter().copied());
            let tip = similar.map_or_else(String::new, |known| format!(", did you mean '{known}'?"));
            return Err(format!("unknown option '{name}'{tip}"));
        }
        options.push((name, value));
        destination = before;
    }
    options.reverse();
    Ok((destination, options))
}

#[cfg(any(feature = "otlp", feature = "tls"))]
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// Path that an option names. The error is a part of a sentence.
pub(super) fn path(name: &str, value: &str) -> Result<PathBuf, String> {
    if value.is_empty() { Err(format!("{name} needs the path of a file")) } else { Ok(value.into()) }
}

/// Path of a file with a secret. The error does not quote the value, which may be the secret itself.
pub(super) fn secret_path(name: &str, value: &str) -> Result<PathBuf, String> {
    if value.contains(['=', ' ', ':']) {
        return Err(format!("{name} takes the path of a file: every user of this host can read a command line"));
    }
    path(name, value)
}

/// A specification without what may be secret: credentials in a URL, its query, and what stands in place of a path.
pub(super) fn redacted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (number, part) in text.split(',').enumerate() {
        let part = if number == 0 { redacted_url(part) } else { redacted_option(part) };
        let separator = if number == 0 { "" } else { "," };
        shown = shown + separator + &part;
    }
    shown
}

fn redacted_url(text: &str) -> String {
    let (text, query) = text.split_once('?').map_or((text, ""), |(text, _)| (text, "?…"));
    match text.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.find("://").map_or(0, |place| place + 3);
            format!("{}…@{host}{query}", before.get(..scheme).unwrap_or_default())
        }
        None => format!("{text}{query}"),
    }
}

fn redacted_option(text: &str) -> String {
    match text.split_once('=') {
        Some((name @ ("headers" | "token"), value)) if secret_path(name, value).is_err() => format!("{name}=…"),
        _ if text.contains('@') => "…".to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "otlp", feature = "tls"))]
    #[test]
    fn options_are_split_off() {
        let known = ["ca", "token"];
        assert_eq!(split("https://a/b?c=d,e", &known), Ok(("https://a/b?c=d,e", vec![])));
        assert_eq!(split("a,ca=/x,token=/y", &known), Ok(("a", vec![("ca", "/x"), ("token", "/y")])));
        assert_eq!(split("a,tokn=/y", &known), Err("unknown option 'tokn', did you mean 'token'?".to_owned()));
    }

    #[test]
    fn secrets_are_redacted() {
        for (text, shown) in [
            ("otlp:https://user:pass@host/v1/logs", "otlp:https://…@host/v1/logs"),
            ("otlp:https://host/v1/logs?key=hunter2", "otlp:https://host/v1/logs?…"),
            ("otlp:https://host,headers=authorization: Bearer x", "otlp:https://host,headers=…"),
            ("otlp:https://host,token=/run/token", "otlp:https://host,token=/run/token"),
            ("json:/var/log/a.json,rotate=much", "json:/var/log/a.json,rotate=much"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }
}
