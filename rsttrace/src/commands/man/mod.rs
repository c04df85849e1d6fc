//! Manual pages: options from the command line's definition, everything else from `*.roff`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use clap::Command;
use clap_mangen::Man;

use crate::cli::{
    EXAMPLES, EXPORT_EXAMPLES, Example, JOIN_EXAMPLES, RECORD_EXAMPLES, REPLAY_EXAMPLES, REPORT_EXAMPLES, TOP_EXAMPLES,
};

/// A page of its own.
struct Page {
    /// Subcommand; `None` for the program.
    subcommand: Option<&'static str>,
    /// Behind the name in the section NAME: what `whatis` shows.
    purpose: &'static str,
    /// Command lines in the section SYNOPSIS, in roff.
    synopsis: &'static [&'static str],
    /// Sections behind the options, in roff; examples go to the line [`EXAMPLES_HERE`].
    sections: &'static str,
    /// Examples that help shows as well.
    examples: &'static [Example],
}

/// Line for which the examples of help stand.
const EXAMPLES_HERE: &str = ".\\\" examples\n";
/// Line for which the subcommands stand, each with its help.
const COMMANDS_HERE: &str = ".\\\" commands\n";
/// Line for which references to the pages of the subcommands stand.
const PAGES_HERE: &str = ".\\\" pages\n";
/// Line for which [`INPUT`] stands.
const INPUT_HERE: &str = ".\\\" input\n";

/// What the commands read that read what was recorded or captured.
const INPUT: &str = r"An input is the directory of a recording (\fBrsttrace\-record\fR(1)), one of its segments, a file that \fB\-\-sink json\fR or
\fB\-\-output json\fR of \fBrsttrace\fR(1) has written, a packet capture (pcap or pcapng, as of \fBtcpdump\fR(8)), a directory of
captures that continue each other, or \- for standard input.
Whether it is compressed with \fBzstd\fR(1) or \fBgzip\fR(1) is told by its first bytes.
";

const PAGES: [Page; 10] = [
    Page {
        subcommand: None,
        purpose: "trace TCP resets: peer, owner, state, cause",
        synopsis: &[
            r"\fBrsttrace\fR [\fIoptions\fR]",
            r"\fBrsttrace doctor\fR [\fB\-\-json\fR]",
            r"\fBrsttrace explain\fR [\fB\-\-json\fR] [\fICODE\fR]",
            r"\fBrsttrace record\fR [\fIoptions\fR] [\fIDIR\fR]",
            r"\fBrsttrace replay\fR [\fIoptions\fR] \fIINPUT\fR...",
            r"\fBrsttrace report\fR [\fIoptions\fR] \fIINPUT\fR...",
            r"\fBrsttrace top\fR [\fIoptions\fR] [\fIINPUT\fR...]",
            r"\fBrsttrace join\fR [\fIoptions\fR] \fIINPUT\fR \fIINPUT\fR...",
            r"\fBrsttrace export\fR [\fIoptions\fR] \fIINPUT\fR...",
            r"\fBrsttrace check\-config\fR \fIFILE\fR",
        ],
        sections: include_str!("rsttrace.roff"),
        examples: &EXAMPLES,
    },
    Page {
        subcommand: Some("doctor"),
        purpose: "check what rsttrace can trace on this host",
        synopsis: &[r"\fBrsttrace doctor\fR [\fB\-\-json\fR]"],
        sections: include_str!("doctor.roff"),
        examples: &[],
    },
    Page {
        subcommand: Some("explain"),
        purpose: "describe the causes of TCP resets",
        synopsis: &[r"\fBrsttrace explain\fR [\fB\-\-json\fR] [\fICODE\fR]"],
        sections: include_str!("explain.roff"),
        examples: &[],
    },
    Page {
        subcommand: Some("record"),
        purpose: "record TCP resets in files of bounded size and age",
        synopsis: &[r"\fBrsttrace record\fR [\fIoptions\fR] [\fIDIR\fR]"],
        sections: include_str!("record.roff"),
        examples: &RECORD_EXAMPLES,
    },
    Page {
        subcommand: Some("replay"),
        purpose: "print recorded TCP resets",
        synopsis: &[r"\fBrsttrace replay\fR [\fIoptions\fR] \fIINPUT\fR..."],
        sections: include_str!("replay.roff"),
        examples: &REPLAY_EXAMPLES,
    },
    Page {
        subcommand: Some("report"),
        purpose: "write a page with verdict, plots and incidents of recorded TCP resets",
        synopsis: &[
            r"\fBrsttrace report\fR [\fIoptions\fR] \fIINPUT\fR...",
            r"\fBrsttrace report\fR \fB\-\-compare\fR [\fIoptions\fR] \fIBEFORE\fR \fIAFTER\fR",
        ],
        sections: include_str!("report.roff"),
        examples: &REPORT_EXAMPLES,
    },
    Page {
        subcommand: Some("top"),
        purpose: "show TCP resets on the terminal, live or recorded",
        synopsis: &[r"\fBrsttrace top\fR [\fIoptions\fR] [\fIINPUT\fR...]"],
        sections: include_str!("top.roff"),
        examples: &TOP_EXAMPLES,
    },
    Page {
        subcommand: Some("join"),
        purpose: "tell who sent TCP resets, by the recordings of both ends",
        synopsis: &[r"\fBrsttrace join\fR [\fIoptions\fR] \fIINPUT\fR \fIINPUT\fR..."],
        sections: include_str!("join.roff"),
        examples: &JOIN_EXAMPLES,
    },
    Page {
        subcommand: Some("export"),
        purpose: "write recorded TCP resets for other tools, or with pseudonyms",
        synopsis: &[r"\fBrsttrace export\fR [\fIoptions\fR] \fIINPUT\fR..."],
        sections: include_str!("export.roff"),
        examples: &EXPORT_EXAMPLES,
    },
    Page {
        subcommand: Some("check-config"),
        purpose: "validate a configuration file of rsttrace",
        synopsis: &[r"\fBrsttrace check\-config\fR \fIFILE\fR"],
        sections: include_str!("check-config.roff"),
        examples: &[],
    },
];

