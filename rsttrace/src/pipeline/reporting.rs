//! Messages and summaries of a run: its start, degradations, losses and results.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Pipeline, Stages, feed::now_ns, live::Results, processor::Output as _};
use crate::{
    attribute::absence::{self, Absences},
    cli::OutputOptions,
    format::Format,
    metrics::Scrape,
    model::{Coverage, Lost, LostWhere, Record, Summary},
    sink::{SinkSpec, outputs::Outputs},
    summary::{SummaryContext, coverage::CounterBaseline},
    util::{
        counted,
        degraded::{self, Degraded},
        messages::{info, sentence},
        time_span, was,
    },
};

/// Shortest time between two reports of losses.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Reason of losses in the kernel, with the remedy.
const TOO_FAST: &str = "events arrived faster than they were read; raise --buffer-size, or filter";

impl Pipeline {
    /// Reports that open files cannot be scanned, once for each time that it begins.
    pub(super) fn report_failed_scan(&mut self, error: &anyhow::Error) {
        if std::mem::replace(&mut self.scans_fail, true) {
            return;
        }
        let degraded = Degraded {
            what: "scans of open files".to_owned(),
            why: sentence(error),
            loss: "owners of accepted connections are less certain until it works again".to_owned(),
        };
        self.degrade(degraded);
    }

    /// Reports what attribution has begun to lack, once for each lack.
    pub(super) fn report_degraded_attribution(&mut self) {
        if let Some(degraded) = self.processor.stages_mut().attribution.take_degraded() {
            self.degrade(degraded);
        }
    }

    /// Reports what works less well from here on, and keeps it for the summary.
    fn degrade(&mut self, degraded: Degraded) {
        info(format_args!("degraded: {degraded}"));
        if !self.loaded.degraded.contains(&degraded) {
            self.loaded.degraded.push(degraded);
        }
    }

    /// Reports what has been lost since the last report: the first loss at once, further ones once a second, with their sum. `ends`
    /// says that the run ends, and that no later report follows.
    pub(super) fn count_losses(&mut self, ends: bool) {
        // The maps are ours; reading them cannot fail once they could be opened.
        let in_kernel = self.loaded.lost_resets().unwrap_or(self.losses.in_kernel);
        let misclassified = self.loaded.misclassified().unwrap_or(self.losses.misclassified);
        let unapplied = self.loaded.lost_unapplied().unwrap_or(self.losses.unapplied);
        if in_kernel > self.losses.seen_in_kernel {
            self.processor.stages_mut().flood.arm(now_ns());
            self.losses.seen_in_kernel = in_kernel;
        }
        let Losses { reported, malformed, .. } = self.losses;
        // Never less: what was reported stays so, and counts for a later loss.
        let [new, new_misclassified, new_unapplied] = [
            (in_kernel, self.losses.in_kernel),
            (misclassified, self.losses.misclassified),
            (unapplied, self.losses.unapplied),
        ]
        .map(|(now, before)| now.saturating_sub(before));
        self.losses.is_waiting = new + new_misclassified + new_unapplied + malformed > 0;
        let is_due = ends || reported.is_none_or(|reported| reported.elapsed() >= REPORT_INTERVAL);
        if !self.losses.is_waiting || !is_due {
            return;
        }
        self.results.report_loss(new, LostWhere::Kernel, TOO_FAST);
        if new_misclassified > 0 {
            let resets = counted(new_misclassified, "reset");
            info(format_args!(
                "{resets} shown as received {} sent by this host; the events that tell were lost: {TOO_FAST}",
                was(new_misclassified)
            ));
        }
        if new_unapplied > 0 {
            let resets = counted(new_unapplied, "ignored or forwarded reset");
            info(format_args!("{resets} {} lost: {TOO_FAST}", was(new_unapplied)));
        }
        self.results.report_loss(
            malformed,
            LostWhere::Userspace,
            "the programs in the kernel and this process do not match",
        );
        self.losses = Losses {
            in_kernel: self.losses.in_kernel + new,
            misclassified: self.losses.misclassified + new_misclassified,
            unapplied: self.losses.unapplied + new_unapplied,
            seen_in_kernel: self.losses.seen_in_kernel,
            malformed: 0,
            is_waiting: false,
            reported: Some(Instant::now()),
        };
    }

    /// When losses that wait are reported; `None` where none do.
    pub(super) fn next_loss_report(&self) -> Option<Instant> {
        self.losses.reported.filter(|_| self.losses.is_waiting).map(|reported| reported + REPORT_INTERVAL)
    }

    /// Answers a scrape of the metrics.
    pub(super) fn answer(&self, scrape: Scrape, outputs: &Outputs) {
        if let Some(metrics) = &self.results.metrics {
            // The client may have hung up.
            scrape
                .send(metrics.render(&self.summary(false, CounterBaseline::compare_own, outputs)))
                .unwrap_or_default();
        }
    }

