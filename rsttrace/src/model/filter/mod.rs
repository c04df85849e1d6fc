//! The filters of the command line, which the kernel side applies in part and `filter` on the finished record.

mod peers;
mod ports;

use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;

pub use self::ports::PortRange;
use super::Fault;

/// Filters. A reset must match every filter that is given, and one value of a repeated one.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterOptions {
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
    #[arg(long, value_name = "CIDR", value_parser = peers::parse)]
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
    #[arg(long, value_name = "CODE")]
    pub cause: Vec<String>,
    /// Show only resets whose likely cause lies on this side (comma-separated)
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    pub fault: Vec<Fault>,
    /// Hide harmless resets
    #[arg(long)]
    pub no_benign: bool,
}
