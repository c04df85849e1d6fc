//! HAProxy: a master, and one worker with all connections.

use std::{fs, net::SocketAddr};

use tempfile::TempDir;

use super::{
    ADDRESS, abort_after_visit,
    program::{self, Program},
    truth::{End, Truth, sent_by},
    visit_web,
};
use crate::{
    puppet::Puppet,
    stage::{Stage, V4},
};

/// The client gives up an idle connection; the worker resets one that it is configured to close without lingering, and
/// the connection with which it checks a backend.
pub(crate) fn worker_owns_every_connection(stage: &Stage) {
    let tracer = stage.trace();
    let (mut client, mut backend) = (Puppet::start("the-client"), Puppet::start("the-backend"));
    let backend_end = backend.listen("l", V4, 16);
    let check_end = SocketAddr::new(backend_end.ip(), 9000);
    let _haproxy = start("option nolinger", backend_end, &format!("check inter 1h source {check_end}"));
    let mut truth = Truth::default();

    abort_after_visit(&mut client, &mut truth);

    let (closed, client_end) = visit_web(&mut client, "closed");
    client.tell("say closed GET /pid HTTP/1.1|Host: example|Connection: close");
    // The end of the answer arrived before.
    client.wait_error("closed", "EPIPE");
    truth.resets(&closed, &client_end);

    // The worker does not even acknowledge the backend's SYN-ACK.
    let check = End::opened_by(closed.pid(), check_end, backend_end);
    truth.resets_half_open(&check);

    let run = truth.finish(stage, tracer);
    sent_by(&run, &closed).cause("linger-zero");
    sent_by(&run, &check).provenance("connect").cause("linger-zero");
}

/// Starts HAProxy; returns it and its directory. `frontend` is a line of its frontend, `options` are those of its only
/// backend server.
pub(super) fn start(frontend: &str, backend: SocketAddr, options: &str) -> (Program, TempDir) {
    let directory = program::directory();
    let configuration = format!(
        "global
             nbthread 1
             user nobody
             group nogroup
         defaults
             mode http
             timeout connect 10s
             timeout client 60s
             timeout server 60s
         frontend near
             bind {ADDRESS}
             {frontend}
             http-request return status 200 content-type text/plain lf-string \"%pid\\n\" if {{ path /pid }}
             default_backend far
         backend far
             http-reuse always
             retries 0
             server one {backend} {options}\n"
    );
    let file = directory.path().join("haproxy.conf");
    fs::write(&file, configuration).unwrap();
    let haproxy = Program::start("haproxy", &["-W", "-f", &file.display().to_string()]);
    haproxy.says("Loading success");
    (haproxy, directory)
}
