//! The keep-alive race on a path with a delay: a client's request and the FIN of a server that closes an idle connection
//! cross.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{hear_head, nginx::Nginx};
use crate::{
    chain::Chain,
    delay::{Relay, Seen},
    puppet::Puppet,
    scenarios::receivers::wait_until,
    stage::Stage,
};

/// Time after which the server closes an idle connection.
const KEEPALIVE: Duration = Duration::from_secs(1);
const PORT: u16 = 8080;

/// How the client takes the end of the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    /// It closes as soon as it has read it, as event loops do.
    ReadsAtOnce,
    /// It waits for its answer, as blocking pools do.
    Waits,
}

/// What a request met, by the order of segments at the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    /// The server's FIN was on its way.
    CrossingFin,
    /// The server's FIN had arrived.
    EarlierFin,
    /// The server answered.
    Answer,
}

/// A request and the FIN cross, and the client closes before the reset comes.
pub(crate) fn event_loop_meets_the_idle_timeout(stage: &Stage) {
    race(stage, Duration::from_millis(30), Client::ReadsAtOnce);
}

/// A request and the FIN cross, and the client waits for the answer.
pub(crate) fn blocking_client_meets_the_idle_timeout(stage: &Stage) {
    race(stage, Duration::from_millis(30), Client::Waits);
}

/// A request and the FIN cross on a path with a round trip of 200 ms.
pub(crate) fn slow_path_meets_the_idle_timeout(stage: &Stage) {
    race(stage, Duration::from_millis(200), Client::ReadsAtOnce);
}

/// Sends requests on idle connections at about the time at which the server closes them, and one after that.
fn race(stage: &Stage, round_trip: Duration, kind: Client) {
    let chain = Chain::around(stage);
    let relay = Relay::start(round_trip / 2);
    let listen = format!("{}:{PORT}", chain.server.v4);
    let keepalive = format!("keepalive_timeout {}s;", KEEPALIVE.as_secs());
    let _nginx = chain.server.inside(|| Nginx::start(&listen, &keepalive, ""));
    let tracer = chain.trace(stage, &[]);
    let mut client = chain.client.puppet("the-client");
    let server = SocketAddr::new(chain.server.v4, PORT);

    // The server's timer starts half a round trip before its answer arrives here, so its FIN leaves one round trip before
    // this time at the earliest, and arrives at this time.
    let mut truth = Vec::new();
    for attempt in 0..8 {
        let is_late = attempt == 0;
        let wait = if is_late { KEEPALIVE + round_trip } else { KEEPALIVE.saturating_sub(round_trip / 2) };
        let local = client.connect("c", server);
        let met = ask_after(&mut client, &relay, wait, kind);
        if met != Met::Answer {
            truth.push((local, met));
        }
        if truth.iter().any(|&(_, met)| met == Met::CrossingFin) && !is_late {
            break;
        }
    }
    let count = |wanted| truth.iter().filter(|&&(_, met)| met == wanted).count();
    assert!(count(Met::CrossingFin) > 0 && count(Met::EarlierFin) > 0, "{truth:?}");

    let run = tracer.finish();
    for (local, met) in truth {
        let received = run.received().find(|reset| reset.end("local") == local).expect("the client's reset");
        received.owner(&client).is("/cause/fault", "local").is("/cause/benign", false);
        match met {
            Met::CrossingFin => received.cause("keepalive-race").says("the peer's FIN came"),
            Met::EarlierFin => received.cause("reused-closed-connection").says("FIN had come"),
            Met::Answer => unreachable!("it was not reset"),
        };
        let sent = run.sent().find(|reset| reset.end("peer") == local);
        // Kernels before 6.10 do not report a reset for a TIME_WAIT socket.
        if let Some(sent) = sent {
            sent.cause("keepalive-race").is("/cause/fault", "peer").is("/process/comm", "nginx").says("of silence");
            let evidence = sent["cause"]["evidence"].to_string();
            assert!(!evidence.contains("a reload"), "the worker has not left: {evidence}");
        }
    }
    // What else the client had sent is no incident of its own.
    for rest in run.sent().filter(|reset| reset["cause"]["code"] != "keepalive-race") {
        rest.cause("aftermath").is("/cause/benign", true);
    }
}

/// Visits the server, waits, and asks again.
fn ask_after(client: &mut Puppet, relay: &Relay, wait: Duration, kind: Client) -> Met {
    client.tell("say c GET /pid HTTP/1.1|Host: example");
    hear_head(client, "c");
    client.tell("hear_line c");
    relay.take_seen();
    let answered = Instant::now();
    // After the FIN it is not silent any more; the time has passed all the same.
    while answered.elapsed() < wait {
        let left = wait.saturating_sub(answered.elapsed());
        if client.ask(format_args!("idle c {}", left.as_millis() + 1)).is_err() {
            client.tell("peek_eof c");
        }
    }
    client.tell("say c GET /pid HTTP/1.1|Host: example");
    if kind == Client::ReadsAtOnce && client.ask("eof c").is_ok() {
        client.tell("close c");
    }
    let mut seen = Vec::new();
    wait_until("an answer or a reset", || {
        seen.extend(relay.take_seen());
        let asked = seen.iter().position(|&what| what == Seen::Request);
        asked.is_some_and(|asked| seen[asked..].iter().any(|what| matches!(what, Seen::Answer | Seen::Reset)))
    });
    // Closed by the event loop; the other kind closes now.
    client.ask("close c").ok();
    let first = |wanted| seen.iter().position(|&what| what == wanted);
    match (first(Seen::Fin), first(Seen::Request)) {
        _ if first(Seen::Answer).is_some() => Met::Answer,
        (Some(fin), Some(request)) if fin < request => Met::EarlierFin,
        (Some(_), _) => Met::CrossingFin,
        (None, _) => panic!("a reset without a FIN: {seen:?}"),
    }
}
