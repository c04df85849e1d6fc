//! Incidents that a report holds in full: the newest, and of each cause with a fault the newest of the rest, since the cause
//! that the verdict names is known only at the end.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::model::{Direction, Evidence, Fault, Finding, Reset};

/// Most incidents that are held as the newest.
const NEWEST: usize = 600;
/// Most incidents of the causes of the verdict on a page, beside the newest.
const OF_VERDICT: usize = 400;
/// Most incidents of all causes that are held until the verdict is known.
const HELD_BY_CAUSE: usize = 4_000;
/// Most further records of an incident.
const FURTHER: usize = 4;
/// Incidents among which the first record of a further one is looked for, from the newest on.
const FURTHER_WITHIN: usize = 64;
/// Longest text of a record that is kept as it is, bytes. A command line has up to 4,096.
const TEXT_MAX: usize = 512;

/// An incident with its records.
#[derive(Clone, Debug)]
pub struct KeptIncident {
    /// Its first record.
    pub(crate) first: Arc<Reset>,
    /// The first of its further records.
    pub(crate) further: Vec<Arc<Reset>>,
}

/// The incidents held so far.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptIncidents {
    newest: VecDeque<KeptIncident>,
    by_cause: BTreeMap<(&'static str, bool), VecDeque<KeptIncident>>,
    held_by_cause: usize,
}

impl KeptIncidents {
    /// Adds a record.
    pub(super) fn add(&mut self, reset: &Arc<Reset>) {
        if !reset.begins_incident() {
            let is_first = |kept: &&mut KeptIncident| {
                kept.first.seq == reset.incident && kept.first.host == reset.host && kept.further.len() < FURTHER
            };
            if let Some(kept) = self.newest.iter_mut().rev().take(FURTHER_WITHIN).find(is_first) {
                kept.further.push(bounded(reset));
            }
            return;
        }
        self.newest.push_back(KeptIncident { first: bounded(reset), further: Vec::new() });
        if self.newest.len() > NEWEST
            && let Some(oldest) = self.newest.pop_front().filter(|kept| kept.first.cause.fault != Fault::None)
        {
            self.by_cause.entry(key(&oldest.first)).or_default().push_back(oldest);
            self.held_by_cause += 1;
            if self.held_by_cause > HELD_BY_CAUSE {
                self.drop_one();
            }
        }
    }

    /// The newest ones, the newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &KeptIncident> {
        self.newest.iter().rev()
    }

    /// Drops the oldest of the cause with the most.
    fn drop_one(&mut self) {
        if let Some(most) = self.by_cause.values_mut().max_by_key(|kept| kept.len()) {
            most.pop_front();
            self.held_by_cause -= 1;
        }
    }

    /// Incidents for the page, in the order in which they came: the newest, and older ones of the causes of the verdict.
    pub(super) fn chosen(mut self, findings: &[Finding]) -> Vec<KeptIncident> {
        let mut older: Vec<KeptIncident> = Vec::new();
        for finding in findings {
            let of = self.by_cause.remove(&(finding.code, finding.direction == Direction::Sent));
            let room = OF_VERDICT.saturating_sub(older.len());
            older.extend(of.into_iter().flatten().rev().take(room));
        }
        older.extend(self.newest);
        older.sort_by_key(|kept| kept.first.time);
        older
    }
}

fn key(reset: &Reset) -> (&'static str, bool) {
    (reset.cause.code, reset.direction == Direction::Sent)
}

/// A record whose texts are bounded: mostly the record itself.
pub(crate) fn bounded(reset: &Arc<Reset>) -> Arc<Reset> {
    let mut texts = texts(reset);
    let is_long = texts.any(|text| text.len() > TEXT_MAX)
        || reset.cause.evidence.lines().any(|line| line.len() > TEXT_MAX)
        || reset.cause.evidence.lines().nth(EVIDENCE_MAX).is_some();
    drop(texts);
    if is_long { Arc::new(cut_texts(reset)) } else { Arc::clone(reset) }
}

/// Most lines of evidence.
const EVIDENCE_MAX: usize = 24;

/// Texts that strangers may have written.
fn texts(reset: &Reset) -> impl Iterator<Item = &str> {
    let process = reset.process.iter().flat_map(|process| {
        let names = [Some(&*process.comm), process.executable.as_deref(), process.command_line.as_deref()];
        names.into_iter().chain([process.user.as_deref(), process.cgroup.as_deref()])
    });
    let container = reset.container.iter().chain(reset.other_end.iter().filter_map(|other| other.container.as_ref()));
    let container = container.flat_map(|container| {
        let names = [container.runtime.as_deref(), Some(&*container.id), container.pod_uid.as_deref()];
        let names = names.into_iter().chain([container.name.as_deref(), container.image.as_deref()]);
        names.chain([container.service.as_deref()])
    });
    let pod = reset.pod.iter().flat_map(|pod| {
        [Some(&*pod.namespace), Some(&*pod.name), Some(&*pod.uid), pod.container.as_deref()].into_iter()
    });
    let other = reset.other_end.iter().filter_map(|other| other.process.as_ref()).map(|process| Some(&*process.comm));
    let rest = [
        Some(&*reset.host),
        reset.peer.name.as_deref(),
        reset.actor.as_ref().map(|actor| &*actor.comm),
        reset.cgroup.as_ref().and_then(|cgroup| cgroup.path.as_deref()),
        reset.unit.as_deref(),
        reset.reason.as_deref(),
        Some(&*reset.cause.summary),
        Some(&*reset.cause.advice),
    ];
    process.chain(container).chain(pod).chain(other).chain(rest).flatten()
}

