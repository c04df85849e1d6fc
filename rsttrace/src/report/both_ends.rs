//! The section on both ends of resets, where the inputs are of several hosts.

use std::{collections::BTreeMap, sync::Arc};

use jiff::tz::TimeZone;

use super::shown::{self, number};
use crate::{
    model::{Fault, JoinSummary, Pair, PairVerdict},
    util::sanitize,
};

/// Most pairs in full, of each verdict.
const PAIRS_MAX: usize = 10;
/// Most causes.
const CAUSES_MAX: usize = 15;
/// Most different causes that are counted.
const COUNTED_MAX: usize = 4_096;
/// Longest sentence, characters.
const SENTENCE: usize = 400;

/// Pairs of which the section shows evidence.
const IN_FULL: [PairVerdict; 3] = [PairVerdict::NotSent, PairVerdict::NeverArrived, PairVerdict::NotJoinable];

/// What a report shows of the join of its inputs.
#[derive(Clone, Debug, Default)]
pub struct JoinedSection {
    summary: Option<JoinSummary>,
    /// The first pairs of each verdict that has evidence.
    pairs: Vec<Pair>,
    /// Number of resets by sender, cause and who has to change something.
    causes: BTreeMap<(Arc<str>, &'static str, &'static str), u64>,
}

/// One pair as text.
pub(super) struct ShownPair {
    /// When, between which ends, and the verdict.
    pub(super) title: String,
    /// What the verdict rests on.
    pub(super) reasons: Vec<String>,
}

impl JoinedSection {
    /// Takes a pair.
    pub fn take(&mut self, pair: Pair) {
        if let (PairVerdict::Sent, Some(host), Some(cause)) = (pair.verdict, &pair.sender_host, &pair.cause) {
            let key = (Arc::clone(host), cause.code, fixed_by(cause.fault));
            if self.causes.len() < COUNTED_MAX || self.causes.contains_key(&key) {
                *self.causes.entry(key).or_default() += 1;
            }
        }
        let of_verdict = self.pairs.iter().filter(|kept| kept.verdict == pair.verdict).count();
        if IN_FULL.contains(&pair.verdict) && of_verdict < PAIRS_MAX {
            self.pairs.push(pair);
        }
    }

    /// The section with hosts, clocks and counts.
    #[must_use]
    pub fn with(self, summary: JoinSummary) -> Self {
        Self { summary: Some(summary), ..self }
    }

    /// Sentences in front: counts, and the clocks.
    pub(super) fn sentences(&self) -> Vec<String> {
        let Some(summary) = &self.summary else { return Vec::new() };
        let counts =
            summary.verdicts.iter().map(|count| format!("{} {}", number(count.count), count.verdict.in_words()));
        let counts: Vec<String> = counts.collect();
        let mut sentences = vec![if counts.is_empty() {
            "No reset is one of two of these hosts.".to_owned()
        } else {
            format!("Resets between these hosts: {}.", counts.join(", "))
        }];
        for clocks in &summary.clocks {
            let ms = |us: i64| shown::duration(std::time::Duration::from_micros(us.unsigned_abs()).as_secs_f64() * 1e3);
            let ahead = if clocks.clock.skew_us < 0 { "behind" } else { "ahead of" };
            sentences.push(format!(
                "The clock of {} is {} {ahead} that of {} (spread {}, matches: {}).",
                shown::name(&clocks.other),
                ms(clocks.clock.skew_us),
                shown::name(&clocks.host),
                ms(clocks.clock.most_us.saturating_sub(clocks.clock.least_us)),
                number(clocks.clock.matches)
            ));
        }
        sentences.push("Of the command's filters only the times apply here: joining needs all records.".to_owned());
        sentences
    }

    /// Rows of the table of causes: sender, cause, where it is to be fixed, number; the most frequent first.
    pub(super) fn causes(&self) -> Vec<[String; 4]> {
        let mut causes: Vec<_> = self.causes.iter().collect();
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let row = |((host, code, fix), count): (&(Arc<str>, &str, &str), &u64)| {
            [shown::name(host), (*code).to_owned(), (*fix).to_owned(), number(*count)]
        };
        causes.into_iter().take(CAUSES_MAX).map(row).collect()
    }

    /// Pairs whose verdict has evidence.
    pub(super) fn pairs(&self, zone: &TimeZone) -> Vec<ShownPair> {
        let cut = |text: &str| sanitize::truncate(text, SENTENCE).into_owned();
        let shown = |pair: &Pair| {
            let ends = match (&pair.receiver, &pair.sender) {
                (Some(end), _) => format!("{} < {}", end.local, end.peer),
                (None, Some(end)) => format!("{} > {}", end.local, end.peer),
                (None, None) => String::new(),
            };
            ShownPair {
                title: cut(&format!(
                    "{} {ends}: {}{}",
                    shown::date_and_time(pair.time, zone),
                    pair.summary,
                    pair.confidence.in_brackets()
                )),
                reasons: pair.reasons.iter().map(|reason| cut(reason)).collect(),
            }
        };
        self.pairs.iter().map(shown).collect()
    }
}

/// Who has to change something, as the sender's record has it.
const fn fixed_by(fault: Fault) -> &'static str {
    match fault {
        Fault::Local => "the sender",
        Fault::Peer => "the receiver",
        Fault::Path => "what is between",
        Fault::None => "harmless",
        Fault::Unknown => "not known",
    }
}
