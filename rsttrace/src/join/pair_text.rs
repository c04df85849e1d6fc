//! The result as text: hosts, clocks, and the pairs by verdict.

use std::io::{self, Write};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    outcome::{Joined, PairFilter},
    wording::skew_in_words,
};
use crate::{
    model::{CauseConfidence, Fault, HostClocks, JoinSummary, JoinedHost, Pair, PairEnd, PairVerdict},
    util::{counted, sanitize::Sanitized},
};

/// Most pairs of a verdict that are shown.
const SHOWN: usize = 200;

/// Writes the result as text.
pub struct JoinText<'a> {
    /// Zone of the times, which that of the result's reasons has to be as well ([`Joined::in_zone`]).
    pub zone: TimeZone,
    /// Pairs that are wanted.
    pub wanted: PairFilter<'a>,
}

impl JoinText<'_> {
    /// Writes all of it. Fails where `out` fails.
    pub fn write(&self, joined: &Joined, out: &mut dyn Write) -> io::Result<()> {
        let summary = joined.summary(std::iter::empty());
        let apart = joined.apart();
        self.head(&summary, &apart, out)?;
        let verdicts = self.wanted.verdicts;
        let is_wanted = |verdict: &PairVerdict| verdicts.is_empty() || verdicts.contains(verdict);
        for verdict in PairVerdict::ALL.into_iter().filter(is_wanted) {
            self.group(joined, verdict, &apart, out)?;
        }
        if summary.within_hosts > 0 {
            writeln!(out, "\n{} with both ends on one host: no pairs", counted(summary.within_hosts, "reset"))?;
        }
        Ok(())
    }

    /// The hosts, what they cover, and their clocks.
    fn head(&self, summary: &JoinSummary, apart: &[String], out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "hosts (times in {})", self.zone.iana_name().unwrap_or("local time"))?;
        for JoinedHost { name, inputs, kind, from, to, sent, received, ignored, limits } in &summary.hosts {
            let inputs: Vec<String> = inputs.iter().map(|input| Sanitized(input).to_string()).collect();
            writeln!(out, "  {}: {kind} {}", Sanitized(name), inputs.join(", "))?;
            if let (Some(from), Some(to)) = (from, to) {
                let resets = format!("{sent} sent, {received} received, {ignored} ignored");
                writeln!(out, "    {} to {}; {resets}", self.date(*from), self.date(*to))?;
            }
            limits.iter().try_for_each(|limit| writeln!(out, "    {}", Sanitized(limit)))?;
        }
        writeln!(out, "clocks")?;
        if summary.clocks.is_empty() {
            writeln!(out, "  no reset of two hosts is matched: the difference of their clocks is not known")?;
        }
        for HostClocks { host, other, clock } in &summary.clocks {
            let (host, other) = (Sanitized(host), Sanitized(other));
            writeln!(out, "  {other} against {host}: {}", skew_in_words(*clock))?;
        }
        apart.iter().try_for_each(|sentence| writeln!(out, "  {}", Sanitized(sentence)))?;
        Ok(())
    }

    fn group(&self, joined: &Joined, verdict: PairVerdict, apart: &[String], out: &mut dyn Write) -> io::Result<()> {
        let only = [verdict];
        let wanted = PairFilter { verdicts: &only, with_others: Some(false), ..self.wanted };
        let count = joined.count(&wanted);
        if count > 0 {
            writeln!(out, "\n{}: {count}", verdict.in_words())?;
        }
        joined.pairs(&wanted).take(SHOWN).try_for_each(|pair| self.pair(&pair, apart, out))?;
        if count > SHOWN {
            writeln!(out, "  and {} more, which --output json has", count - SHOWN)?;
        }
        let with_others = joined.count(&PairFilter { with_others: Some(true), ..wanted });
        if with_others > 0 {
            let resets = counted(u64::try_from(with_others).unwrap_or(u64::MAX), "reset");
            writeln!(out, "\n{}: {resets} with peers of which there is no input", verdict.in_words())?;
        }
        Ok(())
    }

    fn pair(&self, pair: &Pair, apart: &[String], out: &mut dyn Write) -> io::Result<()> {
        let time = self.time(pair.time);
        match (&pair.receiver, &pair.sender) {
            (Some(receiver), sender) => {
                writeln!(out, "  {time} RECV {} < {} {}", receiver.local, receiver.peer, owner(receiver))?;
                if let Some(sender) = sender {
                    let indent = " ".repeat(time.chars().count());
                    writeln!(out, "  {indent} SENT {} > {} {}", sender.local, sender.peer, owner(sender))?;
                }
            }
            (None, Some(sender)) => {
                writeln!(out, "  {time} SENT {} > {} {}", sender.local, sender.peer, owner(sender))?;
            }
            (None, None) => {}
        }
        if pair.verdict != PairVerdict::Sent {
            writeln!(out, "    {}{}", Sanitized(&pair.summary), pair.confidence.in_brackets())?;
            // That two recordings do not overlap is told once, in front.
            let mut reasons = pair.reasons.iter().filter(|reason| !apart.contains(reason));
            return reasons.try_for_each(|reason| writeln!(out, "    - {}", Sanitized(reason)));
        }
        if let Some(cause) = &pair.cause {
            // The record speaks of its own host and of that host's peer.
            let host = name(pair.sender_host.as_deref());
            writeln!(out, "    {host}: {} {}", Sanitized(&cause.summary), fix(cause.fault, pair))?;
        }
        // What joins the records is told where it is less than both numbers; captures tell nothing more here.
        let told = pair.reasons.len().saturating_sub(pair.captures.len());
        let mut reasons = pair.reasons.iter().take(told).skip(usize::from(pair.confidence == CauseConfidence::Certain));
        reasons.try_for_each(|reason| writeln!(out, "    - {}", Sanitized(reason)))
    }

    fn date(&self, time: Timestamp) -> String {
        time.to_zoned(self.zone.clone()).strftime("%F %T").to_string()
    }

    fn time(&self, time: Timestamp) -> String {
        time.to_zoned(self.zone.clone()).strftime("%F %T%.3f").to_string()
    }
}

/// Host, process, state and cause of a record.
fn owner(end: &PairEnd) -> String {
    let process = end.process.as_ref().map(|process| format!("{}[{}]", Sanitized(&process.comm), process.pid));
    let parts = [
        Some(Sanitized(&end.host).to_string()),
        process,
        end.state.map(|state| state.to_string()),
        end.ignored_because.map(|why| format!("ignored: {why}")),
        end.cause.map(str::to_owned),
        (end.count > 1).then(|| format!("×{}", end.count)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Where it is to be fixed, as the sender's record has it.
fn fix(fault: Fault, pair: &Pair) -> String {
    match fault {
        Fault::Local => format!("(to be fixed on {})", name(pair.sender_host.as_deref())),
        Fault::Peer => format!("(to be fixed on {})", name(pair.receiver_host.as_deref())),
        Fault::Path => "(to be fixed between the hosts)".to_owned(),
        Fault::None => "(harmless)".to_owned(),
        Fault::Unknown => "(not known who can fix it)".to_owned(),
    }
}

/// Name of a host; empty where it is not known.
fn name(host: Option<&str>) -> String {
    host.map_or_else(String::new, |host| Sanitized(host).to_string())
}
