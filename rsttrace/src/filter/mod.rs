//! Whether a record is wanted: the filters of the command line, applied to the finished record.
//!
//! The kernel side has dropped what certainly does not match; this is the truth.

pub mod cgroup_filter;
mod filter_error;
pub mod netns;

use std::time::Instant;

pub use self::filter_error::{FilterError, NotNetns};

use crate::{
    filter::{cgroup_filter::WantedCgroup, netns::NetnsFilter},
    model::{
        Direction, Family, FilterOptions, Forwarded, PortRange, Reset,
        names::{is_comm, matches_name, names_pod, names_unit},
    },
};

/// The filters, checked and made ready.
#[derive(Debug, Default)]
pub struct RecordFilter {
    filters: FilterOptions,
    /// The only wanted network namespace.
    pub netns: Option<NetnsFilter>,
    /// The only wanted cgroup.
    cgroup: Option<WantedCgroup>,
}

impl RecordFilter {
    /// Checks what can only be checked on this host: looks at the path of `--netns`, and for the cgroup of `--cgroup` in the
    /// mounted hierarchies. Blocks on their file systems. Fails when `--netns` names nothing here.
    pub fn new(filters: FilterOptions) -> Result<Self, FilterError> {
        let netns = filters.netns.as_deref().map(NetnsFilter::find).transpose()?;
        let cgroup = filters.cgroup.as_deref().map(WantedCgroup::find);
        Ok(Self { filters, netns, cgroup })
    }

    /// As [`Self::new`], for what was recorded: the value of `--netns` stands for the namespace that it names now.
    pub fn for_recording(filters: FilterOptions) -> Result<Self, FilterError> {
        let Self { filters, netns, cgroup } = Self::new(filters)?;
        Ok(Self { filters, netns: netns.map(NetnsFilter::fixed), cgroup })
    }

