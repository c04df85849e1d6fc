//! Forwarders of TCP connections, each of which connects to its backend when a client has connected: what that does shows at
//! the client as a close, and as a reset in answer to what the client sends.

use std::{fs, net::SocketAddr};

use tempfile::TempDir;

use super::{
    ADDRESS, address, openssh,
    program::{self, Program},
    relays::{Ends, Path},
    truth::{End, listens},
};
use crate::{
    host::{self, Lack},
    puppet::Puppet,
    reset::Reset,
    stage::Stage,
    wire::{Told, Wire},
};

/// Program of Docker that `cargo xtask setup` takes out of its package.
const DOCKER_PROXY: &str = "/usr/local/lib/rsttrace-tests/docker-proxy";
/// nginx's module for streams, a package of its own.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Port on which nothing listens.
const CLOSED: &str = "127.0.0.1:9";

pub(crate) fn lacks_docker_proxy() -> Option<Lack> {
    host::lacks_file(DOCKER_PROXY)
}

pub(crate) fn lacks_stream_module() -> Option<Lack> {
    host::lacks_program("nginx").or_else(|| host::lacks_file(STREAM_MODULE))
}

/// Starts socat, which forks for each client, before this backend.
fn socat(backend: SocketAddr) -> Program {
    let listen = format!("TCP-LISTEN:{},bind={},reuseaddr,fork", address().port(), address().ip());
    let relay = Program::start("socat", &["-d", "-d", &listen, &format!("TCP:{backend}")]);
    relay.says("listening on");
    relay
}

/// Starts docker-proxy, which passes on one port of the host, without Docker. It says on descriptor 3 that it listens.
fn docker_proxy(backend: SocketAddr) -> Program {
    let options = [
        ("proto", "tcp".to_owned()),
        ("host-ip", address().ip().to_string()),
        ("host-port", address().port().to_string()),
        ("container-ip", backend.ip().to_string()),
        ("container-port", backend.port().to_string()),
    ];
    let options = options.map(|(name, value)| format!("-{name} {value}")).join(" ");
    let relay = Program::start("sh", &["-c", &format!("exec {DOCKER_PROXY} {options} 3>&1")]);
    relay.says("0");
    relay
}

/// Starts nginx as a forwarder of streams before this backend.
fn nginx(backend: SocketAddr) -> (Program, TempDir) {
    let directory = program::directory();
    let path = directory.path().display().to_string();
    let configuration = format!(
        "load_module {STREAM_MODULE};
         daemon off; pid {path}/pid; error_log stderr notice; user nobody nogroup;
         events {{ worker_connections 64; }}
         stream {{ server {{ listen {ADDRESS}; proxy_pass {backend}; }} }}"
    );
    let file = directory.path().join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let relay = Program::start("nginx", &["-c", &file.display().to_string(), "-p", &path]);
    relay.says("start worker process ");
    (relay, directory)
}

/// Starts sshd, and ssh with a forwarded port before this backend.
fn ssh(backend: SocketAddr) -> (Program, (Program, TempDir)) {
    let server = openssh::start_at(openssh::BEHIND, &[]);
    let forward = format!("{ADDRESS}:{backend}");
    let client = openssh::client_at(openssh::BEHIND, &server.1, &["-N", "-L", &forward], &[]);
    program::until("ssh listens", || listens(address()));
    (client, server)
}

/// Checks what the client sees of a connection: the relay's side is blamed as the relay's record blames one, in its incident.
/// On a busy machine that record may come later than the client's waits for it; the client's is as without it then.
fn at_client(told: &Told, client: SocketAddr, owner: &Puppet, relays: &Reset) {
    let received = told.received(client, address()).owner(owner);
    if received["other_end"].is_null() {
        return;
    }
    received.is_one_of("/cause/code", ["peer-aborted", "peer-closed-unread"]);
    received.is("/cause/fault", relays["cause"]["fault"].clone()).is("/incident", relays["incident"].clone());
}

/// Checks the relay's reset of its client: the end of the connection with the backend, passed on.
fn passes_on<'a>(told: &'a Told, relay: &str, client: SocketAddr, first: &Reset) -> &'a Reset {
    let sent = told.sent(address(), client).is("/process/comm", relay).cause("relayed");
    sent.is("/incident", first["incident"].clone()).is("/incident_role", "relayed").is("/cause/fault", "peer")
}

/// A client whose relay finds no backend: it sends before the relay notices, or after.
fn no_backend<R>(stage: &Stage, start: impl FnOnce(SocketAddr) -> R) -> (Told, SocketAddr, Puppet, R) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let relay = start(CLOSED.parse().unwrap());
    let mut client = Puppet::start("the-client");
    let end = client.connect("c", address());
    client.tell("send c 5");
    client.tell("wait_error c");
    let told = wire.finish(tracer, if host::shows_without_socket() { 4 } else { 2 });
    (told, end, client, relay)
}

/// A relay whose backend refuses: the first record is the refusal.
fn refusing_backend<R>(stage: &Stage, relay: &str, start: impl FnOnce(SocketAddr) -> R) {
    let (told, end, client, _relay) = no_backend(stage, start);
    let refused = told.only_received(CLOSED.parse().unwrap());
    refused.cause("connection-refused").is("/cause/fault", "peer").is("/process/comm", relay);
    if host::shows_without_socket() {
        at_client(&told, end, &client, passes_on(&told, relay, end, refused));
        let [closed] = told.others()[..] else { panic!("more than one record is left") };
        closed.cause("port-closed").is("/incident", refused["incident"].clone());
    }
}

