//! Address translation (NAT) as the kernel's connection tracking knows it, and how a connection of this host relates to it.
//!
//! An entry has two tuples: the original one, of the packets of the side that opened the connection before any
//! translation, and the reply one, of the answers before theirs. Without translation the two mirror each other.

#[cfg(feature = "schema")]
use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Endpoint, NamespaceId};

/// The ends of a translated connection on the other side of the translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Translated {
    /// This host's end as the peer sees it.
    pub local: Endpoint,
    /// The peer's own end: of a virtual address the server behind it, of a router that hides its clients the client.
    pub peer: Endpoint,
    /// Where the translation was found.
    pub by: TranslationSource,
}

/// Where a translation was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TranslationSource {
    /// The kernel's table of tracked connections.
    Conntrack,
    /// The record of the other end, on this host.
    OtherEnd,
}

/// A text: another source does not raise the version of the schema.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for TranslationSource {
    fn schema_name() -> Cow<'static, str> {
        "TranslationSource".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 1})
    }
}

/// Source and destination of a tracked connection's packets in one direction, before their translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Tuple {
    /// Source of the packets.
    pub source: Endpoint,
    /// Destination of the packets.
    pub destination: Endpoint,
}

impl Tuple {
    /// The tuple of packets in the opposite direction, where nothing is translated.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

/// A tracked connection (`struct nf_conn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ConntrackEntry {
    /// Packets of the side that opened the connection.
    pub original: Tuple,
    /// Packets of the other side.
    pub reply: Tuple,
    /// Status bits (`enum ip_conntrack_status`).
    pub status: ConntrackStatus,
    /// TCP state as conntrack sees it; `None` where the kernel did not say.
    pub tcp_state: Option<ConntrackState>,
    /// Time after which the entry expires, seconds; `None` where the kernel did not say.
    pub timeout_s: Option<u32>,
}

/// Status bits of an entry (`enum ip_conntrack_status`). Unknown bits are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ConntrackStatus(pub u32);

impl ConntrackStatus {
    /// Whether packets have been seen in both directions.
    pub const fn seen_reply(self) -> bool {
        self.0 & 1 << 1 != 0
    }

    /// Whether the connection has been established, so that a full table does not evict the entry early.
    pub const fn assured(self) -> bool {
        self.0 & 1 << 2 != 0
    }

    /// Whether the source of the original packets is translated.
    pub const fn source_translated(self) -> bool {
        self.0 & 1 << 4 != 0
    }

    /// Whether the destination of the original packets is translated.
    pub const fn destination_translated(self) -> bool {
        self.0 & 1 << 5 != 0
    }
}

/// TCP state of an entry (`enum tcp_conntrack`) by its number. Unknown numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ConntrackState(pub u8);

impl ConntrackState {
    /// The state after a reset.
    pub const CLOSE: Self = Self(8);

    /// Whether the connection has ended, as far as conntrack knows: it was closed or reset.
    pub const fn has_ended(self) -> bool {
        const TIME_WAIT: u8 = 7;
        matches!(self.0, TIME_WAIT) || self.0 == Self::CLOSE.0
    }

    /// Name of the state, as `conntrack -L` shows it; `None` for an unknown number.
    pub const fn name(self) -> Option<&'static str> {
        const NAMES: [&str; 10] = [
            "NONE",
            "SYN_SENT",
            "SYN_RECV",
            "ESTABLISHED",
            "FIN_WAIT",
            "CLOSE_WAIT",
            "LAST_ACK",
            "TIME_WAIT",
            "CLOSE",
            "SYN_SENT2",
        ];
        if (self.0 as usize) < NAMES.len() { Some(NAMES[self.0 as usize]) } else { None }
    }
}

impl fmt::Display for ConntrackState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.pad(name),
            None => formatter.pad(&format!("STATE_{}", self.0)),
        }
    }
}

/// Result of the look-up of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConntrackLookup {
    /// The entry of the connection.
    Found(ConntrackEntry),
    /// Conntrack has no entry for these ends: it does not track this connection, or does not any more.
    Absent,
    /// Not known: no answer came in time, or the kernel refused the look-up.
    Unknown,
}

/// Answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Number that the request was made under.
    pub id: u64,
    /// What was found.
    pub lookup: ConntrackLookup,
}

/// Look-ups of tracked connections.
pub trait Translations {
    /// Requests the entry of the connection between these ends of a namespace, as its socket has them. Does not block.
    /// Returns whether there will be an [`Answer`] with this id; there is none where the namespace's table cannot be asked or
    /// as many requests as are allowed are under way.
    fn request(&mut self, id: u64, namespace: NamespaceId, local: Endpoint, peer: Endpoint) -> bool;
}

