//! Filters of a recording, as its header tells them: whether a reset that is not in it could have been left out.

use serde::{Deserialize, Serialize};

use super::{Direction, Endpoint, Family, FilterOptions, PortRange, parse_network};

/// Filters that a run recorded with. Without any of them every reset is in the recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct RecordedFilters {
    /// Direction that was recorded; `None` for both.
    pub direction: Option<Direction>,
    /// IP version that was recorded; `None` for both.
    pub family: Option<Family>,
    /// Inode number of the only network namespace; `None` for all.
    pub netns: Option<u32>,
    /// Peers and networks (CIDR) that were recorded; empty for all.
    pub peers: Vec<String>,
    /// Peers and networks (CIDR) that were left out.
    pub not_peers: Vec<String>,
    /// Ports, as `80` or `80-90`, at the peer's end; empty for all.
    pub peer_ports: Vec<String>,
    /// Ports at this host's end; empty for all.
    pub local_ports: Vec<String>,
    /// Ports at either end; empty for all.
    pub ports: Vec<String>,
    /// Ports that were left out, at either end.
    pub not_ports: Vec<String>,
    /// Names of filters by owner, name or cause, of which a reset that was not recorded shows nothing.
    pub others: Vec<String>,
}

impl RecordedFilters {
    /// The filters of a run; `netns` is the inode number that `--netns` stood for when the run began.
    pub(crate) fn of(filters: &FilterOptions, netns: Option<u32>) -> Self {
        let ports =
            |ranges: &[PortRange]| ranges.iter().map(|PortRange { first, last }| range(*first, *last)).collect();
        let names = [
            ("--pid", !filters.pid.is_empty()),
            ("--comm", !filters.comm.is_empty()),
            ("--host", !filters.host.is_empty()),
            ("--not-host", !filters.not_host.is_empty()),
            ("--cgroup", filters.cgroup.is_some()),
            ("--unit", !filters.unit.is_empty()),
            ("--container", !filters.container.is_empty()),
            ("--pod", !filters.pod.is_empty()),
            ("--cause", !filters.cause.is_empty()),
            ("--fault", !filters.fault.is_empty()),
            ("--no-benign", filters.no_benign),
        ];
        Self {
            direction: match (filters.sent, filters.received) {
                (true, _) => Some(Direction::Sent),
                (_, true) => Some(Direction::Received),
                _ => None,
            },
            family: match (filters.ipv4, filters.ipv6) {
                (true, _) => Some(Family::Ipv4),
                (_, true) => Some(Family::Ipv6),
                _ => None,
            },
            netns,
            peers: filters.peer.iter().map(ToString::to_string).collect(),
            not_peers: filters.not_peer.iter().map(ToString::to_string).collect(),
            peer_ports: ports(&filters.peer_port),
            local_ports: ports(&filters.local_port),
            ports: ports(&filters.port),
            not_ports: ports(&filters.not_port),
            others: names.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name.to_owned()).collect(),
        }
    }

    /// Why a reset between these ends may be missing though it happened; `None` where these filters let it pass whatever its
    /// owner and cause. The namespace is not looked at: a host whose recording is of one namespace is that namespace.
    pub fn may_hide(&self, direction: Direction, local: Endpoint, peer: Endpoint) -> Option<String> {
        if let Some(name) = self.others.first() {
            return Some(format!("recorded with {name}, which goes by what only a record shows"));
        }
        if let Some(wanted) = self.direction.filter(|wanted| *wanted != direction) {
            let name = if wanted == Direction::Sent { "--sent" } else { "--received" };
            return Some(format!("recorded with {name}"));
        }
        let family = if local.address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        if self.family.is_some_and(|wanted| wanted != family) {
            return Some("recorded for the other IP version alone".to_owned());
        }
        let is_peer = |text: &String| parse_network(text).map(|network| network.contains(&peer.address)).ok();
        if !self.peers.is_empty() && !self.peers.iter().any(|text| is_peer(text) == Some(true)) {
            return Some(format!("recorded with --peer, which does not name {}", peer.address));
        }
        // What cannot be read may name it.
        if self.not_peers.iter().any(|text| is_peer(text) != Some(false)) {
            return Some(format!("recorded with --not-peer, which names {}", peer.address));
        }
        for (name, ranges, ports) in [
            ("--peer-port", &self.peer_ports, &[peer.port][..]),
            ("--local-port", &self.local_ports, &[local.port]),
            ("--port", &self.ports, &[local.port, peer.port]),
        ] {
            let holds = |text: &String| ports.iter().any(|port| contains(text, *port) == Some(true));
            if !ranges.is_empty() && !ranges.iter().any(holds) {
                return Some(format!("recorded with {name}, which filters this port"));
            }
        }
        let is_hidden = |text: &String| [local.port, peer.port].iter().any(|port| contains(text, *port) != Some(false));
        self.not_ports.iter().any(is_hidden).then(|| "recorded with --not-port, which filters this port".to_owned())
    }

    /// Whether peers or ports decide what was recorded: behind a translation of addresses these are others than an observer at
    /// the other end sees.
    pub const fn goes_by_ends(&self) -> bool {
        !(self.peers.is_empty()
            && self.not_peers.is_empty()
            && self.peer_ports.is_empty()
            && self.local_ports.is_empty()
            && self.ports.is_empty()
            && self.not_ports.is_empty())
    }
}

fn range(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Whether a range has a port; `None` where it cannot be read.
fn contains(text: &str, port: u16) -> Option<bool> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?).contains(&port))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn end(text: &str) -> Endpoint {
        let end: std::net::SocketAddr = text.parse().expect("an end");
        Endpoint { address: end.ip(), port: end.port() }
    }

    #[test]
    fn filters_hide_what_they_do_not_name() {
        for (arguments, is_hidden) in [
            (&[][..], false),
            (&["--sent"], false),
            (&["--received"], true),
            (&["-4"], false),
            (&["-6"], true),
            (&["--peer", "10.0.1.0/24"], false),
            (&["--peer", "10.0.2.0/24"], true),
            (&["--not-peer", "10.0.1.9"], true),
            (&["--not-peer", "10.0.1.8"], false),
            (&["--port", "400-500"], false),
            (&["--port", "50000"], false),
            (&["--port", "80"], true),
            (&["--local-port", "50000"], true),
            (&["--peer-port", "50000"], false),
            (&["--not-port", "443"], true),
            (&["--comm", "nginx"], true),
            (&["--no-benign"], true),
        ] {
            let options =
                Cli::try_parse_from([&["rsttrace"], arguments].concat()).expect("a command line").trace.filters;
            let filters = RecordedFilters::of(&options, None);
            let hidden = filters.may_hide(Direction::Sent, end("10.0.0.5:443"), end("10.0.1.9:50000"));
            assert_eq!(hidden.is_some(), is_hidden, "{arguments:?}: {hidden:?}");
        }
    }

    #[test]
    fn filters_that_cannot_be_read_hide() {
        let (local, peer) = (end("10.0.0.5:443"), end("10.0.1.9:50000"));
        for filters in [
            RecordedFilters { peers: vec!["peer-1".into()], ..RecordedFilters::default() },
            RecordedFilters { not_peers: vec!["?".into()], ..RecordedFilters::default() },
            RecordedFilters { not_ports: vec!["?".into()], ..RecordedFilters::default() },
            RecordedFilters { ports: vec!["?".into()], ..RecordedFilters::default() },
        ] {
            assert!(filters.may_hide(Direction::Sent, local, peer).is_some(), "{filters:?}");
        }
    }
}
