//! OpenSSH: a server that forks for each connection, and its client.

use std::{fs, net::SocketAddr};

use nix::sys::{signal::Signal, stat::Mode};
use tempfile::TempDir;

use super::{
    ADDRESS, address,
    program::{self, Program},
    truth::{End, only_client_of},
};
use crate::{
    host::{self, Lack},
    puppet::Puppet,
    stage::Stage,
    wire::Wire,
};

/// Starts the server in a mount namespace of its own, since it insists on a directory in `/run`.
const START: &str = "mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec \"$@\"";

/// What this host lacks.
pub(crate) fn lack() -> Option<Lack> {
    host::lacks_runtime("sshd").or_else(|| host::lacks_runtime("ssh")).or_else(|| host::lacks_program("unshare"))
}

/// Address of a server behind a forwarded port.
pub(super) const BEHIND: &str = "127.0.0.1:2222";

/// Starts a server with more options.
fn start(options: &[&str]) -> (Program, TempDir) {
    start_at(ADDRESS, options)
}

/// Starts a server at an address, with more options.
pub(super) fn start_at(at: &str, options: &[&str]) -> (Program, TempDir) {
    let directory = program::directory();
    let path = directory.path().display().to_string();
    for key in ["host-key", "key"] {
        host::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &format!("{path}/{key}")]);
    }
    fs::rename(directory.path().join("key.pub"), directory.path().join("allowed")).unwrap();
    let sshd = host::program("sshd").expect("it is installed").display().to_string();
    let settings = [
        format!("ListenAddress={at}"),
        format!("AuthorizedKeysFile={path}/allowed"),
        format!("HostKey={path}/host-key"),
        "StrictModes=no".to_owned(),
        "UsePAM=no".to_owned(),
        "PidFile=none".to_owned(),
    ];
    let mut arguments = vec!["--mount", "sh", "-c", START, "sh", &sshd, "-D", "-e", "-f", "/dev/null"];
    for setting in settings.iter().map(String::as_str).chain(options.iter().copied()) {
        arguments.extend(["-o", setting]);
    }
    let server = Program::start("unshare", &arguments);
    server.says("Server listening");
    (server, directory)
}

/// Starts a client that runs a command.
fn client(directory: &TempDir, command: &str) -> Program {
    client_at(ADDRESS, directory, &[], &[command])
}

/// Starts a client of the server at an address, with more options and a command.
pub(super) fn client_at(at: &str, directory: &TempDir, options: &[&str], command: &[&str]) -> Program {
    let (host, port) = at.split_once(':').unwrap();
    let key = directory.path().join("key").display().to_string();
    let own = [
        "-F",
        "/dev/null",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "BatchMode=yes",
    ];
    let to = ["-i", &key, "-p", port, &format!("root@{host}")];
    Program::start("ssh", &[&own[..], options, &to, command].concat())
}

/// `MaxStartups`: the server says so and closes, before or after the client's own first line came.
pub(crate) fn max_startups_turns_clients_away(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (server, directory) = start(&["MaxStartups=1:100:1"]);
    let mut first = Puppet::start("the-first");
    first.connect("c", address());
    first.tell("hear_line c");

    // The banner waits for the server, as it does on a busy one.
    let mut late = Puppet::start("the-late");
    program::stop(server.pid());
    let unread = late.connect("unread", address());
    late.tell("say_line unread SSH-2.0-late");
    late.tell("idle unread 100");
    program::signal(server.pid(), Signal::SIGCONT);
    late.wait_error("unread", "ECONNRESET");
    let second = client(&directory, "true");
    second.says("kex_exchange_identification");

    let told = wire.finish(tracer, 2);
    let sent = told.sent(address(), unread).pid(server.pid()).cause("turned-away");
    sent.is("/cause/fault", "local").says("had read nothing");
    told.received(unread, address()).owner(&late).is("/cause/fault", "peer");
    // ssh itself may read the line and leave without a reset.
    for reset in told.others() {
        assert!(reset["cause"]["code"] != "closed-with-unread-data", "{:#}", reset.0);
        reset.is_one_of("/cause/code", ["turned-away", "peer-aborted", "peer-closed-unread", "aftermath"]);
    }
}

/// A client is killed while the server sends: nothing was slow.
pub(crate) fn client_is_killed_in_a_session(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (_server, directory) = start(&[]);
    let go = directory.path().join("go");
    nix::unistd::mkfifo(&go, Mode::S_IRWXU).unwrap();
    let client = client(&directory, &format!("echo streaming; read line <{}; yes", go.display()));
    client.says("streaming");
    let end: SocketAddr = only_client_of(address());
    let client_end = End::held_by(client.pid(), end, address());
    // Stopped before the server sends: a client that is slower than its server has used up the window of its channel at
    // most times, and nothing more comes.
    program::stop(client_end.pid());
    fs::write(&go, "go\n").unwrap();
    client_end.has_unread_at_least(10_000);
    program::signal(client.pid(), Signal::SIGKILL);

    let told = wire.finish(tracer, 2);
    told.sent(end, address()).pid(client.pid()).cause("process-died").is("/cause/fault", "local");
    let received = told.received(address(), end).is("/process/comm", "sshd").cause("client-cancelled");
    received.is("/cause/fault", "none");
    told.rest_is_harmless();
}

/// A session whose command takes its time, and then ends normally, resets nothing.
pub(crate) fn slow_session_resets_nothing(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (_server, directory) = start(&["MaxStartups=1:100:1"]);
    let client = client(&directory, "sleep 1; echo done");
    client.says("done");
    let told = wire.finish(tracer, 0);
    told.rest_is_harmless();
}
