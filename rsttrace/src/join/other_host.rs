//! Which host is at the other end of a reset: by the addresses of its records, of its header, and by the matches.

use std::net::IpAddr;

use super::{gathered_host::GatheredHost, judge::Judge, seen_reset::SeenReset};

/// The other end's host, and how it was found.
pub(super) struct OtherHost {
    pub(super) number: u16,
    /// Whether a match or a record of the connection confirms that the address is this host's.
    pub(super) is_confirmed: bool,
}

impl Judge<'_> {
    /// The host at the other end. Fails with the reason, and with whether no input is of it.
    pub(super) fn other_host(&self, own: u16, reset: &SeenReset) -> Result<OtherHost, (String, bool)> {
        let translated = reset.translated.as_deref().map(|(_, peer)| peer.address);
        let peer = translated.unwrap_or(reset.peer.address);
        let others = || (0_u16..).zip(self.hosts).filter(move |(number, _)| *number != own);
        let has = |(_, host): &(u16, &GatheredHost)| host.has_address(peer) || host.may_be_seen_as(peer);
        let mut found: Vec<u16> = others().filter(has).map(|(number, _)| number).collect();
        // Records show which of several hosts with an address has the connections; without them the interfaces tell.
        if found.is_empty() && !self.behind.contains_key(&peer) {
            let has_interface = |(_, host): &(u16, &GatheredHost)| host.has_interface(peer);
            found = others().filter(has_interface).map(|(number, _)| number).collect();
        }
        // A capture of the path has the addresses of both ends.
        if found.iter().any(|number| !self.is_capture(*number)) {
            found.retain(|number| !self.is_capture(*number));
        }
        let knows = |number: u16| self.host(number).is_some_and(|host| host.knows_peer(reset.local));
        match found.as_slice() {
            [number] => {
                let is_matched = self.behind.get(&peer).is_some_and(|hosts| hosts.len() == 1 && hosts.contains(number));
                Ok(OtherHost { number: *number, is_confirmed: is_matched || knows(*number) })
            }
            [] => {
                let behind =
                    self.behind.get(&peer).map(|hosts| hosts.iter().copied().collect::<Vec<_>>()).unwrap_or_default();
                match behind.as_slice() {
                    [] => Err(self.not_an_input(own, peer)),
                    [number] if *number != own && knows(*number) => {
                        Ok(OtherHost { number: *number, is_confirmed: false })
                    }
                    _ => {
                        let why = "which has matched resets, is translated, and other hosts may be behind it";
                        Err((format!("the address {peer}, {why}"), false))
                    }
                }
            }
            several => {
                let names: Vec<&str> = several.iter().map(|number| self.name(*number)).collect();
                Err((format!("{} have the address {peer}", names.join(" and ")), false))
            }
        }
    }

    /// Why no input is of the host with an address, and whether that is known.
    fn not_an_input(&self, own: u16, peer: IpAddr) -> (String, bool) {
        if let Some(host) = self.host(own).filter(|host| host.has_interface(peer)) {
            return (
                format!("the address {peer} is one of {} itself: no other host sent it from there", host.name),
                false,
            );
        }
        let others = (0_u16..).zip(self.hosts).filter(|(number, host)| *number != own && host.is_without_address());
        let names: Vec<&str> = others.map(|(_, host)| &*host.name).collect();
        let (has, its, it) = if names.len() == 1 {
            ("has", "its addresses are", "it has")
        } else {
            ("have", "their addresses are", "they have")
        };
        if names.is_empty() {
            (format!("no input is of the host with the address {peer}"), true)
        } else {
            let names = names.join(" and ");
            (format!("{names} {has} no reset, so {its} not known: whether {it} {peer} cannot be told"), false)
        }
    }
}
