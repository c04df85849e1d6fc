//! The result as text: hosts, clocks, and the pairs by verdict.

use std::io::{self, Write};

use jiff::{Timestamp, tz::TimeZone};

use super::{judge::skew_in_words, outcome::Joined};
use crate::{
    model::{CauseConfidence, Fault, HostClocks, JoinSummary, JoinedHost, Pair, PairEnd, PairVerdict},
    util::{counted, sanitize::Sanitized},
};

/// Most pairs of a verdict that are shown.
const SHOWN: usize = 200;

/// Writes the result as text.
pub struct JoinText<'a> {
    /// Zone of the times.
    pub zone: TimeZone,
    /// Verdicts that are wanted; empty for all.
    pub verdicts: &'a [PairVerdict],
    /// Whether pairs with this port are wanted.
    pub is_port: &'a dyn Fn(u16) -> bool,
}

impl JoinText<'_> {
    /// Writes all of it. Fails where `out` fails.
    pub fn write(&self, joined: &Joined, out: &mut dyn Write) -> io::Result<()> {
        let summary = joined.summary(std::iter::empty());
        self.head(&summary, out)?;
        let is_wanted = |verdict: &PairVerdict| self.verdicts.is_empty() || self.verdicts.contains(verdict);
        for verdict in PairVerdict::ALL.into_iter().filter(is_wanted) {
            self.group(joined, verdict, out)?;
        }
        if summary.within_hosts > 0 {
            writeln!(out, "\n{} with both ends on one host: no pairs", counted(summary.within_hosts, "reset"))?;
        }
        Ok(())
    }

    /// The hosts, what they cover, and their clocks.
    fn head(&self, summary: &JoinSummary, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "hosts")?;
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
        Ok(())
    }

    fn group(&self, joined: &Joined, verdict: PairVerdict, out: &mut dyn Write) -> io::Result<()> {
        let only = [verdict];
        let (mut count, mut with_others) = (0_usize, 0_u64);
        let mut shown = Vec::new();
        for pair in joined.pairs(&only, self.is_port) {
            if is_with_others(&pair) {
                with_others += 1;
                continue;
            }
            count += 1;
            if count <= SHOWN {
                self.pair(&pair, &mut shown)?;
            }
        }
        if count > 0 {
            writeln!(out, "\n{}: {count}", verdict.in_words())?;
            out.write_all(&shown)?;
        }
        if count > SHOWN {
            writeln!(out, "  and {} more, which --output json has", count - SHOWN)?;
        }
        if with_others > 0 {
            let resets = counted(with_others, "reset");
            writeln!(out, "\n{}: {resets} with peers of which there is no input", verdict.in_words())?;
        }
        Ok(())
    }

    fn pair(&self, pair: &Pair, out: &mut Vec<u8>) -> io::Result<()> {
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
        match pair.verdict {
            PairVerdict::Sent => {
                if let Some(cause) = &pair.cause {
                    let fix = fix(cause.fault, pair);
                    writeln!(out, "    {} {fix}", Sanitized(&cause.summary))?;
                }
                // What joins the records is told where it is less than both numbers, and what follows it always.
                let reasons = pair.reasons.iter().skip(usize::from(pair.confidence == CauseConfidence::Certain));
                reasons.into_iter().try_for_each(|reason| writeln!(out, "    - {}", Sanitized(reason)))
            }
            _ => {
                let sure = match pair.confidence {
                    CauseConfidence::Likely => " (likely)",
                    CauseConfidence::Guess => " (a guess)",
                    CauseConfidence::Certain => "",
                };
                writeln!(out, "    {}{sure}", Sanitized(&pair.summary))?;
                pair.reasons.iter().try_for_each(|reason| writeln!(out, "    - {}", Sanitized(reason)))
            }
        }
    }

    fn date(&self, time: Timestamp) -> String {
        time.to_zoned(self.zone.clone()).strftime("%F %T").to_string()
    }

    fn time(&self, time: Timestamp) -> String {
        time.to_zoned(self.zone.clone()).strftime("%F %T%.3f").to_string()
    }
}

/// Whether no input is of the other end's host.
fn is_with_others(pair: &Pair) -> bool {
    pair.verdict == PairVerdict::CannotBeTold && (pair.sender_host.is_none() || pair.receiver_host.is_none())
}

/// Host, process, state and cause of a record.
fn owner(end: &PairEnd) -> String {
    let mut text = Sanitized(&end.host).to_string();
    if let Some(process) = &end.process {
        text += &format!(" {}[{}]", Sanitized(&process.comm), process.pid);
    }
    if let Some(state) = end.state {
        text += &format!(" {state}");
    }
    if let Some(why) = end.ignored_because {
        text += &format!(" ignored: {why}");
    }
    if let Some(cause) = end.cause {
        text += &format!(" {cause}");
    }
    if end.count > 1 {
        text += &format!(" ×{}", end.count);
    }
    text
}

/// Where it is to be fixed, as the sender's record has it.
fn fix(fault: Fault, pair: &Pair) -> String {
    let name = |host: &Option<std::sync::Arc<str>>| host.as_ref().map_or_else(String::new, |host| Sanitized(host).to_string());
    match fault {
        Fault::Local => format!("(to be fixed on {})", name(&pair.sender_host)),
        Fault::Peer => format!("(to be fixed on {})", name(&pair.receiver_host)),
        Fault::Path => "(to be fixed between the hosts)".to_owned(),
        Fault::None => "(harmless)".to_owned(),
        Fault::Unknown => "(not known who can fix it)".to_owned(),
    }
}
