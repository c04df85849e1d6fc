//! The table of probes: what is attached where, from which kernel on, and what is lost without it.
//!
//! `docs/requirements.md` is generated from it.

use super::{Kernel, btf::Kind};
use crate::cli::More;

/// How a program gets into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A raw tracepoint of this name.
    RawTracepoint(&'static str),
    /// The same, with arguments whose types the kernel knows.
    BtfTracepoint(&'static str),
    /// A BPF iterator of this name, walked once at start.
    Iterator(&'static str),
    /// A BPF iterator of this name, walked on demand.
    OnDemand(&'static str),
    /// The entry of this function of the kernel proper (not of a module).
    Fentry(&'static str),
    /// The end of this function of the kernel proper.
    Fexit(&'static str),
    /// The entry of this function.
    Kprobe(&'static str),
    /// The end of this function.
    Kretprobe(&'static str),
    /// What comes in by the interfaces that the user names.
    Classifier,
}

impl Attach {
    /// What it goes to, by name.
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

    /// The type of the kernel that stands for that; `None` where none does.
    pub(super) fn kernel_type(self) -> Option<(Kind, String)> {
        let name = self.target();
        match self {
            Self::RawTracepoint(_) | Self::BtfTracepoint(_) => Some((Kind::Typedef, format!("btf_trace_{name}"))),
            Self::Iterator(_) | Self::OnDemand(_) => Some((Kind::Function, format!("bpf_iter_{name}"))),
            Self::Fentry(_) | Self::Fexit(_) | Self::Kprobe(_) | Self::Kretprobe(_) => {
                Some((Kind::Function, name.to_owned()))
            }
            Self::Classifier => None,
        }
    }

    /// What people call this way.
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

/// Arguments that a hook must have for a program to fit it, as BTF says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// Whatever it has.
    Any,
    /// So many or more: more have been added behind.
    AtLeast(usize),
    /// So many: others have another meaning.
    Exactly(usize),
}

impl Arguments {
    /// Whether a hook with so many arguments fits.
    pub fn fit(self, arguments: usize) -> bool {
        match self {
            Self::Any => true,
            Self::AtLeast(least) => arguments >= least,
            Self::Exactly(wanted) => arguments == wanted,
        }
    }
}

/// Major and minor version of a kernel.
pub type Version = (u32, u32);

/// One way to get at a hook: a program, and how it is attached.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Name of the program in the object.
    pub program: &'static str,
    /// How it is attached.
    pub attach: Attach,
    /// The arguments of the hook that it reads.
    pub arguments: Arguments,
    /// The first kernel that allows it. For the documentation: what the running kernel allows is found by trying.
    pub since: Version,
    /// What is lost this way, in the words of the start line; `None` when nothing is.
    pub degraded: Option<&'static str>,
}

/// When a probe is attached.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// Always; without it there is nothing to trace.
    Required,
    /// Always; without it something is lost.
    Always,
    /// Only where the kernel does not say the same otherwise; the last such kernel is for the documentation.
    OnlyIf(fn(&Kernel) -> bool, Version),
    /// Only with a flag on the command line.
    Asked(Flag),
}

/// A flag of the command line that asks for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `--ignored`
    Ignored,
    /// `--forwarded`
    Forwarded,
}

/// One row: a hook and the ways to get at it.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The hook's own name.
    pub hook: &'static str,
    /// What it is for, as the documentation says it.
    pub tells: &'static str,
    /// The ways, the best first; the first that fits and that the kernel takes is used.
    pub ways: &'static [Way],
    /// When it is attached.
    pub when: When,
    /// What a reader of the output loses without it.
    pub loss: &'static str,
    /// What to change so that it can be had.
    pub remedy: &'static str,
}

impl Probe {
    /// Whether it is to be attached to this kernel.
    pub fn is_wanted(&self, kernel: &Kernel, more: &More) -> bool {
        match self.when {
            When::Required | When::Always => true,
            When::OnlyIf(needed, _) => needed(kernel),
            When::Asked(Flag::Ignored) => more.ignored,
            When::Asked(Flag::Forwarded) => !more.forwarded.is_empty(),
        }
    }

    /// Whether tracing is impossible without it, or not what was asked for.
    pub const fn is_required(&self) -> bool {
        matches!(self.when, When::Required | When::Asked(_))
    }
}

/// The hook that shows the end of a socket.
pub const DESTROY: &str = "tcp_destroy_sock";

/// The hook of the walk for the holders of sockets that were reset.
pub const LOOKUP: &str = "iter/task_file on demand";

/// The program reads its hook without arguments, or its arguments have always been the same.
const fn way(program: &'static str, attach: Attach, arguments: Arguments, since: Version) -> Way {
    Way { program, attach, arguments, since, degraded: None }
}

const FUNCTIONS: &str = "a kernel with fentry (CONFIG_FUNCTION_TRACER) or kprobes (CONFIG_KPROBES) has it";

/// Every probe, in the order in which they are attached: the story of connections first, so that no reset finds it
/// missing; the snapshot after it, so that no socket falls between the two; and what prepares another before that.
pub const PROBES: &[Probe] = &[
    Probe {
        hook: "inet_sock_set_state",
        tells: "the story of each connection: who opened it and when, when each FIN came, its state before a close",
        ways: &[way(
            "inet_sock_set_state",
            Attach::RawTracepoint("inet_sock_set_state"),
            Arguments::AtLeast(3),
            (4, 16),
        )],
        when: When::Always,
        loss: "owners are unknown, and so are ages, the times of FINs, and the state before a close",
        remedy: "Linux 4.16 or later has it",
    },
    Probe {
        hook: "inet_csk_accept",
        tells: "the process that accepts a connection; without it the owner is found when the reset comes",
        ways: &[
            way("inet_csk_accept", Attach::Fexit("inet_csk_accept"), Arguments::Any, (5, 5)),
            way("csk_accept_kret", Attach::Kretprobe("inet_csk_accept"), Arguments::Any, (4, 17)),
        ],
        when: When::Always,
        loss: "who accepts what another listens for is only found when a reset comes",
        remedy: FUNCTIONS,
    },
    Probe {
        hook: "tcp_init_transfer",
        tells: "the TTL of each connection's handshake, with which that of a reset is compared",
        ways: &[
            way("tcp_init_transfer", Attach::Fentry("tcp_init_transfer"), Arguments::Exactly(3), (5, 10)),
            way("init_transf_kp", Attach::Kprobe("tcp_init_transfer"), Arguments::Exactly(3), (5, 10)),
        ],
        when: When::Always,
        loss: "forged resets do not show",
        remedy: FUNCTIONS,
    },
    Probe {
        hook: "iter/task_file",
        tells: "the owners of sockets that were open before the start",
        ways: &[way("task_file", Attach::Iterator("task_file"), Arguments::Any, (5, 8))],
        when: When::Always,
        loss: "owners of sockets that were open before the start are unknown",
        remedy: "Linux 5.8 or later has it; in a container, share the host's PID namespace",
    },
    Probe {
        hook: DESTROY,
        tells: "who closes a socket that was reset before its owner was known",
        ways: &[way("tcp_destroy_sock", Attach::RawTracepoint("tcp_destroy_sock"), Arguments::AtLeast(1), (4, 16))],
        when: When::Always,
        loss: "owners of accepted connections are less sure",
        remedy: "Linux 4.16 or later has it",
    },
    Probe {
        hook: LOOKUP,
        tells: "who holds a socket that was reset, where its owner is not known for sure",
        ways: &[way("task_file_lookup", Attach::OnDemand("task_file"), Arguments::Any, (5, 8))],
        when: When::Always,
        loss: "owners of accepted connections are less sure",
        remedy: "Linux 5.8 or later has it; in a container, share the host's PID namespace",
    },
    Probe {
        hook: "tcp_reset",
        tells: "the header of each reset received: TTL, sequence number, window",
        ways: &[
            way("tcp_reset", Attach::Fentry("tcp_reset"), Arguments::Exactly(2), (5, 11)),
            way("tcp_reset_kp", Attach::Kprobe("tcp_reset"), Arguments::Exactly(2), (5, 11)),
        ],
        when: When::Always,
        loss: "the headers of received resets (TTL, window) are not seen",
        remedy: FUNCTIONS,
    },
    Probe {
        hook: "tcp_v4_send_reset",
        tells: "resets from closed ports and TIME_WAIT sockets, IPv4, on kernels whose tracepoint leaves them out",
        ways: &[
            way("tcp_v4_send_reset", Attach::Fentry("tcp_v4_send_reset"), Arguments::Exactly(2), (5, 5)),
            way("send_reset_kp", Attach::Kprobe("tcp_v4_send_reset"), Arguments::Exactly(2), (4, 17)),
        ],
        when: When::OnlyIf(tracepoint_leaves_out, (6, 9)),
        loss: "resets from closed ports and TIME_WAIT are not seen (IPv4)",
        remedy: "Linux 6.10 or later reports them itself; before, a kernel that lets functions be traced is needed",
    },
    Probe {
        hook: "tcp_v6_send_reset",
        tells: "the same, IPv6",
        ways: &[
            way("tcp_v6_send_reset", Attach::Fentry("tcp_v6_send_reset"), Arguments::Exactly(2), (5, 5)),
            way("send_reset_kp", Attach::Kprobe("tcp_v6_send_reset"), Arguments::Exactly(2), (4, 17)),
        ],
        when: When::OnlyIf(tracepoint_leaves_out, (6, 9)),
        loss: "resets from closed ports and TIME_WAIT are not seen (IPv6)",
        remedy: "Linux 6.10 or later reports them itself; before, a kernel that lets functions be traced is needed",
    },
    Probe {
        hook: "nf_send_reset",
        tells: "resets of the packet filter's rules, IPv4 (`reject with tcp reset`)",
        ways: &[way("nf_send_reset", Attach::Kprobe("nf_send_reset"), Arguments::Any, (5, 10))],
        when: When::Always,
        loss: "resets of the packet filter's rules are not seen (IPv4)",
        remedy: "it needs CONFIG_KPROBES, and the module nf_reject_ipv4, which the rule brings: start rsttrace after it",
    },
    Probe {
        hook: "nf_send_reset6",
        tells: "the same, IPv6",
        ways: &[way("nf_send_reset", Attach::Kprobe("nf_send_reset6"), Arguments::Any, (5, 10))],
        when: When::Always,
        loss: "resets of the packet filter's rules are not seen (IPv6)",
        remedy: "it needs CONFIG_KPROBES, and the module nf_reject_ipv6, which the rule brings: start rsttrace after it",
    },
    Probe {
        hook: "tcp_receive_reset",
        tells: "resets received",
        ways: &[way("tcp_receive_reset", Attach::BtfTracepoint("tcp_receive_reset"), Arguments::AtLeast(1), (5, 9))],
        when: When::Required,
        loss: "received resets are not seen",
        remedy: "Linux 5.9 or later has it",
    },
    Probe {
        hook: "tcp_send_reset",
        tells: "resets sent; from 6.10 on with the kernel's reason, and those from closed ports and TIME_WAIT too",
        ways: &[
            way("tcp_send_reset", Attach::BtfTracepoint("tcp_send_reset"), Arguments::AtLeast(3), (6, 10)),
            Way {
                program: "send_reset_2arg",
                attach: Attach::BtfTracepoint("tcp_send_reset"),
                arguments: Arguments::AtLeast(2),
                since: (5, 9),
                degraded: Some(
                    "this kernel gives no reasons (Linux 6.12 gives all); the cause is told from the socket's state",
                ),
            },
        ],
        when: When::Required,
        loss: "sent resets are not seen",
        remedy: "Linux 6.10 or later has all of it, 5.9 or later a part",
    },
    Probe {
        hook: "kfree_skb",
        tells: "resets that arrive and are ignored (`--ignored`)",
        ways: &[
            way("kfree_skb", Attach::RawTracepoint("kfree_skb"), Arguments::AtLeast(4), (6, 11)),
            Way {
                program: "kfree_skb_3arg",
                attach: Attach::RawTracepoint("kfree_skb"),
                arguments: Arguments::AtLeast(3),
                since: (5, 17),
                degraded: Some("this kernel does not say for which socket an ignored reset was"),
            },
            Way {
                program: "kfree_skb_2arg",
                attach: Attach::RawTracepoint("kfree_skb"),
                arguments: Arguments::AtLeast(2),
                since: (4, 15),
                degraded: Some("this kernel does not report most of the resets that TCP ignores, and gives no reasons"),
            },
        ],
        when: When::Asked(Flag::Ignored),
        loss: "ignored resets are not seen",
        remedy: "Linux 6.11 or later has all of it",
    },
    Probe {
        hook: "tc ingress",
        tells: "resets that this host only forwards (`--forwarded IFACE`)",
        ways: &[way("forwarded", Attach::Classifier, Arguments::Any, (4, 18))],
        when: When::Asked(Flag::Forwarded),
        loss: "forwarded resets are not seen",
        remedy: "it needs CAP_NET_ADMIN, and before Linux 6.6 CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF",
    },
];

/// Before 6.10 the tracepoint is only for full sockets, and has no reason.
fn tracepoint_leaves_out(kernel: &Kernel) -> bool {
    kernel.hook(Attach::BtfTracepoint("tcp_send_reset")).is_none_or(|hook| hook.arguments < 3)
}
