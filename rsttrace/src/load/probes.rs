//! The table of probes: hooks, the programs that can be attached to each, and the loss without it.
//!
//! `docs/requirements.md` is generated from it.

use super::{KernelInfo, btf::TypeKind};
use crate::load::ExtraEvents;

/// Kind of attachment, with its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// Raw tracepoint, whose arguments are plain words.
    RawTracepoint(&'static str),
    /// Raw tracepoint whose arguments have BTF types.
    BtfTracepoint(&'static str),
    /// BPF iterator that runs once, at start.
    Iterator(&'static str),
    /// BPF iterator that runs on demand.
    OnDemand(&'static str),
    /// Entry of a function of the kernel proper (not of a module), by trampoline.
    Fentry(&'static str),
    /// Return of a function of the kernel proper, by trampoline.
    Fexit(&'static str),
    /// Entry of a function.
    Kprobe(&'static str),
    /// Return of a function.
    Kretprobe(&'static str),
    /// Classifier at the ingress of the interfaces of `--forwarded`.
    Classifier,
}

impl Attach {
    /// Name of the target.
    pub const fn target(self) -> &'static str {
        match self {
            Self::RawTracepoint(name)
            | Self::BtfTracepoint(name)
            | Self::Iterator(name)
            | Self::OnDemand(name)
            | Self::Fentry(name)
            | Self::Fexit(name)
            | Self::Kprobe(name)
            | Self::Kretprobe(name) => name,
            Self::Classifier => "tc ingress",
        }
    }

    /// Kind and name of the BTF type that describes the target; `None` for a classifier, which has none.
    pub(super) fn kernel_type(self) -> Option<(TypeKind, String)> {
        let name = self.target();
        match self {
            Self::RawTracepoint(_) | Self::BtfTracepoint(_) => Some((TypeKind::Typedef, format!("btf_trace_{name}"))),
            Self::Iterator(_) | Self::OnDemand(_) => Some((TypeKind::Function, format!("bpf_iter_{name}"))),
            Self::Fentry(_) | Self::Fexit(_) | Self::Kprobe(_) | Self::Kretprobe(_) => {
                Some((TypeKind::Function, name.to_owned()))
            }
            Self::Classifier => None,
        }
    }

    /// Name of the kind.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RawTracepoint(_) => "raw tracepoint",
            Self::BtfTracepoint(_) => "BTF tracepoint",
            Self::Iterator(_) | Self::OnDemand(_) => "iterator",
            Self::Fentry(_) => "fentry",
            Self::Fexit(_) => "fexit",
            Self::Kprobe(_) => "kprobe",
            Self::Kretprobe(_) => "kretprobe",
            Self::Classifier => "classifier",
        }
    }
}

/// Number of arguments, according to BTF, with which a hook fits a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgCount {
    /// Any number: the program reads none, or they have never changed.
    Any,
    /// This many or more: later kernels append arguments.
    AtLeast(usize),
    /// Exactly this many: with another number they mean something else.
    Exactly(usize),
}

impl ArgCount {
    /// Whether a hook with this many arguments fits.
    pub fn accepts(self, arguments: usize) -> bool {
        match self {
            Self::Any => true,
            Self::AtLeast(least) => arguments >= least,
            Self::Exactly(wanted) => arguments == wanted,
        }
    }
}

/// Major and minor version of Linux.
pub type Version = (u32, u32);

/// One of the programs that can serve a hook, and its attachment.
#[derive(Clone, Copy, Debug)]
pub struct AttachOption {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Its attachment.
    pub attach: Attach,
    /// Number of arguments that the hook must have.
    pub arguments: ArgCount,
    /// First kernel that allows it. Documentation only: what the running kernel allows is decided by trying.
    pub since: Version,
    /// Loss compared with the best option, for the start messages; `None` for no loss.
    pub degraded: Option<&'static str>,
}

/// Condition under which a probe is attached.
#[derive(Clone, Copy, Debug)]
pub enum Condition {
    /// Always; without it there is nothing to trace.
    Required,
    /// Always; without it records lack something.
    Always,
    /// Only on kernels whose other hooks do not report what it does; with the last such kernel, for the documentation.
    IfNeeded(fn(&KernelInfo) -> bool, Version),
    /// Only with a flag of the command line.
    OnRequest(Flag),
}

/// A flag of the command line that requests a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `--ignored`
    Ignored,
    /// `--forwarded`
    Forwarded,
}

/// A hook, and the programs that can serve it.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Name of the hook.
    pub hook: &'static str,
    /// What can be seen with it, a short noun phrase for `doctor`.
    pub ability: &'static str,
    /// What it adds to the output, for the documentation.
    pub purpose: &'static str,
    /// Its options, best first: the first that fits and that the kernel accepts is used.
    pub options: &'static [AttachOption],
    /// When it is attached.
    pub condition: Condition,
    /// What the output lacks without it.
    pub loss: &'static str,
    /// What makes it available.
    pub remedy: &'static str,
}

impl Probe {
    /// Whether its condition holds for this kernel and this command line.
    pub fn is_wanted(&self, kernel: &KernelInfo, more: &ExtraEvents) -> bool {
        match self.condition {
            Condition::Required | Condition::Always => true,
            Condition::IfNeeded(is_needed, _) => is_needed(kernel),
            Condition::OnRequest(Flag::Ignored) => more.ignored,
            Condition::OnRequest(Flag::Forwarded) => !more.forwarded.is_empty(),
        }
    }

    /// Whether a run must fail when it is refused: nothing can be traced without it, or the user has requested it.
    pub const fn is_required(&self) -> bool {
        matches!(self.condition, Condition::Required | Condition::OnRequest(_))
    }
}

/// Hook of the probe that reports when a socket is destroyed.
pub const DESTROY: &str = "tcp_destroy_sock";

/// Hook of the probe that scans open files for the holders of reset sockets.
pub const LOOKUP: &str = "iter/task_file on demand";

/// An option without a loss.
const fn option(program: &'static str, attach: Attach, arguments: ArgCount, since: Version) -> AttachOption {
    AttachOption { program, attach, arguments, since, degraded: None }
}

const FUNCTIONS: &str = "use a kernel with fentry (CONFIG_FUNCTION_TRACER) or kprobes (CONFIG_KPROBES)";

/// All probes, in the order in which they are attached: those that feed the connection history before those that report
/// resets; the iterator after the hooks that track new sockets, so that no socket is missed in between; and each hook that
/// prepares another one before it. `tcp_send_reset` comes before `tcp_receive_reset`, some of whose events it shows to be no
/// receives. They are detached in the opposite order.
pub const PROBES: &[Probe] = &[
    Probe {
        hook: "inet_sock_set_state",
        ability: "histories of connections (owner, age, FINs)",
        purpose: "the history of each connection: the process that opened it and when, when each FIN came, its state before a close",
        options: &[option(
            "inet_sock_set_state",
            Attach::RawTracepoint("inet_sock_set_state"),
            ArgCount::AtLeast(3),
            (4, 16),
        )],
        condition: Condition::Always,
        loss: "owners are unknown, and so are ages, the times of FINs, and the state before a close",
        remedy: "use Linux 4.16 or later",
    },
    Probe {
        hook: "inet_csk_accept",
        ability: "processes that accept connections",
        purpose: "the process that accepts a connection; without it the owner is found when the reset comes",
        options: &[
            option("inet_csk_accept", Attach::Fexit("inet_csk_accept"), ArgCount::Any, (5, 5)),
            option("csk_accept_kret", Attach::Kretprobe("inet_csk_accept"), ArgCount::Any, (4, 17)),
        ],
        condition: Condition::Always,
        loss: "the process that accepted from another one's listener is looked up only when it is reset",
        remedy: FUNCTIONS,
    },
    Probe {
        hook: "tcp_init_transfer",
        ability: "TTL of handshakes, which tells forged resets",
        purpose: "the TTL of each connection's handshake, with which that of a reset is compared",
        options: &[
            option("tcp_init_transfer", Attach::Fentry("tcp_init_transfer"), ArgCount::Exactly(3), (5, 10)),
            option("init_transf_kp", Attach::Kprobe("tcp_init_transfer"), ArgCount::Exactly(3), (5, 10)),
        ],
        condition: Condition::Always,
        loss: "forged resets are recognised by their timestamps alone",
        remedy: FUNCTIONS,
    },
    Probe {
        hook: "iter/task_file",
        ability: "owners of sockets that were open before the start",
        purpose: "the owners of sockets that were open before the start",
        options: &[option("task_file", Attach::Iterator("task_file"), ArgCount::Any, (5, 8))],
        condition: Condition::Always,
        loss: "owners of sockets that were open before the start are unknown",
        remedy: "use Linux 5.8 or later; in a container, share the host's PID namespace",
    },
    Probe {
        hook: DESTROY,
        ability: "owners by the close of a reset socket",
        purpose: "the process that closes a socket which was reset before its owner was known",
        options: &[option(
            "tcp_destroy_sock",
            Attach::RawTracepoint("tcp_destroy_sock"),
            ArgCount::AtLeast(1),
            (4, 16),
        )],
        condition: Condition::Always,
        loss: "owners of accepted connections are less certain",
        remedy: "use Linux 4.16 or later",
    },
    Probe {
        hook: LOOKUP,
        ability: "owners by the open files at a reset",
        purpose: "the process that holds a socket which was reset, where its owner is not certain",
        options: &[option("task_file_lookup", Attach::OnDemand("task_file"), ArgCount::Any, (5, 8))],
        condition: Condition::Always,
        loss: "owners of accepted connections are less certain",
        remedy: "use Linux 5.8 or later; in a container, share the host's PID namespace",
    },
    Probe {
        hook: "tcp_reset",
        ability: "headers of received resets (TTL, window)",
        purpose: "the header of each reset received: TTL, sequence number, window",
        options: &[
            option("tcp_reset", Attach::Fentry("tcp_reset"), ArgCount::Exactly(2), (5, 11)),
            option("tcp_reset_kp", Attach::Kprobe("tcp_reset"), ArgCount::Exactly(2), (5, 11)),
        ],
        condition: Condition::Always,
        loss: "the headers of received resets (TTL, window) are not seen",
        remedy: FUNCTIONS,
    },
    Probe {
        hook: "tcp_v4_send_reset",
        ability: "resets from closed ports and TIME_WAIT (IPv4)",
        purpose: "resets from closed ports and TIME_WAIT sockets, IPv4, on kernels whose tracepoint leaves them out",
        options: &[
            option("tcp_v4_send_reset", Attach::Fentry("tcp_v4_send_reset"), ArgCount::Exactly(2), (5, 5)),
            option("send_reset_kp", Attach::Kprobe("tcp_v4_send_reset"), ArgCount::Exactly(2), (4, 17)),
        ],
        condition: Condition::IfNeeded(tracepoint_skips_socketless, (6, 9)),
        loss: "resets from closed ports and TIME_WAIT are not seen (IPv4)",
        remedy: "use Linux 6.10 or later, or a kernel that allows tracing of functions",
    },
    Probe {
        hook: "tcp_v6_send_reset",
        ability: "resets from closed ports and TIME_WAIT (IPv6)",
        purpose: "resets from closed ports and TIME_WAIT sockets, IPv6, on kernels whose tracepoint leaves them out",
        options: &[
            option("tcp_v6_send_reset", Attach::Fentry("tcp_v6_send_reset"), ArgCount::Exactly(2), (5, 5)),
            option("send_reset_kp", Attach::Kprobe("tcp_v6_send_reset"), ArgCount::Exactly(2), (4, 17)),
        ],
        condition: Condition::IfNeeded(tracepoint_skips_socketless, (6, 9)),
        loss: "resets from closed ports and TIME_WAIT are not seen (IPv6)",
        remedy: "use Linux 6.10 or later, or a kernel that allows tracing of functions",
    },
    Probe {
        hook: "nf_send_reset",
        ability: "resets sent by firewall rules (IPv4)",
        purpose: "resets sent by firewall rules, IPv4 (`reject with tcp reset`)",
        options: &[option("nf_send_reset", Attach::Kprobe("nf_send_reset"), ArgCount::Any, (5, 10))],
        condition: Condition::Always,
        loss: "resets sent by firewall rules are not seen (IPv4)",
        remedy: "use a kernel with CONFIG_KPROBES, and start rsttrace after the rule, which loads nf_reject_ipv4",
    },
    Probe {
        hook: "nf_send_reset6",
        ability: "resets sent by firewall rules (IPv6)",
        purpose: "resets sent by firewall rules, IPv6 (`reject with tcp reset`)",
        options: &[option("nf_send_reset", Attach::Kprobe("nf_send_reset6"), ArgCount::Any, (5, 10))],
        condition: Condition::Always,
        loss: "resets sent by firewall rules are not seen (IPv6)",
        remedy: "use a kernel with CONFIG_KPROBES, and start rsttrace after the rule, which loads nf_reject_ipv6",
    },
    Probe {
        hook: "tcp_send_reset",
        ability: "sent resets",
        purpose: "resets sent; from 6.10 on with the kernel's reason, and those from closed ports and TIME_WAIT too",
        options: &[
            option("tcp_send_reset", Attach::BtfTracepoint("tcp_send_reset"), ArgCount::AtLeast(3), (6, 10)),
            AttachOption {
                program: "send_reset_2arg",
                attach: Attach::BtfTracepoint("tcp_send_reset"),
                arguments: ArgCount::AtLeast(2),
                since: (5, 9),
                degraded: Some(
                    "this kernel gives no reasons (Linux 6.12 gives all); the cause is derived from the socket's state",
                ),
            },
        ],
        condition: Condition::Required,
        loss: "sent resets are not seen",
        remedy: "use Linux 6.10 or later for all of them, 5.9 or later for a part",
    },
    Probe {
        hook: "tcp_receive_reset",
        ability: "received resets",
        purpose: "resets received",
        options: &[option(
            "tcp_receive_reset",
            Attach::BtfTracepoint("tcp_receive_reset"),
            ArgCount::AtLeast(1),
            (5, 9),
        )],
        condition: Condition::Required,
        loss: "received resets are not seen",
        remedy: "use Linux 5.9 or later",
    },
    Probe {
        hook: "kfree_skb",
        ability: "ignored resets (--ignored)",
        purpose: "resets that arrive and are ignored (`--ignored`)",
        options: &[
            option("kfree_skb", Attach::RawTracepoint("kfree_skb"), ArgCount::AtLeast(4), (6, 11)),
            AttachOption {
                program: "kfree_skb_3arg",
                attach: Attach::RawTracepoint("kfree_skb"),
                arguments: ArgCount::AtLeast(3),
                since: (5, 17),
                degraded: Some("this kernel does not report the socket of an ignored reset"),
            },
            AttachOption {
                program: "kfree_skb_2arg",
                attach: Attach::RawTracepoint("kfree_skb"),
                arguments: ArgCount::AtLeast(2),
                since: (4, 15),
                degraded: Some("this kernel does not report most of the resets that TCP ignores, and gives no reasons"),
            },
        ],
        condition: Condition::OnRequest(Flag::Ignored),
        loss: "ignored resets are not seen",
        remedy: "use Linux 6.11 or later for all of them",
    },
    Probe {
        hook: "tc ingress",
        ability: "forwarded resets (--forwarded)",
        purpose: "resets that this host only forwards (`--forwarded IFACE`)",
        options: &[option("forwarded", Attach::Classifier, ArgCount::Any, (4, 18))],
        condition: Condition::OnRequest(Flag::Forwarded),
        loss: "forwarded resets are not seen",
        remedy: "grant CAP_NET_ADMIN; before Linux 6.6 use a kernel with CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF",
    },
];

/// Whether the tracepoint `tcp_send_reset` reports full sockets only: before 6.10, when it had no reason argument either.
fn tracepoint_skips_socketless(kernel: &KernelInfo) -> bool {
    kernel.target(Attach::BtfTracepoint("tcp_send_reset")).is_none_or(|target| target.arguments < 3)
}
