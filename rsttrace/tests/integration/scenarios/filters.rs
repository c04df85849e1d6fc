//! Every filter shows the matching resets and hides the others.

use std::{collections::BTreeSet, fs, net::SocketAddr};

use crate::{
    puppet::Puppet,
    stage::{Stage, V4, V6},
};

/// Direction and family of a record.
type Kind = (&'static str, &'static str);

const SENT_V4: Kind = ("sent", "ipv4");
const SENT_V6: Kind = ("sent", "ipv6");
const RECEIVED_V4: Kind = ("received", "ipv4");
const RECEIVED_V6: Kind = ("received", "ipv6");

/// The workload: a client that resets one connection of each family, and a server that receives both resets.
struct World {
    server: Puppet,
    client: Puppet,
    v4: SocketAddr,
    v6: SocketAddr,
}

/// Runs rsttrace with the arguments, and checks that exactly `expected` of the four resets are shown.
fn check(stage: &Stage, arguments: impl FnOnce(&World) -> String, expected: &[Kind]) {
    let (mut server, client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let (v4, v6) = (server.listen("v4", V4, 16), server.listen("v6", V6, 16));
    let mut world = World { server, client, v4, v6 };
    let arguments = arguments(&world);
    let mut tracer = stage.trace_with(&arguments.split(' ').collect::<Vec<_>>());
    for (name, address) in [("v4", world.v4), ("v6", world.v6)] {
        world.client.connect("c", address);
        world.server.tell(format_args!("accept s {name}"));
        world.client.abort("c");
        world.server.wait_error("s", "ECONNRESET");
    }

    tracer.expect(expected.len() as u64);
    let run = tracer.finish();
    let text = |reset: &crate::reset::Reset, key: &str| reset[key].as_str().unwrap_or_default().to_owned();
    let shown: Vec<_> = run.resets.iter().map(|reset| (text(reset, "direction"), text(reset, "family"))).collect();
    let wanted: BTreeSet<_> =
        expected.iter().map(|(direction, family)| ((*direction).into(), (*family).into())).collect();
    assert_eq!(shown.len(), expected.len(), "{arguments}: {}", run.stderr);
    assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), wanted, "{arguments}");
}

pub(crate) fn sent_hides_received(stage: &Stage) {
    check(stage, |_| "--sent".into(), &[SENT_V4, SENT_V6]);
}

pub(crate) fn received_hides_sent(stage: &Stage) {
    check(stage, |_| "--received".into(), &[RECEIVED_V4, RECEIVED_V6]);
}

/// `--pid` means the owner's process, not the process on the CPU, which is the client for all four.
pub(crate) fn pid_selects_the_owner(stage: &Stage) {
    check(stage, |world| format!("--pid {}", world.server.pid()), &[RECEIVED_V4, RECEIVED_V6]);
}

/// `--pid` is repeatable.
pub(crate) fn pid_is_repeatable(stage: &Stage) {
    let arguments = |world: &World| format!("--pid {} -p {} --sent", world.server.pid(), world.client.pid());
    check(stage, arguments, &[SENT_V4, SENT_V6]);
}

pub(crate) fn comm_selects_the_owner(stage: &Stage) {
    check(stage, |world| format!("--comm {}", world.client.comm()), &[SENT_V4, SENT_V6]);
}

pub(crate) fn peer_selects_ipv4(stage: &Stage) {
    check(stage, |_| "--peer 127.0.0.0/8".into(), &[SENT_V4, RECEIVED_V4]);
}

pub(crate) fn peer_selects_ipv6(stage: &Stage) {
    check(stage, |_| "--peer ::1/128".into(), &[SENT_V6, RECEIVED_V6]);
}

/// `0.0.0.0/0` matches every IPv4 address and no IPv6 address; several prefixes match either.
pub(crate) fn peer_prefixes_add_up(stage: &Stage) {
    check(stage, |_| "--peer 10.0.0.0/8 --peer 0.0.0.0/0".into(), &[SENT_V4, RECEIVED_V4]);
}

pub(crate) fn peer_port_selects_one_end(stage: &Stage) {
    check(stage, |world| format!("--peer-port {}", world.v4.port()), &[SENT_V4]);
}

pub(crate) fn local_port_selects_one_end(stage: &Stage) {
    check(stage, |world| format!("--local-port {}", world.v6.port()), &[RECEIVED_V6]);
}

pub(crate) fn port_selects_either_end(stage: &Stage) {
    check(stage, |world| format!("--port {}", world.v4.port()), &[SENT_V4, RECEIVED_V4]);
}

/// Port ranges include both their ends.
pub(crate) fn port_range_includes_its_ends(stage: &Stage) {
    let arguments = |world: &World| {
        let ports = [world.v4.port(), world.v6.port()];
        format!("--local-port {}-{}", ports.into_iter().min().unwrap_or(0), ports.into_iter().max().unwrap_or(0))
    };
    check(stage, |world| format!("{} --received", arguments(world)), &[RECEIVED_V4, RECEIVED_V6]);
}

pub(crate) fn ipv4_hides_ipv6(stage: &Stage) {
    check(stage, |_| "-4".into(), &[SENT_V4, RECEIVED_V4]);
}

pub(crate) fn ipv6_hides_ipv4(stage: &Stage) {
    check(stage, |_| "-6".into(), &[SENT_V6, RECEIVED_V6]);
}

/// Peers by the names that records have, here of `--names`, whole or with `*`.
pub(crate) fn host_selects_peers_by_name(stage: &Stage) {
    let names = tempfile::NamedTempFile::new().unwrap();
    fs::write(names.path(), "\"127.0.0.1\" = \"db-1.shop.example\"\n\"::1\" = \"web-1.shop.example\"\n").unwrap();
    let arguments = |filter: &str| format!("--names {} {filter}", names.path().display());
    check(stage, |_| arguments("--host DB-*,db-1"), &[SENT_V4, RECEIVED_V4]);
    check(stage, |_| arguments("--not-host *-1.shop.example"), &[]);
    check(stage, |_| arguments("--not-host db-1.shop.example --host *.example"), &[SENT_V6, RECEIVED_V6]);
}

/// A filter that no process matches yet is noted, also with `--quiet`, and the run goes on.
pub(crate) fn absent_process_is_awaited(stage: &Stage) {
    let name = format!("late-{}", stage.netns);
    let note = format!("no process named {name} now; waiting for it");
    let mut tracer = stage.trace_with(&["--quiet", "--comm", &name]);
    tracer.expect_said(&note);
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start(&name));
    let address = server.listen("l", V4, 16);
    client.connect("c", address);
    server.tell("accept s l");
    client.abort("c");
    server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 0);
    run.the_sent().owner(&client);
    let second = stage.trace_with(&["--comm", &name, "--pid", &client.pid().to_string()]);
    let run = stage.finish(second, 0, 0);
    assert!(!run.stderr.contains("waiting for"), "{}", run.stderr);
}
