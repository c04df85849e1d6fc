//! What a run says of itself: what is watched and what not, what was lost, what it came to.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;

use super::{Run, wait::monotonic_ns};
use crate::{
    exit::{note, sentence},
    metrics::Scrape,
    model::{Coverage, Lost, LostWhere, Record, Summary},
    sink::outputs::Outputs,
    summary::{SummaryContext, coverage::CounterBaseline},
    transport::Transport,
    util::degraded::{self, Degraded},
};

/// Why there was no room for an event.
const TOO_FAST: &str = "they came faster than they were read; raise --buffer-size or filter";

impl Run {
    /// Says that open files cannot be walked, once for each time that it begins.
    pub(super) fn cannot_walk(&mut self, error: &anyhow::Error) {
        if std::mem::replace(&mut self.walks_fail, true) {
            return;
        }
        let degraded = Degraded {
            what: "walks of open files".to_owned(),
            why: sentence(error),
            loss: "owners of accepted connections are less sure meanwhile".to_owned(),
        };
        note(format_args!("degraded: {degraded}"));
        if !self.loaded.degraded.contains(&degraded) {
            self.loaded.degraded.push(degraded);
        }
    }

    /// Reports what has been lost since the last time.
    pub(super) fn count_losses(&mut self) {
        // The map is ours; reading it cannot fail once it could be opened.
        let lost = self.loaded.lost().unwrap_or(self.lost_in_kernel);
        let new = lost.saturating_sub(self.lost_in_kernel);
        if new > 0 {
            self.flood.suspect(monotonic_ns().unwrap_or(0));
        }
        self.lose(new, LostWhere::Kernel, TOO_FAST);
        // Never less: what was reported stays so, and counts for a later loss.
        self.lost_in_kernel = self.lost_in_kernel.max(lost);
        let unsettled = self.loaded.unsettled().unwrap_or(self.unsettled);
        if unsettled > self.unsettled {
            let count = unsettled - self.unsettled;
            note(format_args!(
                "{count} resets told as received were sent by this host: the events that show it were lost: {TOO_FAST}"
            ));
            self.unsettled = unsettled;
        }
        let asides = self.loaded.lost_asides().unwrap_or(self.lost_asides);
        if asides > self.lost_asides {
            let count = asides - self.lost_asides;
            note(format_args!("{count} ignored or forwarded resets were lost: {TOO_FAST}"));
            self.lost_asides = asides;
        }
        let malformed = std::mem::take(&mut self.malformed);
        self.lose(malformed, LostWhere::Userspace, "the kernel side and this program do not fit together");
    }

    /// `why` ends a sentence and says what to do, if anything.
    pub(super) fn lose(&mut self, count: u64, place: LostWhere, why: &str) {
        if count == 0 {
            return;
        }
        self.tally.count_lost(count);
        note(format_args!("{count} resets were lost: {why}"));
        let lost = Lost { time: Timestamp::now(), count, r#where: place };
        self.metrics.as_ref().inspect(|metrics| metrics.count_lost(&lost));
        self.outbox.push(Record::Lost(lost));
    }

    /// Tells Prometheus.
    pub(super) fn answer(&self, scrape: Scrape, ways: &Outputs) {
        if let Some(metrics) = &self.metrics {
            // Whoever asked may have gone.
            scrape.send(metrics.render(&self.summary(false, CounterBaseline::compare_own, ways))).unwrap_or_default();
        }
    }

    /// When the next summary is due.
    pub(super) fn next_summary(&self) -> Option<Instant> {
        self.trace.output.summary_interval.map(|interval| Instant::now() + interval)
    }

    /// Says what the run has come to so far.
    pub(super) fn summarise(&mut self, ways: &Outputs) {
        let summary = self.summary(false, CounterBaseline::compare_all, ways);
        note(&summary);
        self.outbox.push(Record::Summary(Arc::new(summary)));
    }

    pub(super) fn summary(
        &self,
        last: bool,
        compare: fn(&CounterBaseline, bool) -> Coverage,
        ways: &Outputs,
    ) -> Summary {
        let complete = self.selection.is_everything() && !self.tally.has_losses();
        self.tally.summary(SummaryContext {
            time: Timestamp::now(),
            duration: self.started.elapsed(),
            last,
            timeouts: self.diagnosis.timeouts(),
            coverage: compare(&self.watch, complete),
            degraded: &self.loaded.degraded,
            sinks: ways.counts(),
        })
    }

    /// One line that says what is watched, and one for each thing that is not.
    pub(super) fn announce(&self, transport: &Transport) {
        let buffer = match transport {
            Transport::Perf(_) => "perf ring buffers",
            Transport::Ring(_) => "a BPF ring buffer",
        };
        let hooks: Vec<&str> = self.loaded.attached.iter().map(|attached| attached.hook).collect();
        note(format_args!("tracing {} through {buffer}; Ctrl-C stops", hooks.join(", ")));
        for degraded in degraded::grouped(&self.loaded.degraded) {
            note(format_args!("degraded: {degraded}"));
        }
    }
}
