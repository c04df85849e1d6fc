//! From events to records, and on to the ways out.

use std::sync::Arc;

use rsttrace_common::{
    event::{KIND_FORWARDED, KIND_IGNORED, ResetEvent},
    flood::Pace,
};

use super::{
    Run,
    wait::{monotonic_ns, read_clocks},
};
use crate::{
    attribute::owner,
    decode::{self, clock::WallClock},
    exit::note,
    reset::Reset,
    sink::Record,
};

impl Run {
    /// Events to records, and those that are wanted to the outbox. Every event up to `seen_ns` has been read: what is
    /// held for a later one can go on if that has not come by then.
    pub(super) fn process(&mut self, batch: &mut Vec<ResetEvent>, seen_ns: u64) {
        if !batch.is_empty() {
            self.look_at_netns();
        }
        let Some(clock) = read_clocks() else { return };
        // Each CPU's perf ring is in order, all together they are not.
        batch.sort_by_key(|event| event.ktime_ns);
        for event in &*batch {
            self.flood.see(event, clock.monotonic_ns);
        }
        if let Some(pace) = self.flood.next_pace(clock.monotonic_ns) {
            self.keep_pace(pace);
        }
        for event in &*batch {
            if self.settle.lets_go_on(event) {
                self.take(event, 1, &clock);
            }
        }
        batch.clear();
        for event in self.settle.release(seen_ns) {
            self.take(&event, 1, &clock);
        }
    }

    /// An event to a record that stands for `count` resets.
    fn take(&mut self, event: &ResetEvent, count: u64, clock: &WallClock) {
        if event.kind == KIND_FORWARDED {
            let forwarded = self.decoder.forwarded(event, clock, interface_name(event.interface));
            if self.selection.wants_forwarded(&forwarded) {
                self.metrics.as_ref().inspect(|metrics| metrics.forward(&forwarded));
                self.outbox.push(Record::Forwarded(Arc::new(forwarded)));
            }
            return;
        }
        let mut reset = self.decoder.reset(event, clock);
        reset.count = count;
        if event.kind == KIND_IGNORED {
            // Nothing was reset: neither the memory of neighbours nor any count may see it.
            self.attribute(&mut reset);
            if self.selection.wants(&reset) {
                let ignored = reset.into();
                self.metrics.as_ref().inspect(|metrics| metrics.ignore(&ignored));
                self.outbox.push(Record::Ignored(Arc::new(ignored)));
            }
            return;
        }
        // In the order of events, which the memory of earlier ones goes by.
        self.diagnosis.diagnose(&mut reset);
        let needs_lookup = self.attribution.prepare_lookup(&mut reset);
        // From here on it stays where it is in memory.
        let reset = self.spare.place(reset);
        let reset = if needs_lookup { self.pending.push(reset) } else { Some(reset) };
        if let Some(reset) = reset {
            self.conclude(reset);
        }
    }

    /// Takes the resets that the kernel side has counted instead of handing them over.
    pub(super) fn fetch_counted(&mut self) {
        self.look_at_netns();
        let Some(clock) = read_clocks() else { return };
        // The maps are ours; reading them cannot fail once they could be opened.
        let folds: Vec<_> = (0..self.loaded.counting_cpus()).filter_map(|cpu| self.loaded.folds(cpu).ok()).collect();
        let (alike, seen, pace) = self.flood.fetch(&folds, clock.monotonic_ns);
        for (cpu, totals) in (0..).zip(seen) {
            self.loaded.have_seen(cpu, *totals).unwrap_or_default();
        }
        self.keep_pace(pace);
        for (event, count) in alike {
            self.take(&event, count, &clock);
        }
    }

    fn keep_pace(&mut self, pace: Pace) {
        // As above; without it more is counted or lost, and both are said.
        self.loaded.keep_pace(pace).unwrap_or_default();
    }

    /// Looks for the owners of the records that wait for theirs.
    pub(super) fn search(&mut self) {
        let Some(began_ns) = monotonic_ns() else { return };
        if self.pending.deadline_ns().is_none_or(|deadline| deadline > began_ns) {
            return;
        }
        let mut now_ns = began_ns;
        // Where the end of the socket tells it already, nobody need walk.
        self.release(began_ns);
        if let Some(number) = self.pending.next_scan(began_ns) {
            match self.loaded.walk(number) {
                Ok(()) => {
                    now_ns = monotonic_ns().unwrap_or(began_ns);
                    self.pending.scan_finished(began_ns, now_ns);
                    if std::mem::take(&mut self.walks_fail) {
                        note("open files are walked again");
                    }
                }
                Err(error) => {
                    self.pending.scan_failed(began_ns);
                    self.cannot_walk(&error);
                }
            }
        }
        self.release(now_ns);
    }

    /// Lets go of the records that need not wait any longer for their owner.
    pub(super) fn release(&mut self, now_ns: u64) {
        let released = self.pending.release(now_ns, |number, first_scan| {
            let findings = self.loaded.findings(number);
            let mut found = findings.map(|findings| decode::found(&findings, first_scan)).unwrap_or_default();
            found.closer = found.closer.filter(|closer| !owner::is_tracer_itself(closer));
            found
        });
        for reset in released {
            self.conclude(reset);
        }
    }

    fn attribute(&mut self, reset: &mut Reset) {
        self.attribution.attribute(reset, |task| self.loaded.arguments(task.tgid, task.start_boottime_ns));
        if let Some(degraded) = self.attribution.take_degraded() {
            self.degrade(degraded);
        }
    }

    /// Says whose the reset was, and hands it on if it is wanted.
    fn conclude(&mut self, mut record: Arc<Reset>) {
        // Nobody else has it yet, so nothing is copied.
        let reset = Arc::make_mut(&mut record);
        self.attribute(reset);
        self.watch.see(reset);
        if !self.selection.wants(reset) || self.is_enough() {
            return;
        }
        self.emitted += 1;
        reset.seq = self.emitted;
        if self.explains() {
            self.diagnosis.explain(reset);
        }
        self.tally.count(reset);
        if let Some(metrics) = &mut self.metrics {
            metrics.count(reset);
        }
        self.outbox.push(Record::Reset(record));
    }

    pub(super) fn is_enough(&self) -> bool {
        self.trace.run.count.is_some_and(|count| self.emitted >= count)
    }
}

/// The name of an interface of this namespace.
fn interface_name(index: u32) -> Option<Arc<str>> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    Some(name.to_string_lossy().into())
}
