//! Two reports beside each other: whether a change between them helped.

use super::{
    content::Report,
    fault_counts::FAULTS,
    scales::count_f64,
    shown::{counted, duration, number},
};
use crate::model::Fault;

/// Largest probability at which a difference by chance is ruled out.
const CHANCE_MAX: f64 = 0.05;
/// Most incidents for which the probability is computed exactly.
const EXACT_MAX: u64 = 2_000;
/// Shortest time from which rates are told, seconds.
const TIME_MIN_S: f64 = 1.0;

/// Reports of before and after a change.
pub struct Comparison {
    pub(super) before: Report,
    pub(super) after: Report,
    rates: Vec<Rate>,
    /// Incidents that are not harmless.
    all: Rate,
}

/// Incidents of a cause before and after.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    /// Code of the cause.
    pub(super) code: &'static str,
    pub(super) fault: Fault,
    pub(super) before: u64,
    pub(super) after: u64,
    /// Incidents per second, before and after.
    per_s: (f64, f64),
    /// Probability of a difference as large as this, or larger, where nothing had changed.
    chance: f64,
}

impl Rate {
    fn new(code: &'static str, fault: Fault, counts: (u64, u64), covered_s: (f64, f64)) -> Self {
        let (before, after) = counts;
        let is_known = covered_s.0 >= TIME_MIN_S && covered_s.1 >= TIME_MIN_S;
        let share = covered_s.0 / (covered_s.0 + covered_s.1);
        let chance = if is_known && share.is_finite() { chance(before, after, share) } else { 1.0 };
        let per_s = (count_f64(before) / covered_s.0.max(TIME_MIN_S), count_f64(after) / covered_s.1.max(TIME_MIN_S));
        Self { code, fault, before, after, per_s, chance }
    }

    /// Whether the difference is no chance.
    pub(super) fn is_clear(&self) -> bool {
        self.chance <= CHANCE_MAX
    }

    /// Whether there are fewer now.
    pub(super) fn is_less(&self) -> bool {
        self.per_s.1 < self.per_s.0
    }

    /// The change of the rate in words.
    pub(super) fn change(&self) -> String {
        if !self.is_clear() {
            return "no clear change".to_owned();
        }
        match (self.before, self.after) {
            (0, _) => "new".to_owned(),
            (_, 0) => "gone".to_owned(),
            _ if self.is_less() => format!("−{:.0} %", (1.0 - self.per_s.1 / self.per_s.0) * 100.0),
            _ => format!("×{:.1}", self.per_s.1 / self.per_s.0),
        }
    }
}

impl Comparison {
    /// Compares two reports.
    pub fn new(before: Report, after: Report) -> Self {
        let covered_s = (before.covered_s(), after.covered_s());
        let mut rates: Vec<Rate> = Vec::new();
        let codes = before.summary.incidents_by_cause.keys().chain(after.summary.incidents_by_cause.keys());
        for &code in codes {
            if rates.iter().any(|rate| rate.code == code) {
                continue;
            }
            let of = |report: &Report| report.summary.incidents_by_cause.get(code).copied().unwrap_or(0);
            let fault = fault_of(&before, code).or_else(|| fault_of(&after, code)).unwrap_or(Fault::Unknown);
            rates.push(Rate::new(code, fault, (of(&before), of(&after)), covered_s));
        }
        rates.sort_by_key(|rate| std::cmp::Reverse((rate.fault != Fault::None, rate.before.max(rate.after))));
        let harmful = |report: &Report| {
            FAULTS.into_iter().filter(|&fault| fault != Fault::None).map(|fault| report.settled(fault)).sum()
        };
        let all = Rate::new("all with a fault", Fault::Unknown, (harmful(&before), harmful(&after)), covered_s);
        Self { before, after, rates, all }
    }

    /// Causes, those with a fault first.
    pub(super) fn rates(&self) -> &[Rate] {
        &self.rates
    }

    /// Whether it helped: `None` where the numbers do not tell.
    pub(super) fn helped(&self) -> Option<bool> {
        (self.can_tell() && self.all.is_clear()).then(|| self.all.is_less())
    }

    /// Whether both inputs cover time enough for a rate.
    pub(super) fn can_tell(&self) -> bool {
        self.before.covered_s() >= TIME_MIN_S && self.after.covered_s() >= TIME_MIN_S
    }

    /// The answer.
    pub(super) fn headline(&self) -> String {
        let (before, after) = self.per_hour(self.all.before, self.all.after);
        let rates = format!("{before} incidents with a fault per hour before, {after} after");
        match self.helped() {
            _ if !self.can_tell() => "It cannot be told whether the change helped: the inputs cover no time".to_owned(),
            Some(true) if self.all.after == 0 => format!("It helped: no incident with a fault any more ({rates})"),
            Some(true) => format!("It helped: {rates} ({})", self.all.change()),
            Some(false) => format!("It got worse: {rates} ({})", self.all.change()),
            None if self.all.before + self.all.after == 0 => {
                "No incident with a fault, neither before nor after".to_owned()
            }
            None => format!("No clear change: {rates}"),
        }
    }

