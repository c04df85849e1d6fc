//! Command-line options.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr as _,
    time::Duration,
};

use clap::{
    Arg, ArgAction, Args, Command as ClapCommand, Error, Parser, Subcommand, ValueEnum, ValueHint,
    builder::{NonEmptyStringValueParser, PossibleValue, StringValueParser, TypedValueParser},
    error::ErrorKind,
};
use ipnet::IpNet;

use crate::{
    diagnose::catalogue,
    format::{Format, TimeFormat},
    load::{ExtraEvents, TransportChoice},
    model::{FilterOptions, GroupField, parse_network},
    report::ReportFormat,
    sink::SinkSpec,
    util::{size, spelling, time_span},
};

/// Use of rsttrace in an incident, for the help, the manual page and the README.
pub(crate) struct Example {
    /// What has happened, and what the commands show.
    pub(crate) incident: &'static str,
    /// Lines for a shell.
    pub(crate) commands: &'static [&'static str],
}

/// Six incidents. No braces, which a template of help would take for its own.
pub(crate) const EXAMPLES: [Example; 6] = [
    Example {
        incident: "nginx answers some requests with 502: each incident in full, with cause and advice",
        commands: &["rsttrace --comm nginx --no-benign --output long"],
    },
    Example {
        incident: "Clients of HTTPS are refused or cut off: what this host sends them, and why",
        commands: &["rsttrace --sent --local-port 443"],
    },
    Example {
        incident: "Idle connections to the database break: an hour; the summary names the timeout that fits",
        commands: &["rsttrace --peer-port 5432 --duration 1h"],
    },
    Example {
        incident: "Thousands of resets: the most frequent causes and peers of five minutes",
        commands: &["rsttrace --output none --group-by cause,peer --duration 5m"],
    },
    Example {
        incident: "It happens at night: record as a service; in the morning, what this host has to fix",
        commands: &["rsttrace record", "rsttrace replay --since 12h --fault local --output long /var/log/rsttrace"],
    },
    Example {
        incident: "All there is is a packet capture of another host: the cause of each reset in it, as any user",
        commands: &["rsttrace replay --output long incident.pcapng"],
    },
];

/// Uses of `record`, for its help and its manual page.
pub(crate) const RECORD_EXAMPLES: [Example; 3] = [
    Example {
        incident: "Record in /var/log/rsttrace: the resets of seven days, in 2 GiB at most",
        commands: &["rsttrace record"],
    },
    Example {
        incident: "Record a month of what is not harmless, in a directory of its own",
        commands: &["rsttrace record --no-benign --age 30d --size 500M /var/log/resets"],
    },
    Example {
        incident: "Record, and print in the journal as well",
        commands: &["rsttrace --output none --sink recording:/var/log/rsttrace,size=1G --sink journald"],
    },
];

/// Uses of `replay`, for its help and its manual page.
pub(crate) const REPLAY_EXAMPLES: [Example; 5] = [
    Example {
        incident: "A packet capture, as the server in it saw its resets",
        commands: &["rsttrace replay --local 10.0.0.7 --output long incident.pcapng"],
    },
    Example {
        incident: "What is not harmless since yesterday: each incident in full",
        commands: &["rsttrace replay --since yesterday --no-benign --output long /var/log/rsttrace"],
    },
    Example {
        incident: "A quarter of an hour of one night",
        commands: &["rsttrace replay --since 2026-11-28T03:00 --until 2026-11-28T03:15 /var/log/rsttrace"],
    },
    Example {
        incident: "A week: the most frequent causes and peers",
        commands: &["rsttrace replay --since 7d --output none --group-by cause,peer /var/log/rsttrace"],
    },
    Example {
        incident: "Recordings of two hosts, copied here, in the order of time",
        commands: &["rsttrace replay --time utc gw-1 gw-2"],
    },
];

/// Uses of `report`, for its help and its manual page.
pub(crate) const REPORT_EXAMPLES: [Example; 4] = [
    Example {
        incident: "A page of the last day, to look at and to send",
        commands: &["rsttrace report --since 1d -o resets.html /var/log/rsttrace"],
    },
    Example {
        incident: "The same as text, for a ticket",
        commands: &["rsttrace report --since 1d --format markdown /var/log/rsttrace > ticket.md"],
    },
    Example {
        incident: "Whether a change helped",
        commands: &["rsttrace report --compare -o compared.html last-week.jsonl.zst this-week.jsonl.zst"],
    },
    Example {
        incident: "A page of five minutes from now on",
        commands: &["rsttrace --duration 5m --output none --report resets.html"],
    },
];

