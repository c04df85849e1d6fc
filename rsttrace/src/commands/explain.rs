//! `rsttrace explain`: the catalogue of causes on a terminal, and as a page of the documentation.

use std::{fmt, io::Write as _};

use serde::Serialize;

use super::{print_wrapped, write_json};
use crate::{
    cli::unknown_cause,
    diagnose::{
        Diagnosis,
        catalogue::{self, CauseSpec, UNKNOWN},
        timeouts::{TimeoutKind, Timeouts},
    },
    exit::Failure,
    model::{Direction, Fault, Sender},
};

/// Prints all causes, or one in full; as JSON all that is known of them. Fails with status 2 for a code that the catalogue
/// does not have, and when standard output cannot be written to.
pub(crate) fn run(code: Option<&str>, json: bool) -> Result<(), Failure> {
    let rows: Vec<Explanation> = match code {
        None => explanations().collect(),
        Some(code) => catalogue::find(code).map(Explanation::new).collect(),
    };
    if let Some(code) = code.filter(|_| rows.is_empty()) {
        return Err(Failure::usage(format_args!("unknown cause '{code}': {}", unknown_cause(code))));
    }
    if json {
        return write_json(&rows);
    }
    if code.is_some() {
        let text = rows.iter().map(Explanation::text).collect::<Vec<_>>().join("\n");
        // The summary, which has no name in front, begins at the left.
        print_wrapped(&text, |line| if line.get(NAME..=NAME).is_some_and(|blank| blank == " ") { NAME + 1 } else { 0 })
    } else {
        let text: String = rows.iter().map(Explanation::line).collect();
        print_wrapped(&text, |_| CODE + DIRECTION + 1)
    }
}

/// Columns of the names of fields, and of codes and directions in the list.
const NAME: usize = 10;
const CODE: usize = 26;
const DIRECTION: usize = 9;

/// Every cause, those of one direction in the order in which they are tried.
fn explanations() -> impl Iterator<Item = Explanation> {
    catalogue::causes().chain([&UNKNOWN]).map(Explanation::new)
}

/// What is known of a cause before it occurs.
#[derive(Serialize)]
struct Explanation {
    code: &'static str,
    /// `sent`, `received` or `either`.
    direction: &'static str,
    summary: &'static str,
    sender: Sender,
    fault: Fault,
    /// Signs by which it is recognised.
    signs: &'static str,
    advice: &'static str,
    /// Settings of programs, each after the program's name.
    settings: Vec<&'static str>,
}

impl Explanation {
    fn new(row: &CauseSpec) -> Self {
        Self {
            code: row.code,
            direction: match row.direction {
                Some(Direction::Sent) => "sent",
                Some(Direction::Received) => "received",
                None => "either",
            },
            summary: row.summary,
            sender: row.sender,
            fault: row.fault,
            signs: row.shows_by,
            advice: row.advice,
            settings: Diagnosis::hints(row).collect(),
        }
    }

    /// Line in the list of causes.
    fn line(&self) -> String {
        format!("{:<CODE$}{:<DIRECTION$} {}\n", self.code, self.direction, self.summary)
    }

    /// Everything, in lines.
    fn text(&self) -> String {
        let mut text = format!("{}\n\n{}\n\n", self.code, self.summary);
        let settings = self.settings.iter().enumerate();
        let settings = settings.map(|(number, setting)| (if number == 0 { "settings" } else { "" }, *setting));
        let fields = [
            ("direction", self.direction),
            ("sender", self.sender.in_words()),
            ("fault", self.fault.in_words()),
            ("signs", self.signs),
            ("advice", self.advice),
        ];
        for (name, value) in fields.into_iter().chain(settings) {
            let _infallible = fmt::Write::write_fmt(&mut text, format_args!("{name:<NAME$} {value}\n"));
        }
        text
    }