    /// What is to be said at the start of a run: filters that nothing matches now, or may not. Looks at every process of
    /// the host where a network namespace is not found otherwise.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let absence = self.netns.as_ref().and_then(NetnsFilter::absence);
        absence.into_iter().chain(self.cgroup.as_ref().and_then(WantedCgroup::note))
    }

    /// What the kernel side may use.
    pub const fn filters(&self) -> &FilterOptions {
        &self.filters
    }

    /// When the path of `--netns` has to be looked at next, whether or not there are events; `None` without a path.
    pub fn next_look(&self) -> Option<Instant> {
        self.netns.as_ref().and_then(NetnsFilter::next_look)
    }

    /// Whether every reset of the host is wanted.
    pub fn is_everything(&self) -> bool {
        // Exhaustive: a new filter has to be listed here before this compiles.
        let FilterOptions {
            sent,
            received,
            pid,
            comm,
            peer,
            not_peer,
            host,
            not_host,
            peer_port,
            local_port,
            port,
            not_port,
            ipv4,
            ipv6,
            netns,
            cgroup,
            unit,
            container,
            pod,
            cause,
            fault,
            no_benign,
        } = &self.filters;
        !(*sent || *received || *ipv4 || *ipv6 || *no_benign)
            && pid.is_empty()
            && [comm, host, not_host, unit, container, pod, cause].iter().all(|names| names.is_empty())
            && [peer, not_peer].iter().all(|nets| nets.is_empty())
            && [peer_port, local_port, port, not_port].iter().all(|ports| ports.is_empty())
            && netns.is_none()
            && cgroup.is_none()
            && fault.is_empty()
    }

    /// Whether every reset of this network namespace is wanted, so that its counters can be compared.
    pub fn is_whole_namespace(&self, inode: Option<u32>) -> bool {
        let of_namespace = self.netns.as_ref().map(NetnsFilter::number);
        of_namespace.is_none_or(|number| Some(number) == inode) && {
            let filters = FilterOptions { netns: None, ..self.filters.clone() };
            Self { filters, netns: None, cgroup: None }.is_everything()
        }
    }

    /// Whether the record is wanted.
    pub fn matches(&self, reset: &Reset) -> bool {
        self.matches_ends(reset) && self.matches_owner(reset) && self.matches_cause(reset)
    }

    /// Whether the record of a forwarded reset is wanted: a peer or a port may be at either end of it.
    pub fn matches_forwarded(&self, forwarded: &Forwarded) -> bool {
        let filters = &self.filters;
        let ends = [&forwarded.from, &forwarded.to];
        let family =
            !(filters.ipv4 && forwarded.family != Family::Ipv4 || filters.ipv6 && forwarded.family != Family::Ipv6);
        let ports = [&filters.peer_port, &filters.local_port, &filters.port].into_iter().all(|ranges| {
            ranges.is_empty() || ends.iter().any(|end| ranges.iter().any(|range| range.contains(end.port)))
        });
        let peers =
            filters.peer.is_empty() || ends.iter().any(|end| filters.peer.iter().any(|net| net.contains(&end.address)));
        let is_hidden = ends.iter().any(|end| {
            filters.not_peer.iter().any(|net| net.contains(&end.address))
                || filters.not_port.iter().any(|range| range.contains(end.port))
        });
        let netns = self
            .netns
            .as_ref()
            .is_none_or(|wanted| forwarded.netns.is_none_or(|netns| wanted.matches(netns.inode, forwarded.ktime_ns)));
        family && ports && peers && netns && !is_hidden
    }

    fn matches_ends(&self, reset: &Reset) -> bool {
        let filters = &self.filters;
        let (local, peer) = (reset.local.port, reset.peer.port);
        let any = |ranges: &[PortRange], ports: &[u16]| {
            ranges.is_empty() || ports.iter().any(|&port| ranges.iter().any(|range| range.contains(port)))
        };
        !(filters.sent && reset.direction != Direction::Sent
            || filters.received && reset.direction != Direction::Received
            || filters.ipv4 && reset.family != Family::Ipv4
            || filters.ipv6 && reset.family != Family::Ipv6)
            && any(&filters.peer_port, &[peer])
            && any(&filters.local_port, &[local])
            && any(&filters.port, &[local, peer])
            && (filters.peer.is_empty() || filters.peer.iter().any(|net| net.contains(&reset.peer.address)))
            && !filters.not_peer.iter().any(|net| net.contains(&reset.peer.address))
            && !filters.not_port.iter().any(|range| range.contains(local) || range.contains(peer))
            && (filters.host.is_empty() || is_host(&filters.host, reset))
            && !is_host(&filters.not_host, reset)
            && self.netns.as_ref().is_none_or(|wanted| {
                reset.netns.is_some_and(|netns| wanted.matches(netns.inode, reset.internals.ktime_ns))
            })
    }

    fn matches_owner(&self, reset: &Reset) -> bool {
        let filters = &self.filters;
        let owner = reset.process.as_ref();
        (filters.pid.is_empty() || owner.is_some_and(|owner| filters.pid.contains(&owner.pid)))
            && (filters.comm.is_empty()
                || owner.is_some_and(|owner| filters.comm.iter().any(|comm| is_comm(comm, &owner.comm))))
            && (filters.unit.is_empty() || filters.unit.iter().any(|unit| is_unit(reset, unit)))
            && (filters.container.is_empty() || filters.container.iter().any(|name| is_container(reset, name)))
            && (filters.pod.is_empty() || filters.pod.iter().any(|name| is_pod(reset, name)))
            && self.cgroup.as_ref().is_none_or(|wanted| {
                let of_socket = reset.cgroup.as_ref().and_then(|cgroup| cgroup.path.as_ref());
                let of_owner = owner.and_then(|owner| owner.cgroup.as_ref());
                [of_socket, of_owner].into_iter().flatten().any(|path| wanted.holds(path))
            })
    }

    fn matches_cause(&self, reset: &Reset) -> bool {
        let filters = &self.filters;
        (filters.cause.is_empty() || filters.cause.iter().any(|code| code == reset.cause.code))
            && (filters.fault.is_empty() || filters.fault.contains(&reset.cause.fault))
            && !(filters.no_benign && reset.cause.benign)
    }
}

/// Whether the name of a record's peer matches one of these patterns.
fn is_host(patterns: &[String], reset: &Reset) -> bool {
    reset.peer.name.as_deref().is_some_and(|name| patterns.iter().any(|pattern| matches_name(pattern, name)))
}

/// Whether a record is of this unit.
fn is_unit(reset: &Reset, unit: &str) -> bool {
    reset.unit.as_deref().is_some_and(|own| names_unit(unit, own))
}

/// Whether a record is of the container of this name, or whose id begins so.
fn is_container(reset: &Reset, name: &str) -> bool {
    reset.container.as_ref().is_some_and(|container| {
        container.name.as_deref() == Some(name) || !name.is_empty() && container.id.starts_with(name)
    })
}

