//! `rsttrace explain`: the catalogue of causes; and the same as a page.

use std::io::{self, BufWriter, Write as _};

use crate::{
    diagnose::{
        Diagnosis,
        catalogue::{self, CauseSpec, UNKNOWN},
        timeouts::{TimeoutKind, Timeouts},
    },
    exit::Failure,
    model::Direction,
};

/// Prints all causes, or one in full.
pub(crate) fn run(code: Option<&str>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match code {
        None => catalogue::causes().chain([&UNKNOWN]).try_for_each(|row| line(row, &mut out)),
        Some(code) => {
            let row = catalogue::find(code).ok_or_else(|| {
                Failure::usage(format_args!("there is no cause '{code}': 'rsttrace explain' lists the codes"))
            })?;
            full(row, &mut out)
        }
    }
    .and_then(|()| out.flush())
    .map_err(|error| Failure::stdout(error, "cannot write to standard output"))
}

fn line(row: &CauseSpec, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "{:<26}{:<9} {}", row.code, direction(row), row.summary)
}

fn full(row: &CauseSpec, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "{}\n\n{}\n", row.code, row.summary)?;
    writeln!(out, "direction  {}", direction(row))?;
    writeln!(out, "sender     {}", row.sender.in_words())?;
    writeln!(out, "fault      {}", row.fault.in_words())?;
    writeln!(out, "shows by   {}", row.shows_by)?;
    writeln!(out, "advice     {}", row.advice)?;
    for (number, setting) in Diagnosis::hints(row.code).enumerate() {
        writeln!(out, "{:<10} {setting}", if number == 0 { "settings" } else { "" })?;
    }
    Ok(())
}

/// The whole catalogue and the known timeouts as a page in Markdown.
pub(crate) fn page(out: &mut Vec<u8>) -> anyhow::Result<()> {
    let timeouts = Timeouts::read(None).map_err(|_failure| anyhow::anyhow!("the known timeouts cannot be read"))?;
    writeln!(out, "{HEAD}")?;
    for (way, heading) in [(Some(Direction::Received), "Received"), (Some(Direction::Sent), "Sent"), (None, "Either")] {
        writeln!(out, "## {heading}\n")?;
        for row in catalogue::causes().chain([&UNKNOWN]).filter(|row| row.direction == way) {
            writeln!(out, "### `{}`\n\n{}\n", row.code, row.summary)?;
            writeln!(out, "- Sent by {}. {}.", row.sender.in_words(), capitalised(row.fault.in_words()))?;
            writeln!(out, "- Shows by: {}", row.shows_by)?;
            writeln!(out, "- What to do: {}", row.advice)?;
            for setting in Diagnosis::hints(row.code) {
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

Every cause that `cause.code` can be, as `rsttrace explain` shows them. Within each direction they are tried in this order, and the first that fits is the cause.

`cause.sender` is who put the reset on the wire, `cause.fault` who has something to change: that is often not the same. `cause.confidence` is `certain` (the kernel's state proves it), `likely` (the fingerprint fits and nothing contradicts) or `guess` (the best of several explanations). `cause.evidence` says with figures what decided, the most telling first. The first connection to break in a restart, the first health check and the first nine ports of a scan are told as what is known by then.
";

const TIMEOUTS: &str = "## Known timeouts

A silence that matches one of these is named in the evidence with its owner. It is evidence and no proof. A match is within a second, and within a tenth of the timeout where that is less; later, up to a quarter, since a server looks only now and then. `--timeouts FILE` adds to them or replaces some:

```toml
[[timeout]]
owner = \"our backend\"      # one that is in the table is replaced
seconds = 37.5             # 0 takes it away
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