/// A text of at most [`TEXT_MAX`] bytes and an ellipsis.
fn cut_text(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_MAX {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(TEXT_MAX)]))
}

fn cut_name(name: &mut Arc<str>) {
    if let Cow::Owned(short) = cut_text(name) {
        *name = short.into();
    }
}

fn cut_names<const N: usize>(names: [&mut Option<Arc<str>>; N]) {
    names.into_iter().flatten().for_each(cut_name);
}

fn cut_texts(reset: &Reset) -> Reset {
    let mut reset = reset.clone();
    let Reset { host, peer, process, actor, cgroup, unit, container, pod, reason, cause, other_end, .. } = &mut reset;
    cut_name(host);
    cut_names([&mut peer.name, unit, reason]);
    if let Some(process) = process {
        cut_name(&mut process.comm);
        cut_names([&mut process.executable, &mut process.command_line, &mut process.user]);
        process.cgroup = process.cgroup.as_deref().map(|path| cut_text(path).as_ref().into());
    }
    if let Some(actor) = actor {
        cut_name(&mut actor.comm);
    }
    if let Some(cgroup) = cgroup {
        cgroup.path = cgroup.path.as_deref().map(|path| cut_text(path).as_ref().into());
    }
    if let Some(process) = other_end.as_mut().and_then(|other| other.process.as_mut()) {
        cut_name(&mut process.comm);
    }
    for container in container.iter_mut().chain(other_end.iter_mut().filter_map(|other| other.container.as_mut())) {
        cut_name(&mut container.id);
        cut_names([&mut container.runtime, &mut container.pod_uid, &mut container.name]);
        cut_names([&mut container.image, &mut container.service]);
    }
    if let Some(pod) = pod.as_mut().map(Arc::make_mut) {
        [&mut pod.namespace, &mut pod.name, &mut pod.uid].into_iter().for_each(cut_name);
        cut_names([&mut pod.container]);
    }
    let mut evidence = Evidence::default();
    cause.evidence.lines().take(EVIDENCE_MAX).for_each(|line| evidence.push_parts([&cut_text(line)]));
    cause.evidence = evidence;
    for text in [&mut cause.summary, &mut cause.advice] {
        if let Cow::Owned(short) = cut_text(text) {
            *text = Cow::Owned(short);
        }
    }
    reset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Record, replay::parse_line};

    /// A record of a recording that is an incident of its own.
    fn incident(seq: u64, code: &str) -> Arc<Reset> {
        let lines = include_str!("../../tests/golden/json.txt").lines();
        let mut found = lines.filter(|line| line.contains(&format!("\"code\":\"{code}\"")));
        let Ok(crate::replay::Line::Record(Record::Reset(reset))) = parse_line(found.next().unwrap().as_bytes()) else {
            panic!("a reset")
        };
        let mut reset = Arc::unwrap_or_clone(reset);
        (reset.seq, reset.incident) = (seq, seq);
        reset.time = jiff::Timestamp::from_second(i64::try_from(seq).unwrap()).unwrap();
        Arc::new(reset)
    }

    fn finding(reset: &Reset) -> Finding {
        Finding {
            code: reset.cause.code,
            direction: reset.direction,
            fault: reset.cause.fault,
            summary: "",
            advice: "",
            resets: 1,
            bursts: 1,
            is_steady: false,
            confidences: [1, 0, 0],
            first: reset.time,
            last: reset.time,
            place: String::new(),
        }
    }

    #[test]
    fn the_newest_and_those_of_the_verdict_are_held() {
        let (race, harmless) = (incident(0, "keepalive-race"), incident(0, "client-cancelled"));
        let mut kept = KeptIncidents::default();
        for seq in 1..=20_000 {
            // Every fiftieth, and none among the newest.
            let is_race = seq % 50 == 0 && seq < 19_000;
            let mut reset = Reset::clone(if is_race { &race } else { &harmless });
            (reset.seq, reset.incident) = (seq, seq);
            reset.time = jiff::Timestamp::from_second(i64::try_from(seq).unwrap()).unwrap();
            kept.add(&Arc::new(reset));
        }
        let chosen = kept.chosen(&[finding(&race)]);
        let races = chosen.iter().filter(|kept| kept.first.cause.code == "keepalive-race").count();
        assert_eq!((chosen.len(), races), (NEWEST + 379, 379));
        assert!(chosen.is_sorted_by_key(|kept| kept.first.time));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let race = incident(0, "keepalive-race");
        let mut kept = KeptIncidents::default();
        for seq in 1..=10_000 {
            let mut reset = Reset::clone(&race);
            (reset.seq, reset.incident) = (seq, seq);
            reset.cause.advice = Cow::Owned("x".repeat(10_000));
            kept.add(&Arc::new(reset));
        }
        assert!(kept.held_by_cause <= HELD_BY_CAUSE && kept.newest.len() <= NEWEST);
        assert!(kept.newest.iter().all(|kept| kept.first.cause.advice.len() <= TEXT_MAX + '…'.len_utf8()));
        assert_eq!(kept.chosen(&[finding(&race)]).len(), NEWEST + OF_VERDICT);
    }

    #[test]
    fn further_records_belong_to_their_incident() {
        let mut kept = KeptIncidents::default();
        kept.add(&incident(1, "peer-aborted"));
        kept.add(&incident(2, "peer-aborted"));
        for seq in 3..20 {
            let mut further = Reset::clone(&incident(seq, "peer-aborted"));
            further.incident = 1;
            kept.add(&Arc::new(further));
        }
        let chosen = kept.chosen(&[]);
        assert_eq!(chosen.iter().map(|kept| kept.further.len()).collect::<Vec<_>>(), [FURTHER, 0]);
    }
}
