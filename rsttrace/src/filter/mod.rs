//! Whether a record is wanted: the filters of the command line, applied to the finished record.
//!
//! The kernel side has dropped what certainly does not match; this is the truth.

pub mod cgroup;
mod error;
pub mod netns;

use std::time::Instant;

pub use self::error::{FilterError, NotNetns};

use crate::{
    filter::{cgroup::WantedCgroup, netns::Netns},
    model::{Direction, Family, FilterOptions, Forwarded, PortRange, Reset},
};

/// The filters, checked and made ready.
#[derive(Debug, Default)]
pub struct RecordFilter {
    filters: FilterOptions,
    /// The only wanted network namespace.
    pub netns: Option<Netns>,
    /// The only wanted cgroup.
    cgroup: Option<WantedCgroup>,
}

impl RecordFilter {
    /// Checks what can only be checked on this host: looks at the path of `--netns`, and for the cgroup of `--cgroup` in the
    /// mounted hierarchies. Blocks on their file systems. Fails when one of them names nothing here.
    pub fn new(filters: FilterOptions) -> Result<Self, FilterError> {
        let netns = filters.netns.as_deref().map(Netns::find).transpose()?;
        let cgroup = filters.cgroup.as_deref().map(WantedCgroup::find).transpose()?;
        Ok(Self { filters, netns, cgroup })
    }

    /// What is to be said at the start of a run: filters that nothing matches now, or may not. Looks at every process of
    /// the host where a network namespace is not found otherwise.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let absence = self.netns.as_ref().and_then(Netns::absence);
        absence.into_iter().chain(self.cgroup.as_ref().and_then(WantedCgroup::doubt))
    }

    /// What the kernel side may use.
    pub const fn filters(&self) -> &FilterOptions {
        &self.filters
    }

    /// When the path of `--netns` has to be looked at next, whether or not there are events; `None` without a path.
    pub fn next_look(&self) -> Option<Instant> {
        self.netns.as_ref().and_then(Netns::next_look)
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
            peer_port,
            local_port,
            port,
            ipv4,
            ipv6,
            netns,
            cgroup,
            cause,
            fault,
            no_benign,
        } = &self.filters;
        !(*sent || *received || *ipv4 || *ipv6 || *no_benign)
            && pid.is_empty()
            && comm.is_empty()
            && peer.is_empty()
            && [peer_port, local_port, port].iter().all(|ports| ports.is_empty())
            && netns.is_none()
            && cgroup.is_none()
            && cause.is_empty()
            && fault.is_empty()
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
        family && ports && peers
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
            && self.netns.as_ref().is_none_or(|wanted| {
                reset.netns.is_some_and(|netns| wanted.matches(netns.inode, reset.internals.ktime_ns))
            })
    }

    fn matches_owner(&self, reset: &Reset) -> bool {
        let filters = &self.filters;
        let owner = reset.process.as_ref();
        (filters.pid.is_empty() || owner.is_some_and(|owner| filters.pid.contains(&owner.pid)))
            && (filters.comm.is_empty()
                || owner.is_some_and(|owner| filters.comm.iter().any(|comm| **comm == *owner.comm)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_options_match_everything() {
        assert!(RecordFilter::default().is_everything());
        let sent = FilterOptions { sent: true, ..FilterOptions::default() };
        assert!(RecordFilter::new(sent).is_ok_and(|selection| !selection.is_everything()));
    }

    #[test]
    fn a_missing_namespace_is_refused() {
        let filters = FilterOptions { netns: Some("/no/such/namespace".into()), ..FilterOptions::default() };
        assert!(matches!(RecordFilter::new(filters), Err(FilterError::NetnsPath { .. })));
    }
}
