//! Command-line options: the program, its subcommands, and the options of a live run.

mod examples;
mod option_values;
mod recorded_options;
mod top_options;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{
    Arg, ArgAction, Args, Error, Parser, Subcommand, ValueEnum, ValueHint,
    builder::{NonEmptyStringValueParser, StringValueParser},
};

pub use self::recorded_options::{
    CaptureOptions, DiagnosisOptions, ExportFormat, ExportOptions, JoinFormat, JoinOptions, ReplayOptions,
    ReportOptions, ReportZone, TimeOptions,
};
pub use self::top_options::TopOptions;
pub(crate) use self::{
    examples::{
        EXAMPLES, EXPORT_EXAMPLES, Example, JOIN_EXAMPLES, RECORD_EXAMPLES, REPLAY_EXAMPLES, REPORT_EXAMPLES,
        TOP_EXAMPLES,
    },
    option_values::unknown_cause,
};
use self::{
    examples::{REPLAY_STATUSES, STATUSES, after_help, help_template},
    option_values::{
        Completed, SinkParser, buffer_size, cause_codes, check_cause, count, interval, listen, peers, queue,
        report_file, reworded, sink_beginnings,
    },
};
use crate::{
    format::{Format, TimeFormat},
    load::{ExtraEvents, TransportChoice},
    model::{FilterOptions, GroupField},
    sink::SinkSpec,
    util::{build_info, size, time_span},
};

/// Show every TCP reset that this host sends or receives: peer, owner of the socket, state, cause.
///
/// One line per reset on standard output, until Ctrl-C. Progress, warnings and the closing summary go to standard
/// error.
#[derive(Debug, Parser)]
#[command(version, long_version = build_info::LONG_VERSION, about, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(args_override_self = true, help_template = help_template(), after_help = format!("Exit status: {STATUSES}."))]
pub struct Cli {
    /// Subcommand; `None` to trace.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of tracing.
    #[command(flatten)]
    pub trace: TraceOptions,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check what can be traced on this host and how to fix what cannot
    Doctor {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// List the causes of resets, or describe one in full
    Explain {
        /// Print one JSON document, an array of causes in full
        #[arg(long)]
        json: bool,
        /// Code of the cause, as in the records
        #[arg(value_name = "CODE", hide_possible_values = true)]
        #[arg(value_parser = Completed { parser: StringValueParser::new(), candidates: cause_codes })]
        cause: Option<String>,
    },
    /// Record resets in files of bounded size and age, for 'rsttrace replay'
    #[command(after_help = after_help(&RECORD_EXAMPLES, STATUSES))]
    Record(Box<RecordOptions>),
    /// Print what was recorded, or what a packet capture shows, as a live run prints it; needs no privileges
    #[command(after_help = after_help(&REPLAY_EXAMPLES, REPLAY_STATUSES))]
    Replay(Box<ReplayOptions>),
    /// Write a page with verdict, plots and incidents of what was recorded
    #[command(after_help = after_help(&REPORT_EXAMPLES, REPLAY_STATUSES))]
    Report(Box<ReportOptions>),
    /// Show causes, peers, processes and incidents on the terminal, live or of what was recorded
    #[command(after_help = after_help(&TOP_EXAMPLES, STATUSES))]
    Top(Box<TopOptions>),
    /// Tell who really sent a reset, by the recordings or captures of both ends
    #[command(after_help = after_help(&JOIN_EXAMPLES, REPLAY_STATUSES))]
    Join(Box<JoinOptions>),
    /// Write what was recorded for other tools (CSV, pcapng), or to hand it on without names and addresses
    #[command(after_help = after_help(&EXPORT_EXAMPLES, REPLAY_STATUSES))]
    Export(Box<ExportOptions>),
    /// Validate a file for --config
    CheckConfig {
        /// Path of the file
        file: PathBuf,
    },
    /// Print generated files: man page, shell completions, option block, documentation pages
    #[command(hide = true)]
    Generate {
        /// File to print
        what: Generated,
    },
}

/// Options of `record`.
#[derive(Clone, Debug, Args)]
#[command(mut_args(of_record))]
pub struct RecordOptions {
    /// Directory of the recording
    #[arg(value_name = "DIR", default_value = RECORDINGS, value_hint = ValueHint::DirPath)]
    pub directory: PathBuf,
    /// Set the maximum size of the recording; beyond it the oldest segments are removed
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = size::parse, help_heading = "Recording")]
    pub size: u64,
    /// Set the maximum age of a segment, such as 12h or 30d; older ones are removed
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = time_span::parse, help_heading = "Recording")]
    pub age: Duration,
    /// Set the size at which a segment is closed and compressed: at most a quarter of --size [default: 64M, or that
    /// quarter]
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Recording")]
    pub segment: Option<u64>,
    /// Leave this much of the file system free: remove the oldest segments, and write nothing where none is left
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = size::parse, help_heading = "Recording")]
    pub min_free: u64,
    /// Filters.
    #[command(flatten)]
    pub filters: FilterOptions,
    /// Additional resets.
    #[command(flatten)]
    pub more: ExtraEvents,
    /// Serve Prometheus metrics on this port of the loopback address, or on this address and port
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = listen, help_heading = "Running")]
    pub metrics: Option<SocketAddr>,
    /// Read TLS and authentication of --metrics from a YAML file, in the form of Prometheus' exporters
    #[arg(long, value_name = "FILE", requires = "metrics", help_heading = "Running")]
    pub metrics_config: Option<PathBuf>,
    /// Print only warnings and errors on standard error: no start lines, no summary
    #[arg(short, long, help_heading = "Running")]
    pub quiet: bool,
    /// Limits and resources of the run.
    #[command(flatten)]
    pub run: RunOptions,
}

