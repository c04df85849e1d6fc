//! Gaps of a recording, and jumps of its clock: what its headers and marks tell.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{Timestamp, Unit};

use crate::{
    model::{Mark, RecordingHeader},
    util::{human_duration, sanitize},
};

/// Longest time between two marks of one run, seconds: marks come every ten, and a busy host is late.
const MARKS_APART_MAX_S: f64 = 30.0;
/// Smallest difference of the clocks between two marks that is a clock that was set, seconds.
const JUMP_MIN_S: f64 = 1.0;
/// Most notes that are kept; the rest is counted.
const NOTES_MAX: usize = 10;
/// Most gaps whose times are kept.
const GAPS_MAX: usize = 256;
/// Most hosts of one input whose signs are compared; the signs of further ones are not.
const HOSTS_MAX: usize = 4_096;
/// Most columns of a host's name in a note.
const NAME: usize = 60;

/// The last sign of the recorder.
#[derive(Clone, Copy, Debug)]
struct Sign {
    time: Timestamp,
    monotonic_ns: u64,
    /// Whether it was the end of the run.
    is_last: bool,
}

/// The last header and the last sign of one host.
#[derive(Debug, Default)]
struct HostSigns {
    header: Option<Arc<RecordingHeader>>,
    sign: Option<Sign>,
}

/// What one input has told so far: a recording, or lines of many hosts in one stream.
#[derive(Debug, Default)]
pub struct Continuity {
    /// By name; marks before the first header that name no host have the empty one.
    hosts: BTreeMap<Arc<str>, HostSigns>,
    /// Host of the last header, which a mark that names none is of.
    of_header: Arc<str>,
    /// With the host.
    notes: Vec<(Arc<str>, String)>,
    further: u64,
    /// Times in which nothing was recorded, the first ones.
    gaps: Vec<(Timestamp, Timestamp)>,
}

impl Continuity {
    /// Takes a record of a host with its facts: the recorder was there.
    pub fn record(&mut self, host: &str, time: Timestamp, monotonic_ns: u64) {
        let sign = self.hosts.get_mut(host).and_then(|signs| signs.sign.as_mut());
        if let Some(sign) = sign.filter(|sign| sign.monotonic_ns < monotonic_ns) {
            (sign.time, sign.monotonic_ns) = (time, monotonic_ns);
        }
    }

    /// Forgets what there is to say so far: it is of times that are not wanted.
    pub fn forget_notes(&mut self) {
        self.notes.clear();
        self.gaps.clear();
        self.further = 0;
    }

    /// Takes the header of a segment. Those of another host, as where files of several are read as one, follow none.
    pub fn header(&mut self, header: &Arc<RecordingHeader>) {
        self.of_header = Arc::clone(&header.host);
        let Some(signs) = self.of(&header.host) else { return };
        let (before, last) = (signs.header.replace(Arc::clone(header)), signs.sign);
        let sign = Sign { time: header.time, monotonic_ns: header.clock.monotonic_ns, is_last: false };
        signs.sign = Some(sign);
        if let Some(before) = before.filter(|before| before.of.machine_id == header.of.machine_id) {
            let (is_same_run, is_same_boot) = (before.run == header.run, before.of.boot_id == header.of.boot_id);
            match last {
                Some(last) if is_same_run => self.compare(&header.host, last, sign),
                // Runs in another order than that of time leave no time between them.
                Some(last) if last.time < sign.time => {
                    let apart = seconds_between(last.time, sign.time);
                    let how = match (is_same_boot, last.is_last) {
                        (false, _) => "the host was restarted",
                        (true, true) => "the recorder was stopped",
                        (true, false) => "the recorder ended without its last mark (killed, or a crash)",
                    };
                    self.gap(last.time, sign.time);
                    let apart = human(apart);
                    self.note(
                        &header.host,
                        format!("{how}: nothing was recorded for {apart}, up to {}", moment(sign.time)),
                    );
                }
                _ => {}
            }
        }
    }

