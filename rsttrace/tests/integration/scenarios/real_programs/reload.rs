//! A server that is reloaded: its old workers close their idle connections, and a client's next request crosses the FIN.

use std::time::Duration;

use super::{hear_head, nginx::Nginx, program, relayed::Relayed};
use crate::{delay::Seen, scenarios::receivers::wait_until, stage::Stage};

const PORT: u16 = 8080;
const ROUND_TRIP: Duration = Duration::from_millis(30);

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
    received.cause("keepalive-race").is("/cause/fault", "local").is("/cause/benign", false);
    let sent = run.sent().find(|reset| reset.end("peer") == local).expect("the server's reset").pid(worker);
    sent.cause("keepalive-race").is("/cause/fault", "peer").says("has ended since: a reload, restart or stop");
    for advice in [sent, received].map(|reset| reset["cause"]["advice"].as_str().unwrap()) {
        assert!(advice.contains("before a reload") && !advice.contains("lingering"), "{advice}");
    }
    // What else the client had sent is no incident of its own.
    for rest in run.sent().filter(|reset| reset["cause"]["code"] != "keepalive-race") {
        rest.cause("aftermath").is("/cause/benign", true);
    }
}
