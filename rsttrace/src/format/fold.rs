//! Folding of lines that are alike: the first of a burst are shown each, the others as one line with their count.
//!
//! For people: a line that is held back comes a second late at most, and the records of all other formats and sinks are whole.

use std::{
    collections::HashMap,
    io::{self, Write},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{Formatter, text::TextFormatter};
use crate::model::{Direction, Endpoint, NamespaceId, Record, Reset, Role};

/// Lines of one kind within [`WINDOW_NS`] that are shown each.
const SHOWN_EACH: u32 = 5;
/// Time in which lines are folded, nanoseconds.
const WINDOW_NS: u64 = 1_000_000_000;
/// Kinds of lines that are told apart at once. Lines of further ones are shown each.
const KINDS_MAX: usize = 256;

/// What lines have in common that are alike: all but the client's port and the figures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    namespace: NamespaceId,
    direction: Direction,
    /// The service's end, and the address at the other.
    service: Endpoint,
    client: IpAddr,
    pid: Option<u32>,
    code: &'static str,
}

impl Kind {
    fn of(reset: &Reset) -> Self {
        let (local, peer) = (reset.local, reset.peer.end());
        let is_client = match reset.role() {
            Some(role) => role == Role::Client,
            // Without a socket, the service is where the reset comes from.
            None => reset.direction == Direction::Received,
        };
        let (service, client) = if is_client { (peer, local.address) } else { (local, peer.address) };
        let (namespace, direction) = (reset.namespace(), reset.direction);
        let pid = reset.process.as_ref().map(|process| process.pid);
        Self { namespace, direction, service, client, pid, code: reset.cause.code }
    }
}

/// Lines of one kind.
struct Fold {
    /// Start of the window, nanoseconds of `CLOCK_MONOTONIC`.
    since_ns: u64,
    /// Lines that were shown in it.
    shown: u32,
    /// Resets that were not, and the last of them.
    held: Option<(u64, Arc<Reset>)>,
}

/// Formatter of text whose lines are folded.
pub(super) struct FoldingFormatter {
    text: TextFormatter,
    kinds: HashMap<Kind, Fold, RandomState>,
    /// When the first window with folded lines ends.
    deadline_ns: Option<u64>,
}

impl FoldingFormatter {
    pub(super) fn new(text: TextFormatter) -> Self {
        Self { text, kinds: HashMap::default(), deadline_ns: None }
    }
}

