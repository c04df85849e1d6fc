//! Names of ports, from `/etc/services` of this host.

use std::{collections::HashMap, fs, sync::LazyLock};

/// Names of all TCP ports in `/etc/services`, which is read at the first use, once a process.
static SERVICES: LazyLock<HashMap<u16, String>> =
    LazyLock::new(|| parse_services(&fs::read_to_string("/etc/services").unwrap_or_default()));

/// Names of TCP ports.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServiceNames {
    is_empty: bool,
}

impl ServiceNames {
    /// No names: no file is read.
    pub(crate) fn none() -> Self {
        Self { is_empty: true }
    }

    /// Name of a TCP port in `/etc/services`; `None` where it has none, or the file cannot be read. The first call of the process
    /// reads the file.
    pub(crate) fn service(self, port: u16) -> Option<&'static str> {
        if self.is_empty { None } else { SERVICES.get(&port).map(String::as_str) }
    }
}

/// TCP port of a name in `/etc/services`; `None` where there is none, or the file cannot be read. Reads the file.
pub(crate) fn port_of(name: &str) -> Option<u16> {
    let services = parse_services(&fs::read_to_string("/etc/services").ok()?);
    services.iter().filter(|(_, service)| *service == name).map(|(port, _)| *port).min()
}

pub(crate) fn parse_services(text: &str) -> HashMap<u16, String> {
    let mut services = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        if let (Some(name), Some(port)) = (words.next(), words.next())
            && let Some(port) = port.strip_suffix("/tcp").and_then(|port| port.parse().ok())
        {
            services.entry(port).or_insert_with(|| name.to_owned());
        }
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_services_and_skips_other_lines() {
        let services = parse_services("# c\nhttps 443/tcp # x\nhttps 443/udp\ndomain\t53/udp\nbad x/tcp\nalone\n");
        assert_eq!(services, HashMap::from([(443, "https".to_owned())]));
    }
}
