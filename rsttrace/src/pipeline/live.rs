//! The live run's ends of the chain: the loaded programs, the host's processes, and the run's outputs.

use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;
use rsttrace_common::{
    flood::{Aggregates, FloodProgress},
    holder_lookup::HolderLookup,
    limits::AGGREGATES_PER_CPU,
};

use super::processor::{Attribute, KernelSide, Output};
use crate::{
    attribute::Attribution,
    load::Loaded,
    metrics::Metrics,
    model::internals::KernelTask,
    model::{Interface, Netns, Record, Reset},
    replay::Line,
    report::ReportCollector,
    summary::{Tally, coverage::CounterBaseline},
    top::Board,
    util::system_clock::monotonic_ns,
};

impl KernelSide for Loaded {
    fn now_ns(&self) -> Option<u64> {
        monotonic_ns()
    }

    fn scan_open_files(&mut self, scan: u32) -> Result<()> {
        self.scan_open_files(scan)
    }

    fn holder_lookup(&self, id: u64) -> Option<HolderLookup> {
        self.holder_lookup(id)
    }

    fn command_line(&self, task: &KernelTask) -> Option<Vec<u8>> {
        self.command_line(task.tgid, task.start_boottime_ns)
    }

    fn interface(&self, index: u32) -> (Interface, Option<Netns>) {
        self.interfaces.of_index(index)
    }

    fn aggregates(&self) -> Vec<Aggregates> {
        // The maps are ours; reading them cannot fail once they could be opened.
        (0..self.aggregating_cpus()).filter_map(|cpu| self.aggregates(cpu).ok()).collect()
    }

    fn release_aggregates(&mut self, totals: &[[u64; AGGREGATES_PER_CPU]]) {
        for (cpu, totals) in (0..).zip(totals) {
            // Writing them cannot fail either.
            let _ignored = self.release_aggregates(cpu, *totals);
        }
    }

    fn publish_progress(&mut self, progress: FloodProgress) {
        // Without it more is counted or lost, and both are reported.
        let _ignored = self.publish_progress(progress);
    }
}

impl Attribute for Attribution {
    fn needs_lookup(&mut self, reset: &mut Reset) -> bool {
        self.prepare_lookup(reset)
    }

    fn attribute(&mut self, reset: &mut Reset, command_line: &dyn Fn(&KernelTask) -> Option<Vec<u8>>) {
        self.attribute(reset, command_line);
    }

    fn name_translated(&self, reset: &mut Reset) {
        self.name_translated(reset);
    }
}

/// What a run has made: records on their way to the outputs, and everything that counts them.
#[derive(Default)]
pub(super) struct Results {
    /// Name of this host; `None` in a replay, whose records have theirs.
    pub(super) host: Option<Arc<str>>,
    pub(super) outbox: Vec<Record>,
    pub(super) tally: Tally,
    /// The host's counters at the start, and what was seen since.
    pub(super) baseline: CounterBaseline,
    pub(super) metrics: Option<Metrics>,
    /// What a report at the end needs; `None` without one.
    pub(super) report: Option<Box<ReportCollector>>,
    /// What a view needs beside that; `None` without one.
    pub(super) board: Option<Box<Board>>,
}

impl Results {
    /// Takes a line that is no record, as far as a report needs it. `since` is the first time that is read: a header may be older.
    pub(super) fn take_sign(&mut self, line: &Line, since: Option<Timestamp>) {
        let Some(report) = &mut self.report else { return };
        if let Line::Header(_) = line {
            report.see(since.map_or(line.time(), |since| line.time().max(since)));
        }
        match line {
            Line::Header(header) => report.header(header),
            Line::Mark(mark) => report.mark(mark),
            Line::Record(_) | Line::Captured(_) | Line::Summary(_) => {}
        }
    }

    /// Sets what `/readyz` answers, where there are metrics.
    pub(super) fn set_ready(&self, is_ready: bool) {
        if let Some(metrics) = &self.metrics {
            metrics.set_ready(is_ready);
        }
    }
}

impl Output for Results {
    fn observe(&mut self, reset: &Reset) {
        self.baseline.observe(reset);
    }

    fn emit(&mut self, record: Record) {
        if let Record::Reset(reset) = &record {
            self.tally.count(reset);
        }
        if let Some(report) = &mut self.report {
            report.count(&record);
        }
        if let Some(board) = &mut self.board {
            board.count(&record);
        }
        if let Some(metrics) = &mut self.metrics {
            match &record {
                Record::Reset(reset) => metrics.count(reset),
                Record::Ignored(ignored) => metrics.count_ignored(ignored),
                Record::Forwarded(forwarded) => metrics.count_forwarded(forwarded),
                Record::Lost(lost) => metrics.count_lost(lost),
                Record::Summary(_) => {}
            }
        }
        self.outbox.push(record);
    }

    fn omit_own(&mut self, reset: &Reset) {
        self.tally.count_own(reset);
        if let Some(metrics) = &self.metrics {
            metrics.count_own(reset);
        }
    }
}
