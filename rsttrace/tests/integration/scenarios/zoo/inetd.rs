//! Super-servers: somebody else listens, and the program that serves is started for it.

use super::{
    program::Program,
    truth::{End, Truth},
};
use crate::{
    puppet::Puppet,
    stage::{Stage, V4},
};

/// The other way round: a shell connects, and a program of its reads. The shell keeps the connection.
pub(crate) fn shell_connects(stage: &Stage) {
    const SCRIPT: &str = "exec 3<>\"/dev/tcp/127.0.0.1/$1\"; echo ready; cat <&3; echo done";
    let mut server = Puppet::start("the-server");
    let server_end = server.listen("l", V4, 16);
    let tracer = stage.trace();
    let shell = Program::start("bash", &["-c", SCRIPT, "bash", &server_end.port().to_string()]);
    let client_end = server.tell("accept s l").parse().unwrap();
    shell.says("ready");
    let end = End::opened_by(shell.pid(), client_end, server_end);
    server.abort("s");
    shell.says("done");
    let mut truth = Truth::default();
    truth.resets(&End::of(&server, server_end, client_end), &end);
    truth.finish(stage, tracer);
}
