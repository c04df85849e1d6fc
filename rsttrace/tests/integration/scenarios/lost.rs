//! No event is lost without being counted.

use nix::{
    sys::{
        signal::Signal,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::{
    puppet::Puppet,
    stage::{Stage, V4},
};

const CONNECTIONS: u16 = 400;

/// The smallest buffer, and a reader that is stopped while four hundred connections are reset: reported and lost resets
/// add up to the true number.
pub(crate) fn every_reset_is_counted(stage: &Stage) {
    let mut server = Puppet::start("the-server");
    let mut client = Puppet::start("the-client");
    let server_end = server.listen("l", V4, u32::from(CONNECTIONS) * 2);
    let mut tracer = stage.trace_with(&["--buffer-size", "4096"]);
    tracer.signal(Signal::SIGSTOP);
    waitpid(Pid::from_raw(tracer.pid().cast_signed()), Some(WaitPidFlag::WUNTRACED)).unwrap();
    client.tell(format_args!("burst {server_end} {CONNECTIONS}"));
    tracer.signal(Signal::SIGCONT);
    tracer.expect_lost();

    let run = tracer.finish();
    let reported = run.total();
    assert!(reported > 0, "the buffer holds something");
    // The summary has the host's own counters, which include any reset that this scenario did not cause.
    assert_eq!(
        reported + run.lost,
        2 * u64::from(CONNECTIONS),
        "{reported} reported, {} lost; {}",
        run.lost,
        run.stderr
    );
}