    /// When the next summary is due; `None` without `--summary-interval`.
    pub(super) fn next_summary(&self) -> Option<Instant> {
        self.trace.output.summary_interval.map(|interval| Instant::now() + interval)
    }

    /// Reports what the run has come to so far.
    pub(super) fn report_summary(&mut self, outputs: &Outputs) {
        let mut summary = self.summary(false, CounterBaseline::compare_all, outputs);
        let new = summary.resets - std::mem::replace(&mut self.summarized, summary.resets);
        if let Some(interval) = self.trace.output.summary_interval {
            let time = self.text_options().format_time(summary.time, now_ns());
            let interval = time_span::shown(interval);
            let new = counted(new, "reset");
            summary.heading = format!("{time}{new} in the last {interval}; since the start:");
        }
        self.output_setup().print_summary(&summary);
        self.results.outbox.push(Record::Summary(Arc::new(summary)));
    }

    pub(super) fn summary(
        &self,
        last: bool,
        compare: fn(&CounterBaseline, Option<u64>) -> Coverage,
        outputs: &Outputs,
    ) -> Summary {
        let stages = self.processor.stages();
        let (_, lost) = self.results.tally.totals();
        let compared = stages.filter.is_everything().then_some(lost);
        self.results.tally.summary(SummaryContext {
            time: Timestamp::now(),
            duration: self.started.elapsed(),
            last,
            timeouts: stages.diagnosis.timeouts(),
            coverage: compare(&self.results.baseline, compared),
            degraded: &self.loaded.degraded,
            sinks: outputs.counts(),
        })
    }

    /// What the filters do not find on this host now. Looks at every process for some of them: before the sandbox, in
    /// which not all can be seen.
    pub(super) fn absences(&self) -> Absences {
        let filter = &self.processor.stages().filter;
        let mut absences = absence::find(filter.filters());
        absences.notes.extend(filter.notes());
        absences
    }

    /// All notes on what the filters do not find, those on names too, which are being read. Blocks for 200 ms at most.
    pub(super) fn absence_notes(&mut self, absences: Absences) -> Vec<String> {
        let Absences { mut notes, containers } = absences;
        let Stages { attribution, filter, .. } = self.processor.stages_mut();
        if let Some(containers) = containers {
            notes.extend(attribution.absent_names(filter.filters(), &containers));
        }
        notes
    }

    /// Prints what is watched, what is limited, and warnings: filters that nothing matches yet, records that go nowhere.
    pub(super) fn announce(&self, absences: Vec<String>) {
        let OutputOptions { output, sink, metrics, quiet, group_by, report, .. } = &self.trace.output;
        let has_others = metrics.is_some() || report.is_some() || self.is_viewed;
        if *output == Format::None && sink.is_empty() && !has_others && group_by.is_empty() {
            info("records go nowhere: --output none is for use with --sink, --metrics or --report");
        }
        let stages = self.processor.stages();
        // A view tells it.
        if *quiet || self.is_viewed {
            return absences.into_iter().for_each(info);
        }
        let place =
            if stages.filter.filters().netns.is_some() { "one network namespace" } else { "all network namespaces" };
        info(format_args!("watching resets in {place} (version {}); press Ctrl-C to stop", env!("CARGO_PKG_VERSION")));
        for place in sink.iter().filter_map(SinkSpec::recording_place) {
            info(format_args!("recording to {place}"));
        }
        if let Some(limits) = degraded::limits(&self.loaded.degraded) {
            info(format_args!("limited: {limits}; 'rsttrace doctor' has reasons and remedies"));
        }
        absences.into_iter().for_each(info);
    }
}

/// Losses that have been reported.
#[derive(Default)]
pub(super) struct Losses {
    /// Events of resets that found no room in the buffer.
    in_kernel: u64,
    /// As `in_kernel`, those that wait for a report among them.
    seen_in_kernel: u64,
    /// Events of ignored and forwarded resets that found none.
    unapplied: u64,
    /// Resets that were told in the wrong direction.
    misclassified: u64,
    /// Samples that are no events and have not been reported yet.
    pub(super) malformed: u64,
    /// Whether losses wait for the next report.
    is_waiting: bool,
    /// Time of the last report.
    reported: Option<Instant>,
}

impl Results {
    /// Reports so many lost resets; nothing for 0. `why` ends a sentence and names the remedy, if there is one.
    pub(super) fn report_loss(&mut self, count: u64, place: LostWhere, why: &str) {
        if count == 0 {
            return;
        }
        self.tally.count_lost(count);
        info(format_args!("{} {} lost: {why}", counted(count, "reset"), was(count)));
        self.emit(Record::Lost(Lost { time: Timestamp::now(), host: self.host.clone(), count, r#where: place }));
    }
}