/// Uses of `export`, for its help and its manual page.
pub(crate) const EXPORT_EXAMPLES: [Example; 4] = [
    Example {
        incident: "A week without what is harmless, for a spreadsheet",
        commands: &["rsttrace export --format csv --no-benign --since 7d /var/log/rsttrace > resets.csv"],
    },
    Example {
        incident: "The last hour, to hand it on without names and addresses",
        commands: &["rsttrace export --anonymize --since 1h /var/log/rsttrace | zstd > resets.jsonl.zst"],
    },
    Example {
        incident: "Resets as packets with a comment each, for Wireshark",
        commands: &["rsttrace export --format pcapng /var/log/rsttrace > resets.pcapng"],
    },
    Example {
        incident: "What was handed on, diagnosed by the rules of this version",
        commands: &["rsttrace replay --rediagnose --output long resets.jsonl.zst"],
    },
];

/// Exit statuses of a run.
const STATUSES: &str = "0 success, 1 error while running, 2 usage error, 3 not possible on this host or for this user";
/// Exit statuses of `replay` and `export`.
const REPLAY_STATUSES: &str =
    "0 success, 1 error while writing, or an input that is damaged, 2 usage error, or an input that cannot be read";

/// Template of the help: the examples come before the options.
fn help_template() -> String {
    format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}\n{{all-args}}{{after-help}}", section(&EXAMPLES))
}

/// Section of examples in help.
fn section(examples: &[Example]) -> String {
    let mut text = "Examples:\n".to_owned();
    for Example { incident, commands } in examples {
        text.extend(["  ", incident, "\n      ", &commands.join("\n      "), "\n"]);
    }
    text
}

/// End of the help of a subcommand with examples.
fn after_help(examples: &[Example], statuses: &str) -> String {
    format!("{}\nExit status: {statuses}.", section(examples))
}

/// Show every TCP reset that this host sends or receives: peer, owner of the socket, state, cause.
///
/// One line per reset on standard output, until Ctrl-C. Progress, warnings and the closing summary go to standard
/// error.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
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

/// Times that are read of what was recorded.
#[derive(Clone, Debug, Args)]
pub struct TimeOptions {
    /// Show only what was at this time or later: 14:03 (of this day), '2026-11-28 08:00', RFC 3339, yesterday, or 10m
    /// for ten minutes ago
    #[arg(long, value_name = "WHEN", help_heading = "Times")]
    pub since: Option<String>,
    /// Show only what was before this time, in the forms of --since
    #[arg(long, value_name = "WHEN", help_heading = "Times")]
    pub until: Option<String>,
}

/// Options of `replay`.
#[derive(Clone, Debug, Args)]
#[command(mut_args(of_replay))]
pub struct ReplayOptions {
    /// Directory of a recording, file of JSON lines, packet capture (pcap, pcapng; all also compressed: .zst, .gz), or - for
    /// standard input
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Captures.
    #[command(flatten)]
    pub captures: CaptureOptions,
    /// Times.
    #[command(flatten)]
    pub times: TimeOptions,
    /// Filters.
    #[command(flatten)]
    pub filters: FilterOptions,
    /// Output.
    #[command(flatten)]
    pub output: OutputOptions,
    /// Diagnose again, by the rules of this version, from the facts that a recording has
    #[arg(long, help_heading = "Diagnosis")]
    pub rediagnose: bool,
    /// Read additional idle timeouts from a TOML file; those of a known owner replace the built-in ones
    #[arg(long, value_name = "FILE", help_heading = "Diagnosis")]
    pub timeouts: Option<PathBuf>,
    /// Read additional hints for programs of your own from a TOML file, for --rediagnose
    #[arg(long, value_name = "FILE", requires = "rediagnose", help_heading = "Diagnosis")]
    pub hints: Option<PathBuf>,
}

/// How packet captures are read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Packet captures")]
pub struct CaptureOptions {
    /// Tell the resets of a capture as the host with these addresses sees them [default: the one that sent the packets, or that
    /// most of the connections share]
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',', value_parser = parse_network)]
    pub local: Vec<IpNet>,
    /// Show also resets of captures that ended no connection: too late, or with numbers that no system takes
    #[arg(long)]
    pub ignored: bool,
}

/// Time zone of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportZone {
    /// The local time zone (TZ)
    Local,
    /// UTC
    Utc,
}

