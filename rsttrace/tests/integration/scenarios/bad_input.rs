//! Arguments that rsttrace cannot use.

use std::{io, process::Command};

use crate::{
    host,
    stage::{Pair, Stage, V4},
    tracer::Tracer,
};

/// The reader of `--ready-fd` has exited: the run continues.
pub(crate) fn reader_of_ready_fd_is_gone(stage: &Stage) {
    let (_, writer) = io::pipe().unwrap();
    let mut command = Command::new(host::rsttrace());
    // Descriptor 0 of the child, which is inherited without further preparation.
    command.args(stage.arguments()).args(["--ready-fd", "0", "--netns", &stage.netns.to_string()]).stdin(writer);
    let mut tracer = Tracer::start_unannounced(command);
    tracer.expect_said("the reader of --ready-fd has gone");
    let mut pair = Pair::open(V4);
    pair.client_aborts();
    stage.finish(tracer, 1, 1);
}
