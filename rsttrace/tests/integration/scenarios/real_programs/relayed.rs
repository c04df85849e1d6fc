//! A server at one end of a [`Chain`], its clients at the other, and a relay between, whose notes are the truth.

use std::{net::SocketAddr, ops::Deref, time::Duration};

use super::{http_client::Client, http_server::Haproxy, program::Program, truth::End};
use crate::{
    chain::{Chain, TO_ROUTER},
    delay::{Note, Relay, Seen},
    host,
    scenarios::receivers::wait_until,
    stage::Stage,
};

/// Client, relay and server.
pub(super) struct Relayed {
    chain: Chain,
    pub(super) relay: Relay,
    /// Address of the server.
    pub(super) server: SocketAddr,
}

impl Deref for Relayed {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.chain
    }
}

impl Relayed {
    /// Path with this round trip to a server at a port.
    pub(super) fn between(stage: &Stage, round_trip: Duration, port: u16) -> Self {
        Self::over(stage, || Relay::start(round_trip / 2), port)
    }

    /// Path on which the server's FINs wait for the client's next requests, so that these cross them, however busy the
    /// machine is.
    pub(super) fn crossing(stage: &Stage, round_trip: Duration, port: u16) -> Self {
        Self::over(stage, || Relay::start_crossing(round_trip / 2), port)
    }

    fn over(stage: &Stage, relay: impl FnOnce() -> Relay, port: u16) -> Self {
        let chain = Chain::around(stage);
        // The relay takes no segments larger than the MTU.
        for end in [&chain.client, &chain.server] {
            end.inside(|| host::run("ip", &["link", "set", TO_ROUTER, "gso_max_segs", "1"]));
        }
        let server = SocketAddr::new(chain.server.v4, port);
        Self { relay: relay(), chain, server }
    }

    /// Starts these clients at their end.
    pub(super) fn clients(&self, clients: &[Client]) -> Vec<Program> {
        clients.iter().map(|client| self.client.inside(|| client.start())).collect()
    }

    /// Empties the relay's notes, and starts curl as a client.
    pub(super) fn curl(&self, arguments: &[&str]) -> Program {
        self.relay.take_seen();
        let own = ["--silent", "--noproxy", "*"];
        self.client.inside(|| Program::start("curl", &[&own[..], arguments].concat()))
    }

    /// Starts HAProxy at the client's end, in front of the server, with an option; returns the address that it listens at, too.
    pub(super) fn haproxy(&self, option: &str) -> (SocketAddr, Haproxy) {
        let near: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let proxies = format!(
            "listen near
                 bind {near}
                 {option}
                 server one {}",
            self.server
        );
        (near, self.client.inside(|| Haproxy::start(&proxies)))
    }

    /// Runs `work` at the server's end.
    pub(super) fn inside_server<T>(&self, work: impl FnOnce() -> T) -> T {
        self.chain.server.inside(work)
    }

    /// Waits for a request since the relay's notes were emptied; returns the port of the client that sent the first.
    pub(super) fn first_port(&self) -> u16 {
        self.new_port(&[])
    }

    /// Waits for a request on a connection that is none of these, by the client's ports; returns the client's port.
    pub(super) fn new_port(&self, known: &[u16]) -> u16 {
        let mut port = None;
        wait_until("a request", || {
            let is_new = |note: &&Note| note.what == Seen::Request && !known.contains(&note.port);
            port = self.relay.notes().iter().find(is_new).map(|note| note.port);
            port.is_some()
        });
        port.unwrap()
    }

    /// Port of the client that sent the last request since the relay's notes were emptied.
    pub(super) fn last_port(&self) -> u16 {
        self.relay.notes().iter().rev().find(|note| note.what == Seen::Request).expect("a request").port
    }

    /// The client's end and the server's of an open connection.
    pub(super) fn ends(&self, port: u16) -> (End, End) {
        let local = SocketAddr::new(self.client.v4, port);
        let client = self.client.inside(|| End::found(local, self.server));
        let server = self.chain.server.inside(|| End::found(self.server, local));
        (client, server)
    }

    /// What has crossed of a connection since the relay's notes were emptied.
    pub(super) fn seen(&self, port: u16) -> Vec<Seen> {
        self.relay.notes().iter().filter(|note| note.port == port).map(|note| note.what).collect()
    }

    /// Whether this has crossed on a connection.
    pub(super) fn has(&self, port: u16, what: Seen) -> bool {
        self.seen(port).contains(&what)
    }
}
