//! Options of `top`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Arg, Args};
use ipnet::IpNet;

use super::{
    ColorWhen, ReportZone, RunOptions, TimeOptions,
    option_values::{Completed, SinkParser, check_cause, listen, report_file, sink_beginnings},
    sink_help,
};
use crate::{
    model::{FilterOptions, parse_network},
    sink::SinkSpec,
};

/// Options of `top`.
#[derive(Clone, Debug, Args)]
#[command(mut_args(of_top))]
pub struct TopOptions {
    /// Directory of a recording, file of JSON lines, packet capture (pcap, pcapng; all also compressed: .zst, .gz), or - for
    /// standard input [default: this host, live]
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Tell the resets of a capture as the host with these addresses sees them [default: the one that sent the packets, or that
    /// most of the connections share]
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',', value_parser = parse_network)]
    #[arg(requires = "inputs", help_heading = "Packet captures")]
    pub local: Vec<IpNet>,
    /// Times.
    #[command(flatten)]
    pub times: TimeOptions,
    /// Filters.
    #[command(flatten)]
    pub filters: FilterOptions,
    /// Write the report to this file at the end, and for the key 'r': a page with plots, or text (.md), or the main plot alone
    /// (.svg)
    #[arg(long, value_name = "FILE", value_parser = report_file(), help_heading = "Output")]
    pub report: Option<PathBuf>,
    /// Additional destinations of the records.
    #[arg(long, value_name = "SPEC", help = sink_help(), hide_possible_values = true, help_heading = "Output")]
    #[arg(value_parser = Completed { parser: SinkParser, candidates: sink_beginnings })]
    pub sink: Vec<SinkSpec>,
    /// Serve Prometheus metrics on this port of the loopback address, or on this address and port
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = listen, help_heading = "Output")]
    pub metrics: Option<SocketAddr>,
    /// Read TLS and authentication of --metrics from a YAML file, in the form of Prometheus' exporters
    #[arg(long, value_name = "FILE", requires = "metrics", help_heading = "Output")]
    pub metrics_config: Option<PathBuf>,
    // A name of its own: completions go by it, and the one of the output of records has other values.
    /// Set the time zone of the view
    #[arg(long = "time", value_enum, value_name = "ZONE", default_value_t = ReportZone::Local, help_heading = "Output")]
    pub zone: ReportZone,
    /// Color the view: red is to be fixed on this host, cyan by the peer or on the path, green is harmless
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorWhen::Auto, help_heading = "Output")]
    pub color: ColorWhen,
    /// Show numbers in the block of an incident: no names of ports, users, peers, containers and pods
    #[arg(short, long, help_heading = "Output")]
    pub numeric: bool,
    /// Print only warnings and errors on standard error: no summary at the end
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,
    /// Limits and resources of the run.
    #[command(flatten)]
    pub run: RunOptions,
}

/// Adapts an option that others have to `top`: some are for a live run alone, and some for what was recorded.
fn of_top(argument: Arg) -> Arg {
    let argument = check_cause(argument);
    match argument.get_id().as_str() {
        "config" => argument.hide(true),
        "since" | "until" => argument.requires("inputs"),
        "sink" | "metrics" | "metrics_config" | "duration" | "count" | "transport" | "buffer_size" | "user"
        | "names" | "ready_fd" | "remember" | "debug_kernel" => argument.conflicts_with("inputs"),
        _ => argument,
    }
}
