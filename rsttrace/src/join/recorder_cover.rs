//! What a recording covers: the marks around an instant, and whether anything is missing between them.
//!
//! Only here silence becomes knowledge, so each condition is one that a recorder without a fault meets and a hole in the
//! recording does not: marks in time, nothing lost, as many records as the marks count, and the host's own counter explained.

use std::collections::BTreeMap;

use foldhash::HashMap;
use jiff::Timestamp;

use super::{
    covered_run::{CoveredRun, Uncovered},
    hidden::OWN_FILTER,
    seen_reset::SeenReset,
    wording::Moments,
};
use crate::model::{Mark, RecordingContext, RecordingHeader};

/// What the runs of a recording cover.
#[derive(Debug, Default)]
pub(super) struct RecorderCover {
    runs: Vec<CoveredRun>,
    /// Places of the runs by the times when they began.
    by_begin: BTreeMap<Timestamp, usize>,
    /// Place of the run that the last header was of.
    current: usize,
    pub(super) signs: usize,
    /// Whether lines of another machine with its name may be among its own.
    is_mixed: bool,
    /// Sum of the steps of the wall clock, nanoseconds.
    jumps_ns: i64,
}

/// Proof that nothing is missing in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CoverProof {
    /// The sign before the span, and the one behind it, nanoseconds since 1970.
    pub(super) signs_ns: (i64, i64),
    /// Growth between them of the counter of sent resets, and of those that were seen; `None` where that is not compared.
    pub(super) counted: Option<(u64, u64)>,
    /// Network namespace that the counter is of; `None` where the recording does not tell.
    pub(super) netns: Option<u32>,
    /// Whether resets of the host's own packet filter would be in it.
    pub(super) sees_filter: bool,
}

/// Most runs of a host.
const RUNS_MAX: usize = 65_536;
/// Most marks of all recordings of a host.
const SIGNS_MAX: usize = 4_000_000;

impl RecorderCover {
    /// Takes the header of a segment.
    pub(super) fn header(&mut self, header: &RecordingHeader) {
        match self.by_begin.get(&header.run) {
            Some(known) => self.current = *known,
            // Without its run nothing of it is known.
            None if self.runs.len() >= RUNS_MAX => return self.hole(),
            None => {
                self.current = self.runs.len();
                self.by_begin.insert(header.run, self.current);
                self.runs.push(CoveredRun::new(header));
            }
        }
        if let Some(run) = self.runs.get_mut(self.current) {
            run.header(header);
        }
    }

    /// Place of the run that a line of these times is of: of the last header's, unless it is from before that, and both clocks are
    /// those of an earlier one.
    fn run_at(&self, time: Timestamp, monotonic_ns: u64) -> usize {
        let run = |place: usize| self.runs.get(place);
        if run(self.current).is_none_or(|run| run.run <= time) {
            return self.current;
        }
        let earlier = self.by_begin.range(..=time).next_back().map(|(_, place)| *place);
        let is_of = |place: &usize| run(*place).is_some_and(|run| run.has_clocks_of(time, monotonic_ns));
        earlier.filter(is_of).unwrap_or(self.current)
    }

    /// Takes a mark.
    pub(super) fn mark(&mut self, mark: &Mark) {
        let place = self.run_at(mark.time, mark.monotonic_ns);
        let Some(run) = self.runs.get_mut(place) else { return };
        if self.signs >= SIGNS_MAX {
            run.hole();
            return;
        }
        let before = run.len();
        run.mark(mark);
        self.signs += run.len() - before;
    }

    /// Takes a record of these times and with this number, 0 where it has none, of a reset that stands for so many. Returns the
    /// place of its run; `None` without one.
    pub(super) fn record(&mut self, time: Timestamp, monotonic_ns: u64, number: u64, count: u64) -> Option<u32> {
        let place = self.run_at(time, monotonic_ns);
        self.runs.get_mut(place)?.record(number, count);
        u32::try_from(place).ok()
    }

    /// Notes that something of the input was not read here.
    pub(super) fn hole(&mut self) {
        if let Some(run) = self.runs.get_mut(self.current) {
            run.hole();
        }
    }

    /// Notes that lines of another machine with its name may be among its own.
    pub(super) const fn mix(&mut self) {
        self.is_mixed = true;
    }

