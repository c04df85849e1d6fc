//! memcached: one process with several threads.

use super::{ADDRESS, address, program::Program};
use crate::{host, puppet::Puppet, stage::Stage, wire::Wire};

/// Limit of connections, the server's own descriptors among them.
const LIMIT: usize = 64;

/// `-c`: the server says so and closes at the limit, without reading.
pub(crate) fn limit_turns_clients_away(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (host, port) = ADDRESS.split_once(':').unwrap();
    let limit = LIMIT.to_string();
    let server = Program::start("memcached", &["-u", "root", "-l", host, "-p", port, "-t", "1", "-c", &limit, "-vv"]);
    server.says("server listening");
    let mut client = Puppet::start("the-client");
    let turned_away = (0..LIMIT).find_map(|number| {
        let name = format!("c{number}");
        let end = client.connect(&name, address());
        // At the limit the command comes before the close, or after it.
        drop(client.ask(format_args!("say_line {name} version")));
        let answer = client.ask(format_args!("hear_line {name}"));
        let is_served = answer.is_ok_and(|answer| answer.starts_with("VERSION"));
        (!is_served).then_some((name, end))
    });
    let (name, end) = turned_away.expect("there is a limit");
    // Its line may be gone with the reset.
    client.ask(format_args!("say_line {name} version")).ok();

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    let received = told.received(end, address()).owner(&client).is("/cause/fault", "peer");
    received.is_one_of("/cause/code", ["turned-away", "peer-closed-unread", "peer-aborted"]);
    if host::shows_without_socket() {
        told.sent(address(), end).pid(server.pid()).cause("turned-away").is("/cause/fault", "local");
    }
    told.rest_is_harmless();
}
