//! Events from the buffers into the chain of stages.

use std::mem;

use bytes::Buf as _;
use rsttrace_common::event::ResetEvent;

use super::{Pipeline, processor::Lookup, timers::read_clocks};
use crate::{
    conntrack::Conntrack,
    correlate::TranslationRequest,
    decode::sample,
    model::translation::Translations as _,
    util::{messages::info, system_clock::monotonic_ns},
};

/// What has been read from the buffers and not been fed yet.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<ResetEvent>,
    /// Samples that are no events.
    pub(super) malformed: u64,
}

impl Batch {
    /// Parses a sample, which may lie in two parts.
    pub(super) fn push(&mut self, head: &[u8], tail: &[u8]) {
        match sample::parse(head.chain(tail)) {
            Ok(event) => self.events.push(event),
            Err(error) => {
                log::warn!("{error}");
                self.malformed += 1;
            }
        }
    }
}

impl Pipeline {
    /// Feeds a batch. Every event up to `seen_ns` has been read (nanoseconds of the events' clock).
    pub(super) fn process(&mut self, batch: &mut Batch, seen_ns: u64) {
        if !batch.events.is_empty() {
            self.check_netns_path();
        }
        self.losses.malformed += mem::take(&mut batch.malformed);
        let Some(clock) = read_clocks() else { return };
        self.processor.feed(&mut batch.events, seen_ns, &clock, &mut self.loaded, &mut self.results);
        self.report_degraded_attribution();
    }

    /// Feeds the resets that the kernel side has counted instead of delivering them.
    pub(super) fn process_aggregates(&mut self) {
        self.check_netns_path();
        let Some(clock) = read_clocks() else { return };
        self.processor.feed_aggregates(&clock, &mut self.loaded, &mut self.results);
        self.report_degraded_attribution();
    }

    /// Looks up the holders of the sockets whose records wait for their owner.
    pub(super) fn look_up_holders(&mut self) {
        match self.processor.look_up_holders(&mut self.loaded, &mut self.results) {
            Lookup::NotDue => {}
            Lookup::Scanned => {
                if mem::take(&mut self.scans_fail) {
                    info("scans of open files work again");
                }
            }
            Lookup::Failed(error) => self.report_failed_scan(&error),
        }
        self.report_degraded_attribution();
    }

    /// Asks for the translations of connections whose records wait, and takes the answers that have come.
    pub(super) fn look_up_translations(&mut self, conntrack: Option<&mut Conntrack>) {
        let Some(conntrack) = conntrack else { return };
        for TranslationRequest { id, namespace, local, peer } in self.processor.take_lookups() {
            if conntrack.request(id, namespace, local, peer) {
                self.processor.await_answer(id);
            }
        }
        for answer in conntrack.take_answers() {
            self.processor.answer(answer);
        }
    }

    /// Event time up to which everything has been read, where the buffers were `emptied` after this moment: in a flood the
    /// last event of a batch shows how far they have come.
    pub(super) fn seen_ns(emptied: bool, now_ns: Option<u64>, batch: &Batch) -> u64 {
        let last_ns = || batch.events.last().map_or(0, |event| event.ktime_ns);
        now_ns.filter(|_| emptied).unwrap_or_else(last_ns)
    }
}

/// Now, on the events' clock; 0 when it cannot be read, which is before every event.
pub(super) fn now_ns() -> u64 {
    monotonic_ns().unwrap_or(0)
}
