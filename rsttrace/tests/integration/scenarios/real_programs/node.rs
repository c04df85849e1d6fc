//! Node.js, alone and as a cluster, whose primary accepts for its workers and passes them the descriptors.

use std::net::SocketAddr;

use super::{
    address,
    program::Program,
    truth::{End, Truth, sent_by},
    visit,
};
use crate::{puppet::Puppet, stage::Stage};

const SERVE: &str = include_str!("serve.js");

pub(crate) fn single_process_owns(stage: &Stage) {
    reset(stage, "alone");
}

pub(crate) fn cluster_workers_own(stage: &Stage) {
    reset(stage, "cluster");
}

/// The client gives up two connections; the server resets one, and destroys one with data unread.
fn reset(stage: &Stage, mode: &str) {
    let tracer = stage.trace();
    let mut node = Program::start("node", &["-e", SERVE, &address().port().to_string(), mode]);
    node.says("ready");
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();

    for name in ["given-up", "given-up-too"] {
        let (server_end, client_end) = visit(&mut client, name);
        client.abort(name);
        truth.resets(&client_end, &server_end);
    }

    let (aborted, client_end) = visit(&mut client, "aborted");
    client.tell("say_line aborted abort");
    client.wait_error("aborted", "ECONNRESET");
    truth.resets(&aborted, &client_end);

    let next_address = SocketAddr::new(address().ip(), address().port() + 1);
    let client_end = client.connect("unread", next_address);
    let pid = client.tell("hear_line unread").parse().unwrap();
    let unread = End::held_by(pid, next_address, client_end);
    client.tell("send unread 7");
    unread.has_unread(7);
    // A server that closes at once, having read nothing, turns its clients away.
    client.tell("idle unread 30");
    node.tell("destroy");
    client.wait_error("unread", "ECONNRESET");
    truth.resets(&unread, &End::of(&client, client_end, next_address));

    let run = truth.finish(stage, tracer);
    sent_by(&run, &aborted).cause("linger-zero");
    sent_by(&run, &unread).cause("closed-with-unread-data");
}
