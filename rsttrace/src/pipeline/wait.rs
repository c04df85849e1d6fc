//! Moments and signals: what the event loop waits for beside events.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use nix::time::{ClockId, clock_getres, clock_gettime};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

use crate::{
    decode::clock::{Ticks, WallClock},
    metrics::Scrape,
};

/// Both clocks at the same moment.
pub(super) fn read_clocks() -> Option<WallClock> {
    let mut clocks = None;
    for _ in 0..4 {
        let (before_ns, wall, after_ns) = (monotonic_ns()?, Timestamp::now(), monotonic_ns()?);
        let took_ns = after_ns.saturating_sub(before_ns);
        clocks = Some(WallClock { monotonic_ns: before_ns + took_ns / 2, wall });
        // Whoever was stopped in between tries again; the last try counts whatever it is.
        if took_ns < 50_000 {
            break;
        }
    }
    clocks
}

/// The clock of the events.
pub(super) fn monotonic_ns() -> Option<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    Duration::from(now).as_nanos().try_into().ok()
}

/// The kernel's clock tick.
pub(super) fn ticks() -> Option<Ticks> {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).ok().and_then(|resolution| Ticks::of_resolution(resolution.into()))
}

/// SIGHUP.
pub(super) fn hang_up() -> Result<Signal> {
    signal(SignalKind::hangup()).context("cannot watch for signals")
}

/// Waits for SIGHUP; for ever where it is not looked for.
pub(super) async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}

/// The next scrape; never where nobody may ask.
pub(super) async fn asked(scrapes: &mut Option<mpsc::Receiver<Scrape>>) -> Scrape {
    match scrapes {
        Some(scrapes) => match scrapes.recv().await {
            Some(scrape) => scrape,
            // The server has ended.
            None => pending().await,
        },
        None => pending().await,
    }
}

/// Waits until a moment; for ever without one.
pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => pending().await,
    }
}

/// Waits until a moment on the clock of the events; for ever without one.
pub(super) async fn after(deadline_ns: Option<u64>) {
    match deadline_ns {
        Some(deadline) => {
            let left = deadline.saturating_sub(monotonic_ns().unwrap_or(deadline));
            sleep(Duration::from_nanos(left)).await;
        }
        None => pending().await,
    }
}
