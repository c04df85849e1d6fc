//! Command-line options.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::{
    filter::ports::PortRange,
    format::{Format, TimeFormat},
    model::Fault,
    sink::SinkSpec,
};

/// Show every TCP reset that this host sends or receives: peer, owner of the socket, state, cause.
///
/// One line per reset on standard output, until Ctrl-C. Progress, warnings and the closing summary go to standard
/// error.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(
    after_help = "Exit status: 0 success, 1 error while running, 2 usage error, 3 not possible on this host or for this user."
)]
pub struct Cli {
    /// Subcommand; `None` to trace.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of tracing.
    #[command(flatten)]
    pub trace: Trace,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check what can be traced on this host and how to fix what cannot
    Doctor,
    /// List the causes of resets, or describe one in full
    Explain {
        /// Code of the cause, as in the records
        cause: Option<String>,
    },
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

/// Files that are generated from the program.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Generated {
    /// Man page in roff
    Man,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
    /// Option block of the README
    Options,
    /// Page of causes in Markdown
    Causes,
    /// Page of requirements in Markdown
    Requirements,
}

/// Options of tracing.
#[derive(Clone, Debug, Args)]
pub struct Trace {
    /// Filters.
    #[command(flatten)]
    pub filters: Filters,
    /// Additional resets.
    #[command(flatten)]
    pub more: More,
    /// Output.
    #[command(flatten)]
    pub output: Output,
    /// Limits and resources of the run.
    #[command(flatten)]
    pub run: Run,
}

/// Resets that are shown only on request.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Additional resets")]
pub struct More {
    /// Also show incoming resets that the kernel discarded (out of window, half-open, closed, …)
    #[arg(long)]
    pub ignored: bool,
    /// Also show resets that arrive on this interface and are forwarded (repeatable)
    #[arg(long, value_name = "IFACE", num_args = 1..)]
    pub forwarded: Vec<String>,
}

/// Filters. A reset must match every filter that is given, and one value of a repeated one.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct Filters {
    /// Show only resets that this host sends
    #[arg(long, conflicts_with = "received")]
    pub sent: bool,
    /// Show only resets that this host receives
    #[arg(long)]
    pub received: bool,
    /// Show only sockets owned by this process (repeatable)
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Show only sockets owned by processes of this name (repeatable)
    #[arg(short, long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// Show only this peer or network, IPv4 or IPv6 (repeatable)
    #[arg(long, value_name = "CIDR", value_parser = crate::filter::peers::parse)]
    pub peer: Vec<IpNet>,
    /// Show only this port or range at the peer's end (repeatable)
    #[arg(long, value_name = "PORT[-PORT]")]
    pub peer_port: Vec<PortRange>,
    /// Show only this port or range at this host's end (repeatable)
    #[arg(long, value_name = "PORT[-PORT]")]
    pub local_port: Vec<PortRange>,
    /// Show only this port or range at either end (repeatable)
    #[arg(long, value_name = "PORT[-PORT]")]
    pub port: Vec<PortRange>,
    /// Show only IPv4
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Show only IPv6
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// Show only this network namespace, by a path such as /run/netns/blue or by inode number
    #[arg(long, value_name = "PATH-or-INODE")]
    pub netns: Option<String>,
    /// Show only sockets of this cgroup and its descendants, by path
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Show only this cause, by its code (repeatable)
    #[arg(long, value_name = "CODE", value_parser = cause)]
    pub cause: Vec<String>,
    /// Show only resets whose likely cause lies on this side (comma-separated)
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    pub fault: Vec<Fault>,
    /// Hide harmless resets
    #[arg(long)]
    pub no_benign: bool,
}

/// Destinations and presentation of records.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// Set the output format on standard output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub output: Format,
    /// Additional destinations of the records.
    #[arg(long, value_name = "SPEC", help = sink_help())]
    pub sink: Vec<SinkSpec>,
    /// Set the queue length per sink; records beyond it are dropped and counted
    #[arg(long, value_name = "N", default_value_t = 32_768, value_parser = queue)]
    pub sink_queue: usize,
    /// Serve Prometheus metrics on this port of the loopback address, or on this address and port
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = listen)]
    pub metrics: Option<SocketAddr>,
    /// Set the maximum number of peers with their own time series; others are counted as "other"
    #[arg(long, value_name = "N", default_value_t = 100, requires = "metrics", value_parser = peers)]
    pub metrics_peers: usize,
    /// Set the form of times in text (JSON is always UTC)
    #[arg(long, value_enum, value_name = "ZONE", default_value_t = TimeFormat::Local)]
    pub time: TimeFormat,
    /// Do not resolve port and user names
    #[arg(short, long)]
    pub numeric: bool,
    /// Print a summary at this interval, such as 60s or 5m, and at the end
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "no_summary")]
    pub summary_interval: Option<Duration>,
    /// Omit the summary at the end
    #[arg(long)]
    pub no_summary: bool,
}

/// Limits and resources of the run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Running")]
pub struct Run {
    /// Stop after this time, such as 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Stop after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Set the buffer between kernel and user space
    #[arg(long, value_enum, default_value_t = TransportChoice::Auto)]
    pub transport: TransportChoice,
    /// Set the size of the kernel buffer (perf: of each CPU's), rounded up to a power of two of pages
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    pub buffer_size: Option<u32>,
    /// Drop to this user, by name or number, after the probes are attached
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Read additional idle timeouts from a TOML file; those of a known owner replace the built-in ones
    #[arg(long, value_name = "FILE")]
    pub timeouts: Option<PathBuf>,
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

/// Buffer between kernel and user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransportChoice {
    /// BPF ring buffer if it works, otherwise perf ring buffers
    Auto,
    /// BPF ring buffer (Linux 5.8)
    Ring,
    /// perf ring buffers, one per CPU
    Perf,
}

/// Parses the code of a cause.
fn cause(text: &str) -> Result<String, String> {
    let known = crate::diagnose::catalogue::find(text).map(|row| row.code.to_owned());
    known.ok_or_else(|| "'rsttrace explain' lists the codes".into())
}

/// Help of `--sink` with the forms of the sinks that are built in.
fn sink_help() -> String {
    format!("Also send records to this destination (repeatable): {}", SinkSpec::synopses())
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port.or_else(|_| text.parse()).map_err(|_error| "expected a port, or an address such as 10.0.0.5:9477".into())
}

fn peers(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number <= 10_000);
    number.ok_or_else(|| "expected a number from 0 to 10000".into())
}

fn queue(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1 << 20).contains(number));
    number.ok_or_else(|| "expected a number from 1 to 1048576".into())
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .or_else(|| text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()));
    match parsed {
        Some(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("expected a time such as 30s, 5m or 1h30m".into()),
    }
}
