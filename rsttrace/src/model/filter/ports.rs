//! Ranges of ports.

use std::str::FromStr;

use crate::util::service_names;

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port, not below `first`.
    pub last: u16,
}

impl PortRange {
    /// Whether the port is one of them.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// Reads `/etc/services` for a name.
impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| match text.parse::<u16>() {
            Ok(0) => Err("no connection has port 0: expected a number from 1 to 65535".to_owned()),
            Ok(port) => Ok(port),
            Err(_) => {
                Err(format!("'{text}' is not a port: expected a number from 1 to 65535, or a name of /etc/services"))
            }
        };
        if text.contains(|character: char| character.is_ascii_alphabetic())
            && let Some(port) = service_names::port_of(text)
        {
            return Ok(Self { first: port, last: port });
        }
        if let Some(range) = intended(text) {
            return Err(format!("'{text}' is not a range of ports: did you mean {range}?"));
        }
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return Err(format!("the range ends before it begins: did you mean {last}-{first}?"));
        }
        Ok(Self { first, last })
    }
}

/// The range that a text with another separator, or with one end, stands for; `None` for any other text.
fn intended(text: &str) -> Option<String> {
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    let (first, last) = ["..=", "..", ":", "-"].iter().find_map(|separator| text.split_once(separator))?;
    match (is_port(first), is_port(last)) {
        (true, true) if !text.contains('-') => Some(format!("{first}-{last}")),
        (true, false) if last.is_empty() => Some(format!("{first}-65535")),
        (false, true) if first.is_empty() && text.contains("..") => Some(format!("1-{last}")),
        (false, true) if first.is_empty() => Some(format!("{last} or 1-{last}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_port_and_a_range() {
        assert_eq!("443".parse(), Ok(PortRange { first: 443, last: 443 }));
        assert_eq!("8000-8080".parse(), Ok(PortRange { first: 8000, last: 8080 }));
        assert!("8000-8080".parse::<PortRange>().is_ok_and(|range| range.contains(8080) && !range.contains(7999)));
    }

    #[test]
    fn refuses_invalid_ranges_in_a_sentence() {
        for text in ["", "-", "1-", "-1", "65536", "no-such-service", "9-1", "1-2-3", " 80", "0", "0-80"] {
            assert!(text.parse::<PortRange>().is_err_and(|message| !message.is_empty()), "{text:?}");
        }
    }

    #[test]
    fn other_forms_of_ranges_are_recognised() {
        for (text, range) in [
            ("80-", "80-65535"),
            ("-80", "80 or 1-80"),
            (":80", "80 or 1-80"),
            ("80:90", "80-90"),
            ("80..90", "80-90"),
            ("80..", "80-65535"),
            ("..=80", "1-80"),
        ] {
            assert_eq!(intended(text).as_deref(), Some(range), "{text}");
            assert!(
                text.parse::<PortRange>().is_err_and(|message| message.ends_with(&format!("did you mean {range}?")))
            );
        }
        for text in ["80-90", "90-80", "0-80", "a:b", "80:0", "http", "-", ":"] {
            assert_eq!(intended(text), None, "{text}");
        }
    }
}
