//! The run in one paragraph: the conclusions that a person would draw from a capture.

use crate::{
    diagnose::catalogue,
    model::{Fault, FinOrderCounts, Summary},
};

/// Renders the verdict: who reset whom, which side has to change something, whether a FIN preceded the next data, how
/// many backends are affected, and idle times.
pub(super) fn render(summary: &Summary) -> String {
    if summary.resets == 0 {
        return "No resets.".to_owned();
    }
    let mut sentences = vec![by_direction(summary), by_fault(summary)];
    sentences.extend(fin_order(&summary.order));
    sentences.extend(backends(summary));
    sentences.extend(summary.idle_clusters.first().map(|cluster| format!("Timing: {}.", cluster.summary_clause())));
    sentences.extend(most_urgent_cause(summary));
    sentences.join(" ")
}

fn by_direction(summary: &Summary) -> String {
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

fn by_fault(summary: &Summary) -> String {
    let count = |fault: Fault| summary.by_fault.get(&fault).copied().filter(|&count| count > 0);
    if count(Fault::None) == Some(summary.resets) {
        return if summary.resets == 1 { "It is harmless." } else { "All of them are harmless." }.to_owned();
    }
    let side = |fault: Fault, name: &str| {
        let count = count(fault)?;
        let all = if count == summary.resets && count > 1 { "all " } else { "" };
        Some(format!("{name} ({all}{count})"))
    };
    let sides = [(Fault::Local, "this host"), (Fault::Peer, "the peers"), (Fault::Path, "something between the ends")];
    let sides: Vec<String> = sides.into_iter().filter_map(|(fault, name)| side(fault, name)).collect();
    let to_fix = (!sides.is_empty()).then(|| format!("To be fixed by: {}", join(&sides)));
    let harmless = count(Fault::None).map(|count| format!("harmless: {count}"));
    let unknown = count(Fault::Unknown).map(|count| format!("not known: {count}"));
    let parts: Vec<String> = [to_fix, harmless, unknown].into_iter().flatten().collect();
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

fn most_urgent_cause(summary: &Summary) -> Option<String> {
    // What is harmless needs no change, however often it occurs.
    let rows = summary.by_cause.iter().filter_map(|(code, count)| Some((catalogue::find(code).next()?, count)));
    let (row, count) = rows.filter(|(row, _)| row.fault != Fault::None).max_by_key(|&(_, count)| count)?;
    Some(format!("Look first at: {} ({count}). {} {}", row.code, row.summary, row.advice))
}

/// Joins parts of a sentence: `a, b and c`.
fn join(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
