//! `rsttrace explain`: the catalogue of causes on a terminal, and as a page of the documentation.

use std::io::{self, BufWriter, Write as _};

use crate::{
    cli::unknown_cause,
    diagnose::{
        Diagnosis,
        catalogue::{self, CauseSpec, UNKNOWN},
        timeouts::{TimeoutKind, Timeouts},
    },
    exit::Failure,
    model::Direction,
};

/// Prints all causes, or one in full. Fails with status 2 for a code that the catalogue does not have, and when standard
/// output cannot be written to.
pub(crate) fn run(code: Option<&str>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match code {
        None => catalogue::causes().chain([&UNKNOWN]).try_for_each(|row| line(row, &mut out)),
        Some(code) => {
            let mut rows = catalogue::find(code).peekable();
            if rows.peek().is_none() {
                return Err(Failure::usage(format_args!("unknown cause '{code}': {}", unknown_cause(code))));
            }
            rows.enumerate().try_for_each(|(number, row)| {
                if number > 0 {
                    writeln!(out)?;
                }
                full(row, &mut out)
            })
        }
    }
    .and_then(|()| out.flush())
    .map_err(Failure::stdout)
}

fn line(row: &CauseSpec, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "{:<26}{:<9} {}", row.code, direction(row), row.summary)
}

fn full(row: &CauseSpec, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "{}\n\n{}\n", row.code, row.summary)?;
    writeln!(out, "direction  {}", direction(row))?;
    writeln!(out, "sender     {}", row.sender.in_words())?;
    writeln!(out, "fault      {}", row.fault.in_words())?;
    writeln!(out, "signs      {}", row.shows_by)?;
    writeln!(out, "advice     {}", row.advice)?;
    for (number, setting) in Diagnosis::hints(row).enumerate() {
        writeln!(out, "{:<10} {setting}", if number == 0 { "settings" } else { "" })?;
    }
    Ok(())
}

/// Writes the whole catalogue and the known timeouts as a page in Markdown. Fails when the embedded timeouts are malformed,
/// which a test excludes.
pub(crate) fn page(out: &mut Vec<u8>) -> anyhow::Result<()> {
    let timeouts = Timeouts::read(None).map_err(|_failure| anyhow::anyhow!("cannot read the built-in timeouts"))?;
    writeln!(out, "{HEAD}")?;
    for (way, heading) in [(Some(Direction::Received), "Received"), (Some(Direction::Sent), "Sent"), (None, "Either")] {
        writeln!(out, "## {heading}\n")?;
        for row in catalogue::causes().chain([&UNKNOWN]).filter(|row| row.direction == way) {
            writeln!(out, "### `{}`\n\n{}\n", row.code, row.summary)?;
            writeln!(out, "- Sent by {}. {}.", row.sender.in_words(), capitalised(row.fault.in_words()))?;
            writeln!(out, "- Signs: {}", row.shows_by)?;
            writeln!(out, "- What to do: {}", row.advice)?;
            for setting in Diagnosis::hints(row) {
                writeln!(out, "    - {setting}")?;
            }
            writeln!(out)?;
        }
    }
    writeln!(out, "{TIMEOUTS}\n\n| seconds | owner | kind | note | source |\n|---|---|---|---|---|")?;
    for row in timeouts.rows() {
        let kind = match row.kind {
            TimeoutKind::Server => "closes idle connections of its clients",
            TimeoutKind::Client => "closes idle connections of its own pool",
            TimeoutKind::Path => "forgets connections that pass through it",
        };
        let note = row.note.as_deref().unwrap_or_default();
        let source = row.source.as_deref().unwrap_or_default();
        writeln!(out, "| {} | {} | {kind} | {note} | {source} |", row.seconds, row.owner)?;
    }
    Ok(())
}

const HEAD: &str = "<!-- Made by `cargo xtask generate` from rsttrace itself. -->
# Causes

Every value of `cause.code`, as `rsttrace explain` shows it. The rules of a direction are tried in this order, and the first that fits gives the cause.

`cause.sender` is the side that put the reset on the wire, `cause.fault` the side that has something to change; they often differ. `cause.confidence` is `certain` (the kernel's state proves it), `likely` (the signs fit and nothing contradicts them) or `guess` (the best of several explanations). `cause.evidence` gives the figures that decided, the most significant first. The first connections to break in a restart or at the end of a client, the first health checks and the first nine ports of a scan get the cause that fits what is known at that moment; the summary's verdict counts them as what they were. `linger-zero` and `closed-with-unread-data` are harmless (fault `none`) where a client aborted a connection of which it wanted no more.
";

const TIMEOUTS: &str = "## Known timeouts

The evidence names an idle time that matches one of these, with its owner. A match is evidence, not proof. It is at most a second early, or a tenth of the timeout where that is less, and at most a quarter late, since servers check only from time to time. `--timeouts FILE` adds entries or replaces them:

```toml
[[timeout]]
owner = \"our backend\"      # replaces the entry of the same owner
seconds = 37.5             # 0 removes it
kind = \"server\"            # or \"client\", \"path\"; optional, as are the next two
note = \"since release 4\"
source = \"backend.yaml\"
```";

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

const fn direction(row: &CauseSpec) -> &'static str {
    match row.direction {
        Some(Direction::Sent) => "sent",
        Some(Direction::Received) => "received",
        None => "either",
    }
}
