//! Pages of text: help, the block of an incident, health.

use super::snapshot::Snapshot;
use crate::{
    format::{Format, TextOptions, TextWidth},
    model::Record,
    report::KeptIncident,
    util::{sanitize::Sanitized, terminal},
};

/// Columns before the value of a row of a block, and of a summary.
const BLOCK_INDENT: usize = 13;
const SUMMARY_INDENT: usize = 12;
/// Narrowest page that lines are wrapped for.
const NARROWEST: usize = 20;

/// What keys do.
const HELP: &str = "  1 to 5, Tab   causes, peers, processes, incidents, health
  j k, arrows   move; Page Up, Page Down, Home, End (G)
  Enter         open the incident, or the newest one of the row, as --output long prints it
  /             filter: cause:CODE fault:WHO peer:CIDR comm:NAME and the other filters of the command line, \
                such as peer-port:443 or no-benign; a word alone is a cause, an address, or a process. \
                An empty line shows all
  a, f          all, or what has a fault
  s             sort by the next column: its title is underlined
  Space         pause the view; the run goes on
  t T           a step on in time, or back, in a recording or capture
  g             go to a time: 14:03, '2026-11-28 08:00', or 10m before the end
  r             write the report of what is shown, and tell its file
  q, Ctrl-C     quit

  1m and 10m count the records of the last minute and of the last ten, to the second and to ten seconds; TOTAL is that of \
  the summary. 60 s is the last minute. FAULTY counts resets that are not harmless. AGE and IDLE are medians of the newest \
  256 incidents and further records: age of the connection, silence before the reset. Colours: red is to be fixed on this \
  host, cyan by the peer or on the path, green is harmless.";

fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
    terminal::wrap(text, width.max(NARROWEST), |line| if line.starts_with("  ") { indent } else { 0 })
        .lines()
        .map(ToOwned::to_owned)
        .collect()
}

/// The page of `?`.
pub(super) fn help(width: usize) -> Vec<String> {
    let (keys, rest) = HELP.split_once("\n\n").unwrap_or((HELP, ""));
    let mut lines = wrapped(keys, width, 16);
    lines.push(String::new());
    lines.extend(wrapped(rest, width, 2));
    lines
}

/// The block of an incident, as `--output long` prints it.
pub(super) fn block(kept: &KeptIncident, options: &TextOptions, width: usize) -> Vec<String> {
    let options = TextOptions { color: false, width: TextWidth::Fixed(TextOptions::COLUMNS), ..options.clone() };
    let mut formatter = Format::Long.formatter(options);
    let mut text = Vec::new();
    for record in std::iter::once(&kept.first).chain(&kept.further) {
        // A vector takes everything.
        let _ignored = formatter.write(&Record::Reset(record.clone()), &mut text);
    }
    wrapped(&String::from_utf8_lossy(&text), width, BLOCK_INDENT)
}

/// The summary as text, what is held, and the messages of the run.
pub(super) fn health(snapshot: &Snapshot, width: usize) -> Vec<String> {
    let mut lines = wrapped(&snapshot.summary.in_zone(&snapshot.zone).to_string(), width, SUMMARY_INDENT);
    let limits = &snapshot.summary.limits;
    if !limits.is_empty() && !snapshot.summary.r#final {
        lines.extend(wrapped(&format!("  limited   {}", Sanitized(limits)), width, SUMMARY_INDENT));
    }
    lines.extend(wrapped(&format!("  held      {}", snapshot.held), width, SUMMARY_INDENT));
    for (number, message) in snapshot.messages.iter().enumerate() {
        let name = if number == 0 { "messages" } else { "" };
        lines.extend(wrapped(&format!("  {name:<9} {}", Sanitized(message)), width, SUMMARY_INDENT));
    }
    lines
}
