//! What a recording covers: the marks around an instant, and whether anything is missing between them.
//!
//! Only here silence becomes knowledge, so each condition is one that a recorder without a fault meets and a hole in the
//! recording does not: marks in time, nothing lost, as many records as the marks count, and the host's own counter explained.

use std::sync::Arc;

use jiff::Timestamp;

use super::{hidden::OWN_FILTER, wording::Moments};
use crate::model::{Mark, RecordingContext, RecordingHeader};

/// Longest time between two marks of one run: they come every ten seconds, and a busy host is late.
const APART_MAX_NS: u64 = 30_000_000_000;
/// Smallest difference of the clocks between two marks that is a wall clock that was set.
const JUMP_MIN_NS: i64 = 1_000_000_000;
/// Marks around an instant over which a record may come later than its count.
const LATE_MARKS: usize = 2;
/// Name of the counter of sent resets.
const SENT_COUNTER: &str = "TcpOutRsts";

/// A moment at which a recorder was there.
#[derive(Clone, Copy, Debug)]
struct Sign {
    time_ns: i64,
    monotonic_ns: u64,
    /// Resets that it has counted less those that were read: grows where records are missing.
    unread: i64,
    /// Resets and records that were lost by then.
    lost: u64,
    /// Growth of the counter of sent resets less the resets that were seen: grows where one was sent unseen. `None` where that is
    /// not compared.
    unseen: Option<i64>,
    /// What the counter had counted, and what was seen.
    counted: (u64, u64),
    /// Whether something is missing since the sign before.
    follows_hole: bool,
    /// Whether it is the end of the run.
    is_last: bool,
}

/// One run of a recorder.
#[derive(Debug)]
struct CoveredRun {
    run: Timestamp,
    of: Arc<RecordingContext>,
    /// Whether the host's clock followed a time server when the run began.
    synchronized: Option<bool>,
    segment: u64,
    signs: Vec<Sign>,
    /// Whether the times of the signs never go back.
    is_ordered: bool,
    read: u64,
    has_hole: bool,
}

/// What the runs of a recording cover.
#[derive(Debug, Default)]
pub(super) struct RecorderCover {
    runs: Vec<CoveredRun>,
    signs: usize,
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

/// Most marks of all recordings of a host.
const SIGNS_MAX: usize = 4_000_000;

impl RecorderCover {
    /// Takes the header of a segment.
    pub(super) fn header(&mut self, header: &RecordingHeader) {
        let RecordingHeader { time, segment, run, of, clock, .. } = header;
        if let Some(last) = self.runs.last_mut().filter(|last| last.run == *run) {
            // A segment that is missing has taken its records with it.
            last.has_hole |= Some(*segment) != last.segment.checked_add(1);
            last.segment = *segment;
            return;
        }
        let mut begun = CoveredRun {
            run: *run,
            of: Arc::clone(of),
            synchronized: clock.synchronized,
            segment: *segment,
            signs: Vec::new(),
            is_ordered: true,
            read: 0,
            has_hole: false,
        };
        if *segment == 1 {
            begun.signs.push(Sign {
                time_ns: nanoseconds(*time),
                monotonic_ns: clock.monotonic_ns,
                unread: 0,
                lost: 0,
                unseen: Some(0),
                counted: (0, 0),
                follows_hole: false,
                is_last: false,
            });
        }
        self.runs.push(begun);
    }

