//! One run of a recorder: its marks, and whether anything is missing between two of them.
//!
//! Lines may come more than once, or in another order than that of time: an input is given twice, a queue delivers a block again,
//! segments are given one by one. Each header, mark and record counts once, and marks are sorted by the clock that cannot be set.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use foldhash::HashSet;
use jiff::Timestamp;

use super::recorder_cover::CoverProof;
use crate::model::{Mark, RecordingContext, RecordingHeader};

/// Longest time between two marks of one run: they come every ten seconds, and a busy host is late.
const APART_MAX_NS: u64 = 30_000_000_000;
/// Smallest difference of the clocks between two marks that is a wall clock that was set.
const JUMP_MIN_NS: i64 = 1_000_000_000;
/// Marks around an instant over which a record may come later than its count.
const LATE_MARKS: usize = 2;
/// Most segments of a run.
const SEGMENTS_MAX: usize = 1_000_000;
/// Name of the counter of sent resets.
pub(super) const SENT_COUNTER: &str = "TcpOutRsts";

/// A moment at which a recorder was there.
#[derive(Clone, Copy, Debug)]
struct Sign {
    time_ns: i64,
    monotonic_ns: u64,
    /// Resets that it has counted.
    resets: u64,
    /// Those less the ones that were read: grows where records are missing.
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
pub(super) struct CoveredRun {
    pub(super) run: Timestamp,
    pub(super) of: Arc<RecordingContext>,
    /// Whether the host's clock followed a time server when the run began.
    pub(super) synchronized: Option<bool>,
    /// Monotonic time and number of each segment.
    segments: BTreeSet<(u64, u64)>,
    signs: Vec<Sign>,
    /// Monotonic times of the signs.
    known: HashSet<u64>,
    /// Numbers of the records.
    records: Numbers,
    /// Whether the times of the signs never go back.
    is_ordered: bool,
    /// Whether marks came in another order than that of time.
    is_shuffled: bool,
    read: u64,
    has_hole: bool,
    /// Monotonic times of signs that have come before, and again behind a hole.
    holes: HashSet<u64>,
}

/// Why a run does not cover a span.
pub(super) enum Uncovered {
    /// It is not within the run.
    Outside,
    /// Something is missing, as a part of a sentence.
    Hole(String),
}

impl CoveredRun {
    pub(super) fn new(header: &RecordingHeader) -> Self {
        Self {
            run: header.run,
            of: Arc::clone(&header.of),
            synchronized: header.clock.synchronized,
            segments: BTreeSet::new(),
            signs: Vec::new(),
            known: HashSet::default(),
            records: Numbers::default(),
            is_ordered: true,
            is_shuffled: false,
            read: 0,
            has_hole: false,
            holes: HashSet::default(),
        }
    }

    /// Takes the header of one of its segments. The first one is a sign.
    pub(super) fn header(&mut self, header: &RecordingHeader) {
        if self.segments.len() >= SEGMENTS_MAX {
            self.has_hole = true;
            return;
        }
        let is_new = self.segments.insert((header.clock.monotonic_ns, header.segment));
        if is_new && header.segment == 1 {
            self.sign(Sign {
                time_ns: nanoseconds(header.time),
                monotonic_ns: header.clock.monotonic_ns,
                resets: 0,
                unread: 0,
                lost: 0,
                unseen: Some(0),
                counted: (0, 0),
                follows_hole: false,
                is_last: false,
            });
        }
    }

    /// Takes a mark.
    pub(super) fn mark(&mut self, mark: &Mark) {
        let counter = mark.counters.iter().find(|counter| counter.name == SENT_COUNTER);
        let counted = counter.and_then(|counter| Some((counter.delta, counter.observed?)));
        let follows_hole = std::mem::take(&mut self.has_hole);
        self.sign(Sign {
            time_ns: nanoseconds(mark.time),
            monotonic_ns: mark.monotonic_ns,
            resets: mark.resets,
            unread: difference(mark.resets, self.read),
            lost: mark.lost.saturating_add(mark.undelivered),
            unseen: counted.map(|(delta, observed)| difference(delta, observed)),
            counted: counted.unwrap_or_default(),
            follows_hole,
            is_last: mark.last,
        });
    }

    /// Adds a sign that is not there yet.
    fn sign(&mut self, sign: Sign) {
        if self.known.insert(sign.monotonic_ns) {
            self.is_shuffled |= self.signs.last().is_some_and(|last| last.monotonic_ns > sign.monotonic_ns);
            self.signs.push(sign);
        } else if sign.follows_hole {
            self.holes.insert(sign.monotonic_ns);
        }
    }

    /// Takes a record with this number, 0 where it has none, that stands for so many resets.
    pub(super) fn record(&mut self, number: u64, count: u64) {
        if number == 0 || self.records.insert(number) {
            self.read = self.read.saturating_add(count);
        }
    }

