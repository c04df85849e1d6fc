//! Record of a reset, with the checks that scenarios make. Each check panics with the whole record.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Deref,
};

use serde_json::Value;

use crate::{confusion, host, puppet::Puppet, score};

/// Record of type `reset`.
pub(crate) struct Reset(pub(crate) Value);

impl Deref for Reset {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

/// An IPv4-mapped address, `::ffff:a.b.c.d`, as an IPv4 address; others unchanged.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Reset {
    /// Whether this host sent the reset.
    pub(crate) fn is_sent(&self) -> bool {
        self.0["direction"] == "sent"
    }

    /// Number of resets that this record stands for.
    pub(crate) fn count(&self) -> u64 {
        self.0["count"].as_u64().expect("a count")
    }

    /// Address of the end `local` or `peer`.
    pub(crate) fn end(&self, which: &str) -> SocketAddr {
        let address: IpAddr = self.0[which]["address"].as_str().expect("an address").parse().expect("an address");
        SocketAddr::new(address, self.0[which]["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port"))
    }

    /// Checks the value at a path like `/socket/state`.
    #[track_caller]
    pub(crate) fn is(&self, path: &str, expected: impl Into<Value>) -> &Self {
        self.is_one_of(path, [expected.into()])
    }

    /// Checks that the value at a path is one of these.
    #[track_caller]
    pub(crate) fn is_one_of<V: Into<Value>>(&self, path: &str, expected: impl IntoIterator<Item = V>) -> &Self {
        let found = self.0.pointer(path).unwrap_or_else(|| panic!("no {path} in {:#}", self.0));
        let expected: Vec<Value> = expected.into_iter().map(Into::into).collect();
        assert!(expected.contains(found), "{path} is {found}, expected {} in {:#}", Value::from(expected), self.0);
        self
    }

    /// Checks that the record is about this connection, seen from this end of it.
    #[track_caller]
    pub(crate) fn between(&self, local: SocketAddr, peer: SocketAddr) -> &Self {
        let (local, peer) = (plain(local), plain(peer));
        assert_eq!(self.end("local"), local, "local end of {:#}", self.0);
        assert_eq!(self.end("peer"), peer, "peer's end of {:#}", self.0);
        self.is("/family", if local.is_ipv4() { "ipv4" } else { "ipv6" })
    }

    /// Checks the state that the connection was in.
    #[track_caller]
    pub(crate) fn state(&self, state: &str) -> &Self {
        self.is("/socket/state", state)
    }

    /// Checks that the socket belongs to this puppet.
    #[track_caller]
    pub(crate) fn owner(&self, puppet: &Puppet) -> &Self {
        self.process(puppet.pid(), puppet.comm())
    }

    /// Checks that the socket belongs to this process.
    #[track_caller]
    pub(crate) fn process(&self, pid: u32, comm: &str) -> &Self {
        self.pid(pid).is("/process/comm", comm)
    }

    /// Checks that the socket belongs to the process with this PID.
    #[track_caller]
    pub(crate) fn pid(&self, pid: u32) -> &Self {
        score::asked();
        self.is("/process/pid", pid);
        score::right(&self.0["process"]);
        self
    }

    /// Checks that the owner is exact.
    #[track_caller]
    pub(crate) fn certain(&self) -> &Self {
        self.is("/process/confidence", "exact")
    }

    /// Checks that the owner is reported as a guess.
    #[track_caller]
    pub(crate) fn only_likely(&self) -> &Self {
        self.is("/process/confidence", "likely")
    }

    /// Checks how the owner was found.
    #[track_caller]
    pub(crate) fn provenance(&self, provenance: &str) -> &Self {
        self.is("/process/provenance", provenance)
    }

    /// Checks the kernel's reason for a reset that answers a packet, on kernels that give one.
    #[track_caller]
    pub(crate) fn passive_reason(&self, reason: &str) -> &Self {
        if host::traces_without_socket() { self.is("/reason", reason) } else { self.is("/reason", Value::Null) }
    }

    /// Checks the kernel's reason for a reset that a process or a timer causes, on kernels that give one.
    #[track_caller]
    pub(crate) fn reason(&self, reason: &str) -> &Self {
        if host::gives_reasons() { self.is("/reason", reason) } else { self.is("/reason", Value::Null) }
    }

    /// Checks the cause, and records it for the confusion table.
    #[track_caller]
    pub(crate) fn cause(&self, code: &str) -> &Self {
        confusion::note(code, self.0["cause"]["code"].as_str().unwrap_or_default());
        self.is("/cause/code", code)
    }

    /// Checks that the evidence has this text.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        let said = self.0["cause"]["evidence"].as_array().expect("evidence");
        let found = said.iter().any(|line| line.as_str().is_some_and(|line| line.contains(words)));
        assert!(found, "the evidence does not say `{words}` in {:#}", self.0);
        self
    }
}
