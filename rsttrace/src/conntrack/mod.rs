//! Look-ups in the kernel's table of tracked connections, for the other side of a translated one.
//!
//! The kernel wants `CAP_NET_ADMIN` of a process at each request (`netlink_net_capable` in `nfnetlink_rcv`), not only when it
//! opens the socket. A helper process has that capability and nothing else, so that this one needs none: it has a socket
//! in each network namespace and passes requests to the kernel. `docs/design/conntrack.md` has the reasons.

mod client;
mod helper;
mod message;
mod pacer;
mod protocol;
mod tables;

use std::path::Path;

pub use self::client::{Conntrack, Counts};
use crate::util::{counted, degraded::Degraded};

/// What is missing in the output without look-ups.
const LOSS: &str = "the other side of translated connections is not known";

/// State of connection tracking on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The kernel tracks no connections: it has no conntrack, or its module is not loaded.
    Absent,
    /// The kernel tracks connections, and its netlink interface is not loaded.
    WithoutNetlink,
    /// Entries can be looked up.
    Present,
}

impl Presence {
    /// Finds out by files of `/sys` and `/proc` alone: a request, and already a socket, would make the kernel load the modules.
    /// `netlink_built_in`: whether `nf_conntrack_netlink` is part of the kernel and no module.
    pub fn detect(netlink_built_in: bool) -> Self {
        let is_loaded = |module: &str| Path::new("/sys/module").join(module).exists();
        let tracks = is_loaded("nf_conntrack") || Path::new("/proc/sys/net/netfilter/nf_conntrack_count").exists();
        if !tracks {
            Self::Absent
        } else if netlink_built_in || is_loaded("nf_conntrack_netlink") {
            Self::Present
        } else {
            Self::WithoutNetlink
        }
    }
}

/// Tries a look-up in this process, with a socket of its own in its network namespace and in those of other processes. Returns
/// the number of namespaces in which entries can be looked up, and what is not as it could be. Blocks while `/proc` is listed.
pub fn examine(presence: Presence) -> (usize, Vec<Degraded>) {
    match presence {
        Presence::Absent => return (0, Vec::new()),
        Presence::WithoutNetlink => return (0, vec![without_netlink()]),
        Presence::Present => {}
    }
    // In a thread, since it moves to other namespaces.
    let opened = std::thread::scope(|scope| scope.spawn(tables::Tables::open).join());
    let mut tables = match opened {
        Ok(Ok(tables)) => tables,
        Ok(Err(error)) => return (0, vec![degraded(&error.to_string())]),
        Err(_) => return (0, vec![degraded("a thread has failed")]),
    };
    if let Err(why) = tables.probe() {
        return (0, vec![degraded(&why)]);
    }
    let ready = tables.ready();
    (ready.tables.len(), missing_namespaces(&ready))
}

fn degraded(why: &str) -> Degraded {
    Degraded { what: "conntrack".to_owned(), why: why.to_owned(), loss: LOSS.to_owned() }
}

fn without_netlink() -> Degraded {
    degraded("nf_conntrack_netlink is not loaded ('modprobe nf_conntrack_netlink', then start anew)")
}

/// Entries for the namespaces in which nothing can be looked up.
fn missing_namespaces(ready: &protocol::HelperReady) -> Vec<Degraded> {
    let loss = "of connections of the others, translations in their own namespace are not known";
    let one = |why: String| Degraded { what: "conntrack".to_owned(), why, loss: loss.to_owned() };
    let mut missing = Vec::new();
    if ready.refused > 0 {
        let error = std::io::Error::from_raw_os_error(ready.error.into());
        missing.push(one(format!("{} cannot be entered: {error}", counted(ready.refused.into(), "network namespace"))));
    }
    if ready.hidden > 0 {
        missing.push(one(format!(
            "the network namespaces of {} process{} cannot be seen, which takes CAP_SYS_PTRACE",
            ready.hidden,
            if ready.hidden == 1 { "" } else { "es" }
        )));
    }
    if ready.beyond > 0 {
        let (all, held) = (ready.tables.len() + usize::from(ready.beyond), ready.tables.len());
        missing.push(one(format!("of {all} network namespaces, {held} are looked up in")));
    }
    missing
}

/// Parses any bytes as the kernel's answer and as packets of the helper; an entry that is accepted can be requested.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    use crate::model::translation::{translated_ends, untranslated_ends};
    if let message::Reply::Entry(entry) = message::parse(data) {
        for tuple in [entry.original, entry.reply] {
            assert_eq!(tuple.source.address.is_ipv4(), tuple.destination.address.is_ipv4());
            assert!(message::request(1, &tuple).is_some());
            let (local, peer) = (tuple.source, tuple.destination);
            let ends = (translated_ends(&entry, local, peer), untranslated_ends(&entry, local, peer));
            assert!(ends.0.is_none_or(|ends| ends.local != local || ends.peer != peer), "{ends:?}");
        }
    }
    drop((
        protocol::HelperPacket::decode(data),
        protocol::HelperRequest::decode(data),
        protocol::HelperReady::decode(data),
    ));
}