/// Directory of a recording where none is named.
pub const RECORDINGS: &str = "/var/log/rsttrace";

/// Files that are generated from the program.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Generated {
    /// Man page in roff
    Man,
    /// Man page of `doctor`
    ManDoctor,
    /// Man page of `explain`
    ManExplain,
    /// Man page of `record`
    ManRecord,
    /// Man page of `replay`
    ManReplay,
    /// Man page of `report`
    ManReport,
    /// Man page of `top`
    ManTop,
    /// Man page of `join`
    ManJoin,
    /// Man page of `export`
    ManExport,
    /// Man page of `check-config`
    ManCheckConfig,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
    /// Option block of the README
    Options,
    /// Examples in the README
    Examples,
    /// Page of causes in Markdown
    Causes,
    /// Page of requirements in Markdown
    Requirements,
}

/// Options of tracing.
#[derive(Clone, Debug, Args)]
#[command(mut_args(check_cause))]
pub struct TraceOptions {
    /// Filters.
    #[command(flatten)]
    pub filters: FilterOptions,
    /// Additional resets.
    #[command(flatten)]
    pub more: ExtraEvents,
    /// Output.
    #[command(flatten)]
    pub output: OutputOptions,
    /// Limits and resources of the run.
    #[command(flatten)]
    pub run: RunOptions,
}

impl TraceOptions {
    /// The options of a command line without arguments. Fails where that is none, which a test excludes.
    pub(crate) fn without_arguments() -> Result<Self, Error> {
        Cli::try_parse_from(["rsttrace"]).map(|cli| cli.trace)
    }
}

/// When text is colored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set, or where `CLICOLOR_FORCE` is
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// When lines of text are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FoldWhen {
    /// On a terminal, from the sixth line of a kind in a second on
    Auto,
    /// From the sixth line of a kind in a second on
    Always,
    /// Never
    Never,
}

/// Where the summary goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SummaryPlace {
    /// On standard error; text in a pipe (to a pager) on standard output; JSON has it on both
    Auto,
    /// On standard output, behind the records
    Stdout,
    /// On standard error: standard output has records alone
    Stderr,
}

