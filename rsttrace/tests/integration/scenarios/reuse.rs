//! Reused numbers and addresses, of sockets, processes and ports, do not identify anything.

use std::{collections::HashMap, fs};

use serde_json::Value;

use crate::{
    puppet::Puppet,
    stage::{Pair, Stage, V4},
};

/// Two clients and two servers alternate, so that the sockets of one pair are at the addresses that the other's had
/// before: each reset is attributed to its own process. The servers are children of those that listen, so that the
/// holder of an accepted connection is looked up after the reset.
pub(crate) fn socket_addresses_are_reused(stage: &Stage) {
    const ROUNDS: usize = 23;
    let tracer = stage.trace();
    let mut pairs: Vec<Pair> = (1..=2)
        .map(|number| {
            let (server, client) =
                (Puppet::start(&format!("server-{number}")), Puppet::start(&format!("client-{number}")));
            let mut pair = Pair::between(server, client, V4);
            pair.client_aborts();
            pair
        })
        .collect();
    let workers: Vec<u32> = pairs.iter_mut().map(|pair| pair.server.tell("fork hand-over").parse().unwrap()).collect();
    // Pair whose socket was at an address last, and how often it was the other pair.
    let mut last_at: HashMap<String, usize> = HashMap::new();
    let mut used_again = 0;
    // Holders of the client's and the server's end, by both ends, since two connections may have the same port at the
    // client.
    let mut owners = HashMap::new();
    for _ in 0..ROUNDS {
        for (number, pair) in pairs.iter_mut().enumerate() {
            let client_end = pair.client.connect("c", pair.server_end);
            pair.server.tell("accept s l");
            for address in socket_addresses(client_end.port()) {
                used_again += usize::from(last_at.insert(address, number).is_some_and(|last| last != number));
            }
            owners.insert((client_end, pair.server_end), (pair.client.pid(), workers[number]));
            pair.client_aborts();
        }
    }
    assert!(used_again >= ROUNDS, "{used_again} times only did a socket get the address of another pair's");
    let all = ROUNDS as u64 * 2;
    let run = stage.finish(tracer, all + 2, all + 2);
    for reset in &run.resets {
        let (local, peer) = (reset.end("local"), reset.end("peer"));
        let ends = if reset.is_sent() { (local, peer) } else { (peer, local) };
        if let Some(&(at_client, at_server)) = owners.get(&ends) {
            reset.pid(if reset.is_sent() { at_client } else { at_server });
        }
    }
}

/// Addresses of the sockets with this port at either end, from `/proc/net/tcp`: hashed, but equal for equal addresses.
fn socket_addresses(port: u16) -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let has_port = |end: &&str| end.rsplit_once(':').is_some_and(|(_, found)| found == format!("{port:04X}"));
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 11 && words[1..3].iter().any(has_port))
        .map(|words| words[11].to_owned())
        .collect()
}

/// The process that connected exits, and a descendant that still holds the connection gets its PID: the reset is the
/// descendant's, which closed it, and not the exited process's.
pub(crate) fn process_id_is_reused(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let opener = pair.client.pid();
    pair.client.tell("fork leave");
    pair.client.reap();
    // It has the PID of the opener, and another name.
    let descendant: u32 = pair.client.tell(format_args!("fork hand-over-to {opener}")).parse().unwrap();
    assert_eq!(descendant, opener, "the PID is used again");
    pair.client.rename(b"the-descendant");
    pair.client_closes(100);
    pair.server_sends_after_close();

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(pair.client_end, pair.server_end)
        .process(opener, "the-descendant")
        .cause("data-after-close");
}

/// A client reuses its port when nothing listens any more: the refusal is not attributed to the process that had the
/// earlier connection between these ends.
pub(crate) fn client_port_is_reused(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    pair.client.tell("close c");
    pair.server.tell("close l");
    let ends = format!("{} {}", pair.client_end, pair.server_end);
    assert_eq!(pair.client.ask(format_args!("connect-from c {ends}")), Err("ECONNREFUSED".to_owned()));

    let run = stage.finish(tracer, 2, 2);
    let refusal = run.sent().find(|sent| sent["socket"].is_null()).expect("the refusal");
    refusal.between(pair.server_end, pair.client_end).is("/process", Value::Null).cause("port-closed");
}

/// Late data for a connection that has ended do not open a new one: its owner is still reported.
pub(crate) fn late_data_open_no_connection(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell("close s");
    pair.client.tell("eof c");
    pair.client.tell("quickack c");
    pair.client.tell("send c 5");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent().between(pair.server_end, pair.client_end).owner(&pair.server).cause("data-after-close");
}
