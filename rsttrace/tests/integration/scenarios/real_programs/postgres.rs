//! PostgreSQL: one process for each session, and psql as its client.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{
    ADDRESS, address,
    program::{self, Program, until},
    truth::End,
};
use crate::{
    host::{self, Lack},
    puppet::Puppet,
    stage::{Stage, V4},
    wire::Wire,
};

/// Database and session of every client.
const CLIENT: [&str; 11] = ["-X", "-A", "-t", "-h", "127.0.0.1", "-p", "8080", "-U", "postgres", "-d", "postgres"];
/// User who may run the server, which root may not.
const USER: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

/// What this host lacks.
pub(crate) fn lack() -> Option<Lack> {
    host::lacks_runtime("psql")
        .or_else(|| host::lacks_program("setpriv"))
        .or_else(|| programs().is_none().then(|| Lack::Missing("no PostgreSQL server".to_owned())))
}

/// Directory of the server's programs, which Debian has apart for each version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|version| version.path().join("bin"));
    versions.filter(|programs| programs.join("postgres").is_file()).max()
}

/// Starts a server with more settings.
fn start(settings: &[&str]) -> (Program, TempDir) {
    let programs = programs().expect("it is installed");
    let directory = program::directory();
    let data = directory.path().join("data").display().to_string();
    fs::create_dir(&data).unwrap();
    host::run("chown", &["65534:65534", &data]);
    let initdb = programs.join("initdb").display().to_string();
    let options = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"];
    host::run("setpriv", &[&USER[..], &[&initdb], &options].concat());
    let postgres = programs.join("postgres").display().to_string();
    let (host, port) = ADDRESS.split_once(':').unwrap();
    // With memory to share of its own, which a killed one would leave behind.
    let start = "mount -t tmpfs tmpfs /dev/shm && exec setpriv \"$@\"";
    let namespaces = ["--mount", "--ipc", "sh", "-c", start, "sh"];
    let mut arguments =
        [&namespaces, &USER[..], &[&postgres, "-D", &data, "-h", host, "-p", port, "-k", "", "-F"]].concat();
    // Nothing else may take a session.
    for setting in ["autovacuum=off", "max_wal_senders=0", "superuser_reserved_connections=0"].iter().chain(settings) {
        arguments.extend(["-c", setting]);
    }
    let server = Program::start("unshare", &arguments);
    server.says("database system is ready to accept connections");
    (server, directory)
}

/// A session.
struct Session {
    psql: Program,
    server: End,
    client_end: SocketAddr,
}

impl Session {
    fn open() -> Self {
        let mut psql = Program::start("psql", &CLIENT);
        let answer = psql.ask("select pg_backend_pid() || ' ' || inet_client_port();");
        let (backend, port) = answer.split_once(' ').unwrap_or_else(|| panic!("psql says {answer}"));
        let client_end = SocketAddr::new(address().ip(), port.parse().unwrap());
        Self { server: End::held_by(backend.parse().unwrap(), address(), client_end), psql, client_end }
    }

    /// Waits until the server has ended the session, and sends a query when it has been silent for a while.
    fn ask_when_closed(&mut self) {
        let mut pacer = Puppet::start("the-pacer");
        pacer.listen("l", V4, 1);
        self.server.is_closed();
        pacer.tell("idle l 500");
        self.psql.tell("select 2;");
        self.psql.says("connection to server was lost");
    }

    /// Sends a query to a server process that is stopped.
    fn ask_stopped(&mut self) {
        let query = "select 2;";
        self.psql.tell(query);
        // A message of the protocol has a type, a length, and a zero at its end.
        self.server.has_unread(u32::try_from(query.len()).unwrap() + 6);
    }
}

/// `idle_session_timeout` ends a session that a pool keeps; the next query finds it closed.
pub(crate) fn session_timeout_meets_a_pool(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (_server, _data) = start(&["idle_session_timeout=1s"]);
    let mut session = Session::open();
    session.ask_when_closed();

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    let received = told.received(session.client_end, address()).pid(session.psql.pid());
    received.cause("reused-closed-connection").is("/cause/fault", "local");
    if host::shows_without_socket() {
        let sent = told.sent(address(), session.client_end).pid(session.server.pid());
        sent.is_one_of("/cause/code", ["data-after-close", "keepalive-race"]).is("/process/comm", "postgres");
    }
    told.rest_is_harmless();
}

/// An administrator ends a session; the next query finds it closed.
pub(crate) fn terminated_session_is_used_again(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (_server, _data) = start(&[]);
    let mut session = Session::open();
    let mut administrator = Session::open();
    let terminate = format!("select pg_terminate_backend({});", session.server.pid());
    assert_eq!(administrator.psql.ask(&terminate), "t");
    session.ask_when_closed();

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    let received = told.received(session.client_end, address()).pid(session.psql.pid());
    received.cause("reused-closed-connection").is("/cause/fault", "local");
    if host::shows_without_socket() {
        let sent = told.sent(address(), session.client_end).pid(session.server.pid());
        sent.cause("data-after-close").is("/cause/fault", "local");
    }
    told.rest_is_harmless();
}

/// One server process is killed with a query unread, whereupon the others end, each with a query unread.
pub(crate) fn killed_backend_ends_the_others(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (_server, _data) = start(&[]);
    let (mut victim, mut sibling) = (Session::open(), Session::open());
    for session in [&mut victim, &mut sibling] {
        program::stop(session.server.pid());
        session.ask_stopped();
    }
    program::signal(victim.server.pid(), Signal::SIGKILL);
    // The postmaster tells the others by SIGQUIT.
    let status = format!("/proc/{}/status", sibling.server.pid());
    until("the sibling has a SIGQUIT", || has_pending(Path::new(&status), Signal::SIGQUIT));
    program::signal(sibling.server.pid(), Signal::SIGCONT);
    for session in [&victim, &sibling] {
        session.psql.says("connection to server was lost");
    }

    let told = wire.finish(tracer, 4);
    let sent = told.sent(address(), victim.client_end).pid(victim.server.pid()).cause("process-died");
    sent.is("/cause/fault", "local").says("SIGKILL");
    let sent = told.sent(address(), sibling.client_end).pid(sibling.server.pid()).cause("process-exited");
    sent.is("/cause/fault", "local").says("its exit status was 2");
    let received = told.received(victim.client_end, address()).pid(victim.psql.pid());
    received.is_one_of("/cause/code", ["peer-aborted", "peer-restarted"]).is("/cause/fault", "peer");
    let received = told.received(sibling.client_end, address()).pid(sibling.psql.pid());
    received.is_one_of("/cause/code", ["peer-aborted", "peer-restarted"]).is("/cause/fault", "peer");
    told.rest_is_harmless();
}

/// Whether a signal waits for a process.
fn has_pending(status: &Path, signal: Signal) -> bool {
    let status = fs::read_to_string(status).unwrap();
    let masks = status.lines().filter_map(|line| line.strip_prefix("ShdPnd:").or_else(|| line.strip_prefix("SigPnd:")));
    masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask & 1 << (signal as i32 - 1) != 0)
}

/// `max_connections`: the server reads a client's first message, answers and closes, and nothing is reset.
pub(crate) fn full_server_resets_no_client(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (_server, _data) = start(&["max_connections=1"]);
    let first = Session::open();
    let second = Program::start("psql", &CLIENT);
    second.says("sorry, too many clients already");
    let told = wire.finish(tracer, 0);
    told.rest_is_harmless();
    drop(first);
}
