//! Options of the command line that the loader needs.

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};

/// Resets that are shown only on request.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Additional resets")]
pub struct ExtraEvents {
    /// Also show incoming resets that the kernel discarded (out of window, half-open, closed, …)
    #[arg(long)]
    pub ignored: bool,
    /// Also show resets that arrive on this interface (with --netns: of that namespace) and are forwarded (repeatable)
    #[arg(long, value_name = "IFACE", num_args = 1.., value_parser = NonEmptyStringValueParser::new())]
    pub forwarded: Vec<String>,
    /// Also show resets of rsttrace's own connections, to its sinks and of --metrics; without it they are only counted
    #[arg(long)]
    pub own_connections: bool,
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
