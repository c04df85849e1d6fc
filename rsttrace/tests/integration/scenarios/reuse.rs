//! Numbers and addresses that are used again are no identity: of sockets, processes and ports.

use std::{collections::HashMap, fs};

use serde_json::Value;

use crate::{
    puppet::Puppet,
    stage::{Pair, Stage, V4},
};

/// Two clients and two servers take turns, so that the sockets of one are at the addresses that those of the other had a
/// moment ago: each reset is told of the process that it belongs to. The servers are children of those that listen, so that
/// the holder of what they have accepted is looked up when the reset has come.
pub(crate) fn addresses_of_sockets(stage: &Stage) {
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
    // The pair whose socket was at an address last, and how often it was the other one.
    let mut last_at: HashMap<String, usize> = HashMap::new();
    let mut used_again = 0;
    // Who has the client's end, and who the server's, by both ends: two connections may have one port of the client's side.
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

/// Addresses of the sockets with this port at either end, as `/proc/net/tcp` has them: scattered, but the same for the same.
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

/// The process that has connected ends, and a descendant that still holds the connection gets its PID: the reset is the
/// descendant's, which closed it, and not that of the one which is gone.
pub(crate) fn process_id(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let opener = pair.client.pid();
    pair.client.tell("fork leave");
    pair.client.reap();
    // It has the PID of the opener, and another name.
    let heir: u32 = pair.client.tell(format_args!("fork hand-over-to {opener}")).parse().unwrap();
    assert_eq!(heir, opener, "the PID is used again");
    pair.client.rename(b"the-heir");
    pair.client_closes(100);
    pair.server_sends_after_close();

    let run = stage.finish(tracer, 1, 1);
    run.the_sent().between(pair.client_end, pair.server_end).process(opener, "the-heir").cause("data-after-close");
}

/// A client uses its port again, when nothing listens any more: the refusal has nothing to do with the process that the
/// connection between the same ends was with.
pub(crate) fn port_of_a_client(stage: &Stage) {
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

/// Data for a connection that has ended open none: its owner is still told.
pub(crate) fn late_data_of_a_client(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell("close s");
    pair.client.tell("eof c");
    pair.client.tell("quickack c");
    pair.client.tell("send c 5");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent().between(pair.server_end, pair.client_end).owner(&pair.server).cause("data-after-close");
}
