//! Ends of the chain for tests, benchmarks and fuzzers: no kernel, and records kept in memory.

use std::sync::Arc;

use anyhow::{Result, bail};
use rsttrace_common::{
    flood::{Aggregates, FloodProgress},
    holder_lookup::HolderLookup,
    limits::AGGREGATES_PER_CPU,
};

use super::{
    captured::CapturedChain,
    processor::{Attribute, KernelSide, Output, Processor, Stages, Wanted},
    rediagnose::Rediagnosis,
};
use crate::{
    attribute::owner,
    decode::{Decoder, flood::FloodAggregator},
    diagnose::Diagnosis,
    filter::RecordFilter,
    format::{Formatter as _, json::JsonFormatter},
    model::internals::KernelTask,
    model::{Actor, Interface, Netns, Process, Record, Reset},
    replay::{Line, parse_line},
};

/// A kernel side that knows nothing beyond the events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKernel;

impl KernelSide for NoKernel {
    fn now_ns(&self) -> Option<u64> {
        None
    }

    fn scan_open_files(&mut self, _: u32) -> Result<()> {
        bail!("there is no kernel side")
    }

    fn holder_lookup(&self, _: u64) -> Option<HolderLookup> {
        None
    }

    fn command_line(&self, _: &KernelTask) -> Option<Vec<u8>> {
        None
    }

    fn interface(&self, index: u32) -> (Interface, Option<Netns>) {
        (Interface { index, name: Some("eth0".into()) }, None)
    }

    fn aggregates(&self) -> Vec<Aggregates> {
        Vec::new()
    }

    fn release_aggregates(&mut self, _: &[[u64; AGGREGATES_PER_CPU]]) {}

    fn publish_progress(&mut self, _: FloodProgress) {}
}

/// Attribution from the events alone; `complete` fills in what `/proc` would tell.
pub struct FromEvents<F> {
    /// Completes a record whose owner and actor are known.
    pub complete: F,
}

impl<F: FnMut(&mut Reset)> Attribute for FromEvents<F> {
    fn needs_lookup(&mut self, _: &mut Reset) -> bool {
        false
    }

    fn attribute(&mut self, reset: &mut Reset, _: &dyn Fn(&KernelTask) -> Option<Vec<u8>>) {
        let verdict = owner::decide(reset);
        reset.process = verdict.owner.map(|owner| Process {
            pid: owner.task.tgid,
            comm: owner.task.comm,
            executable: None,
            command_line: None,
            uid: owner.task.uid,
            user: None,
            cgroup: None,
            provenance: owner.provenance,
            confidence: owner.confidence,
        });
        reset.actor = verdict.actor.map(|task| Actor { pid: task.tgid, comm: task.comm });
        (self.complete)(reset);
    }

    fn name_translated(&self, _: &mut Reset) {}
}

/// Records in memory.
#[derive(Debug, Default)]
pub struct Collected(pub Vec<Record>);

impl Output for Collected {
    fn observe(&mut self, _: &Reset) {}

    fn emit(&mut self, record: Record) {
        self.0.push(record);
    }
}

impl Collected {
    /// The resets among them, which must not be shared.
    pub fn resets(self) -> Vec<Reset> {
        let reset = |record| match record {
            Record::Reset(reset) => Some(Arc::unwrap_or_clone(reset)),
            _ => None,
        };
        self.0.into_iter().filter_map(reset).collect()
    }
}

/// Records as a recording of them, with their facts, gives them: parsed, and diagnosed again by the rules of this version. Fails
/// where a line cannot be written or is not understood.
pub fn recorded(records: &[Record], diagnosis: Diagnosis) -> Result<Vec<Record>> {
    let (mut formatter, mut lines) = (JsonFormatter::with_facts(), Vec::new());
    for record in records {
        formatter.write(record, &mut lines)?;
    }
    let mut rediagnosis = Rediagnosis::new(diagnosis, RecordFilter::default());
    let mut out = Collected::default();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match parse_line(line) {
            Ok(Line::Record(record)) => rediagnosis.record(record, &mut out),
            Ok(other) => bail!("{other:?} is no record"),
            Err(error) => bail!("{error}: {}", String::from_utf8_lossy(line)),
        }
    }
    rediagnosis.finish(&mut out);
    Ok(out.0)
}

/// What the stages make of the resets of a packet capture.
pub fn captured(resets: Vec<Reset>, diagnosis: &Diagnosis) -> Vec<Record> {
    let mut chain = CapturedChain::new(diagnosis, RecordFilter::default());
    let mut out = Collected::default();
    for reset in resets {
        chain.take(reset, &mut out);
    }
    chain.finish(&mut out);
    out.0
}

/// The chain without filters, with evidence, and with this attribution.
pub fn processor<A: Attribute>(decoder: Decoder, diagnosis: Diagnosis, attribution: A) -> Processor<A> {
    let stages =
        Stages { decoder, diagnosis, attribution, filter: RecordFilter::default(), flood: FloodAggregator::new(0, 1) };
    Processor::new(stages, Wanted { evidence: true, ..Wanted::default() })
}