/// Has the backend abort, and the client send when it has noticed that. A relay may have closed by then, or only its side, and
/// close when it cannot pass on what the client sends.
fn abort_backend<R>(mut path: Path<R>) -> (Told, Ends, Puppet, R) {
    let at_relay = End::found(address(), path.ends.client);
    path.backend.abort("b");
    path.client.tell("peek_eof c");
    path.backend.tell("idle l 100");
    path.client.tell("send c 5");
    at_relay.is_closed();
    path.client.ask("send c 5").ok();
    path.client.tell("wait_error c");
    let told = path.wire.finish(path.tracer, if host::shows_without_socket() { 4 } else { 3 });
    (told, path.ends, path.client, path.relay)
}

/// A relay whose backend aborts: the first record is the abort.
fn aborting_backend<R>(stage: &Stage, relay: &str, start: impl FnOnce(SocketAddr) -> R) {
    let (told, ends, client, _relay) = abort_backend(Path::open(stage, start));
    let first = told.sent(ends.backend, ends.relay).cause("linger-zero").is("/process/comm", "the-backend");
    let aborted = told.received(ends.relay, ends.backend).cause("peer-aborted").is("/cause/fault", "peer");
    aborted.is("/process/comm", relay).is("/incident", first["incident"].clone());
    if host::shows_without_socket() {
        at_client(&told, ends.client, &client, passes_on(&told, relay, ends.client, first));
    }
    told.rest_is_harmless();
}

/// A client that aborts by itself: nothing is passed on to it.
fn aborting_client<R>(stage: &Stage, relay: &str, start: impl FnOnce(SocketAddr) -> R) {
    let (told, ends) = Path::open(stage, start).client_aborts();
    told.sent(ends.client, address()).cause("linger-zero").is("/process/comm", "the-client").is("/cause/benign", true);
    let received = told.received(address(), ends.client).is("/process/comm", relay);
    received.cause("client-cancelled").is("/cause/fault", "none");
    told.rest_is_harmless();
}

/// The backend of socat refuses.
pub(crate) fn socat_has_no_backend(stage: &Stage) {
    refusing_backend(stage, "socat", socat);
}

/// The backend of socat aborts.
pub(crate) fn socat_passes_on_an_abort(stage: &Stage) {
    aborting_backend(stage, "socat", socat);
}

/// The client of socat aborts.
pub(crate) fn socat_client_aborts(stage: &Stage) {
    aborting_client(stage, "socat", socat);
}

/// The port in a container refuses.
pub(crate) fn docker_proxy_has_no_backend(stage: &Stage) {
    refusing_backend(stage, "docker-proxy", docker_proxy);
}

/// The process in a container aborts.
pub(crate) fn docker_proxy_passes_on_an_abort(stage: &Stage) {
    aborting_backend(stage, "docker-proxy", docker_proxy);
}

/// The client of a container aborts.
pub(crate) fn docker_proxy_client_aborts(stage: &Stage) {
    aborting_client(stage, "docker-proxy", docker_proxy);
}

/// The backend of a stream refuses.
pub(crate) fn nginx_stream_has_no_backend(stage: &Stage) {
    refusing_backend(stage, "nginx", nginx);
}

/// The backend of a stream aborts.
pub(crate) fn nginx_stream_passes_on_an_abort(stage: &Stage) {
    aborting_backend(stage, "nginx", nginx);
}

/// The client of a stream aborts.
pub(crate) fn nginx_stream_client_aborts(stage: &Stage) {
    aborting_client(stage, "nginx", nginx);
}

/// Checks ssh's reset of its client: it passes on what sshd met, of which it has no record.
fn forwarded_by_ssh(told: &Told, client: SocketAddr) -> &Reset {
    let sent = told.sent(address(), client).is("/process/comm", "ssh").cause("relayed");
    sent.is("/cause/fault", "unknown").is("/incident_role", "first").says("only to forward")
}

/// The target of a forwarded port refuses, which sshd meets, another process than the one that the client is connected to.
pub(crate) fn forwarded_port_has_no_target(stage: &Stage) {
    let (told, end, client, _relay) = no_backend(stage, ssh);
    let refused = told.only_received(CLOSED.parse().unwrap()).cause("connection-refused");
    refused.is("/cause/fault", "peer").is_one_of("/process/comm", ["sshd", "sshd-session"]);
    if host::shows_without_socket() {
        at_client(&told, end, &client, forwarded_by_ssh(&told, end));
    }
}

/// The target of a forwarded port aborts.
pub(crate) fn forwarded_port_passes_on_an_abort(stage: &Stage) {
    let (told, ends, client, _relay) = abort_backend(Path::open(stage, ssh));
    told.sent(ends.backend, ends.relay).cause("linger-zero").is("/process/comm", "the-backend");
    let aborted = told.received(ends.relay, ends.backend).cause("peer-aborted").is("/cause/fault", "peer");
    aborted.is_one_of("/process/comm", ["sshd", "sshd-session"]);
    if host::shows_without_socket() {
        at_client(&told, ends.client, &client, forwarded_by_ssh(&told, ends.client));
    }
    told.rest_is_harmless();
}

/// The client of a forwarded port aborts.
pub(crate) fn forwarded_port_client_aborts(stage: &Stage) {
    aborting_client(stage, "ssh", ssh);
}
