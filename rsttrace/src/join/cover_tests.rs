//! What recordings cover: each fault of one where it is, and not elsewhere.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    covered_run::SENT_COUNTER,
    recorder_cover::{CoverProof, RecorderCover},
    wording::Moments,
};
use crate::model::{ClockState, CounterCoverage, Mark, RecordingHeader};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).expect("in range")
}

fn header(run: i64, segment: u64, second: i64) -> RecordingHeader {
    let clock = ClockState { monotonic_ns: second.unsigned_abs() * SECOND.unsigned_abs(), ..ClockState::default() };
    RecordingHeader { time: at(second), format: 1, segment, run: at(run), host: "b".into(), of: Arc::default(), clock }
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
        cover.record(at(second), 0, 0, 1);
        let count = second.unsigned_abs() / 10;
        let before = cover.signs;
        change(&mut cover, second);
        if cover.signs == before {
            cover.mark(&mark(second, count, 0, (count, Some(count))));
        }
    }
    cover.finish(&[]);
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
    cover.finish(&[]);
    assert!(why(&cover, 70, 72).contains("did not run"), "{}", why(&cover, 70, 72));
    assert!(proof(&cover, 92, 94).is_ok());
}
