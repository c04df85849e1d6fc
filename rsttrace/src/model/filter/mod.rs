//! The filters of the command line, which the kernel side applies in part and `filter` on the finished record.

pub mod names;
mod peers;
mod ports;

use std::path::PathBuf;

use clap::{Args, builder::NonEmptyStringValueParser};
use ipnet::IpNet;

pub use self::{peers::parse as parse_network, ports::PortRange};
use super::Fault;

/// Filters. A reset must match every filter that is given, and one value of a repeated one.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterOptions {
    /// Show only resets that this host sends
    #[arg(long, conflicts_with = "received")]
    pub sent: bool,
    /// Show only resets that this host receives (live: without the sender where that is on this host too)
    #[arg(long)]
    pub received: bool,
    /// Show only sockets owned by these processes
    #[arg(short, long, value_name = "PID,…", value_delimiter = ',', value_parser = pid)]
    pub pid: Vec<u32>,
    /// Show only sockets owned by processes of these names
    #[arg(short, long, value_name = "NAME,…", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub comm: Vec<String>,
    /// Show only these peers or networks, IPv4 or IPv6
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',', value_parser = peers::parse)]
    pub peer: Vec<IpNet>,
    /// Hide these peers or networks
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',', value_parser = peers::parse)]
    pub not_peer: Vec<IpNet>,
    /// Show only peers of these names, as shown in the output (no DNS); `*` stands for any text
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub host: Vec<String>,
    /// Hide peers of these names
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub not_host: Vec<String>,
    /// Show only these ports, ranges or names of services at the peer's end
    #[arg(long, value_name = "PORT[-PORT],…", value_delimiter = ',')]
    pub peer_port: Vec<PortRange>,
    /// Show only these ports, ranges or names of services at this host's end
    #[arg(long, value_name = "PORT[-PORT],…", value_delimiter = ',')]
    pub local_port: Vec<PortRange>,
    /// Show only these ports, ranges or names of services at either end
    #[arg(long, value_name = "PORT[-PORT],…", value_delimiter = ',')]
    pub port: Vec<PortRange>,
    /// Hide these ports, ranges or names of services, at either end
    #[arg(long, value_name = "PORT[-PORT],…", value_delimiter = ',')]
    pub not_port: Vec<PortRange>,
    /// Show only IPv4
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Show only IPv6
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// Show only this network namespace: a name of `ip netns`, a path such as /proc/PID/ns/net, or an inode number
    #[arg(long, value_name = "NAME-or-PATH", value_parser = NonEmptyStringValueParser::new())]
    pub netns: Option<String>,
    /// Show only sockets of this cgroup and its descendants, by path
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Show only sockets of these systemd units
    #[arg(long, value_name = "UNIT,…", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub unit: Vec<String>,
    /// Show only sockets of these containers, by name or by the beginning of the id
    #[arg(long, value_name = "CONTAINER,…", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub container: Vec<String>,
    /// Show only sockets of these pods, as NAMESPACE/NAME or NAME
    #[arg(long, value_name = "POD,…", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub pod: Vec<String>,
    /// Show only these causes, by their codes
    #[arg(long, value_name = "CODE,…", value_delimiter = ',')]
    pub cause: Vec<String>,
    /// Show only resets that these sides should fix
    #[arg(long, value_name = "WHO,…", value_delimiter = ',')]
    pub fault: Vec<Fault>,
    /// Hide harmless resets
    #[arg(long)]
    pub no_benign: bool,
}

impl FilterOptions {
    /// Options in use that select by what only the kernel knows, so that no packet shows it.
    pub fn of_kernel(&self) -> Vec<&'static str> {
        let options = [
            ("--pid", !self.pid.is_empty()),
            ("--comm", !self.comm.is_empty()),
            ("--netns", self.netns.is_some()),
            ("--cgroup", self.cgroup.is_some()),
            ("--unit", !self.unit.is_empty()),
            ("--container", !self.container.is_empty()),
            ("--pod", !self.pod.is_empty()),
        ];
        options.into_iter().filter_map(|(name, is_used)| is_used.then_some(name)).collect()
    }
}

/// Parses a process id.
fn pid(text: &str) -> Result<u32, String> {
    let pid = text.parse().ok().filter(|&pid| pid > 0);
    pid.ok_or_else(|| {
        format!("'{text}' is not a process id: expected a number from 1 on; --comm takes names of processes")
    })
}