/// Options of `report`.
#[derive(Clone, Debug, Args)]
#[command(mut_args(check_cause))]
pub struct ReportOptions {
    /// Directory of a recording, file of JSON lines, packet capture (pcap, pcapng; all also compressed: .zst, .gz), or - for
    /// standard input
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Captures.
    #[command(flatten)]
    pub captures: CaptureOptions,
    // Names of their own: completions go by them, and those of the output of records have other values.
    /// Write the report to this file [default: standard output]
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Set the format [default: that of FILE's extension (.md, .svg), or html]
    #[arg(long = "format", value_enum, value_name = "FORMAT")]
    pub report_format: Option<ReportFormat>,
    /// Compare two inputs, the first from before a change and the second from after it
    #[arg(long)]
    pub compare: bool,
    /// Set the time zone of the report
    #[arg(long = "time", value_enum, value_name = "ZONE", default_value_t = ReportZone::Local)]
    pub zone: ReportZone,
    /// Print only warnings and errors on standard error
    #[arg(short, long)]
    pub quiet: bool,
    /// Times.
    #[command(flatten)]
    pub times: TimeOptions,
    /// Filters.
    #[command(flatten)]
    pub filters: FilterOptions,
    /// Diagnose again, by the rules of this version, from the facts that a recording has
    #[arg(long, help_heading = "Diagnosis")]
    pub rediagnose: bool,
    /// Read additional idle timeouts from a TOML file; those of a known owner replace the built-in ones
    #[arg(long, value_name = "FILE", help_heading = "Diagnosis")]
    pub timeouts: Option<PathBuf>,
    /// Read additional hints for programs of your own from a TOML file, for --rediagnose
    #[arg(long, value_name = "FILE", requires = "rediagnose", help_heading = "Diagnosis")]
    pub hints: Option<PathBuf>,
}

/// Formats of `export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// JSON lines as in a recording, which can be replayed and diagnosed again
    Json,
    /// A table of the resets, with a row of titles (RFC 4180)
    Csv,
    /// A packet capture for Wireshark and tcpdump: each reset as a packet, with its block of --output long as the comment
    Pcapng,
}

/// Options of `export`.
#[derive(Clone, Debug, Args)]
#[command(mut_args(of_export))]
pub struct ExportOptions {
    /// Directory of a recording, file of JSON lines, packet capture (pcap, pcapng; all also compressed: .zst, .gz), or - for
    /// standard input
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Captures.
    #[command(flatten)]
    pub captures: CaptureOptions,
    /// Set the format on standard output
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ExportFormat::Json)]
    pub format: ExportFormat,
    /// Replace addresses, names and command lines by pseudonyms (not names of well-known programs); ports, PIDs and times stay
    #[arg(long)]
    pub anonymize: bool,
    /// Times.
    #[command(flatten)]
    pub times: TimeOptions,
    /// Filters.
    #[command(flatten)]
    pub filters: FilterOptions,
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
    #[arg(long, value_name = "FILE")]
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
    /// Switch to this user, by name or number, after the probes are attached
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
    format!("Also send records to this destination (repeatable): {}", SinkSpec::synopses())
}

/// Parser of a value with candidates for the completions of shells. Help does not list them, and messages keep the
/// parser's own words, where clap would list fifty values.
#[derive(Clone)]
struct Completed<P> {
    parser: P,
    candidates: fn() -> Vec<PossibleValue>,
}

impl<P: TypedValueParser> TypedValueParser for Completed<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &ClapCommand, argument: Option<&Arg>, value: &OsStr) -> Result<P::Value, Error> {
        self.parser.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.candidates)().into_iter()))
    }
}

/// Parser of `--sink`. Its errors do not quote what may be secret, as clap's own would.
#[derive(Clone)]
struct SinkParser;

impl TypedValueParser for SinkParser {
    type Value = SinkSpec;

    fn parse_ref(&self, command: &ClapCommand, argument: Option<&Arg>, value: &OsStr) -> Result<SinkSpec, Error> {
        let text = value.to_string_lossy();
        if SinkSpec::redacted(&text) == text {
            return SinkSpec::from_str.parse_ref(command, argument, value);
        }
        SinkSpec::from_str(&text).map_err(|error| {
            let message = format!("invalid value '{}' for '--sink <SPEC>': {error}", SinkSpec::redacted(&text));
            Error::raw(ErrorKind::ValueValidation, message).format(&mut command.clone())
        })
    }
}

/// Beginnings of the values of `--sink`.
fn sink_beginnings() -> Vec<PossibleValue> {
    SinkSpec::beginnings().map(|&(beginning, what)| PossibleValue::new(beginning).help(what)).collect()
}