/// Page of the program, or of a subcommand, in roff. Fails for an unknown subcommand.
pub(crate) fn page(program: &Command, subcommand: Option<&str>) -> Result<Vec<u8>> {
    let page = PAGES.iter().find(|page| page.subcommand == subcommand).context("there is no such manual page")?;
    let command = match page.subcommand {
        None => program,
        Some(name) => program.find_subcommand(name).context("there is no such subcommand")?,
    };
    let name = page.subcommand.map_or_else(|| "rsttrace".to_owned(), |name| format!("rsttrace-{name}"));
    let mut roff = format!(
        ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH {} 1 \"\" \"rsttrace {}\" \"User Commands\"\n",
        name.to_uppercase(),
        program.get_version().unwrap_or_default(),
    );
    let _infallible = writeln!(roff, ".SH NAME\n{} \\- {}", escape(&name), page.purpose);
    let _infallible = writeln!(roff, ".SH SYNOPSIS\n{}", page.synopsis.join("\n.br\n"));
    let man = Man::new(command.clone());
    let mut clap = Vec::new();
    man.render_options_section(&mut clap)?;
    roff.push_str(&description(command));
    roff.push_str(&one_section(&String::from_utf8_lossy(&clap)));
    let sections = page.sections.replace(EXAMPLES_HERE, &examples(page.examples)).replace(INPUT_HERE, INPUT);
    roff.push_str(&sections.replace(COMMANDS_HERE, &commands(program)).replace(PAGES_HERE, &pages(program)));
    Ok(roff.into_bytes())
}

/// Subcommands that have pages.
fn visible(program: &Command) -> impl Iterator<Item = &Command> {
    program.get_subcommands().filter(|subcommand| !subcommand.is_hide_set())
}

/// Each subcommand with its help and its page.
fn commands(program: &Command) -> String {
    let mut roff = String::new();
    for subcommand in visible(program) {
        let name = escape(subcommand.get_name());
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        let _infallible = writeln!(roff, ".TP\n\\fBrsttrace {name}\\fR");
        let _infallible = writeln!(roff, "{}; see \\fBrsttrace\\-{name}\\fR(1).", escape(&about));
    }
    roff
}

/// References to the pages of the subcommands.
fn pages(program: &Command) -> String {
    let mut roff = String::new();
    for subcommand in visible(program) {
        let _infallible = writeln!(roff, ".BR rsttrace\\-{} (1),", escape(subcommand.get_name()));
    }
    roff
}

/// Section DESCRIPTION, in sentences.
fn description(command: &Command) -> String {
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let mut roff = ".SH DESCRIPTION\n".to_owned();
    for line in about.lines() {
        let end = if line.is_empty() || line.ends_with('.') { "" } else { "." };
        let _infallible = writeln!(roff, "{}{end}", if line.is_empty() { ".PP".to_owned() } else { escape(line) });
    }
    roff
}

