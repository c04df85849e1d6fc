//! Addresses of the interfaces in the network namespace that a recording is of: by them `rsttrace join` knows whose peer is this
//! host, also where no reset tells.

use std::{fs::File, net::IpAddr, thread};

use nix::{
    ifaddrs::getifaddrs,
    sched::{CloneFlags, setns},
};

use crate::filter::netns::NetnsFilter;

/// Most addresses; a header is one line.
const ADDRESSES_MAX: usize = 256;

/// Addresses in the only namespace that is recorded, or in this process's own. `None` where they cannot be read. Blocks on the
/// kernel.
pub(super) fn own_addresses(netns: Option<&NetnsFilter>) -> Option<Vec<IpAddr>> {
    let Some(netns) = netns else { return addresses_here() };
    let namespace: File = netns.open().ok()?;
    let enter = || setns(&namespace, CloneFlags::CLONE_NEWNET).ok().and_then(|()| addresses_here());
    // A thread of its own enters it: this one cannot be left in the wrong namespace.
    thread::scope(|scope| scope.spawn(enter).join()).ok().flatten()
}

/// Addresses of the calling thread's namespace that tell it from others, sorted; `None` where they cannot be read.
fn addresses_here() -> Option<Vec<IpAddr>> {
    let found = getifaddrs().ok()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    let mut addresses: Vec<IpAddr> = found.filter(|address| is_of_host(*address)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    Some(addresses)
}

/// Whether an address is neither one that every host has nor one of a link.
const fn is_of_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_unspecified() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unspecified() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_addresses_tell_no_host() {
        for (text, is_own) in [
            ("127.0.0.1", false),
            ("169.254.3.4", false),
            ("::1", false),
            ("fe80::1", false),
            ("10.2.0.9", true),
            ("fd00::9", true),
        ] {
            assert_eq!(is_of_host(text.parse().expect("an address")), is_own, "{text}");
        }
        let addresses = addresses_here().expect("they can be read");
        assert!(addresses.iter().all(|address| is_of_host(*address)) && addresses.is_sorted());
    }

    #[test]
    fn a_namespace_that_is_not_there_has_no_addresses() {
        let absent = NetnsFilter::find("4294967295").expect("a number");
        assert_eq!(own_addresses(Some(&absent)), None);
    }
}