    /// Notes that something of the input was not read here.
    pub(super) const fn hole(&mut self) {
        self.has_hole = true;
    }

    /// Whether both clocks of a line are those of this run, which the wall clock's steps between its first and last sign do not hide.
    pub(super) fn has_clocks_of(&self, time: Timestamp, monotonic_ns: u64) -> bool {
        let apart = |sign: &Sign| {
            let monotonic = i128::from(monotonic_ns) - i128::from(sign.monotonic_ns);
            (time.as_nanosecond() - i128::from(sign.time_ns) - monotonic).abs() < i128::from(JUMP_MIN_NS)
        };
        [self.signs.first(), self.signs.last()].into_iter().flatten().any(apart)
    }

    /// Whether marks came in another order than that of time, so that their records have to be counted by time.
    pub(super) const fn is_shuffled(&self) -> bool {
        self.is_shuffled
    }

    /// Sorts the signs, and finds holes and steps of the clock. `resets` are the times and the counts of the run's records, in the
    /// order of time, where it is shuffled. Returns how far the wall clock was set in all, nanoseconds.
    pub(super) fn finish(&mut self, resets: &[(i64, u64)]) -> i64 {
        if self.is_shuffled {
            self.signs.sort_by_key(|sign| sign.monotonic_ns);
            let mut resets = resets.iter().peekable();
            let mut read = 0_u64;
            for sign in &mut self.signs {
                while let Some((_, count)) = resets.next_if(|(time_ns, _)| *time_ns <= sign.time_ns) {
                    read = read.saturating_add(*count);
                }
                sign.unread = difference(sign.resets, read);
            }
        }
        for sign in &mut self.signs {
            sign.follows_hole |= self.holes.contains(&sign.monotonic_ns);
        }
        let mut before = None;
        for (begins_ns, segment) in &self.segments {
            // A segment that is missing has taken its records with it.
            if before.is_some_and(|before: u64| Some(*segment) != before.checked_add(1)) {
                let behind = self.signs.partition_point(|sign| sign.monotonic_ns < *begins_ns);
                if let Some(sign) = self.signs.get_mut(behind) {
                    sign.follows_hole = true;
                }
            }
            before = Some(*segment);
        }
        let mut jumps_ns = 0_i64;
        for pair in self.signs.windows(2) {
            let [one, next] = pair else { continue };
            let wall = next.time_ns.saturating_sub(one.time_ns);
            self.is_ordered &= wall >= 0;
            let jump = jump_ns(one, next);
            if jump >= JUMP_MIN_NS {
                jumps_ns = jumps_ns.saturating_add(jump);
            }
        }
        jumps_ns
    }

    /// Number of signs.
    pub(super) const fn len(&self) -> usize {
        self.signs.len()
    }

    /// Times of the signs, nanoseconds since 1970.
    pub(super) fn times_ns(&self) -> impl Iterator<Item = i64> {
        self.signs.iter().map(|sign| sign.time_ns)
    }

    /// Proof that nothing is missing in a span of time.
    pub(super) fn proof(&self, from_ns: i64, to_ns: i64) -> Result<CoverProof, Uncovered> {
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
            if jump_ns(one, next) >= JUMP_MIN_NS {
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

/// By how much the wall clock was set between two signs, nanoseconds.
fn jump_ns(one: &Sign, next: &Sign) -> i64 {
    let monotonic = next.monotonic_ns.saturating_sub(one.monotonic_ns);
    let wall = next.time_ns.saturating_sub(one.time_ns);
    wall.saturating_sub(i64::try_from(monotonic).unwrap_or(i64::MAX)).saturating_abs()
}

/// Numbers of which most come one after the other, as spans from first to last.
#[derive(Debug, Default)]
struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    /// Adds a number; returns whether it is a new one.
    fn insert(&mut self, number: u64) -> bool {
        let before = self.0.range_mut(..=number).next_back().map(|(first, last)| (*first, last));
        let first = match before {
            Some((_, last)) if number <= *last => return false,
            Some((first, last)) if last.checked_add(1) == Some(number) => {
                *last = number;
                first
            }
            _ => {
                self.0.insert(number, number);
                number
            }
        };
        if let Some(next) = number.checked_add(1).and_then(|next| self.0.remove(&next)) {
            self.0.insert(first, next);
        }
        true
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

    #[test]
    fn numbers_count_once_in_any_order() {
        let mut numbers = Numbers::default();
        assert!([1, 2, 5, 4, 3, 9].into_iter().all(|number| numbers.insert(number)));
        assert!([1, 2, 3, 4, 5, 9].into_iter().all(|number| !numbers.insert(number)));
        assert_eq!(numbers.0.into_iter().collect::<Vec<_>>(), [(1, 5), (9, 9)]);
    }
}
