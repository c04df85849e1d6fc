//! Names of ports, from `/etc/services` of this host.

use std::{collections::HashMap, fs};

/// Names of TCP ports. The file is read at the first lookup, once.
#[derive(Debug, Default)]
pub(crate) struct ServiceNames {
    services: Option<HashMap<u16, String>>,
}

impl ServiceNames {
    /// No names: no file is read.
    pub(crate) fn none() -> Self {
        Self { services: Some(HashMap::new()) }
    }

    /// Name of a TCP port in `/etc/services`; `None` where it has none, or the file cannot be read.
    pub(crate) fn service(&mut self, port: u16) -> Option<&str> {
        let services = self
            .services
            .get_or_insert_with(|| parse_services(&fs::read_to_string("/etc/services").unwrap_or_default()));
        services.get(&port).map(String::as_str)
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