    /// What stands behind the answer.
    pub(super) fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if let Some(finding) = self.before.main_finding().filter(|_| self.can_tell())
            && let Some(rate) = self.rates.iter().find(|rate| rate.code == finding.code)
        {
            let (before, after) = self.per_hour(rate.before, rate.after);
            sentences.push(format!(
                "The cause to look at first before, {}: {before} per hour before, {after} after ({}).",
                rate.code,
                rate.change()
            ));
        }
        let clear = |is_less: bool, what: &str| {
            let of = |rate: &&Rate| rate.is_clear() && rate.is_less() == is_less && rate.fault != Fault::None;
            let codes: Vec<&str> = self.rates.iter().filter(of).map(|rate| rate.code).take(5).collect();
            (!codes.is_empty()).then(|| format!("{what}: {}.", codes.join(", ")))
        };
        sentences.extend(clear(true, "Rarer now"));
        sentences.extend(clear(false, "More frequent now"));
        let covered = |report: &Report| duration(report.covered_s() * 1e3);
        sentences.push(format!(
            "Before: {} in {}. After: {} in {}. A change is called clear where chance alone would make it in less than one \
             of twenty cases, with each incident counted by itself.",
            counted(self.before.summary.incidents, "incident"),
            covered(&self.before),
            counted(self.after.summary.incidents, "incident"),
            covered(&self.after)
        ));
        for (name, report) in [("Before", &self.before), ("After", &self.after)] {
            sentences.extend(report.doubts().into_iter().map(|doubt| format!("{name}: {doubt}")));
        }
        sentences
    }

    /// Incidents per hour, before and after, with as many digits as tell something.
    pub(super) fn per_hour(&self, before: u64, after: u64) -> (String, String) {
        let of = |count: u64, report: &Report| match report.covered_s() {
            ..TIME_MIN_S => "not known".to_owned(),
            covered_s => rounded(count_f64(count) * 3_600.0 / covered_s),
        };
        (of(before, &self.before), of(after, &self.after))
    }
}

/// A rate with as many digits as tell something.
pub(super) fn rounded(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{rate:.1}"),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number for people")]
        _ => number(rate.round() as u64),
    }
}

/// Fault of a cause by an incident that is held; of several the newest's.
fn fault_of(report: &Report, code: &str) -> Option<Fault> {
    let newest = report.incidents.iter().rev().find(|kept| kept.first.cause.code == code);
    newest.map(|kept| kept.first.cause.fault)
}

/// Probability that counts differ from what the times would give by as much as these do, or more, where the rate has not
/// changed (two-sided binomial test). `share` is the part of the time that is before.
fn chance(before: u64, after: u64, share: f64) -> f64 {
    let total = before + after;
    if total == 0 {
        return 1.0;
    }
    if total > EXACT_MAX {
        let (n, k) = (count_f64(total), count_f64(before));
        let deviation = (k - n * share).abs() / (n * share * (1.0 - share)).sqrt();
        // Beyond 1.96 deviations lies a twentieth.
        return if deviation > 1.96 { 0.0 } else { 1.0 };
    }
    // Logarithms of the probabilities, from one count to the next.
    let (p, q) = (share.ln(), (1.0 - share).ln());
    let mut log_choose = 0.0;
    let mut logs = Vec::new();
    for k in 0..=total {
        logs.push(log_choose + count_f64(k) * p + count_f64(total - k) * q);
        log_choose += (count_f64(total - k) / count_f64(k + 1)).ln();
    }
    let own = usize::try_from(before).ok().and_then(|before| logs.get(before)).copied().unwrap_or(0.0);
    logs.into_iter().filter(|&log| log <= own + 1e-7).map(f64::exp).sum::<f64>().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_that_of_coins() {
        assert!((chance(10, 0, 0.5) - 2.0 / 1024.0).abs() < 1e-9);
        assert!((chance(5, 5, 0.5) - 1.0).abs() < 1e-9);
        assert!((chance(0, 0, 0.5) - 1.0).abs() < f64::EPSILON);
        // Thrice the time, thrice the incidents.
        assert!(chance(30, 10, 0.75) > 0.9 && chance(10, 30, 0.75) < 1e-6);
        assert!(chance(50_000, 49_900, 0.5) > 0.9 && chance(50_000, 40_000, 0.5) < 1e-9);
    }

    #[test]
    fn changes_have_words() {
        let change = |before, after| Rate::new("x", Fault::Local, (before, after), (3_600.0, 3_600.0)).change();
        assert_eq!(change(12, 0), "gone");
        assert_eq!(change(0, 12), "new");
        assert_eq!(change(100, 20), "−80 %");
        assert_eq!(change(20, 100), "×5.0");
        assert_eq!(change(3, 2), "no clear change");
    }
}