/// Destinations and presentation of records.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// Set the output format on standard output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub output: Format,
    /// Additional destinations of the records.
    #[arg(long, value_name = "SPEC", help = sink_help(), hide_possible_values = true)]
    #[arg(value_parser = Completed { parser: SinkParser, candidates: sink_beginnings })]
    pub sink: Vec<SinkSpec>,
    /// Set the queue length per sink; records beyond it are dropped and counted
    #[arg(long, value_name = "N", default_value_t = 32_768, value_parser = queue)]
    pub sink_queue: usize,
    /// Serve Prometheus metrics on this port of the loopback address, or on this address and port
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = listen)]
    pub metrics: Option<SocketAddr>,
    /// Read TLS and authentication of --metrics from a YAML file, in the form of Prometheus' exporters
    #[arg(long, value_name = "FILE", requires = "metrics")]
    pub metrics_config: Option<PathBuf>,
    /// Set the maximum number of peers with their own time series; others are counted as "other"
    #[arg(long, value_name = "N", default_value_t = 100, requires = "metrics", value_parser = peers)]
    pub metrics_peers: usize,
    /// Set the form of times in text (JSON is always UTC)
    #[arg(long, value_enum, value_name = "ZONE", default_value_t = TimeFormat::Local)]
    pub time: TimeFormat,
    /// Color text: red is to be fixed on this host, cyan by the peer or on the path, green is harmless
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorWhen::Auto)]
    pub color: ColorWhen,
    /// Merge similar lines of text (client's port and figures aside) into one per second, with a count
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = FoldWhen::Auto)]
    pub fold: FoldWhen,
    /// Print only warnings and errors on standard error, such as filters that nothing matches yet: no start lines, and of
    /// the summary only the table of --group-by
    #[arg(short, long)]
    pub quiet: bool,
    /// Show numbers in text: no names of ports, users, peers, containers and pods
    #[arg(short, long)]
    pub numeric: bool,
    /// Print a summary at this interval, such as 60s or 5m, and at the end
    #[arg(long, value_name = "TIME", value_parser = interval, conflicts_with = "no_summary")]
    pub summary_interval: Option<Duration>,
    /// Choose where the summary goes
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = SummaryPlace::Auto, conflicts_with = "no_summary")]
    pub summary: SummaryPlace,
    /// Count resets by these fields, in a table in the summary
    #[arg(long, value_enum, value_name = "FIELD,…", value_delimiter = ',', conflicts_with = "no_summary")]
    pub group_by: Vec<GroupField>,
    /// Write a report to this file at the end: a page with plots, or text (.md), or the main plot alone (.svg)
    #[arg(long, value_name = "FILE", value_parser = report_file())]
    pub report: Option<PathBuf>,
    /// Omit the summary at the end
    #[arg(long)]
    pub no_summary: bool,
}

/// Limits and resources of the run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Running")]
pub struct RunOptions {
    /// Stop after this time, such as 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = time_span::parse)]
    pub duration: Option<Duration>,
    /// Stop after this many records of resets (not of ignored and forwarded ones)
    #[arg(long, value_name = "N", value_parser = count)]
    pub count: Option<u64>,
    /// Set the buffer between kernel and user space
    #[arg(long, value_enum, default_value_t = TransportChoice::Auto)]
    pub transport: TransportChoice,
    /// Set the size of the kernel buffer (perf: of each CPU's), rounded up to a power of two of pages
    #[arg(long, value_name = "SIZE", value_parser = buffer_size)]
    pub buffer_size: Option<u32>,
    /// Switch to this user, by name, by number or as UID:GID, after the probes are attached
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// Read additional idle timeouts from a TOML file; those of a known owner replace the built-in ones
    #[arg(long, value_name = "FILE")]
    pub timeouts: Option<PathBuf>,
    /// Read additional hints for programs of your own from a TOML file, tried before the built-in ones
    #[arg(long, value_name = "FILE")]
    pub hints: Option<PathBuf>,
    /// Read names of peers from a TOML file (`"ADDRESS or CIDR" = "name"`); the most specific one wins
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// Read options from a TOML file (`name = value`); the command line takes precedence
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write a newline to this file descriptor once every probe is attached
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub ready_fd: Option<i32>,
    /// Set the number of connections that the kernel side remembers (for tests)
    #[arg(long, hide = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub remember: Option<u32>,
    /// Print debug messages of the kernel side to standard error
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    pub debug_kernel: bool,
}