    /// Takes a mark: of the host that it names, or of that of the last header.
    pub fn mark(&mut self, mark: &Mark) {
        let host = Arc::clone(mark.host.as_ref().unwrap_or(&self.of_header));
        let sign = Sign { time: mark.time, monotonic_ns: mark.monotonic_ns, is_last: mark.last };
        let last = self.of(&host).and_then(|signs| signs.sign.replace(sign));
        if let Some(last) = last {
            self.compare(&host, last, sign);
        }
    }

    /// The signs of a host; `None` where there are too many hosts.
    fn of(&mut self, host: &Arc<str>) -> Option<&mut HostSigns> {
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(host) {
            return None;
        }
        Some(self.hosts.entry(Arc::clone(host)).or_default())
    }

    /// Compares two signs of one run of a host.
    fn compare(&mut self, host: &Arc<str>, last: Sign, sign: Sign) {
        let monotonic_s = signed_seconds(last.monotonic_ns, sign.monotonic_ns);
        let jump_s = seconds_between(last.time, sign.time) - monotonic_s;
        if jump_s.abs() >= JUMP_MIN_S {
            let direction = if jump_s > 0.0 { "forward" } else { "back" };
            let jump = human(jump_s.abs());
            self.note(host, format!("the clock went {direction} by {jump} before {}", moment(sign.time)));
        }
        if monotonic_s > MARKS_APART_MAX_S {
            self.gap(last.time, sign.time);
            let gap = human(monotonic_s);
            self.note(host, format!("a gap of {gap} before {}: the recorder did not run", moment(sign.time)));
        }
    }

