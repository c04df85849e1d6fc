//! TLS closing alerts between HTTP clients and servers: whichever end closes first, nothing is lost.

use std::time::Duration;

use super::{
    http_client::Client,
    http_server::{Haproxy, Running, Server},
    nginx::Nginx,
    program,
    relayed::Relayed,
    tls,
};
use crate::{
    chain,
    delay::Seen,
    host::{self, Lack},
    scenarios::receivers::wait_until,
    stage::Stage,
};

/// A port that services with TLS have.
const PORT: u16 = 8443;
const CLIENTS: [Client; 3] = [Client::Requests, Client::Httpx, Client::Aiohttp];
/// Time without a segment after which none is on its way.
const SILENCE: Duration = Duration::from_millis(300);
/// Connections of curl, one after the other.
const CURLS: usize = 3;

/// What this host lacks for these scenarios.
pub(crate) fn lack() -> Option<Lack> {
    let clients = CLIENTS.into_iter().find_map(Client::lack);
    let servers = [Server::Nginx, Server::Haproxy].into_iter().find_map(Server::lack);
    chain::lack().or(clients).or(servers).or_else(|| host::lacks_program("curl"))
}

/// nginx closes idle connections after a second.
pub(crate) fn nginx_and_its_clients_close(stage: &Stage) {
    close_either_way(stage, |path, [key, certificate]| {
        let server = format!(
            "keepalive_timeout 1s; ssl_certificate {certificate}; ssl_certificate_key {key};
             location / {{ return 200 hello; }}"
        );
        Box::new(Nginx::start(&format!("{} ssl", path.server), &server, ""))
    });
}

/// HAProxy closes idle connections after a second.
pub(crate) fn haproxy_and_its_clients_close(stage: &Stage) {
    close_either_way(stage, |path, [key, certificate]| {
        let both = format!("{certificate}.both");
        std::fs::write(&both, [key, certificate].map(|file| std::fs::read_to_string(file).unwrap()).concat()).unwrap();
        Box::new(Haproxy::start(&format!(
            "frontend near
                 bind {} ssl crt {both}
                 timeout http-keep-alive 1s
                 http-request return status 200 content-type text/plain string hello",
            path.server
        )))
    });
}

/// Each client has a connection that the server closes, and one that it closes itself; curl has such alone.
fn close_either_way(stage: &Stage, start: impl FnOnce(&Relayed, &[String; 2]) -> Running) {
    let path = Relayed::between(stage, Duration::from_millis(10), PORT);
    let directory = program::directory();
    let files = tls::write_key(directory.path());
    let _server = path.inside_server(|| start(&path, &files));
    let mut tracer = path.trace(stage, &[]);
    let url = format!("https://{}/", path.server);
    let post = format!("post {url} 0");
    for mut client in path.clients(&CLIENTS) {
        assert_eq!(client.ask(&post), "200");
        let port = path.last_port();
        wait_until("the server's FIN", || path.has(port, Seen::Fin));
        assert_eq!(client.ask(&post), "200");
        client.tell("leave x 0");
    }
    for _ in 0..CURLS {
        let output = ["--silent", "--insecure", "--noproxy", "*", "--output", "/dev/null", &url];
        path.client.inside(|| host::run("curl", &output));
    }
    wait_until("silence", || path.relay.notes().last().is_none_or(|note| note.at.elapsed() > SILENCE));
    let is_reset = |what| matches!(what, Seen::Reset | Seen::ClientReset);
    let resets = path.relay.notes().iter().filter(|note| is_reset(note.what)).count();
    assert!(resets > 0, "no alert met a closed connection");
    while tracer.count(|reset| reset["direction"] == "sent") < resets {
        tracer.read_one();
    }
    let run = tracer.finish();
    assert_eq!(run.sent().count(), resets, "as many as crossed");
    for reset in &run.resets {
        reset.is_one_of("/cause/code", ["tls-goodbye", "after-close", "aftermath"]);
        reset.is("/cause/fault", "none").is("/cause/benign", true);
    }
    let verdict = run.summaries.last().expect("a summary")["verdict"].as_str().expect("a text").to_owned();
    assert!(verdict.contains("harmless: nothing has to be changed"), "{verdict}");
}