/// Whether a record is of this pod.
fn is_pod(reset: &Reset, wanted: &str) -> bool {
    reset.pod.as_ref().is_some_and(|pod| names_pod(wanted, pod))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::Parser as _;
    use jiff::Timestamp;
    use rsttrace_common::event::{KIND_SENT, ResetEvent};

    use super::*;
    use crate::{
        cli::Cli,
        decode::{BitFields, Decoder, Reasons, clock::WallClock},
        model::{Container, Pod},
    };

    #[test]
    fn no_options_match_everything() {
        assert!(RecordFilter::default().is_everything());
        let sent = FilterOptions { sent: true, ..FilterOptions::default() };
        assert!(RecordFilter::new(sent).is_ok_and(|selection| !selection.is_everything()));
    }

    /// Filters of this command line.
    fn filters(arguments: &[&str]) -> Result<RecordFilter, clap::Error> {
        let arguments = [&["rsttrace"], arguments].concat();
        let cli = Cli::try_parse_from(arguments)?;
        Ok(RecordFilter::new(cli.trace.filters).expect("they can be applied"))
    }

    fn reset(change: impl FnOnce(&mut ResetEvent)) -> Reset {
        let mut event = ResetEvent {
            kind: KIND_SENT,
            family: 2,
            local_address: [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes([10, 0, 0, 5])],
            peer_address: [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes([10, 0, 1, 9])],
            local_port: 443,
            peer_port: 50_000,
            ..ResetEvent::default()
        };
        change(&mut event);
        let clock = WallClock { monotonic_ns: 0, wall: Timestamp::UNIX_EPOCH };
        Decoder::new("host".into(), Reasons::default(), BitFields::default(), None).reset(&event, &clock)
    }

    #[test]
    fn lists_names_and_negations_match() {
        let reset = reset(|_| ());
        for (arguments, expected) in [
            (&["--port", "80,443"][..], true),
            (&["--port", "80", "--port", "443"], true),
            (&["--port", "80,8000-8080"], false),
            (&["--not-port", "80"], true),
            (&["--not-port", "443"], false),
            (&["--not-port", "50000-50010"], false),
            (&["--peer", "192.0.2.1,10.0.1.0/24"], true),
            (&["--not-peer", "10.0.1.0/24"], false),
            (&["--not-peer", "10.0.0.0/24,::1"], true),
            (&["--sent", "--sent", "--duration", "1s", "--duration", "2s"], true),
        ] {
            let filter = filters(arguments).expect("a command line");
            assert_eq!(filter.matches(&reset), expected, "{arguments:?}");
        }
        for arguments in [&["--port", "80,"][..], &["--pid", "1,nginx"], &["--peer", "10.0.0.1,example.org"]] {
            assert!(filters(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn units_containers_and_pods_match() {
        let mut reset = reset(|_| ());
        reset.unit = Some("nginx.service".into());
        reset.container = Some(Container {
            runtime: None,
            id: "0123456789abcdef".into(),
            pod_uid: None,
            name: Some("web".into()),
            image: None,
            service: None,
        });
        let pod = Pod { namespace: "shop".into(), name: "cart-7d9f".into(), uid: "u".into(), container: None };
        reset.pod = Some(Arc::new(pod));
        for (arguments, expected) in [
            (&["--unit", "nginx"][..], true),
            (&["--unit", "redis,nginx.service"], true),
            (&["--unit", "ngin"], false),
            (&["--container", "web"], true),
            (&["--container", "0123"], true),
            (&["--container", "we"], false),
            (&["--pod", "cart-7d9f"], true),
            (&["--pod", "shop/cart-7d9f"], true),
            (&["--pod", "other/cart-7d9f"], false),
            (&["--pod", "cart"], false),
        ] {
            let filter = filters(arguments).expect("a command line");
            assert_eq!(filter.matches(&reset), expected, "{arguments:?}");
            assert!(!filter.is_everything(), "{arguments:?}");
        }
        (reset.unit, reset.container, reset.pod) = (None, None, None);
        for arguments in [["--unit", "nginx"], ["--container", "web"], ["--pod", "cart-7d9f"]] {
            assert!(!filters(&arguments).expect("a command line").matches(&reset), "{arguments:?}");
        }
    }

    #[test]
    fn names_of_peers_match() {
        let mut reset = reset(|_| ());
        for arguments in [["--host", "*"], ["--host", "db-1"]] {
            assert!(!filters(&arguments).expect("a command line").matches(&reset), "no name: {arguments:?}");
        }
        assert!(filters(&["--not-host", "*"]).expect("a command line").matches(&reset));
        reset.peer.name = Some("db-1.Shop.example".into());
        for (pattern, expected) in [
            ("db-1.shop.example", true),
            ("other,DB-1.shop.example", true),
            ("db-1", false),
            ("db-*", true),
            ("*.example", true),
            ("*.shop.*", true),
            ("d*b*1*e", true),
            ("*", true),
            ("**", true),
            ("*db-1.shop.example*", true),
            ("db-1.shop.example*e", false),
            ("*2*", false),
            ("b*", false),
        ] {
            let filter = filters(&["--host", pattern]).expect("a command line");
            assert_eq!(filter.matches(&reset), expected, "{pattern}");
            assert_eq!(
                filters(&["--not-host", pattern]).expect("a command line").matches(&reset),
                !expected,
                "{pattern}"
            );
            assert!(!filter.is_everything());
        }
    }

    #[test]
    fn a_missing_namespace_is_refused() {
        let filters = FilterOptions { netns: Some("/no/such/namespace".into()), ..FilterOptions::default() };
        assert!(matches!(RecordFilter::new(filters), Err(FilterError::NetnsPath { .. })));
    }
}
