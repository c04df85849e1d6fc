//! A server that is reloaded: its old workers close their idle connections, and a client's next request crosses the FIN.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use nix::sys::signal::Signal;

use super::{
    address, hear_head,
    nginx::Nginx,
    program::{self, Program},
    relayed::Relayed,
};
use crate::{delay::Seen, host, puppet::Puppet, scenarios::receivers::wait_until, stage::Stage, wire::Wire};

const PORT: u16 = 8080;
const ROUND_TRIP: Duration = Duration::from_millis(30);
/// Long enough for several clients to send before the FIN arrives.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(300);

/// The connection was used a moment before.
pub(crate) fn request_crosses_a_reload(stage: &Stage) {
    reload(stage, 100);
}

/// The connection had been idle for longer than the shortest timeouts of servers.
pub(crate) fn request_after_a_silence_crosses_a_reload(stage: &Stage) {
    reload(stage, 1_200);
}

/// A client whose connection was silent for so long sends a request when the old worker's FIN is on its way.
fn reload(stage: &Stage, silence_ms: u16) {
    let path = Relayed::crossing(stage, ROUND_TRIP, PORT);
    let nginx = path.inside_server(|| Nginx::start(&path.server.to_string(), "", ""));
    let tracer = path.trace(stage, &[]);
    let mut client = path.client.puppet("the-client");
    let local = client.connect("c", path.server);
    client.tell("say c GET /pid HTTP/1.1|Host: example");
    hear_head(&mut client, "c");
    let worker: u32 = client.tell("hear_line c").parse().unwrap();
    client.tell(format_args!("idle c {silence_ms}"));
    nginx.reload();
    // Both old workers leave, and this one has closed the connection by then.
    program::until("the worker has ended", || program::comm(worker).is_empty());
    wait_until("the worker's FIN", || path.has(local.port(), Seen::FinLeaves));
    client.tell("say c GET /pid HTTP/1.1|Host: example");
    wait_until("the reset", || path.has(local.port(), Seen::Reset));
    client.ask("close c").ok();

    let run = tracer.finish();
    assert_eq!(run.lost, 0, "events were lost");
    let received = run.received().next().expect("the client's reset").owner(&client);
    received.cause("peer-restarted").is("/cause/fault", "peer").is("/cause/benign", false);
    let sent = run.sent().find(|reset| reset.end("peer") == local).expect("the server's reset").pid(worker);
    sent.cause("process-ended").is("/cause/fault", "local").says("has ended since: a reload or stop");
    for advice in [sent, received].map(|reset| reset["cause"]["advice"].as_str().unwrap()) {
        assert!(advice.contains("before a reload") && !advice.contains("lingering"), "{advice}");
    }
    // What else the client had sent is no incident of its own.
    for rest in run
        .sent()
        .filter(|reset| !["process-ended", "peer-restarted"].contains(&reset["cause"]["code"].as_str().unwrap()))
    {
        rest.cause("aftermath").is("/cause/benign", true);
    }
}

/// Workers are killed while requests of several clients are on their way: nothing is unread on any connection, and the kernel
/// closes them in order. That is no matter of idle timeouts.
pub(crate) fn requests_cross_the_end_of_killed_workers(stage: &Stage) {
    let path = Relayed::crossing(stage, LONG_ROUND_TRIP, PORT);
    let _nginx = path.inside_server(|| Nginx::start(&path.server.to_string(), "", ""));
    let tracer = path.trace(stage, &[]);
    let mut workers = BTreeSet::new();
    let mut clients: Vec<(Puppet, SocketAddr)> = (0..3)
        .map(|_| {
            let mut client = path.client.puppet("the-client");
            let local = client.connect("c", path.server);
            client.tell("say c GET /pid HTTP/1.1|Host: example");
            hear_head(&mut client, "c");
            workers.insert(client.tell("hear_line c").parse::<u32>().unwrap());
            (client, local)
        })
        .collect();
    for worker in &workers {
        program::signal(*worker, Signal::SIGKILL);
    }
    for (client, local) in &mut clients {
        wait_until("the worker's FIN", || path.has(local.port(), Seen::FinLeaves));
        client.tell("say c GET /pid HTTP/1.1|Host: example");
    }
    for (client, local) in &mut clients {
        wait_until("the reset", || path.has(local.port(), Seen::Reset));
        client.ask("close c").ok();
    }

    let run = tracer.finish();
    assert_eq!(run.lost, 0, "events were lost");
    for (client, local) in &clients {
        let received =
            run.received().find(|reset| reset.end("local") == *local).expect("the client's reset").owner(client);
        received.cause("peer-restarted").is("/cause/fault", "peer").is("/cause/benign", false);
        let sent = run.sent().find(|reset| reset.end("peer") == *local).expect("the server's reset");
        sent.is_one_of("/cause/code", ["process-ended", "process-died"]).is("/cause/fault", "local");
        sent.is_one_of("/process/pid", workers.iter().copied());
    }
}

/// The near miss: a process that was forked for one connection answers, closes and ends, and the client sends more.
pub(crate) fn forked_process_is_no_reload(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let listen = format!("TCP-LISTEN:{},bind={},reuseaddr,fork", address().port(), address().ip());
    let directory = program::directory();
    let answer = program::script(directory.path(), "answer", "#!/bin/sh\nread line\necho $PPID\n");
    let server = Program::start("socat", &["-d", "-d", "-t", "0.05", &listen, &format!("EXEC:{answer}")]);
    server.says("listening on");
    let mut client = Puppet::start("the-client");
    let local = client.connect("c", address());
    client.tell("say_line c hello");
    let child: u32 = client.tell("hear_line c").parse().unwrap();
    client.tell("peek_eof c");
    program::until("the child has ended", || program::comm(child).is_empty());
    client.tell("send c 5");
    client.tell("wait_error c");

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    told.received(local, address()).owner(&client);
    if host::shows_without_socket() {
        let sent = told.sent(address(), local).cause("data-after-close").is("/process/comm", "socat");
        let evidence = sent["cause"]["evidence"].to_string();
        assert!(!evidence.contains("a reload"), "{evidence}");
    }
}