/// No look-ups: of records that do not come from the running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTranslations;

impl Translations for NoTranslations {
    fn request(&mut self, _: u64, _: NamespaceId, _: Endpoint, _: Endpoint) -> bool {
        false
    }
}

/// The other side of the translation of the connection between these ends, as its socket on this host has them. `None` where
/// the connection is not translated, and where the entry is another connection's, or the socket's packets were not
/// translated ([`untranslated_ends`]).
pub fn translated_ends(entry: &ConntrackEntry, local: Endpoint, peer: Endpoint) -> Option<Translated> {
    // What this host's socket sends has the tuple of one direction, and after its translation it is answered by packets of
    // the other.
    let sends = Tuple { source: local, destination: peer };
    let answers = if sends == entry.original {
        entry.reply
    } else if sends == entry.reply {
        entry.original
    } else {
        return None;
    };
    let other_side = answers.mirrored();
    (other_side != sends).then_some(Translated {
        local: other_side.source,
        peer: other_side.destination,
        by: TranslationSource::Conntrack,
    })
}

/// The ends that a packet from `peer` to `local` should have been given, where this host's TCP has received it under the
/// ends that it has on the wire although a translated connection has those ends: conntrack took the packet for invalid and
/// did not translate it (window check, `nf_conntrack_tcp_be_liberal`), and a host that does not drop such packets answers
/// them with a reset. `local` is then the end that the packet was meant for, `peer` the end that it should have seemed to
/// come from. `None` where nothing is translated, and where the packet was.
///
/// True only of an entry of the namespace in which the packet was received.
pub fn untranslated_ends(entry: &ConntrackEntry, local: Endpoint, peer: Endpoint) -> Option<Translated> {
    let received = Tuple { source: peer, destination: local };
    let opposite = if received == entry.original {
        entry.reply
    } else if received == entry.reply {
        entry.original
    } else {
        return None;
    };
    // The connection's own packets, with nothing to translate; or a socket of this host has exactly these ends.
    if opposite == received.mirrored() {
        return None;
    }
    Some(Translated { local: opposite.source, peer: opposite.destination, by: TranslationSource::Conntrack })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Endpoint {
        let address: std::net::SocketAddr = text.parse().expect("an address with a port");
        Endpoint { address: address.ip(), port: address.port() }
    }

    fn tuple(source: &str, destination: &str) -> Tuple {
        Tuple { source: end(source), destination: end(destination) }
    }

    fn entry(original: Tuple, reply: Tuple) -> ConntrackEntry {
        let status = ConntrackStatus(0);
        ConntrackEntry { original, reply, status, tcp_state: Some(ConntrackState::CLOSE), timeout_s: Some(9) }
    }

    /// Other side of the connection whose socket has these ends.
    fn other_side(entry: &ConntrackEntry, local: &str, peer: &str) -> Option<(String, String)> {
        let found = translated_ends(entry, end(local), end(peer))?;
        Some((found.local.to_string(), found.peer.to_string()))
    }

    /// Ends that a packet between these ends should have been given.
    fn meant(entry: &ConntrackEntry, local: &str, peer: &str) -> Option<(String, String)> {
        let found = untranslated_ends(entry, end(local), end(peer))?;
        Some((found.local.to_string(), found.peer.to_string()))
    }

    fn ends(local: &str, peer: &str) -> (String, String) {
        (local.to_owned(), peer.to_owned())
    }

    const CLIENT: &str = "10.0.1.5:40000";
    const VIRTUAL: &str = "10.96.0.10:80";
    const BACKEND: &str = "10.0.3.7:8080";
    const ROUTER: &str = "192.0.2.1:40000";
    const SERVER: &str = "198.51.100.9:443";

    #[test]
    fn destination_translation_shows_the_server_to_the_client_and_the_virtual_address_to_the_server() {
        let entry = entry(tuple(CLIENT, VIRTUAL), tuple(BACKEND, CLIENT));
        assert_eq!(other_side(&entry, CLIENT, VIRTUAL), Some(ends(CLIENT, BACKEND)));
        assert_eq!(other_side(&entry, BACKEND, CLIENT), Some(ends(VIRTUAL, CLIENT)));
    }

    #[test]
    fn source_translation_shows_the_router_to_the_client_and_the_client_to_the_server() {
        let entry = entry(tuple(CLIENT, SERVER), tuple(SERVER, ROUTER));
        assert_eq!(other_side(&entry, CLIENT, SERVER), Some(ends(ROUTER, SERVER)));
        assert_eq!(other_side(&entry, SERVER, ROUTER), Some(ends(SERVER, CLIENT)));
    }

    #[test]
    fn a_translation_of_the_port_alone_counts() {
        let entry = entry(tuple(CLIENT, "10.0.3.7:80"), tuple("10.0.3.7:15001", CLIENT));
        assert_eq!(other_side(&entry, CLIENT, "10.0.3.7:80"), Some(ends(CLIENT, "10.0.3.7:15001")));
        assert_eq!(other_side(&entry, "10.0.3.7:15001", CLIENT), Some(ends("10.0.3.7:80", CLIENT)));
    }

    #[test]
    fn both_translations_at_once_change_both_ends() {
        let entry = entry(tuple(CLIENT, VIRTUAL), tuple(BACKEND, ROUTER));
        assert_eq!(other_side(&entry, CLIENT, VIRTUAL), Some(ends(ROUTER, BACKEND)));
        assert_eq!(other_side(&entry, BACKEND, ROUTER), Some(ends(VIRTUAL, CLIENT)));
    }

    #[test]
    fn hairpin_leads_back_to_the_client_s_own_address() {
        // A server that reaches itself by the virtual address, and is masqueraded so that the answer comes back.
        let entry = entry(tuple("10.0.3.7:40000", VIRTUAL), tuple(BACKEND, "10.0.3.1:40000"));
        assert_eq!(other_side(&entry, "10.0.3.7:40000", VIRTUAL), Some(ends("10.0.3.1:40000", BACKEND)));
        assert_eq!(other_side(&entry, BACKEND, "10.0.3.1:40000"), Some(ends(VIRTUAL, "10.0.3.7:40000")));
    }

    #[test]
    fn a_connection_without_translation_has_no_other_side() {
        let plain = entry(tuple(CLIENT, SERVER), tuple(SERVER, CLIENT));
        for (local, peer) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
            assert_eq!(other_side(&plain, local, peer), None);
            assert_eq!(meant(&plain, local, peer), None);
        }
        // A connection to itself (simultaneous open): both tuples are one.
        let to_itself = entry(tuple(CLIENT, CLIENT), tuple(CLIENT, CLIENT));
        assert_eq!((other_side(&to_itself, CLIENT, CLIENT), meant(&to_itself, CLIENT, CLIENT)), (None, None));
    }

    #[test]
    fn an_entry_of_another_connection_says_nothing() {
        let entry = entry(tuple(CLIENT, VIRTUAL), tuple(BACKEND, CLIENT));
        for (local, peer) in
            [("10.0.1.5:40001", VIRTUAL), (CLIENT, "10.96.0.10:81"), (CLIENT, SERVER), (SERVER, CLIENT)]
        {
            assert_eq!((other_side(&entry, local, peer), meant(&entry, local, peer)), (None, None), "{local} {peer}");
        }
    }

    #[test]
    fn a_segment_that_was_not_translated_is_found_at_the_router() {
        // The server's segment to the router's address was meant for the client behind it.
        let masqueraded = entry(tuple(CLIENT, SERVER), tuple(SERVER, ROUTER));
        assert_eq!(meant(&masqueraded, ROUTER, SERVER), Some(ends(CLIENT, SERVER)));
        assert_eq!(other_side(&masqueraded, ROUTER, SERVER), None);
        // The client's segment to the virtual address was meant for the server behind it.
        let forwarded = entry(tuple(CLIENT, VIRTUAL), tuple(BACKEND, CLIENT));
        assert_eq!(meant(&forwarded, VIRTUAL, CLIENT), Some(ends(BACKEND, CLIENT)));
        assert_eq!(other_side(&forwarded, VIRTUAL, CLIENT), None);
        // Its ends proper, of which packets are translated, are no sign of that.
        assert_eq!(meant(&masqueraded, CLIENT, SERVER), None);
        assert_eq!(meant(&forwarded, BACKEND, CLIENT), None);
    }

    #[test]
    fn ipv6_ends_are_ends_like_any_other() {
        let (client, virtual_, backend) = ("[2001:db8::5]:40000", "[2001:db8::10]:80", "[fd00::7]:8080");
        let entry = entry(tuple(client, virtual_), tuple(backend, client));
        assert_eq!(other_side(&entry, client, virtual_), Some(ends(client, backend)));
        assert_eq!(other_side(&entry, backend, client), Some(ends(virtual_, client)));
    }

    #[test]
    fn unknown_states_keep_their_number() {
        assert_eq!(ConntrackState::CLOSE.to_string(), "CLOSE");
        assert_eq!(ConntrackState(10).to_string(), "STATE_10");
        let both = ConntrackStatus(1 << 4 | 1 << 5);
        assert!(both.source_translated() && both.destination_translated() && !both.seen_reply() && !both.assured());
    }
}
