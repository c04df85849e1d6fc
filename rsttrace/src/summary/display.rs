//! The summary as text for people.

use std::fmt::{self, Display, Formatter};

use crate::{
    model::{GroupRow, GroupTable, OWN_NAMESPACE, PeerCount, ProcessCount, SinkCount, Summary},
    util::{
        counted, human_duration,
        sanitize::{self, Sanitized},
        serde_variant_name,
    },
};

/// Most characters of a peer's name.
const NAME: usize = 48;

impl Display for Summary {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { resets, sent, received, lost, .. } = self;
        let (resets_in_all, duration) = (counted(*resets, "reset"), human_duration(self.duration_s * 1e3));
        write!(formatter, "{resets_in_all} in {duration} ({sent} sent, {received} received), {lost} lost")?;
        let line = |formatter: &mut Formatter<'_>, name: &str, text: &str| {
            if text.is_empty() { Ok(()) } else { write!(formatter, "\n  {name:<9} {}", Sanitized(text)) }
        };
        let list =
            |formatter: &mut Formatter<'_>, name: &str, items: Vec<String>| line(formatter, name, &items.join(", "));
        let mut causes: Vec<_> = self.settled_by_cause.iter().collect();
        causes.sort_by(|one, other| other.1.cmp(one.1));
        list(formatter, "causes", causes.iter().map(|(code, count)| format!("{code} {count}")).collect())?;
        list(formatter, "peers", self.by_peer.iter().map(peer).collect())?;
        if self.by_peer_approximate {
            line(formatter, "", "there were too many peers to count each; these have so many at least")?;
        }
        list(formatter, "processes", self.by_process.iter().map(process).collect())?;
        if let Some(groups) = self.groups_text() {
            write!(formatter, "\n{groups}")?;
        }
        for pattern in &self.patterns {
            line(formatter, "pattern", pattern)?;
        }
        // Where resets were filtered out, the counters cannot be compared.
        let namespaces = self.coverage.others.iter().map(|other| (Some(other.netns), &other.counters));
        for (netns, counters) in [(None, &self.coverage.counters)].into_iter().chain(namespaces) {
            let compared: Vec<String> =
                counters.iter().filter(|counter| counter.observed.is_some()).map(ToString::to_string).collect();
            let of = match netns {
                Some(netns) => format!("namespace {netns}: "),
                None if self.coverage.others.is_empty() => String::new(),
                None => OWN_NAMESPACE.to_owned(),
            };
            if !compared.is_empty() {
                line(formatter, "counters", &format!("{of}{}", compared.join(", ")))?;
            }
        }
        if self.r#final {
            line(formatter, "limited", &self.limits)?;
        }
        for SinkCount { sink, delivered, undelivered, waiting } in &self.sinks {
            if undelivered + waiting > 0 {
                // At the end none wait any more.
                let waiting = if *waiting > 0 { format!(", {waiting} waiting") } else { String::new() };
                let missing = format!("{} delivered, {undelivered} not{waiting}", counted(*delivered, "record"));
                line(formatter, "sink", &format!("{}: {missing}", Sanitized(sink)))?;
            }
        }
        if self.own_resets > 0 {
            let (own, are) = (counted(self.own_resets, "reset"), if self.own_resets == 1 { "is" } else { "are" });
            let own = format!("{own} of rsttrace's own connections {are} left out (--own-connections)");
            line(formatter, "own", &own)?;
        }
        if *resets == 0 {
            return Ok(());
        }
        self.verdict_lines.iter().try_for_each(|(name, sentence)| line(formatter, name, sentence))
    }
}

impl Summary {
    /// The groups of `--group-by` as rows, without an end of line; `None` without that option.
    pub(crate) fn groups_text(&self) -> Option<String> {
        let rows = groups(self.groups.as_ref()?);
        Some(rows.iter().map(|row| format!("  {row}")).collect::<Vec<_>>().join("\n"))
    }

    /// The summary with the addresses of peers alone, for text.
    pub(crate) fn without_names(&self) -> Self {
        let mut summary = self.clone();
        summary.by_peer.iter_mut().for_each(|peer| peer.name = None);
        summary
    }
}

fn peer(PeerCount { address, name, count }: &PeerCount) -> String {
    match name {
        Some(name) => format!("{} ({address}) {count}", sanitize::truncate(name, NAME)),
        None => format!("{address} {count}"),
    }
}

/// Rows of the groups, the first of them their names.
fn groups(table: &GroupTable) -> Vec<String> {
    let names = table.by.iter().map(serde_variant_name).collect();
    let mut rows: Vec<(String, Vec<String>)> = vec![("count".to_owned(), names)];
    for GroupRow { values, count } in &table.rows {
        let value = |value: &Option<String>| {
            match value.as_deref() {
                None => "-".to_owned(),
                // Names that look like no name.
                Some(value @ ("" | "-")) => format!("\"{value}\""),
                Some(value) => sanitize::truncate(value, NAME).into_owned(),
            }
        };
        rows.push((count.to_string(), values.iter().map(value).collect()));
    }
    let width = |column: usize| rows.iter().map(|(_, row)| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..table.by.len()).map(width).collect();
    let row = |(number, (count, values)): (usize, &(String, Vec<String>))| {
        let cells = values.iter().zip(&widths).map(|(value, width)| format!("  {value:width$}"));
        let name = if number == 0 { "groups" } else { "" };
        format!("{name:<9} {count:>7}{}", cells.collect::<String>()).trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().enumerate().map(row).collect();
    match table.further {
        Some(0) => {}
        Some(1) => lines.push(format!("{:<9} and one more group", "")),
        Some(further) => lines.push(format!("{:<9} and {further} more groups", "")),
        None => lines.push(format!(
            "{:<9} and more groups than could be counted, of {} resets at most; these have so many at least",
            "", table.error
        )),
    }
    lines
}

fn process(process: &ProcessCount) -> String {
    let ProcessCount { comm, pids, count } = process;
    let pid = if let [pid] = pids.as_slice() { format!("[{pid}]") } else { String::new() };
    format!("{comm}{pid} {count}")
}
