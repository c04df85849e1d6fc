//! One record of a reset, and what a scenario may ask of it. Each question panics with the whole record.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Deref,
};

use serde_json::Value;

use crate::{confusion, host, puppet::Puppet, score};

/// A record of type `reset`.
pub(crate) struct Reset(pub(crate) Value);

impl Deref for Reset {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

/// An IPv4 address that an IPv6 socket sees as `::ffff:a.b.c.d`, as itself.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Reset {
    /// Whether this host sent it.
    pub(crate) fn is_sent(&self) -> bool {
        self.0["direction"] == "sent"
    }

    /// How many resets this record stands for.
    pub(crate) fn count(&self) -> u64 {
        self.0["count"].as_u64().expect("a count")
    }

    /// The end of this name, `local` or `peer`.
    pub(crate) fn end(&self, which: &str) -> SocketAddr {
        let address: IpAddr = self.0[which]["address"].as_str().expect("an address").parse().expect("an address");
        SocketAddr::new(address, self.0[which]["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port"))
    }

    /// The value at a path like `/socket/state` is this one.
    #[track_caller]
    pub(crate) fn is(&self, path: &str, expected: impl Into<Value>) -> &Self {
        self.is_one_of(path, [expected.into()])
    }

    /// The value at a path is one of these.
    #[track_caller]
    pub(crate) fn is_one_of<V: Into<Value>>(&self, path: &str, expected: impl IntoIterator<Item = V>) -> &Self {
        let found = self.0.pointer(path).unwrap_or_else(|| panic!("no {path} in {:#}", self.0));
        let expected: Vec<Value> = expected.into_iter().map(Into::into).collect();
        assert!(expected.contains(found), "{path} is {found}, expected {} in {:#}", Value::from(expected), self.0);
        self
    }

    /// It is about this connection, seen from this host's end of it.
    #[track_caller]
    pub(crate) fn between(&self, local: SocketAddr, peer: SocketAddr) -> &Self {
        let (local, peer) = (plain(local), plain(peer));
        assert_eq!(self.end("local"), local, "local end of {:#}", self.0);
        assert_eq!(self.end("peer"), peer, "peer's end of {:#}", self.0);
        self.is("/family", if local.is_ipv4() { "ipv4" } else { "ipv6" })
    }

    /// The state that the connection was in.
    #[track_caller]
    pub(crate) fn state(&self, state: &str) -> &Self {
        self.is("/socket/state", state)
    }

    /// The socket is this puppet's.
    #[track_caller]
    pub(crate) fn owner(&self, puppet: &Puppet) -> &Self {
        self.process(puppet.pid(), puppet.comm())
    }

    /// The socket belongs to this process.
    #[track_caller]
    pub(crate) fn process(&self, pid: u32, comm: &str) -> &Self {
        self.pid(pid).is("/process/comm", comm)
    }

    /// The socket belongs to the process with this PID.
    #[track_caller]
    pub(crate) fn pid(&self, pid: u32) -> &Self {
        score::asked();
        self.is("/process/pid", pid);
        score::right(&self.0["process"]);
        self
    }

    /// The owner is beyond doubt.
    #[track_caller]
    pub(crate) fn certain(&self) -> &Self {
        self.is("/process/confidence", "exact")
    }

    /// The owner is a guess and said to be one.
    #[track_caller]
    pub(crate) fn only_likely(&self) -> &Self {
        self.is("/process/confidence", "likely")
    }

    /// How the owner is known.
    #[track_caller]
    pub(crate) fn provenance(&self, provenance: &str) -> &Self {
        self.is("/process/provenance", provenance)
    }

    /// The kernel's own word for a reset that answers a packet, on kernels that have one.
    #[track_caller]
    pub(crate) fn passive_reason(&self, reason: &str) -> &Self {
        if host::traces_without_socket() { self.is("/reason", reason) } else { self.is("/reason", Value::Null) }
    }

    /// The kernel's own word for a reset that a process or a timer causes, on kernels that have one.
    #[track_caller]
    pub(crate) fn reason(&self, reason: &str) -> &Self {
        if host::gives_reasons() { self.is("/reason", reason) } else { self.is("/reason", Value::Null) }
    }

    /// What rsttrace makes of it, for the table at the end of the run too.
    #[track_caller]
    pub(crate) fn cause(&self, code: &str) -> &Self {
        confusion::note(code, self.0["cause"]["code"].as_str().unwrap_or_default());
        self.is("/cause/code", code)
    }

    /// The evidence says this.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        let said = self.0["cause"]["evidence"].as_array().expect("evidence");
        let found = said.iter().any(|line| line.as_str().is_some_and(|line| line.contains(words)));
        assert!(found, "the evidence does not say `{words}` in {:#}", self.0);
        self
    }
}