    /// Takes a mark.
    pub(super) fn mark(&mut self, mark: &Mark) {
        let Some(run) = self.runs.last_mut() else { return };
        if self.signs >= SIGNS_MAX {
            run.has_hole = true;
            return;
        }
        self.signs += 1;
        let counter = mark.counters.iter().find(|counter| counter.name == SENT_COUNTER);
        let counted = counter.and_then(|counter| Some((counter.delta, counter.observed?)));
        let time_ns = nanoseconds(mark.time);
        if let Some(last) = run.signs.last() {
            let wall = time_ns.saturating_sub(last.time_ns);
            let monotonic = i64::try_from(mark.monotonic_ns.saturating_sub(last.monotonic_ns)).unwrap_or(i64::MAX);
            let jump = wall.saturating_sub(monotonic).saturating_abs();
            if jump >= JUMP_MIN_NS {
                self.jumps_ns = self.jumps_ns.saturating_add(jump);
            }
            run.is_ordered &= wall >= 0;
        }
        run.signs.push(Sign {
            time_ns,
            monotonic_ns: mark.monotonic_ns,
            unread: difference(mark.resets, run.read),
            lost: mark.lost.saturating_add(mark.undelivered),
            unseen: counted.map(|(delta, observed)| difference(delta, observed)),
            counted: counted.unwrap_or_default(),
            follows_hole: std::mem::take(&mut run.has_hole),
            is_last: mark.last,
        });
    }

    /// Takes a record of a reset that stands for so many.
    pub(super) fn record(&mut self, count: u64) {
        if let Some(run) = self.runs.last_mut() {
            run.read = run.read.saturating_add(count);
        }
    }

    /// Notes that something of the input was not read here.
    pub(super) fn hole(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            run.has_hole = true;
        }
    }

    /// Adds what another input of the host covers.
    pub(super) fn append(&mut self, mut other: Self) {
        self.runs.append(&mut other.runs);
        self.signs += other.signs;
        self.jumps_ns = self.jumps_ns.saturating_add(other.jumps_ns);
    }

    /// How far the wall clock was set in all, nanoseconds.
    pub(super) const fn jumps_ns(&self) -> i64 {
        self.jumps_ns
    }

    /// First and last sign, nanoseconds since 1970.
    pub(super) fn span_ns(&self) -> Option<(i64, i64)> {
        let times = || self.runs.iter().flat_map(|run| &run.signs).map(|sign| sign.time_ns);
        times().min().zip(times().max())
    }

    /// Whether there is a sign of a recorder.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.iter().all(|run| run.signs.is_empty())
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

/// Why a run does not cover a span.
enum Uncovered {
    /// It is not within the run.
    Outside,
    /// Something is missing, as a part of a sentence.
    Hole(String),
}

impl CoveredRun {
    fn proof(&self, from_ns: i64, to_ns: i64) -> Result<CoverProof, Uncovered> {
        // A clock that was set back has an instant twice; both must be covered.
        let (before, after) = if self.is_ordered {
            let before = self.signs.partition_point(|sign| sign.time_ns <= from_ns);
            (before, self.signs.partition_point(|sign| sign.time_ns < to_ns))
        } else {
            let before = self.signs.iter().position(|sign| sign.time_ns > from_ns).unwrap_or(self.signs.len());
            (before, self.signs.iter().rposition(|sign| sign.time_ns < to_ns).map_or(0, |place| place + 1))
        };
        let before = before.checked_sub(1).ok_or(Uncovered::Outside)?;
        let after = after.max(before + 1);
        let (Some(first), Some(last)) = (self.signs.get(before), self.signs.get(after)) else {
            return Err(Uncovered::Outside);
        };
        let hole = |why: String| Err(Uncovered::Hole(why));
        for pair in self.signs.get(before..=after).unwrap_or_default().windows(2) {
            let [one, next] = pair else { continue };
            let monotonic = next.monotonic_ns.saturating_sub(one.monotonic_ns);
            if next.follows_hole {
                return hole("has a part there that is missing or cannot be read".to_owned());
            }
            if monotonic > APART_MAX_NS {
                return hole("has a gap between its marks there: the recorder did not run".to_owned());
            }
            let wall = next.time_ns.saturating_sub(one.time_ns);
            let jump = wall.saturating_sub(i64::try_from(monotonic).unwrap_or(i64::MAX)).saturating_abs();
            if jump >= JUMP_MIN_NS {
                return hole("has a wall clock there that was set".to_owned());
            }
        }
        if first.lost != last.lost {
            let lost = last.lost.abs_diff(first.lost);
            return hole(format!("has lost {lost} {} there", if lost == 1 { "reset" } else { "resets" }));
        }
        if let Some(lost) = self.lost_at_end() {
            return hole(format!("has lost {lost} at a time that is not known"));
        }
        let least = |signs: Option<&[Sign]>, of: &dyn Fn(&Sign) -> Option<i64>| {
            signs.and_then(|all| all.iter().filter_map(of).min())
        };
        let around = (
            self.signs.get(before.saturating_sub(LATE_MARKS)..=before),
            self.signs.get(after..self.signs.len().min(after + 1 + LATE_MARKS)),
        );
        let unread = |sign: &Sign| Some(sign.unread);
        if least(around.1, &unread) > least(around.0, &unread) {
            return hole("counts more resets there than it has records: some were taken out".to_owned());
        }
        let unseen = |sign: &Sign| sign.unseen;
        let counted = match (least(around.0, &unseen), least(around.1, &unseen), first.unseen, last.unseen) {
            (Some(one), Some(next), ..) if next > one => {
                let more = next.abs_diff(one);
                return hole(format!(
                    "does not explain the host's own counter: {SENT_COUNTER} counts {more} more there than were seen"
                ));
            }
            (Some(_), Some(_), Some(_), Some(_)) => {
                Some((last.counted.0.saturating_sub(first.counted.0), last.counted.1.saturating_sub(first.counted.1)))
            }
            _ => None,
        };
        Ok(CoverProof { signs_ns: (first.time_ns, last.time_ns), counted, netns: None, sees_filter: true })
    }
}

impl CoveredRun {
    /// What the run tells at its end to have lost: what the kernel has skipped is counted then, whenever it was.
    fn lost_at_end(&self) -> Option<u64> {
        let [.., before, last] = self.signs.as_slice() else { return None };
        let lost = last.lost.saturating_sub(before.lost);
        (last.is_last && lost > 0).then_some(lost)
    }
}

fn difference(more: u64, less: u64) -> i64 {
    i64::try_from(i128::from(more) - i128::from(less)).unwrap_or(i64::MAX)
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClockState, CounterCoverage};