/// Turns the groups of options, for each of which clap makes a section, into parts of the section OPTIONS.
fn one_section(roff: &str) -> String {
    let mut text = String::new();
    for line in roff.lines() {
        match line.strip_prefix(".SH ").map(|heading| heading.trim_matches('"')) {
            Some(heading) if heading != "OPTIONS" => {
                let (first, rest) = heading.split_at(1.min(heading.len()));
                let _infallible = writeln!(text, ".SS \"{first}{}\"", rest.to_lowercase());
            }
            // The preamble is there already.
            _ if line.starts_with(".ie ") || line.starts_with(".el ") => {}
            // Before a list of values.
            _ if line.is_empty() => {}
            _ if line == ".br" && text.ends_with(".br\n") => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

fn examples(examples: &[Example]) -> String {
    let mut roff = String::new();
    for example in examples {
        let _infallible = writeln!(roff, ".TP\n{}\n.nf", escape(example.incident));
        for line in example.commands {
            let _infallible = writeln!(roff, "{}", escape(line));
        }
        roff.push_str(".fi\n");
    }
    roff
}

/// A text in which no character has a meaning for roff, and which can be copied into a shell.
fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::{cli::Cli, sink::SinkSpec};

    #[test]
    fn every_visible_subcommand_has_a_page() {
        let program = Cli::command();
        for subcommand in program.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
            let roff = String::from_utf8(page(&program, Some(subcommand.get_name())).unwrap()).unwrap();
            assert!(roff.contains(".SH NAME") && roff.contains(".SH \"EXIT STATUS\""), "{roff}");
        }
    }

    #[test]
    fn the_program_s_page_refers_to_every_subcommand() {
        let program = Cli::command();
        let roff = String::from_utf8(page(&program, None).unwrap()).unwrap();
        let (synopsis, rest) = roff.split_once(".SH DESCRIPTION").unwrap();
        for name in visible(&program).map(|subcommand| escape(subcommand.get_name())) {
            assert!(synopsis.contains(&format!("\\fBrsttrace {name}\\fR")), "{synopsis}");
            assert!(rest.contains(&format!("see \\fBrsttrace\\-{name}\\fR(1).")), "{rest}");
            assert!(rest.contains(&format!(".BR rsttrace\\-{name} (1)")), "{rest}");
        }
    }

    #[test]
    fn no_mark_is_left() {
        let program = Cli::command();
        for page in PAGES {
            let roff = String::from_utf8(super::page(&program, page.subcommand).unwrap()).unwrap();
            assert!(!roff.lines().any(|line| line.starts_with(".\\\"")), "{roff}");
        }
    }

    /// The message for a wrong specification of each kind has its form; the page has each option of it.
    #[test]
    fn the_program_s_page_has_every_option_of_the_sinks() {
        let roff = String::from_utf8(page(&Cli::command(), None).unwrap()).unwrap();
        let sinks = roff.split(".SH ").find(|section| section.starts_with("SINKS")).unwrap();
        let kinds: BTreeSet<_> =
            SinkSpec::beginnings().map(|(beginning, _)| beginning.split(':').next().unwrap_or_default()).collect();
        assert!(kinds.len() > 3, "{kinds:?}");
        for kind in kinds {
            let section = sinks.split(".SS ").find(|section| section.starts_with(kind)).unwrap();
            // journald takes any text as the path of its socket.
            let wrong =
                ["", "tls://host,no-such-option=1", "/path,no-such-option=1"].map(|rest| format!("{kind}:{rest}"));
            let said = wrong.iter().find_map(|text| text.parse::<SinkSpec>().err()).unwrap_or_default();
            assert!(kind == "journald" || said.contains("the form is"), "{kind}: {said}");
            for option in said.split(['[', '|']).filter_map(|part| part.trim_start_matches("],").strip_prefix(',')) {
                let name = option.split('=').next().unwrap_or_default().replace('-', "\\-");
                assert!(section.contains(&format!("\\fB{name}=\\fR")), "{kind}: {option}");
            }
        }
    }

    #[test]
    fn pages_have_each_option_that_is_not_hidden() {
        let program = Cli::command();
        let roff = String::from_utf8(page(&program, None).unwrap()).unwrap();
        for argument in program.get_arguments() {
            let long = argument.get_long().unwrap_or_default().replace('-', "\\-");
            assert_eq!(roff.contains(&format!("\\fB\\-\\-{long}\\fR")), !argument.is_hide_set(), "{long}");
        }
        assert!(!roff.contains("generate") && roff.contains("jq") && !roff.contains(EXAMPLES_HERE), "{roff}");
    }
}
