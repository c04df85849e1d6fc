//! MariaDB: one process, and its own client.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{
    ADDRESS, address,
    program::{self, Program},
    truth::{End, only_client_of},
};
use crate::{
    host::{self, Lack},
    puppet::Puppet,
    stage::{Stage, V4},
    wire::Wire,
};
/// Checks at equal intervals that are recognised at the latest.
const REGULAR: usize = 5;
/// Interval of checks.
const INTERVAL: Duration = Duration::from_millis(400);
/// Bytes of the server's greeting, and more.
const GREETING: u32 = 60;

/// What this host lacks.
pub(crate) fn lack() -> Option<Lack> {
    host::lacks_runtime("mariadbd").or_else(|| host::lacks_runtime("mariadb"))
}

/// Starts a server with more options, without tables.
fn start(options: &[&str]) -> (Program, TempDir) {
    let directory = program::directory();
    let path = directory.path().display().to_string();
    let (host, port) = ADDRESS.split_once(':').unwrap();
    let arguments = [
        "--no-defaults",
        "--user=root",
        &format!("--datadir={path}"),
        &format!("--socket={path}/socket"),
        &format!("--pid-file={path}/pid"),
        &format!("--bind-address={host}"),
        &format!("--port={port}"),
        "--skip-grant-tables",
        "--innodb=OFF",
        "--default-storage-engine=Aria",
    ];
    let server = Program::start("mariadbd", &[&arguments[..], options].concat());
    server.says("ready for connections");
    (server, directory)
}

/// Starts a client, which does not connect again by itself.
fn client() -> Program {
    let (host, port) = ADDRESS.split_once(':').unwrap();
    let to = ["--protocol=tcp", &format!("--host={host}"), &format!("--port={port}")];
    let options = ["--no-defaults", "--batch", "--skip-column-names", "--unbuffered", "--force", "--skip-reconnect"];
    Program::start("mariadb", &[&options[..], &to].concat())
}

/// `wait_timeout` ends a session that a pool keeps: the server aborts it, and so says no FIN.
pub(crate) fn wait_timeout_meets_a_pool(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (server, _data) = start(&["--wait-timeout=1", "--interactive-timeout=1"]);
    let mut client = client();
    assert_eq!(client.ask("select 1;"), "1");
    let end = only_client_of(address());
    let server_end = End::held_by(server.pid(), address(), end);
    server_end.is_closed();
    client.tell("select 2;");
    client.says("ERROR 20");

    let told = wire.finish(tracer, 2);
    told.received(end, address()).pid(client.pid()).cause("peer-aborted").says("nothing had gone either way");
    told.sent(address(), end).pid(server.pid()).cause("linger-zero").says("nothing had gone either way");
    told.rest_is_harmless();
}

/// A check that connects, and leaves with the server's greeting unread, again and again: the server counts each as an
/// interrupted connection.
pub(crate) fn checks_leave_the_greeting_unread(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (server, _data) = start(&[]);
    let mut checker = Puppet::start("the-checker");
    let mut pacer = Puppet::start("the-pacer");
    pacer.listen("l", V4, 1);
    // At equal intervals, which a busy machine may not keep.
    let (mut ends, mut times) = (Vec::new(), Vec::new());
    while !times.iter().rev().take(REGULAR).collect::<Vec<_>>().windows(3).all(is_regular) || times.len() < REGULAR {
        assert!(times.len() < 40, "no regular intervals: {times:?}");
        if let Some(last) = times.last() {
            let left = INTERVAL.saturating_sub(Instant::elapsed(last));
            pacer.tell(format_args!("idle l {}", left.as_millis()));
        }
        ends.push(checker.connect("c", address()));
        checker.tell(format_args!("wait_unread c {GREETING}"));
        checker.tell("close c");
        times.push(Instant::now());
    }
    let mut client = client();
    let aborted = client.ask("show global status like 'Aborted_connects';");
    assert_eq!(aborted.split_whitespace().last(), Some(&*ends.len().to_string()), "{aborted}");

    let told = wire.finish(tracer, 2 * u64::try_from(ends.len()).unwrap());
    for (number, &end) in ends.iter().enumerate() {
        let sent = told.sent(end, address()).owner(&checker);
        let received = told.received(address(), end).pid(server.pid());
        sent.is_one_of("/cause/code", ["closed-with-unread-data", "health-probe"]);
        received.is_one_of("/cause/fault", ["peer", "none"]);
        if number + 1 == ends.len() {
            sent.cause("health-probe").is("/cause/benign", true);
            received.cause("health-probe").is("/cause/benign", true);
        }
    }
    told.rest_is_harmless();
}

/// Whether three times in a row are at equal intervals, the latest first.
fn is_regular(times: &[&Instant]) -> bool {
    let [later, middle, earlier] = times else { panic!("three times") };
    (**later - **middle).abs_diff(**middle - **earlier) <= Duration::from_millis(5)
}

/// A client process that is killed with an answer unread is no check.
pub(crate) fn killed_client_is_no_check(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (server, _data) = start(&[]);
    let mut client = Puppet::start("the-client");
    let end = client.connect("c", address());
    client.tell(format_args!("wait_unread c {GREETING}"));
    client.kill();

    let told = wire.finish(tracer, 2);
    told.sent(end, address()).owner(&client).cause("process-died").is("/cause/fault", "local");
    let received = told.received(address(), end).pid(server.pid());
    received.is_one_of("/cause/code", ["peer-aborted", "client-cancelled", "client-ended"]);
    received.is_one_of("/cause/fault", ["peer", "none"]);
    told.rest_is_harmless();
}