    const SECOND: i64 = 1_000_000_000;
    const START: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(START + second).expect("in range")
    }

    fn header(run: i64, segment: u64, second: i64) -> RecordingHeader {
        let clock = ClockState { monotonic_ns: second.unsigned_abs() * SECOND.unsigned_abs(), ..ClockState::default() };
        RecordingHeader {
            time: at(second),
            format: 1,
            segment,
            run: at(run),
            host: "b".into(),
            of: Arc::default(),
            clock,
        }
    }

    fn mark(second: i64, resets: u64, lost: u64, counter: (u64, Option<u64>)) -> Mark {
        Mark {
            time: at(second),
            host: None,
            monotonic_ns: second.unsigned_abs() * SECOND.unsigned_abs(),
            resets,
            lost,
            undelivered: 0,
            counters: vec![CounterCoverage {
                name: SENT_COUNTER.to_owned(),
                delta: counter.0,
                observed: counter.1,
                explanation: None,
            }],
            last: false,
        }
    }

    /// A run of a minute that is without a fault, but for `change`.
    fn run(change: impl Fn(&mut RecorderCover, i64)) -> RecorderCover {
        let mut cover = RecorderCover::default();
        cover.header(&header(0, 1, 0));
        for second in (10_i64..=60).step_by(10) {
            cover.record(1);
            let count = second.unsigned_abs() / 10;
            let before = cover.signs;
            change(&mut cover, second);
            if cover.signs == before {
                cover.mark(&mark(second, count, 0, (count, Some(count))));
            }
        }
        cover
    }

    fn proof(cover: &RecorderCover, from: i64, to: i64) -> Result<CoverProof, String> {
        cover.proof((START + from) * SECOND, (START + to) * SECOND, &Moments::default(), &|_| None)
    }

    fn why(cover: &RecorderCover, from: i64, to: i64) -> String {
        proof(cover, from, to).expect_err("it is not covered")
    }

    #[test]
    fn a_run_without_a_fault_covers_its_time() {
        let cover = run(|_, _| ());
        let proven = proof(&cover, 23, 25).expect("covered");
        assert_eq!(proven.signs_ns, ((START + 20) * SECOND, (START + 30) * SECOND));
        assert_eq!(proven.counted, Some((1, 1)));
        assert!(proof(&cover, 1, 59).is_ok());
        assert!(why(&cover, -3, 2).contains("begins later"), "{}", why(&cover, -3, 2));
        assert!(why(&cover, -1, 2).contains("begins at"), "{}", why(&cover, -1, 2));
        assert!(why(&cover, 60, 64).contains("ends before") && why(&cover, 55, 61).contains("ends at"));
        assert!(why(&RecorderCover::default(), 0, 1).contains("no marks"));
    }

    #[test]
    fn each_fault_is_told_where_it_is_and_not_elsewhere() {
        let lost = run(|it, second| {
            if second >= 30 {
                it.mark(&mark(second, second.unsigned_abs() / 10, 3, (0, Some(0))));
            }
        });
        assert!(why(&lost, 24, 26).contains("lost 3 resets"), "{}", why(&lost, 24, 26));
        assert!(proof(&lost, 44, 46).is_ok());
        let hole = run(|it, second| {
            if second == 30 {
                it.hole();
            }
        });
        assert!(why(&hole, 24, 26).contains("cannot be read") && proof(&hole, 34, 36).is_ok());
        let segment = run(|it, second| {
            if second == 30 {
                it.header(&header(0, 3, second));
            }
        });
        assert!(why(&segment, 24, 26).contains("missing"));
        let taken_out = run(|it, second| {
            let more = u64::from(second >= 30);
            it.mark(&mark(second, second.unsigned_abs() / 10 + more, 0, (0, Some(0))));
        });
        assert!(why(&taken_out, 24, 26).contains("taken out") && proof(&taken_out, 54, 56).is_ok());
        let unseen = run(|it, second| {
            let count = second.unsigned_abs() / 10;
            it.mark(&mark(second, count, 0, (count + u64::from(second >= 30), Some(count))));
        });
        assert!(why(&unseen, 24, 26).contains("1 more"), "{}", why(&unseen, 24, 26));
        let apart = run(|it, second| {
            if (20..50).contains(&second) {
                it.signs += 1;
            }
        });
        assert!(why(&apart, 24, 26).contains("gap"));
    }

    #[test]
    fn a_record_that_comes_behind_its_mark_is_no_hole() {
        let late = run(|it, second| {
            let count = second.unsigned_abs() / 10;
            let early = u64::from(second == 30);
            it.mark(&mark(second, count + early, 0, (count + early, Some(count))));
        });
        assert!(proof(&late, 24, 26).is_ok(), "{late:?}");
        assert!(proof(&late, 34, 36).is_ok());
    }

    #[test]
    fn counters_that_are_not_compared_prove_nothing_and_forbid_nothing() {
        let filtered = run(|it, second| it.mark(&mark(second, second.unsigned_abs() / 10, 0, (9, None))));
        assert_eq!(proof(&filtered, 24, 26).expect("covered").counted, None);
    }

    #[test]
    fn what_is_told_lost_at_the_end_may_have_been_lost_at_any_time() {
        let cover = run(|it, second| {
            let count = second.unsigned_abs() / 10;
            let is_end = second == 60;
            it.mark(&Mark { last: is_end, ..mark(second, count, u64::from(is_end), (count, Some(count))) });
        });
        assert!(why(&cover, 24, 26).contains("not known"));
    }

    #[test]
    fn runs_are_not_covered_between_them() {
        let mut cover = run(|_, _| ());
        cover.header(&header(90, 1, 90));
        cover.mark(&mark(100, 0, 0, (0, Some(0))));
        assert!(why(&cover, 70, 72).contains("did not run"), "{}", why(&cover, 70, 72));
        assert!(proof(&cover, 92, 94).is_ok());
    }
}
