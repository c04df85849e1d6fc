//! The command line.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::{
    format::{Format, TimeFormat},
    model::Fault,
    select::ports::PortRange,
    sink::SinkSpec,
};

/// Show every TCP reset that this host sends or receives: peer, owner of the socket, state, cause.
///
/// One line per reset on standard output, until Ctrl-C. Progress, warnings and the closing summary go to standard
/// error.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(after_help = "Exit status: 0 ok, 1 failed while running, 2 usage, 3 this host or user cannot run it.")]
pub struct Cli {
    /// What to do instead of tracing.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to trace.
    #[command(flatten)]
    pub trace: Trace,
}

/// What there is beside tracing.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what this host lets us see, what we lose, and the remedy
    Doctor,
    /// Describe the causes of resets; one cause in full
    Explain {
        /// Code of the cause, as in the records
        cause: Option<String>,
    },
    /// Check a file for --config; its errors have line and column
    CheckConfig {
        /// The file
        file: PathBuf,
    },
    /// Print what is made from the program: man page, shell completions, option block
    #[command(hide = true)]
    Generate {
        /// Which of them
        what: Generated,
    },
}

/// What is made from the program itself.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Generated {
    /// Manual page in roff
    Man,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
    /// The option block of the README
    Options,
    /// The page of causes in Markdown
    Causes,
    /// The page of requirements in Markdown
    Requirements,
}

/// Options of tracing.
#[derive(Clone, Debug, Args)]
pub struct Trace {
    /// What to show.
    #[command(flatten)]
    pub filters: Filters,
    /// What else to show.
    #[command(flatten)]
    pub more: More,
    /// How to show it.
    #[command(flatten)]
    pub output: Output,
    /// How to run.
    #[command(flatten)]
    pub run: Run,
}

/// What else to show.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "More than this host's own resets")]
pub struct More {
    /// Also resets that arrive and are ignored: out of window, for a half-open or ended connection, …
    #[arg(long)]
    pub ignored: bool,
    /// Also resets that this host forwards, coming in by this interface (repeatable)
    #[arg(long, value_name = "IFACE", num_args = 1..)]
    pub forwarded: Vec<String>,
}

/// Which resets to show; different filters must all hold, of one repeated filter any.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct Filters {
    /// Only resets that this host sends
    #[arg(long, conflicts_with = "received")]
    pub sent: bool,
    /// Only resets that this host receives
    #[arg(long)]
    pub received: bool,
    /// Only sockets owned by this process (repeatable)
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Only sockets owned by processes of this name (repeatable)
    #[arg(short, long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// Only this peer or network, IPv4 or IPv6 (repeatable)
    #[arg(long, value_name = "CIDR", value_parser = crate::select::peers::parse)]
    pub peer: Vec<IpNet>,
    /// Only this port of the peer's end (repeatable)
    #[arg(long, value_name = "PORT[-PORT]")]
    pub peer_port: Vec<PortRange>,
    /// Only this port of our end (repeatable)
    #[arg(long, value_name = "PORT[-PORT]")]
    pub local_port: Vec<PortRange>,
    /// Only this port, at either end (repeatable)
    #[arg(long, value_name = "PORT[-PORT]")]
    pub port: Vec<PortRange>,
    /// Only IPv4
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Only IPv6
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// Only this network namespace, by a path such as /run/netns/blue or by inode number
    #[arg(long, value_name = "PATH-or-INODE")]
    pub netns: Option<String>,
    /// Only sockets of this cgroup and those below it, by its path
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Only this cause, by its code (repeatable)
    #[arg(long, value_name = "CODE", value_parser = cause)]
    pub cause: Vec<String>,
    /// Only resets that these have something to change about
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    pub fault: Vec<Fault>,
    /// Leave out what is harmless
    #[arg(long)]
    pub no_benign: bool,
}

/// How records look.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// One line a reset, a block a reset, one JSON object a line, or nothing
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub output: Format,
    /// Additional destinations of the records.
    #[arg(long, value_name = "SPEC", help = sink_help())]
    pub sink: Vec<SinkSpec>,
    /// Records that may wait for a slow sink before some are not delivered to it
    #[arg(long, value_name = "N", default_value_t = 32_768, value_parser = queue)]
    pub sink_queue: usize,
    /// Serve counts to Prometheus at this port of the loopback address, or at this address and port
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = listen)]
    pub metrics: Option<SocketAddr>,
    /// Peers that have a series of their own; the rest is "other"
    #[arg(long, value_name = "N", default_value_t = 100, requires = "metrics", value_parser = peers)]
    pub metrics_peers: usize,
    /// How to show times in text (JSON is always UTC)
    #[arg(long, value_enum, value_name = "ZONE", default_value_t = TimeFormat::Local)]
    pub time: TimeFormat,
    /// Look up no names: ports and users stay numbers
    #[arg(short, long)]
    pub numeric: bool,
    /// A summary every so often, such as 60s or 5m, not only at the end
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "no_summary")]
    pub summary_interval: Option<Duration>,
    /// No summary at the end
    #[arg(long)]
    pub no_summary: bool,
}

/// When to stop, and how the kernel hands events over.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Running")]
pub struct Run {
    /// Stop after this time, such as 30s or 5m
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Stop after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// How the kernel hands events over: BPF ring buffer, perf ring buffer, or the better one that works
    #[arg(long, value_enum, default_value_t = TransportChoice::Auto)]
    pub transport: TransportChoice,
    /// Size of the buffer in the kernel (perf: of each CPU's), rounded up to a power of two of pages
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    pub buffer_size: Option<u32>,
    /// Go on as this user, by name or number, once everything is attached
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Known idle timeouts to add to those of the program, or to replace some, in TOML
    #[arg(long, value_name = "FILE")]
    pub timeouts: Option<PathBuf>,
    /// Read flags from this file: TOML, `name = value`, of the same names; the command line goes first
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write one newline to this descriptor once every probe is attached
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub ready_fd: Option<i32>,
    /// Connections that the kernel side remembers, for tests of what happens when there are more
    #[arg(long, hide = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub remember: Option<u32>,
    /// Print the kernel side's own debug messages to standard error
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    pub debug_kernel: bool,
}

/// How the kernel hands events over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransportChoice {
    /// The BPF ring buffer where the kernel has it, else the perf ring buffer
    Auto,
    /// BPF ring buffer (Linux 5.8)
    Ring,
    /// perf ring buffer
    Perf,
}

/// A code of the catalogue.
fn cause(text: &str) -> Result<String, String> {
    let known = crate::diagnose::catalogue::find(text).map(|row| row.code.to_owned());
    known.ok_or_else(|| "'rsttrace explain' lists the codes".into())
}

/// Help of `--sink`, with the forms of the sinks that are built in.
fn sink_help() -> String {
    format!("Additional destination for records, beside standard output (repeatable): {}", SinkSpec::synopses())
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
