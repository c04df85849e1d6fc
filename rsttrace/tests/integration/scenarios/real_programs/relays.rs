//! Relays of TCP streams, which pass on what happened at their other side. What a single record can know is checked: which
//! process ended which connection, and no fault that is certain and wrong.

use std::{fs, net::SocketAddr};

use tempfile::TempDir;

use super::{
    ADDRESS, address,
    program::{self, Program},
    truth::listens,
};
use crate::{
    host,
    puppet::Puppet,
    reset::Reset,
    stage::{Stage, V4},
    tracer::Tracer,
    wire::{Told, Wire},
};

/// Address between the two ends of a tunnel.
const BETWEEN: &str = "127.0.0.1:8443";

/// Starts HAProxy in TCP mode before this backend.
fn haproxy(backend: SocketAddr) -> (Program, TempDir) {
    let directory = program::directory();
    let configuration = format!(
        "global
             nbthread 1
         defaults
             mode tcp
             timeout connect 2s
             timeout client 60s
             timeout server 60s
         listen relay
             bind {ADDRESS}
             retries 0
             server one {backend}\n"
    );
    let file = directory.path().join("haproxy.conf");
    fs::write(&file, configuration).unwrap();
    let relay = Program::start("haproxy", &["-W", "-f", &file.display().to_string()]);
    relay.says("Loading success");
    (relay, directory)
}

/// Starts stunnel twice in one process, the two ends of a tunnel before this backend.
fn stunnel(backend: SocketAddr) -> (Program, TempDir) {
    let directory = program::directory();
    let secrets = directory.path().join("secrets");
    fs::write(&secrets, "test:0123456789abcdef0123456789abcdef\n").unwrap();
    let secrets = secrets.display();
    let configuration = format!(
        "foreground = yes
         pid =
         debug = notice
         [near]
         client = yes
         accept = {ADDRESS}
         connect = {BETWEEN}
         ciphers = PSK
         PSKsecrets = {secrets}
         [far]
         accept = {BETWEEN}
         connect = {backend}
         ciphers = PSK
         PSKsecrets = {secrets}\n"
    );
    let file = directory.path().join("stunnel.conf");
    fs::write(&file, configuration).unwrap();
    let relay = Program::start("stunnel4", &[&file.display().to_string()]);
    relay.says("Configuration successful");
    program::until("it listens", || listens(address()));
    (relay, directory)
}

/// Ends of a connection through a relay.
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) backend: SocketAddr,
    /// The relay's end towards the backend.
    pub(super) relay: SocketAddr,
}

/// A client, a relay, a backend, and a connection through them on which a request was answered.
pub(super) struct Path<R> {
    pub(super) client: Puppet,
    pub(super) backend: Puppet,
    pub(super) ends: Ends,
    pub(super) wire: Wire,
    pub(super) tracer: Tracer,
    pub(super) relay: R,
}

impl<R> Path<R> {
    /// Starts all of them, the relay by `start`.
    pub(super) fn open(stage: &Stage, start: impl FnOnce(SocketAddr) -> R) -> Self {
        let (wire, tracer) = (Wire::tap(), stage.trace());
        let (mut client, mut backend) = (Puppet::start("the-client"), Puppet::start("the-backend"));
        let backend_end = backend.listen("l", V4, 16);
        let relay = start(backend_end);
        let client_end = client.connect("c", address());
        client.tell("send c 5");
        let relay_end = backend.tell("accept b l").parse().unwrap();
        backend.tell("recv b 5");
        backend.tell("send b 9");
        client.tell("recv c 9");
        Self {
            client,
            backend,
            ends: Ends { client: client_end, backend: backend_end, relay: relay_end },
            wire,
            tracer,
            relay,
        }
    }

    /// The backend aborts, which the client notices.
    fn backend_aborts(mut self) -> (Told, Ends) {
        self.backend.abort("b");
        self.client.tell("peek_eof c");
        (self.wire.finish(self.tracer, 2), self.ends)
    }

    /// The client aborts, which the backend notices.
    pub(super) fn client_aborts(mut self) -> (Told, Ends) {
        self.client.abort("c");
        self.backend.tell("peek_eof b");
        (self.wire.finish(self.tracer, 2), self.ends)
    }
}

/// Checks that no record blames an end with certainty which has done nothing: all that are left are of the relay, or of
/// an end that it reset.
fn blames_no_innocent(told: &Told, relay: &str) {
    for reset in told.others().into_iter().filter(|reset| reset["cause"]["benign"] == false) {
        if reset.is_sent() {
            reset.is("/process/comm", relay);
        } else {
            reset.is("/cause/fault", "peer");
        }
    }
}

fn aborted_backend(told: &Told, ends: &Ends, relay: &str) {
    told.sent(ends.backend, ends.relay).cause("linger-zero").is("/process/comm", "the-backend");
    let received = told.received(ends.relay, ends.backend).cause("peer-aborted").is("/cause/fault", "peer");
    received.is("/process/comm", relay);
    blames_no_innocent(told, relay);
}

fn aborting_client(told: &Told, ends: &Ends, relay: &str) {
    told.sent(ends.client, address()).cause("linger-zero").is("/process/comm", "the-client");
    let received: &Reset = told.received(address(), ends.client).is("/process/comm", relay);
    received.cause("client-cancelled").is("/cause/fault", "none");
    blames_no_innocent(told, relay);
}

/// HAProxy's backend aborts.
pub(crate) fn haproxy_passes_on_an_abort(stage: &Stage) {
    let (told, ends) = Path::open(stage, haproxy).backend_aborts();
    aborted_backend(&told, &ends, "haproxy");
}

/// HAProxy's client aborts.
pub(crate) fn haproxy_passes_on_a_cancel(stage: &Stage) {
    let (told, ends) = Path::open(stage, haproxy).client_aborts();
    aborting_client(&told, &ends, "haproxy");
}

/// The backend of a tunnel aborts.
pub(crate) fn stunnel_passes_on_an_abort(stage: &Stage) {
    let (told, ends) = Path::open(stage, stunnel).backend_aborts();
    aborted_backend(&told, &ends, "stunnel4");
}

/// The client of a tunnel aborts.
pub(crate) fn stunnel_passes_on_a_cancel(stage: &Stage) {
    let (told, ends) = Path::open(stage, stunnel).client_aborts();
    aborting_client(&told, &ends, "stunnel4");
}

/// HAProxy's backend refuses: the client's new connection is closed with its data unread, or before they come.
pub(crate) fn haproxy_has_no_backend(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let closed: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let _relay = haproxy(closed);
    let mut client = Puppet::start("the-client");
    let end = client.connect("c", address());
    client.tell("peek_eof c");
    client.ask("send c 5").ok();
    client.tell("wait_error c");

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    let refused = told.only_received(closed).cause("connection-refused").is("/cause/fault", "peer");
    refused.is("/process/comm", "haproxy");
    for reset in told.others().into_iter().filter(|reset| reset["cause"]["benign"] == false) {
        assert_ne!(reset["cause"]["code"], "reused-closed-connection", "{:#}", reset.0);
        if !reset.is_sent() {
            reset.between(end, address()).is("/cause/fault", "peer");
        }
    }
}
