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
}
