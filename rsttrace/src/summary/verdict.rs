//! The run in a few sentences: the conclusions that a person would draw from a capture.

use std::collections::BTreeMap;

use crate::model::{Fault, FinOrderCounts, Finding, IdleCluster, Summary};

/// Sentences of the verdict with the names of their rows: who reset whom, which side has to change something, what to look at
/// first, idle times, whether a FIN preceded the next data, and how many backends are affected.
pub(super) fn lines(summary: &Summary, silence_limit: Option<String>) -> Vec<(&'static str, String)> {
    if summary.resets == 0 {
        return vec![("verdict", "No resets.".to_owned())];
    }
    let worst = &summary.findings;
    let faults = &summary.settled_faults;
    let mut lines = vec![("verdict", format!("{} {}", by_direction(summary), by_fault(summary, faults)))];
    lines.extend(worst.first().map(|worst| ("action", look_first(worst))));
    lines.extend(worst.get(1..).and_then(look_then).map(|sentence| ("", sentence)));
    let timing = silence_limit.or_else(|| summary.idle_clusters.first().map(IdleCluster::summary_clause));
    lines.extend(timing.map(|timing| ("timing", format!("Timing: {timing}."))));
    let order = [fin_order(&summary.order), backends(summary)].into_iter().flatten().collect::<Vec<_>>().join(" ");
    if !order.is_empty() {
        lines.push(("backends", order));
    }
    lines
}

/// The sentences in one paragraph.
pub(super) fn paragraph(lines: &[(&'static str, String)]) -> String {
    lines.iter().map(|(_, sentence)| sentence.as_str()).collect::<Vec<_>>().join(" ")
}

fn by_direction(summary: &Summary) -> String {
    let sentence = directions(summary);
    match summary.incidents {
        incidents if incidents == summary.resets => sentence,
        // Records of incidents that began before what is summed up here.
        0 => sentence,
        1 => format!("{sentence} That is one incident."),
        incidents => format!("{sentence} That is {incidents} incidents."),
    }
}

fn directions(summary: &Summary) -> String {
    match summary {
        Summary { resets: 1, received: 0, .. } => "This host sent the only reset.".to_owned(),
        Summary { resets: 1, .. } => "This host received the only reset.".to_owned(),
        Summary { resets, received: 0, .. } => format!("This host sent all {resets} resets."),
        Summary { resets, sent: 0, .. } => format!("This host received all {resets} resets and sent none."),
        Summary { resets, sent, received, .. } => {
            format!("Of {resets} resets this host sent {sent} and received {received}.")
        }
    }
}

fn by_fault(summary: &Summary, faults: &BTreeMap<Fault, u64>) -> String {
    let count = |fault: Fault| faults.get(&fault).copied().filter(|&count| count > 0);
    if count(Fault::None) == Some(summary.incidents) {
        return if summary.resets == 1 {
            "It is harmless: nothing has to be changed."
        } else {
            "All of them are harmless: nothing has to be changed."
        }
        .to_owned();
    }
    let side = |fault: Fault, name: &str| {
        let count = count(fault)?;
        let all = if count == summary.incidents && count > 1 { "all " } else { "" };
        Some(format!("{name} ({all}{count})"))
    };
    let sides = [(Fault::Local, "this host"), (Fault::Peer, "the peers"), (Fault::Path, "something between the ends")];
    let sides: Vec<String> = sides.into_iter().filter_map(|(fault, name)| side(fault, name)).collect();
    let to_fix = (!sides.is_empty()).then(|| format!("To be fixed by: {}", join(&sides)));
    let harmless = count(Fault::None).map(|count| format!("harmless: {count}"));
    let unknown = count(Fault::Unknown).map(|count| format!("not known: {count}"));
    let parts: Vec<String> = [to_fix, harmless, unknown].into_iter().flatten().collect();
    if parts.is_empty() {
        return "Their incidents began before.".to_owned();
    }
    let mut sentence = parts.join("; ");
    sentence.get_mut(..1).map(str::make_ascii_uppercase);
    format!("{sentence}.")
}

fn fin_order(order: &FinOrderCounts) -> Option<String> {
    let &FinOrderCounts { fin_first, send_first, no_fin } = order;
    let part = |count: u64, what: &str| (count > 0).then(|| format!("in {count} {what}"));
    let parts: Vec<String> = [
        part(fin_first, "the peer had closed before this host sent again"),
        part(send_first, "the peer's FIN and this host's data crossed"),
        part(no_fin, "the peer had not closed"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| format!("Of the connections that this host had opened and used: {}.", join(&parts)))
}

fn backends(summary: &Summary) -> Option<String> {
    let first = summary.backends.first()?;
    let total: u64 = summary.order.fin_first + summary.order.send_first + summary.order.no_fin;
    let at = format!("{}:{}", first.address, first.port);
    Some(match summary.backend_count {
        1 if total == 1 => format!("It went to {at}."),
        1 => format!("All of these went to one backend, {at}."),
        many if first.count * 5 >= total * 4 => {
            format!("Of {many} backends nearly all went to {at} ({} of {total}).", first.count)
        }
        many => format!("They went to {many} backends, most to {at} ({} of {total}).", first.count),
    })
}

/// Names the cause with the most harm, with its process and place.
fn look_first(worst: &Finding) -> String {
    format!("Look first at: {}. {} {}", in_short(worst), worst.summary, worst.advice)
}

/// Names the causes behind it.
fn look_then(others: &[Finding]) -> Option<String> {
    let others: Vec<String> = others.iter().map(in_short).collect();
    (!others.is_empty()).then(|| format!("Then at: {}.", others.join("; ")))
}

/// A cause with its count, process and place.
fn in_short(worst: &Finding) -> String {
    let Finding { code, resets, bursts, is_steady, place, .. } = worst;
    let count = match (resets, bursts) {
        (1, _) => "once".to_owned(),
        (resets, bursts) if resets == bursts || *is_steady => format!("{resets} times"),
        (resets, 1) => format!("{resets} in one burst"),
        (resets, bursts) => format!("{resets} resets in {bursts} bursts"),
    };
    let place = if place.is_empty() { String::new() } else { format!(", {place}") };
    format!("{code} ({count}){place}")
}

/// Joins parts of a sentence: `a, b and c`.
fn join(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