/// Codes of the catalogue, each once and with a summary.
fn cause_codes() -> Vec<PossibleValue> {
    let mut rows: Vec<_> = catalogue::causes().chain([&catalogue::UNKNOWN]).collect();
    rows.sort_by_key(|row| row.code);
    rows.dedup_by_key(|row| row.code);
    rows.into_iter().map(|row| PossibleValue::new(row.code).help(row.summary)).collect()
}

/// Adapts an option that a live run shares with `record`: help says that it records, and hides what `record` refuses.
fn of_record(argument: Arg) -> Arg {
    let argument = check_cause(argument);
    if argument.get_id() == "config" {
        return argument.hide(true);
    }
    reworded(argument, &[("Show only", "Record only"), ("Also show", "Also record"), ("Hide", "Do not record")])
}

/// Adapts an option that a live run shares with `export`: help says that it exports.
fn of_export(argument: Arg) -> Arg {
    reworded(check_cause(argument), &[("Show only", "Export only"), ("Hide", "Do not export")])
}

/// Replaces the beginning of an option's help: the first of each pair by the second.
fn reworded(argument: Arg, beginnings: &[(&str, &str)]) -> Arg {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    match beginnings.iter().find_map(|(shown, other)| Some((other, help.strip_prefix(shown)?))) {
        Some((other, rest)) => argument.help(format!("{other}{rest}")),
        None => argument,
    }
}

/// Adapts an option that a live run shares with `replay`: help hides what `replay` refuses.
fn of_replay(argument: Arg) -> Arg {
    let argument = check_cause(argument);
    match argument.get_id().as_str() {
        "metrics" | "metrics_config" | "metrics_peers" | "summary_interval" => argument.hide(true),
        "quiet" => argument
            .help("Print only warnings and errors on standard error: of the summary only the table of --group-by"),
        _ => argument,
    }
}

/// Lets `--cause` take only codes of the catalogue, which the filters do not know. (`mut_arg` would move it to the end of the
/// completions.)
fn check_cause(argument: Arg) -> Arg {
    if argument.get_id() != "cause" {
        return argument;
    }
    argument.value_parser(Completed { parser: cause_code, candidates: cause_codes }).hide_possible_values(true)
}

fn cause_code(text: &str) -> Result<String, String> {
    let known = catalogue::find(text).next().map(|row| row.code.to_owned());
    known.ok_or_else(|| unknown_cause(text))
}

/// What to type instead of a code that there is not; a part of a sentence.
pub(crate) fn unknown_cause(code: &str) -> String {
    let list = "'rsttrace explain' lists the codes";
    match spelling::similar(code, catalogue::causes().map(|row| row.code)) {
        Some(similar) => format!("did you mean '{similar}'? {list}"),
        None => list.to_owned(),
    }
}

fn count(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| "expected a number from 1 on".into())
}

fn buffer_size(text: &str) -> Result<u32, String> {
    let bytes = size::parse(text)?;
    let bytes = u32::try_from(bytes).ok().filter(|bytes| (1..=1 << 30).contains(bytes));
    bytes.ok_or_else(|| "expected a size of more than 0, up to 1G".into())
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port.or_else(|_| text.parse()).map_err(|_error| {
        let expected = "expected a port up to 65535, or an address such as 10.0.0.5:9477";
        match text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
            Some(("" | "*", port)) => {
                format!("{expected}; 0.0.0.0:{port} is every address of IPv4, {port} the loopback one")
            }
            Some(("localhost", port)) => format!("{expected}; {port} alone is on the loopback address"),
            _ => expected.into(),
        }
    })
}

fn peers(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number <= 10_000);
    number.ok_or_else(|| "expected a number from 0 to 10000".into())
}

fn queue(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1 << 20).contains(number));
    number.ok_or_else(|| "expected a number from 1 to 1048576".into())
}

/// Shortest interval of summaries: a shorter one would show nothing else.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = time_span::parse(text)?;
    if interval < INTERVAL_MIN { Err("expected a time of 0.1 s or more".into()) } else { Ok(interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_command_lines() {
        let examples = EXAMPLES.iter().chain(&RECORD_EXAMPLES).chain(&REPLAY_EXAMPLES).chain(&REPORT_EXAMPLES);
        let examples = examples.chain(&EXPORT_EXAMPLES);
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
        let report = help("report");
        for (help, examples) in [
            (&record, &RECORD_EXAMPLES[..]),
            (&replay, &REPLAY_EXAMPLES),
            (&report, &REPORT_EXAMPLES),
            (&export, &EXPORT_EXAMPLES),
        ] {
            assert!(examples.iter().all(|example| help.contains(example.incident)), "{help}");
        }
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