    /// Number of runs.
    pub(super) const fn len(&self) -> usize {
        self.runs.len()
    }

    /// Sorts what was taken, and finds holes. `resets` are the host's, in the order of time.
    pub(super) fn finish(&mut self, resets: &[SeenReset]) {
        let mut of_runs: HashMap<u32, Vec<(i64, u64)>> = HashMap::default();
        let shuffled = (0..).zip(&self.runs).filter(|(_, run)| run.is_shuffled());
        of_runs.extend(shuffled.map(|(place, _)| (place, Vec::new())));
        let counted = resets.iter().filter(|reset| reset.ignored.is_none());
        for reset in counted.take(if of_runs.is_empty() { 0 } else { resets.len() }) {
            if let Some(of_run) = reset.run.and_then(|run| of_runs.get_mut(&run)) {
                of_run.push((reset.time_ns, reset.count));
            }
        }
        self.jumps_ns = 0;
        for (place, run) in (0_u32..).zip(&mut self.runs) {
            let of_run = of_runs.get(&place).map(Vec::as_slice).unwrap_or_default();
            self.jumps_ns = self.jumps_ns.saturating_add(run.finish(of_run));
        }
    }

    /// Adds what another input of the host covers.
    pub(super) fn append(&mut self, mut other: Self) {
        self.runs.append(&mut other.runs);
        self.signs += other.signs;
        self.is_mixed |= other.is_mixed;
    }

    /// How far the wall clock was set in all, nanoseconds.
    pub(super) const fn jumps_ns(&self) -> i64 {
        self.jumps_ns
    }

    /// First and last sign, nanoseconds since 1970.
    pub(super) fn span_ns(&self) -> Option<(i64, i64)> {
        let times = || self.runs.iter().flat_map(CoveredRun::times_ns);
        times().min().zip(times().max())
    }

    /// Whether there is a sign of a recorder.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.iter().all(|run| run.len() == 0)
    }

    /// Whether every run's clock followed a time server at its begin, by its own account.
    pub(super) fn is_synchronized(&self) -> bool {
        !self.runs.is_empty() && self.runs.iter().all(|run| run.synchronized == Some(true))
    }

    /// What each run was on, and what it recorded.
    pub(super) fn contexts(&self) -> impl Iterator<Item = &RecordingContext> {
        self.runs.iter().map(|run| &*run.of)
    }

    /// Proof that a run which `hides` nothing covers a span of time without a loss. Fails with the reason, as a part of a
    /// sentence; `hides` gives one as well.
    pub(super) fn proof(
        &self,
        from_ns: i64,
        to_ns: i64,
        moments: &Moments,
        hides: &dyn Fn(&RecordingContext) -> Option<String>,
    ) -> Result<CoverProof, String> {
        if self.is_mixed {
            return Err("may have the lines of another machine or namespace with its name".to_owned());
        }
        let mut reason = None;
        for run in &self.runs {
            match run.proof(from_ns, to_ns) {
                Ok(proof) => match hides(&run.of) {
                    None => {
                        let sees_filter = !run.of.degraded.iter().any(|text| text.starts_with(OWN_FILTER));
                        return Ok(CoverProof { netns: run.of.netns, sees_filter, ..proof });
                    }
                    Some(why) => reason = Some(why),
                },
                Err(Uncovered::Outside) => {}
                Err(Uncovered::Hole(why)) => reason = Some(why),
            }
        }
        Err(reason.unwrap_or_else(|| self.outside(from_ns, to_ns, moments)))
    }

    /// Why no run covers a span around an instant, as a part of a sentence.
    fn outside(&self, from_ns: i64, to_ns: i64, moments: &Moments) -> String {
        let at_ns = from_ns.midpoint(to_ns);
        match self.span_ns() {
            None => "has no marks, which show what it covers".to_owned(),
            Some((first, _)) if at_ns < first => format!("begins later, at {}", moments.of(first)),
            Some((first, _)) if from_ns < first => {
                format!("begins at {}, within the uncertainty of the clocks", moments.of(first))
            }
            Some((_, last)) if at_ns > last => format!("ends before, at {}", moments.of(last)),
            Some((_, last)) if to_ns > last => {
                format!("ends at {}, within the uncertainty of the clocks", moments.of(last))
            }
            Some(_) => "has a gap there: the recorder did not run".to_owned(),
        }
    }
}
