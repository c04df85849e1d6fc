//! What rsttrace says of itself: the doctor's report, the kernel side's own messages.

use std::process::Command;

use crate::{
    host,
    stage::{Pair, Stage, V4},
    tracer::shows_kernel_address,
};

/// Where tracing works, the doctor says so, probe by probe.
pub(crate) fn doctor(_: &Stage) {
    let output = Command::new(host::rsttrace()).arg("doctor").output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(!shows_kernel_address(&report), "{report}");
    for subject in ["BTF", "fields", "perf ring buffer", "tcp_send_reset", "tcp_receive_reset", "inet_sock_set_state"] {
        let line = report.lines().find(|line| line.contains(subject));
        assert!(line.is_some_and(|line| line.starts_with("ok") || line.starts_with("degraded")), "{subject}: {report}");
    }
}

/// The programs log what they do when asked to, and trace all the same.
pub(crate) fn kernel_messages(stage: &Stage) {
    let tracer = stage.trace_with(&["--debug-kernel"]);
    let mut pair = Pair::open(V4);
    pair.client_aborts();

    let run = stage.finish(tracer, 1, 1);
    for probe in ["tcp_send_reset", "tcp_receive_reset"] {
        assert!(run.stderr.lines().any(|line| line.contains(&format!("probes::{probe}] state"))), "{}", run.stderr);
    }
}
