//! curl, a client that waits for so long and no longer.

use super::program::Program;
use crate::{
    netfilter,
    puppet::Puppet,
    stage::{Stage, V4},
};

/// curl gives up connecting; the SYN-ACK comes when it has gone.
pub(crate) fn handshake_ends_too_late(stage: &Stage) {
    let mut tracer = stage.trace();
    let mut server = Puppet::start("the-server");
    let server_end = server.listen("l", V4, 16);
    netfilter::rules(
        "add table ip t
         add chain ip t i { type filter hook input priority 0; }
         add rule ip t i tcp flags & (syn | ack) == syn | ack drop",
    );
    let curl = Program::start("curl", &["-sS", "--connect-timeout", "0.4", &format!("http://{server_end}/")]);
    curl.says("28");
    netfilter::rules("delete table ip t");

    // The SYN-ACK comes again after a second.
    tracer.expect(1);
    let run = tracer.finish();
    let sent = run.the_sent();
    assert_eq!(sent.end("peer"), server_end);
    sent.cause("gave-up-waiting").is("/cause/fault", "local").says("given up this attempt to connect");
}
