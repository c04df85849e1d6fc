//! A client in Java that uses threads, and whose HTTP client keeps connections for the next request.

use std::{fs, net::SocketAddr};

use super::{
    hear_head,
    program::{self, Program},
    truth::{End, Truth, received_by, sent_by},
};
use crate::{
    puppet::Puppet,
    stage::{Stage, V4},
};

const CLIENT: &str = include_str!("Client.java");

/// The client resets two connections in its two ways; the server resets one, and one that the HTTP client keeps.
pub(crate) fn java_process_owns(stage: &Stage) {
    let mut server = Puppet::start("the-server");
    let server_end = server.listen("l", V4, 16);
    let directory = program::directory();
    let source = directory.path().join("Client.java");
    fs::write(&source, CLIENT).unwrap();
    let tracer = stage.trace();
    // The simplest garbage collector and compiler, for a short start.
    let options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", &source.display().to_string()];
    let mut java = Program::start("java", &[&options[..], &[&server_end.port().to_string()]].concat());
    java.says("ready");
    let pid = java.pid();
    let mut truth = Truth::default();
    let connect = |java: &mut Program, server: &mut Puppet, name: &str| {
        let client_end: SocketAddr = java.ask(&format!("connect {name}")).parse().unwrap();
        server.tell(format_args!("accept {name} l"));
        (End::held_by(pid, client_end, server_end), End::of(server, server_end, client_end))
    };

    let (aborting, its_server) = connect(&mut java, &mut server, "aborting");
    java.ask("abort aborting");
    server.wait_error("aborting", "ECONNRESET");
    truth.resets(&aborting, &its_server);

    let (leaving, its_server) = connect(&mut java, &mut server, "leaving");
    server.tell("send leaving 7");
    java.ask("leave leaving");
    // Java shuts down its side first, and closes then.
    server.wait_error("leaving", "EPIPE");
    truth.resets(&leaving, &its_server);

    let (reset, its_server) = connect(&mut java, &mut server, "reset");
    server.abort("reset");
    assert_eq!(java.ask("read reset"), "Connection reset");
    truth.resets(&its_server, &reset);

    java.tell("get page");
    let kept_end = server.tell("accept kept l").parse().unwrap();
    hear_head(&mut server, "kept");
    server.tell("say kept HTTP/1.1 200 OK|Content-Length: 0");
    assert_eq!(java.says("status"), "200");
    let kept = End::held_by(pid, kept_end, server_end);
    server.abort("kept");
    truth.resets(&End::of(&server, server_end, kept_end), &kept);

    let run = truth.finish(stage, tracer);
    sent_by(&run, &aborting).provenance("connect").cause("linger-zero");
    sent_by(&run, &leaving).provenance("connect").is("/socket/unread_bytes", 6).cause("closed-with-unread-data");
    for end in [&reset, &kept] {
        received_by(&run, end).provenance("connect").is("/process/confidence", "exact");
    }
}