    fn note(&mut self, host: &Arc<str>, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push((Arc::clone(host), note));
        } else {
            self.further += 1;
        }
    }

    /// The notes, one line each; with the host, where there are several.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let has_several = self.hosts.len() > 1;
        let named = move |(host, note): &(Arc<str>, String)| match &**host {
            name if has_several && !name.is_empty() => format!("{}: {note}", sanitize::truncate(name, NAME)),
            _ => note.clone(),
        };
        let further = (self.further > 0).then(|| format!("{} further gaps or jumps of the clock", self.further));
        self.notes.iter().map(named).chain(further)
    }

    /// Times in which nothing was recorded, the first [`GAPS_MAX`] of them.
    pub fn gaps(&self) -> &[(Timestamp, Timestamp)] {
        &self.gaps
    }

    fn gap(&mut self, from: Timestamp, to: Timestamp) {
        if self.gaps.len() < GAPS_MAX && from < to {
            self.gaps.push((from, to));
        }
    }

    /// The last header of each host.
    pub fn last_headers(&self) -> impl Iterator<Item = &RecordingHeader> {
        self.hosts.values().filter_map(|signs| signs.header.as_deref())
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn signed_seconds(from_ns: u64, to_ns: u64) -> f64 {
    std::time::Duration::from_nanos(to_ns.saturating_sub(from_ns)).as_secs_f64()
}

fn human(seconds: f64) -> String {
    human_duration(seconds * 1e3).to_string()
}

fn moment(time: Timestamp) -> String {
    time.round(Unit::Second).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClockState, RecordingContext};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    fn header(second: i64, run: i64, boot: &str) -> Arc<RecordingHeader> {
        let of = RecordingContext { boot_id: Some(boot.into()), ..RecordingContext::default() };
        let clock = ClockState {
            monotonic_ns: u64::try_from(second).expect("positive") * 1_000_000_000,
            ..ClockState::default()
        };
        Arc::new(RecordingHeader {
            time: at(second),
            format: 1,
            segment: 1,
            run: at(run),
            host: "a".into(),
            of: Arc::new(of),
            clock,
        })
    }

    fn mark(second: i64, monotonic_s: u64, last: bool) -> Mark {
        Mark {
            time: at(second),
            host: None,
            monotonic_ns: monotonic_s * 1_000_000_000,
            resets: 0,
            lost: 0,
            undelivered: 0,
            counters: Vec::new(),
            last,
        }
    }

    fn notes(feed: impl FnOnce(&mut Continuity)) -> Vec<String> {
        let mut continuity = Continuity::default();
        feed(&mut continuity);
        continuity.notes().collect()
    }

    #[test]
    fn runs_of_another_host_or_in_another_order_leave_no_gap() {
        let said = |second: &Arc<RecordingHeader>| {
            notes(|it| {
                it.header(&header(1_000, 1_000, "x"));
                it.mark(&mark(1_010, 1_010, true));
                it.header(second);
            })
        };
        assert_eq!(said(&header(2_000, 2_000, "x")).len(), 1);
        assert!(said(&header(100, 100, "x")).is_empty());
        let mut other = RecordingHeader::clone(&header(2_000, 2_000, "y"));
        other.host = "b".into();
        assert!(said(&Arc::new(other)).is_empty());
    }

    #[test]
    fn signs_of_many_hosts_in_one_stream_are_compared_with_those_of_their_host() {
        let of = |host: &str, header: &Arc<RecordingHeader>| {
            Arc::new(RecordingHeader { host: host.into(), ..RecordingHeader::clone(header) })
        };
        let sign = |host: &str, mark: Mark| Mark { host: Some(host.into()), ..mark };
        let said = notes(|it| {
            // Two hosts, whose clocks differ by two seconds and whose boots by more.
            it.header(&of("a", &header(0, 0, "x")));
            it.header(&of("b", &header(2, 2, "y")));
            for number in 1..10 {
                it.mark(&sign("a", mark(number * 10, number.unsigned_abs() * 10, false)));
                // The second one is silent for a minute.
                if number != 3 && number != 4 && number != 5 && number != 6 && number != 7 {
                    it.mark(&sign("b", mark(2 + number * 10, 2 + number.unsigned_abs() * 10, false)));
                }
            }
            // One without a header, which is compared with none.
            it.mark(&sign("c", mark(5, 500, false)));
        });
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("b: a gap of 60.0 s"), "{said:?}");
    }

    #[test]
    fn gaps_and_jumps_are_told_and_regular_marks_are_not() {
        assert!(
            notes(|it| {
                it.header(&header(0, 0, "x"));
                (1..100).for_each(|number| it.mark(&mark(number * 10, 10 * number.unsigned_abs(), number == 99)));
                it.header(&header(990, 0, "x"));
            })
            .is_empty()
        );
        let said = notes(|it| {
            it.header(&header(0, 0, "x"));
            it.mark(&mark(10, 10, false));
            it.mark(&mark(70, 70, false));
            it.mark(&mark(200, 80, false));
            it.mark(&mark(190, 90, true));
            it.header(&header(300, 300, "x"));
            it.header(&header(400, 400, "y"));
            it.header(&header(500, 500, "y"));
        });
        let expected =
            ["a gap of 60.0 s", "went forward by 120.0 s", "went back by 20.0 s", "was stopped", "restarted", "killed"];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        assert!(said.iter().zip(expected).all(|(said, expected)| said.contains(expected)), "{said:?}");
    }

    #[test]
    fn records_are_signs_and_notes_can_be_forgotten() {
        let said = notes(|it| {
            it.header(&header(0, 0, "x"));
            it.record("a", at(8), 8_000_000_000);
            it.header(&header(20, 20, "x"));
        });
        assert!(said.len() == 1 && said[0].contains("12.0 s"), "{said:?}");
        let said = notes(|it| {
            it.header(&header(0, 0, "x"));
            it.header(&header(20, 20, "x"));
            it.forget_notes();
        });
        assert!(said.is_empty(), "{said:?}");
    }

    #[test]
    fn notes_are_bounded() {
        let said =
            notes(|it| (0..10_000).for_each(|number| it.mark(&mark(number * 100, 100 * number.unsigned_abs(), false))));
        assert_eq!(said.len(), NOTES_MAX + 1);
    }
}
