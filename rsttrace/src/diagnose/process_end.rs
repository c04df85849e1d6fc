//! Connections that ended with their process or their listener.

use nix::sys::signal::Signal;

use super::{
    catalogue::{CERTAIN, CauseSpec, LIKELY, no_evidence},
    evidence::pluralize,
    sent_view::{is_after_close, is_by_close},
    timeouts::Timeouts,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender, internals::OwnerExit},
    util::human_duration,
};

/// Longest time between the end of a process and the close of a socket that belongs to it, milliseconds.
const EXIT_MS: f64 = 100.0;

pub(super) static LISTENER_CLOSED: CauseSpec = CauseSpec {
    code: "listener-closed",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: listener_closed,
    evidence: no_evidence,
    summary: "The listener was closed with connections still in its accept queue.",
    advice: "Stop taking connections in (drain the load balancer) before the service stops.",
    shows_by: "An accepted connection that no process had taken yet was reset when its listener closed.",
};

/// Fires for a connection that was not accepted: it has no file, and no task holds its lock.
fn listener_closed(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let child = reset.socket.as_ref().is_some_and(|socket| socket.role == Some(Role::Server));
    (is_by_close(reset) && child && reset.internals.orphan && reset.internals.holder.is_none())
        .then_some(CauseConfidence::Certain)
}

pub(super) static PROCESS_DIED: CauseSpec = CauseSpec {
    code: "process-died",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: process_died,
    evidence: died_with_others,
    summary: "A signal killed the process with the connection open.",
    advice: "Find out what killed it: its log, the out-of-memory killer (dmesg), a deployment.",
    shows_by: "As closed-with-unread-data or linger-zero, and the task that closed was exiting because of a signal; often several sockets of one process within milliseconds. Or as data-after-close, and another socket has shown that the process ended then.",
};

fn process_died(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    exit(reset).filter(|_| exit_signal(reset).is_some())
}

/// How sure it is that the end of the process closed the connection; `None` if it did not.
fn exit(reset: &Reset) -> Option<CauseConfidence> {
    if is_by_close(reset) && reset.internals.holder_exiting {
        return CERTAIN;
    }
    // Another reset has shown the end of the process, and this connection was closed by then.
    let exited = reset.internals.correlation.owner_exited.filter(|_| is_after_close(reset))?.since_ms;
    let closed = reset.closing_times().0?;
    if (closed - exited).abs() <= EXIT_MS { LIKELY } else { None }
}

/// Signal that ended the process: the low seven bits of its exit code (`wait(2)`).
pub(super) fn exit_signal(reset: &Reset) -> Option<u32> {
    process_exit_code(reset).map(|code| code & 0x7f).filter(|&signal| signal != 0)
}

/// Exit code of the process that closed the connection by its end, as `wait(2)` has it.
fn process_exit_code(reset: &Reset) -> Option<u32> {
    let internals = &reset.internals;
    internals.exit_code.or_else(|| internals.correlation.owner_exited.and_then(|exit| exit.code))
}

pub(super) static PROCESS_EXITED: CauseSpec = CauseSpec {
    code: "process-exited",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: process_exited,
    evidence: died_with_others,
    summary: "The process exited by itself with the connection open.",
    advice: "If the peer should not see an error, make the process read what has come and close its connections before it exits.",
    shows_by: "As process-died, without a signal: the process had called exit or returned.",
};

fn process_exited(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    exit(reset)
}

/// Tells how the process ended.
pub(super) fn exit_code(reset: &Reset, evidence: &mut Evidence) {
    if let Some(signal) = exit_signal(reset) {
        match signal_name(signal) {
            Some(name) => evidence.push_parts(["the signal was ", name]),
            None => evidence.push(format_args!("the signal was {signal}")),
        }
    } else if let Some(code) = process_exit_code(reset) {
        evidence.push(format_args!("its exit status was {}", code >> 8 & 0xff));
    }
}

fn died_with_others(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    exit_code(reset, evidence);
    if let Some(OwnerExit { since_ms: exited, .. }) =
        reset.internals.correlation.owner_exited.filter(|_| is_after_close(reset))
    {
        let exited = human_duration(exited);
        evidence.push(format_args!("its process ended {exited} before; the peer's data came after that"));
    }
    let others = reset.internals.correlation.same_process;
    if others > 0 {
        evidence.push(pluralize(
            others.into(),
            "other socket of this process",
            "was reset in the same tenth of a second",
            "were reset in the same tenth of a second",
        ));
    }
}

/// Name of a signal; `None` for an unknown number.
fn signal_name(signal: u32) -> Option<&'static str> {
    i32::try_from(signal).ok().and_then(|signal| Signal::try_from(signal).ok()).map(Signal::as_str)
}
