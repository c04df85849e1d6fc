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
    sentences.extend(summary.idle_clusters.first().map(|cluster| format!("In time: {}.", cluster.summary_clause())));
    sentences.extend(most_urgent_cause(summary));
    sentences.join(" ")
}

fn by_direction(summary: &Summary) -> String {
    let Summary { resets, sent, received, .. } = summary;
    match (sent, received) {
        (_, 0) => format!("This host sent all {resets} resets itself."),
        (0, _) => format!("This host sent no reset; it received all {resets}."),
        _ => format!("Of {resets} resets this host sent {sent} and received {received}."),
    }
}

fn by_fault(summary: &Summary) -> String {
    let part = |fault: Fault, what: &str| {
        let count = *summary.by_fault.get(&fault)?;
        Some(if count == summary.resets { format!("all {what}") } else { format!("{count} {what}") })
    };
    let parts: Vec<String> = [
        part(Fault::Local, "are for this side to change"),
        part(Fault::Peer, "for the peers' side"),
        part(Fault::Path, "for something between"),
        part(Fault::None, "harmless"),
        part(Fault::Unknown, "of unknown fault"),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!("By whose side: {}.", join(&parts))
}

fn fin_order(order: &FinOrderCounts) -> Option<String> {
    let &FinOrderCounts { fin_first, send_first, no_fin } = order;
    let total = fin_first + send_first + no_fin;
    let part = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let parts: Vec<String> = [
        part(fin_first, "after a FIN of the peer that had come before our next data were sent"),
        part(send_first, "where FIN and data crossed"),
        part(no_fin, "without any FIN before"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (total > 0).then(|| format!("On connections that this host had opened and used: {}.", join(&parts)))
}

fn backends(summary: &Summary) -> Option<String> {
    let first = summary.backends.first()?;
    let total: u64 = summary.order.fin_first + summary.order.send_first + summary.order.no_fin;
    let at = format!("{}:{}", first.address, first.port);
    Some(match summary.backend_count {
        1 => format!("They went to one backend, {at}."),
        many if first.count * 5 >= total * 4 => {
            format!("Of {many} backends nearly all went to {at} ({} of {total}).", first.count)
        }
        many => format!("They went to {many} backends, most to {at} ({} of {total}).", first.count),
    })
}

fn most_urgent_cause(summary: &Summary) -> Option<String> {
    // What is harmless needs no change, however often it occurs.
    let rows = summary.by_cause.iter().filter_map(|(code, count)| Some((catalogue::find(code)?, count)));
    let (row, count) = rows.filter(|(row, _)| row.fault != Fault::None).max_by_key(|&(_, count)| count)?;
    Some(format!("First to look at: {} ({count}). {} {}", row.code, row.summary, row.advice))
}

/// Joins parts of a sentence: `a, b and c`.
fn join(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
