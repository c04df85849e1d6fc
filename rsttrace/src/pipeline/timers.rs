//! Timers and signals that the event loop waits for beside events.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use nix::time::{ClockId, clock_getres};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

use crate::{
    conntrack::Conntrack,
    decode::clock::{Ticks, WallClock},
    metrics::Scrape,
    util::system_clock::monotonic_ns,
};

/// A pair of readings of the events' clock and of the wall clock; `None` when the former cannot be read.
pub(super) fn read_clocks() -> Option<WallClock> {
    let mut clocks = None;
    for _ in 0..4 {
        let (before_ns, wall, after_ns) = (monotonic_ns()?, Timestamp::now(), monotonic_ns()?);
        let took_ns = after_ns.saturating_sub(before_ns);
        clocks = Some(WallClock { monotonic_ns: before_ns + took_ns / 2, wall });
        // Preempted in between, it tries again; the last try counts in any case.
        if took_ns < 50_000 {
            break;
        }
    }
    clocks
}

/// The kernel's clock tick: the resolution of the coarse clocks.
pub(super) fn ticks() -> Option<Ticks> {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).ok().and_then(|resolution| Ticks::of_resolution(resolution.into()))
}

/// Begins to catch SIGHUP. Fails when no handler can be installed.
pub(super) fn catch_sighup() -> Result<Signal> {
    signal(SignalKind::hangup()).context("cannot watch for signals")
}

/// Completes at the next SIGHUP; never where it is not caught.
pub(super) async fn sighup(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}

/// Completes with the next scrape; never without a metrics server.
pub(super) async fn next_scrape(scrapes: &mut Option<mpsc::Receiver<Scrape>>) -> Scrape {
    match scrapes {
        Some(scrapes) => match scrapes.recv().await {
            Some(scrape) => scrape,
            // The server has ended.
            None => pending().await,
        },
        None => pending().await,
    }
}

/// Completes when answers on tracked connections have come; never where none are asked for.
pub(super) async fn lookups_answered(conntrack: Option<&Conntrack>) {
    match conntrack {
        Some(conntrack) => conntrack.ready().await,
        None => pending().await,
    }
}

/// Completes at a moment; never without one.
pub(super) async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => pending().await,
    }
}

/// Completes at a moment of the events' clock, in nanoseconds; never without one.
pub(super) async fn sleep_until_ktime(deadline_ns: Option<u64>) {
    match deadline_ns {
        Some(deadline) => {
            let left = deadline.saturating_sub(monotonic_ns().unwrap_or(deadline));
            sleep(Duration::from_nanos(left)).await;
        }
        None => pending().await,
    }
}
