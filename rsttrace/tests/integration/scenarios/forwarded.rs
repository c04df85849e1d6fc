//! Resets that a router forwards.

use std::{fs, net::SocketAddr, os::unix::fs::MetadataExt as _, process::Command, thread};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::{
    chain::{self, Chain, TO_SERVER},
    host::{self, Lack},
    netns,
    puppet::Puppet,
    stage::Stage,
};

/// The server aborts one connection, and its kernel refuses another; both resets cross the router and are reported. A
/// reset for the router itself is not.
pub(crate) fn router_reports_forwarded_resets(stage: &Stage) {
    let chain = Chain::around(stage);
    let mut tracer = chain.trace_in_the_middle(stage, &["--received", "--forwarded", TO_SERVER]);
    let mut pair = chain.pair_v4();
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    let closed = SocketAddr::new(pair.server_end.ip(), 9);
    assert_eq!(pair.client.ask(format_args!("connect refused {closed}")), Err("ECONNREFUSED".to_owned()));
    let mut router = Puppet::start("the-router");
    assert_eq!(router.ask(format_args!("connect refused {closed}")), Err("ECONNREFUSED".to_owned()));
    tracer.expect_lines("forwarded", 2).expect(3);

    let run = tracer.finish();
    run.check_counts(0, 3);
    let [aborted, refused] = run.others.as_slice() else { panic!("{:#}", Value::from(run.others)) };
    for line in [aborted, refused] {
        assert_eq!(line["type"], "forwarded");
        assert_eq!(line["interface"]["name"], TO_SERVER);
        assert_eq!(line["netns"]["inode"], chain.router);
        assert_eq!(line["to"]["address"], pair.client_end.ip().to_string());
        assert_eq!(line["packet"]["ttl"], 64);
    }
    assert_eq!(aborted["from"]["port"], pair.server_end.port());
    assert_eq!(aborted["to"]["port"], pair.client_end.port());
    assert_eq!(aborted["origin"], "socket", "{aborted:#}");
    assert_eq!(refused["from"]["port"], 9);
    assert_eq!(refused["origin"], "stateless", "{refused:#}");
}

/// What this host lacks to watch a router from another network namespace.
pub(crate) fn lack_from_outside() -> Option<Lack> {
    chain::lack().or_else(host::lacks_links_of_classifiers)
}

/// rsttrace runs in another network namespace than the router, and `--netns` names the router's, by path and by number.
/// An interface that only rsttrace's own namespace may have is not found.
pub(crate) fn router_is_watched_from_outside(stage: &Stage) {
    let chain = Chain::around(stage);
    let router = Puppet::start("the-router");
    let own = fs::metadata("/proc/self/ns/net").unwrap();
    assert_ne!(own.ino(), chain.router, "the tests are in the router's namespace");
    for named in [format!("/proc/{}/ns/net", router.pid()), chain.router.to_string()] {
        let watch = ["--received", "--forwarded", TO_SERVER, "--netns", &named];
        let mut tracer = chain.trace(stage, &watch);
        let mut pair = chain.pair_v4();
        pair.server.abort("s");
        pair.client.wait_error("c", "ECONNRESET");
        tracer.expect_lines("forwarded", 1);

        let run = tracer.finish();
        run.check_counts(0, 0);
        let [aborted] = run.others.as_slice() else { panic!("{:#}", Value::from(run.others)) };
        assert_eq!(aborted["interface"]["name"], TO_SERVER);
        assert_eq!(aborted["netns"]["inode"], chain.router);
        assert_eq!(aborted["from"]["port"], pair.server_end.port());
        let from_outside = || {
            setns(netns::original(), CloneFlags::CLONE_NEWNET).unwrap();
            Command::new(host::rsttrace()).args(["--forwarded", "not-there", "--netns", &named]).output().unwrap()
        };
        let output = thread::scope(|scope| scope.spawn(from_outside).join().unwrap());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("there is no interface 'not-there' in the network namespace of --netns"), "{said}");
    }
}

/// Resets that cross the router over IPv6.
pub(crate) fn router_reports_forwarded_resets_v6(stage: &Stage) {
    let chain = Chain::around(stage);
    let mut tracer = chain.trace_in_the_middle(stage, &["--received", "--forwarded", TO_SERVER]);
    let mut pair = chain.pair_v6();
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    tracer.expect_lines("forwarded", 1).expect(1);

    let run = tracer.finish();
    run.check_counts(0, 1);
    let [aborted] = run.others.as_slice() else { panic!("{:#}", Value::from(run.others)) };
    assert_eq!(aborted["family"], "ipv6");
    assert_eq!(aborted["from"]["address"], pair.server_end.ip().to_string());
    assert_eq!(aborted["to"]["port"], pair.client_end.port());
    assert_eq!(aborted["origin"], "socket", "{aborted:#}");
}