impl Formatter for FoldingFormatter {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        let Record::Reset(reset) = record else { return self.text.write(record, out) };
        let now_ns = reset.internals.ktime_ns;
        // In the order of time: what was held is older.
        if self.deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            self.flush(now_ns, out)?;
        }
        let kind = Kind::of(reset);
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(&kind) {
            self.kinds.retain(|_, fold| fold.held.is_some() || fold.since_ns.saturating_add(WINDOW_NS) > now_ns);
            if self.kinds.len() >= KINDS_MAX {
                return self.text.write(record, out);
            }
        }
        let fold = self.kinds.entry(kind).or_insert(Fold { since_ns: now_ns, shown: 0, held: None });
        if fold.held.is_none() && now_ns.saturating_sub(fold.since_ns) > WINDOW_NS {
            (fold.since_ns, fold.shown) = (now_ns, 0);
        }
        if fold.shown < SHOWN_EACH {
            fold.shown += 1;
            return self.text.write(record, out);
        }
        let earlier = fold.held.take().map_or(0, |(count, _)| count);
        fold.held = Some((earlier + reset.count, Arc::clone(reset)));
        let end_ns = fold.since_ns.saturating_add(WINDOW_NS);
        self.deadline_ns = Some(self.deadline_ns.map_or(end_ns, |deadline_ns| deadline_ns.min(end_ns)));
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }

    fn flush(&mut self, now_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        let mut due = Vec::new();
        self.deadline_ns = None;
        for fold in self.kinds.values_mut().filter(|fold| fold.held.is_some()) {
            let end_ns = fold.since_ns.saturating_add(WINDOW_NS);
            if end_ns <= now_ns {
                due.extend(fold.held.take());
                // A burst that goes on stays folded.
                fold.since_ns = end_ns;
            } else {
                self.deadline_ns = Some(self.deadline_ns.map_or(end_ns, |deadline_ns| deadline_ns.min(end_ns)));
            }
        }
        due.sort_by_key(|(_, reset)| reset.internals.ktime_ns);
        for (count, reset) in due {
            let mut all = Reset::clone(&reset);
            all.count = count;
            self.text.write(&Record::Reset(Arc::new(all)), out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};
    use rsttrace_common::event::{KIND_RECEIVED, ResetEvent};

    use super::*;
    use crate::{
        decode::{BitFields, Decoder, Reasons, clock::WallClock},
        format::{TextOptions, TextWidth, TimeFormat},
    };

    fn formatter() -> FoldingFormatter {
        FoldingFormatter::new(TextFormatter::new(TextOptions {
            color: false,
            time: TimeFormat::None,
            started_ns: 0,
            zone: TimeZone::UTC,
            folds: true,
            width: TextWidth::Fixed(TextOptions::COLUMNS),
            names: false,
        }))
    }

    /// Lines for the records of these peers' ports, milliseconds and counts.
    fn lines(fold: &mut FoldingFormatter, records: &[(u16, u64, u64)]) -> Vec<String> {
        let mut decoder = Decoder::new("host".into(), Reasons::default(), BitFields::default(), None);
        let clock = WallClock { monotonic_ns: 0, wall: Timestamp::UNIX_EPOCH };
        let mut out = Vec::new();
        for &(peer_port, ms, count) in records {
            let event = ResetEvent {
                kind: KIND_RECEIVED,
                ktime_ns: ms * 1_000_000,
                local_port: u16::try_from(40_000 + ms).expect("small"),
                peer_port,
                ..ResetEvent::default()
            };
            let mut reset = decoder.reset(&event, &clock);
            reset.count = count;
            fold.write(&Record::Reset(Arc::new(reset)), &mut out).expect("a vector takes everything");
        }
        shown(out)
    }

    fn flushed(fold: &mut FoldingFormatter, now_ns: u64) -> Vec<String> {
        let mut out = Vec::new();
        fold.flush(now_ns, &mut out).expect("a vector takes everything");
        shown(out)
    }

    fn shown(out: Vec<u8>) -> Vec<String> {
        String::from_utf8(out).expect("UTF-8").lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_burst_is_one_line_with_its_count() {
        let mut fold = formatter();
        let burst: Vec<_> = (1..=100).map(|ms| (80, ms, 1)).collect();
        assert_eq!(lines(&mut fold, &burst).len(), 5);
        // Another service, and what stands for many itself.
        assert_eq!(lines(&mut fold, &[(443, 101, 1), (443, 102, 7)]).len(), 2);
        assert_eq!(fold.deadline_ns(), Some(1_001_000_000));
        assert!(flushed(&mut fold, 1_000_000_000).is_empty());
        let last = flushed(&mut fold, 1_001_000_000);
        assert!(last.len() == 1 && last[0].contains("×95") && last[0].contains(":40100"), "{last:?}");
        assert_eq!(fold.deadline_ns(), None);
    }

    #[test]
    fn a_burst_that_goes_on_stays_folded() {
        let mut fold = formatter();
        let burst: Vec<_> = (0..300).map(|number| (80, number * 10, 2)).collect();
        // A record after the end of a window brings the line of that.
        let shown = lines(&mut fold, &burst);
        let counts: Vec<_> = shown.iter().filter_map(|line| line.split(" ×").nth(1)?.split(' ').next()).collect();
        let rest = flushed(&mut fold, u64::MAX);
        assert_eq!((&counts[..5], rest.len()), (&["2", "2", "2", "2", "2"][..], 1), "{shown:?}");
        let folded: u64 = counts[5..].iter().map(|count| count.parse::<u64>().expect("a number")).sum();
        let last: u64 =
            rest[0].split(" ×").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a count");
        assert_eq!(5 * 2 + folded + last, 600, "{shown:?} {rest:?}");
        // After a pause, lines are shown each again.
        assert_eq!(lines(&mut fold, &[(80, 9_000, 1), (80, 9_001, 1)]).len(), 2);
    }

    #[test]
    fn few_lines_and_many_kinds_are_shown_each() {
        let mut fold = formatter();
        let slow: Vec<_> = (0..20).map(|number| (80, number * 300, 1)).collect();
        assert_eq!(lines(&mut fold, &slow).len(), 20);
        let kinds: Vec<_> = (1..=1000).map(|port| (port, 7_000, 1)).collect();
        assert_eq!(lines(&mut fold, &kinds).len(), 1000);
        assert!(fold.kinds.len() <= KINDS_MAX);
    }
}