    /// Section of the page in Markdown.
    fn section(&self) -> String {
        let mut section = format!(
            "### `{}`\n\n{}\n\n- Sent by {}. {}.\n- Signs: {}\n- What to do: {}\n",
            self.code,
            self.summary,
            self.sender.in_words(),
            capitalised(self.fault.in_words()),
            self.signs,
            self.advice,
        );
        for setting in &self.settings {
            section.extend(["    - ", *setting, "\n"]);
        }
        section + "\n"
    }
}

/// Writes the whole catalogue and the known timeouts as a page in Markdown. Fails when the embedded timeouts are malformed,
/// which a test excludes.
pub(crate) fn page(out: &mut Vec<u8>) -> anyhow::Result<()> {
    let timeouts = Timeouts::read(None).map_err(|_failure| anyhow::anyhow!("cannot read the built-in timeouts"))?;
    writeln!(out, "{HEAD}")?;
    for (direction, heading) in [("received", "Received"), ("sent", "Sent"), ("either", "Either")] {
        writeln!(out, "## {heading}\n")?;
        for cause in explanations().filter(|cause| cause.direction == direction) {
            out.extend(cause.section().into_bytes());
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
    writeln!(out, "\n{HINTS}")?;
    Ok(())
}

const HEAD: &str = "<!-- Made by `cargo xtask generate` from rsttrace itself. -->
# Causes

Every value of `cause.code`, as `rsttrace explain` shows it, and `rsttrace explain --json` for programs. The rules of a direction are tried in this order, and the first that fits gives the cause.

`cause.sender` is the side that put the reset on the wire, `cause.fault` the side that has something to change; they often differ. `cause.confidence` is `certain` (the kernel's state proves it), `likely` (the signs fit and nothing contradicts them) or `guess` (the best of several explanations). `cause.evidence` gives the figures that decided, the most significant first. The first connections to break in a restart or at the end of a client, the first health checks and the first nine ports of a scan get the cause that fits what is known at that moment; the summary's verdict counts them as what they were. `linger-zero` and `closed-with-unread-data` are harmless (fault `none`) where a client aborted a connection of which it wanted no more.
";

const TIMEOUTS: &str = "## Known timeouts

The evidence names an idle time that matches one of these, with its owner; where the process that ended the connection is on this host, and its program is known (by `programs`, or by a hint), that program's alone. A match is evidence, not proof. It is at most a second early, or a tenth of the timeout where that is less, and at most a quarter late, since servers check only from time to time. `--timeouts FILE` adds entries or replaces them:

```toml
[[timeout]]
owner = \"our backend\"      # replaces the entry of the same owner
seconds = 37.5             # 0 removes it
kind = \"server\"            # or \"client\", \"path\"; optional, as are the next three
programs = [\"backend\"]     # prefixes of the comm or executable, or parts of an interpreter's command line
note = \"since release 4\"
source = \"backend.yaml\"
```";

const HINTS: &str = "## Hints for programs of your own

The advice ends with the setting of the program that owns the socket, where the built-in table has one. `--hints FILE` adds programs, which are tried first. One matches if its comm or the file name of its executable begins with one of `names`, or its command line contains one of `command_line`:

```toml
[[program]]
names = [\"payments\"]
command_line = [\"/srv/payments.jar\"]   # for programs that run in an interpreter
[program.hints]
listen-overflow = \"payments: server.backlog in payments.yaml.\"
\"sent/keepalive-race\" = \"\"            # one direction only; empty: no hint, not even a built-in one
```";

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_cause_says_anything_twice() {
        for cause in explanations() {
            let mut seen = HashSet::new();
            for line in cause.text().lines().map(str::trim).filter(|line| !line.is_empty()) {
                assert!(seen.insert(line.to_owned()), "{}: {line}", cause.code);
            }
            let mut programs = HashSet::new();
            for setting in cause.settings {
                let program = setting.split(':').next().unwrap_or_default();
                assert!(programs.insert(program), "{}: {program} has two settings", cause.code);
            }
        }
    }
}
