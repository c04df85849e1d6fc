//! Messages about rsttrace itself: the doctor's report, the log messages of the kernel side.

use std::process::Command;

use crate::{
    host,
    stage::{Pair, Stage, V4},
    tracer::shows_kernel_address,
};

/// Where tracing works, the doctor reports that for each probe.
pub(crate) fn doctor_reports_every_probe(_: &Stage) {
    let output = Command::new(host::rsttrace()).arg("doctor").output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(!shows_kernel_address(&report), "{report}");
    for subject in ["BTF", "fields", "perf ring buffer", "tcp_send_reset", "tcp_receive_reset", "inet_sock_set_state"] {
        let line = report.lines().find(|line| line.contains(subject));
        assert!(line.is_some_and(|line| line.starts_with("ok") || line.starts_with("degraded")), "{subject}: {report}");
    }
}

/// With debug messages enabled, the programs log, and resets are reported as usual.
pub(crate) fn programs_log_on_request(stage: &Stage) {
    let tracer = stage.trace_with(&["--debug-kernel"]);
    let mut pair = Pair::open(V4);
    pair.client_aborts();

    let run = stage.finish(tracer, 1, 1);
    for probe in ["tcp_send_reset", "tcp_receive_reset"] {
        assert!(run.stderr.lines().any(|line| line.contains(&format!("probes::{probe}] state"))), "{}", run.stderr);
    }
}
