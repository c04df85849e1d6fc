//! Whether a record is wanted: the filters of the command line, applied to the finished record.
//!
//! The kernel side has dropped what certainly does not match; this is the truth.

pub mod flood;
pub mod peers;
pub mod ports;

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    attribute::cgroup,
    cli::Filters,
    exit::Failure,
    model::{Direction, Family, Forwarded, Reset},
    select::ports::PortRange,
};

/// The filters, checked and made ready.
#[derive(Debug, Default)]
pub struct Selection {
    filters: Filters,
    /// Inode number of the only wanted network namespace.
    pub netns: Option<u32>,
    /// Path of the wanted cgroup below the root of its hierarchy.
    cgroup: Option<PathBuf>,
}

impl Selection {
    /// Checks what can only be checked on this host.
    pub fn new(filters: Filters) -> Result<Self, Failure> {
        let netns = filters.netns.as_deref().map(netns_inode).transpose()?;
        let cgroup = filters.cgroup.as_deref().map(|path| below_mount(path, cgroup::mount().as_deref()));
        Ok(Self { filters, netns, cgroup })
    }

    /// What the kernel side may use.
    pub const fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Whether every reset of the host is wanted.
    pub fn is_everything(&self) -> bool {
        let filters = &self.filters;
        !(filters.sent || filters.received || filters.ipv4 || filters.ipv6 || filters.no_benign)
            && filters.pid.is_empty()
            && filters.comm.is_empty()
            && filters.peer.is_empty()
            && filters.peer_port.is_empty()
            && filters.local_port.is_empty()
            && filters.port.is_empty()
            && filters.cause.is_empty()
            && filters.fault.is_empty()
            && self.netns.is_none()
            && self.cgroup.is_none()
    }

    /// Whether the record is wanted.
    pub fn wants(&self, reset: &Reset) -> bool {
        self.wants_ends(reset) && self.wants_owner(reset) && self.wants_cause(reset)
    }

    /// Whether the record of a forwarded reset is wanted: a peer or a port may be at either end of it.
    pub fn wants_forwarded(&self, forwarded: &Forwarded) -> bool {
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

    fn wants_ends(&self, reset: &Reset) -> bool {
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
            && self.netns.is_none_or(|wanted| reset.netns.is_some_and(|netns| netns.inode == wanted))
    }

    fn wants_owner(&self, reset: &Reset) -> bool {
        let filters = &self.filters;
        let owner = reset.process.as_ref();
        (filters.pid.is_empty() || owner.is_some_and(|owner| filters.pid.contains(&owner.pid)))
            && (filters.comm.is_empty()
                || owner.is_some_and(|owner| filters.comm.iter().any(|comm| **comm == *owner.comm)))
            && self.cgroup.as_deref().is_none_or(|wanted| {
                let of_socket = reset.cgroup.as_ref().and_then(|cgroup| cgroup.path.as_deref());
                let of_owner = owner.and_then(|owner| owner.cgroup.as_deref());
                [of_socket, of_owner].into_iter().flatten().any(|path| Path::new(path).starts_with(wanted))
            })
    }

    fn wants_cause(&self, reset: &Reset) -> bool {
        let filters = &self.filters;
        (filters.cause.is_empty() || filters.cause.iter().any(|code| code == reset.cause.code))
            && (filters.fault.is_empty() || filters.fault.contains(&reset.cause.fault))
            && !(filters.no_benign && reset.cause.benign)
    }
}

/// The inode number that a path or a number names.
fn netns_inode(text: &str) -> Result<u32, Failure> {
    if let Ok(inode) = text.parse() {
        return Ok(inode);
    }
    let metadata = fs::metadata(text).map_err(|error| {
        Failure::usage(format_args!(
            "cannot find the network namespace {text}: {error}; name a path such as /run/netns/NAME or /proc/PID/ns/net, or an inode number"
        ))
    })?;
    u32::try_from(metadata.ino()).map_err(|_error| Failure::usage(format_args!("{text} is no network namespace")))
}

/// A cgroup's path below its hierarchy's root, whether it is given like that or with the mount point in front.
fn below_mount(path: &Path, mount: Option<&Path>) -> PathBuf {
    let below = mount.and_then(|mount| path.strip_prefix(mount).ok()).unwrap_or(path);
    Path::new("/").join(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_may_be_named_both_ways() {
        let mount = Some(Path::new("/sys/fs/cgroup"));
        for path in ["/sys/fs/cgroup/system.slice/a.service", "/system.slice/a.service", "system.slice/a.service"] {
            assert_eq!(below_mount(Path::new(path), mount), Path::new("/system.slice/a.service"));
        }
    }

    #[test]
    fn nothing_asked_for_is_everything() {
        assert!(Selection::default().is_everything());
        let sent = Filters { sent: true, ..Filters::default() };
        assert!(Selection::new(sent).is_ok_and(|selection| !selection.is_everything()));
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let filters = Filters { netns: Some("/no/such/namespace".into()), ..Filters::default() };
        assert!(matches!(Selection::new(filters), Err(Failure::Usage(_))));
    }
}