/// Help of `--sink` with the forms of the sinks that are built in.
fn sink_help() -> String {
    format!(
        "Also send records to this destination (repeatable): {}; rsttrace(1) has the options of each, under SINKS",
        SinkSpec::synopses()
    )
}

/// Adapts an option that a live run shares with `record`: help says that it records, and hides what `record` refuses.
fn of_record(argument: Arg) -> Arg {
    let argument = check_cause(argument);
    if argument.get_id() == "config" {
        return argument.hide(true);
    }
    reworded(argument, &[("Show only", "Record only"), ("Also show", "Also record"), ("Hide", "Do not record")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_command_lines() {
        let examples = EXAMPLES.iter().chain(&RECORD_EXAMPLES).chain(&REPLAY_EXAMPLES).chain(&REPORT_EXAMPLES);
        let examples = examples.chain(&JOIN_EXAMPLES).chain(&EXPORT_EXAMPLES).chain(&TOP_EXAMPLES);
        for line in examples.flat_map(|example| example.commands) {
            let words = line.split('|').next().unwrap_or_default().split_whitespace();
            if line.starts_with("rsttrace") {
                let parsed = Cli::try_parse_from(words);
                assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
            }
            assert!(!line.contains(['{', '}']) && line.len() <= 106, "{line}");
        }
    }

    #[test]
    fn help_of_a_subcommand_hides_what_it_refuses() {
        let mut program = <Cli as clap::CommandFactory>::command();
        let mut help = |name| program.find_subcommand_mut(name).expect("there is one").render_long_help().to_string();
        let (record, replay, export) = (help("record"), help("replay"), help("export"));
        assert!(!record.contains("--config") && record.contains("Record only these causes"), "{record}");
        assert!(!record.contains("Show only") && !record.contains("Also show"), "{record}");
        assert!(!export.contains("Show only") && export.contains("Export only these causes"), "{export}");
        assert!(!replay.contains("--metrics <") && !replay.contains("--summary-interval <"), "{replay}");
        let (report, top) = (help("report"), help("top"));
        assert!(!top.contains("--config <"), "{top}");
        for (help, examples) in [
            (&record, &RECORD_EXAMPLES[..]),
            (&replay, &REPLAY_EXAMPLES),
            (&report, &REPORT_EXAMPLES),
            (&top, &TOP_EXAMPLES),
            (&export, &EXPORT_EXAMPLES),
        ] {
            assert!(examples.iter().all(|example| help.contains(example.incident)), "{help}");
        }
    }

    #[test]
    fn help_names_no_option_that_the_command_does_not_have() {
        let program = <Cli as clap::CommandFactory>::command();
        let commands = program.get_subcommands().filter(|command| !command.is_hide_set()).chain([&program]);
        let mut missing = Vec::new();
        for command in commands {
            let shown: Vec<&Arg> = command.get_arguments().filter(|argument| !argument.is_hide_set()).collect();
            let options: Vec<&str> = shown.iter().filter_map(|argument| argument.get_long()).collect();
            for argument in &shown {
                let values = argument.get_possible_values();
                let help = values.iter().filter_map(|value| value.get_help()).chain(argument.get_help());
                for help in help.chain(argument.get_long_help()).map(ToString::to_string) {
                    let words = help.split(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '-'));
                    for option in words.filter_map(|word| word.strip_prefix("--")) {
                        if !options.contains(&option) {
                            missing.push(format!("{} --{option}: {help}", command.get_name()));
                        }
                    }
                }
            }
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn examples_come_before_the_options() {
        let help = <Cli as clap::CommandFactory>::command().render_help().to_string();
        let place = |text: &str| help.find(text).unwrap_or(usize::MAX);
        assert!(
            place("Usage:") < place(EXAMPLES[0].incident) && place(EXAMPLES[4].incident) < place("Options:"),
            "{help}"
        );
    }
}
