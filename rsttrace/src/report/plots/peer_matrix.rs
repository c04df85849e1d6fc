//! Processes and the other sides of their connections: one backend or many at a glance. A table whose cells are shaded.

use maud::html;

use crate::report::{
    collector::PeerKey,
    content::Report,
    fault_counts::{FaultCounts, class, label},
    marks::{Plot, symbol},
    scales::count_f64,
    shown::{self, counted, number},
};

/// Most rows and columns; the rest is counted together.
const PEERS_MAX: usize = 12;
const PROCESSES_MAX: usize = 6;
/// Shades of cells.
const SHADES: f64 = 4.0;

/// The plot; `None` where there is one pair only, which the verdict names.
pub(super) fn plot(report: &Report) -> Option<Plot> {
    if report.pairs.len() < 2 {
        return None;
    }
    let (mut peers, mut processes): (Vec<PeerKey>, Vec<&str>) = (Vec::new(), Vec::new());
    for pair in &report.pairs {
        if !peers.contains(&pair.peer) && peers.len() < PEERS_MAX {
            peers.push(pair.peer);
        }
        if !processes.contains(&pair.process.as_str()) && processes.len() < PROCESSES_MAX {
            processes.push(&pair.process);
        }
    }
    let mut cells = vec![vec![FaultCounts::default(); processes.len() + 1]; peers.len() + 1];
    for pair in &report.pairs {
        let row = peers.iter().position(|peer| *peer == pair.peer).unwrap_or(peers.len());
        let column = processes.iter().position(|process| *process == pair.process).unwrap_or(processes.len());
        cells[row][column].merge(pair.counts);
    }
    let has_others = cells.iter().any(|row| row[processes.len()].total() > 0);
    let has_rest = cells[peers.len()].iter().any(|cell| cell.total() > 0);
    let most = cells.iter().flatten().map(FaultCounts::total).max().unwrap_or(1);
    let columns = processes.len() + usize::from(has_others);
    let rows = peers.len() + usize::from(has_rest);
    let table = html! {
        div.scrolls tabindex="0" role="region" aria-label="Processes and peers" {
            table.matrix {
                thead { tr {
                    th scope="col" { "peer" }
                    @for column in 0..columns {
                        th scope="col" {
                            @match processes.get(column) {
                                Some(process) => a href=(link("process", process)) { (process) },
                                None => "others",
                            }
                        }
                    }
                } }
                tbody { @for (place, row) in cells.iter().enumerate().take(rows) { tr {
                    th scope="row" {
                        @match peers.get(place) {
                            Some(peer) => a href=(link("peer", &shown::peer(peer))) { (shown::peer(peer)) },
                            None => "others",
                        }
                    }
                    @for counts in row.iter().take(columns) { (cell(*counts, most)) }
                } } }
            }
        }
    };
    let mut sentences = vec![sentence(report, &peers)];
    if report.pairs_error > 0 {
        let error = number(report.pairs_error);
        sentences.push(format!("There were too many pairs to count each; a number may be too small by {error}."));
    }
    Some(Plot { id: "peers", title: "Processes and peers", sentences, wide: table, narrow: None, table: None })
}

fn sentence(report: &Report, peers: &[PeerKey]) -> String {
    let mut by_peer: Vec<(PeerKey, u64)> = peers.iter().map(|&peer| (peer, 0)).collect();
    let total: u64 = report.pairs.iter().map(|pair| pair.counts.total()).sum();
    for pair in &report.pairs {
        if let Some((_, count)) = by_peer.iter_mut().find(|(peer, _)| *peer == pair.peer) {
            *count += pair.counts.total();
        }
    }
    let Some((peer, most)) = by_peer.into_iter().max_by_key(|(_, count)| *count) else { return String::new() };
    let share = shown::percent(most, total);
    format!("{} has the most: {} ({share}).", shown::peer(&peer), counted(most, "incident"))
}

fn cell(counts: FaultCounts, most: u64) -> maud::Markup {
    let total = counts.total();
    if total == 0 {
        return html! { td {} };
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 4")]
    let shade = (count_f64(total).ln_1p() / count_f64(most).ln_1p() * SHADES).ceil() as u8;
    let fault = counts.main();
    html! {
        td.filled.{ (class(fault)) }.{ "m" (shade.clamp(1, 4)) } title={ (label(fault)) ": " (number(counts.of(fault))) } {
            (symbol(fault)) " " (number(total))
        }
    }
}

/// Address of a filter.
fn link(key: &str, value: &str) -> String {
    crate::report::page::fragment(key, value)
}
