//! Options of the subcommands that read what was recorded or captured.

use std::path::PathBuf;

use clap::{
    Arg, Args, ValueEnum,
    builder::{EnumValueParser, PossibleValue},
};
use ipnet::IpNet;

use super::{
    OutputOptions,
    option_values::{Completed, check_cause, reworded},
};
use crate::{
    format::Format,
    model::{FilterOptions, PairVerdict, PortRange, parse_network},
    report::ReportFormat,
};

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

/// How what was recorded is diagnosed.
#[derive(Clone, Debug, Args)]
pub struct DiagnosisOptions {
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
    /// Diagnosis.
    #[command(flatten)]
    pub diagnosis: DiagnosisOptions,
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
    /// Diagnosis.
    #[command(flatten)]
    pub diagnosis: DiagnosisOptions,
}

/// Formats of `export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// JSON lines as in a recording, which can be replayed and diagnosed again
    Json,
    /// A table of the resets, with a row of titles (RFC 4180)
    Csv,
    /// A packet capture for Wireshark and tcpdump: each reset as a packet, with its block, as 'replay' prints it, as the comment
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

/// Adapts an option that a live run shares with `export`: help says that it exports.
pub(super) fn of_export(argument: Arg) -> Arg {
    reworded(check_cause(argument), &[("Show only", "Export only"), ("Hide", "Do not export")])
}

/// Adapts an option that a live run shares with `replay`: help hides what `replay` refuses.
pub(super) fn of_replay(argument: Arg) -> Arg {
    let argument = check_cause(argument);
    match argument.get_id().as_str() {
        "metrics" | "metrics_config" | "metrics_peers" | "summary_interval" => argument.hide(true),
        "quiet" => argument
            .help("Print only warnings and errors on standard error: of the summary only the table of --group-by"),
        "output" => {
            argument.value_parser(Completed { parser: EnumValueParser::<Format>::new(), candidates: replayed_formats })
        }
        _ => argument,
    }
}

/// Formats of `replay`, whose help names no option that it does not have.
fn replayed_formats() -> Vec<PossibleValue> {
    let formats = Format::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let without_metrics = |format: PossibleValue| match format.get_name() {
        "none" => format.help("Nothing; for use with --sink or --report"),
        _ => format,
    };
    formats.map(without_metrics).collect()
}

/// Formats of `join`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JoinFormat {
    /// Hosts, clocks, and the pairs by verdict
    Text,
    /// One JSON object per pair, and one with hosts, clocks and counts at the end
    Json,
}

/// Options of `join`.
#[derive(Clone, Debug, Args)]
pub struct JoinOptions {
    /// Recordings or captures of both ends, and of what is between: directory of a recording, file of JSON lines, packet capture
    /// (pcap, pcapng; all also compressed: .zst, .gz), or - for standard input
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Captures.
    #[command(flatten)]
    pub captures: CaptureOptions,
    // A name of its own: completions go by it, and the format of records has other values.
    /// Set the output format on standard output
    #[arg(short = 'o', long = "output", id = "join_output", value_enum, value_name = "FORMAT", default_value_t = JoinFormat::Text)]
    pub output: JoinFormat,
    /// Set the time zone of text (JSON is always UTC)
    #[arg(long = "time", value_enum, value_name = "ZONE", default_value_t = ReportZone::Local)]
    pub zone: ReportZone,
    /// Show only pairs with these verdicts
    #[arg(long, value_enum, value_name = "VERDICT,…", value_delimiter = ',', help_heading = "Filters")]
    pub verdict: Vec<PairVerdict>,
    /// Show only pairs with these ports, ranges or names of services at either end
    #[arg(long, value_name = "PORT[-PORT],…", value_delimiter = ',', help_heading = "Filters")]
    pub port: Vec<PortRange>,
    /// Times.
    #[command(flatten)]
    pub times: TimeOptions,
}
