//! The table of probes: what is attached where, and what is lost without it.

/// How a program gets into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A raw tracepoint of this name.
    RawTracepoint(&'static str),
    /// A BPF iterator of this name, walked once at start.
    Iterator(&'static str),
    /// A BPF iterator of this name, walked on demand.
    OnDemand(&'static str),
}

/// One row: a program and its hook.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The hook's own name.
    pub hook: &'static str,
    /// Where it is attached.
    pub kind: Kind,
    /// Programs for this hook, the one for the most arguments first: the first whose arguments the running kernel's
    /// hook has is the one that is loaded.
    pub programs: &'static [Variant],
    /// Without it there is nothing to trace.
    pub required: bool,
    /// What a reader of the output loses without it.
    pub loss: &'static str,
    /// What to change so that it can be had.
    pub remedy: &'static str,
}

/// A program for one shape of a hook's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Arguments that the hook must have at least.
    pub arguments: usize,
    /// What is lost with this variant, for the start line; `None` for the best one.
    pub degraded: Option<&'static str>,
}

/// The hook of the walk for the holders of sockets that were reset.
pub const LOOKUP: &str = "iter/task_file on demand";

/// Every probe, in the order in which they are attached: the story of connections first, so that no reset finds it
/// missing, and the snapshot after it, so that no socket falls between the two.
pub const PROBES: &[Probe] = &[
    Probe {
        hook: "inet_sock_set_state",
        kind: Kind::RawTracepoint("inet_sock_set_state"),
        programs: &[Variant { program: "inet_sock_set_state", arguments: 3, degraded: None }],
        required: false,
        loss: "owners are unknown, and so are ages, the times of FINs, and the state before a close",
        remedy: "Linux 4.16 or later has it",
    },
    Probe {
        hook: "iter/task_file",
        kind: Kind::Iterator("task_file"),
        programs: &[Variant { program: "task_file", arguments: 0, degraded: None }],
        required: false,
        loss: "owners of sockets that were open before the start are unknown",
        remedy: "Linux 5.8 or later has it; in a container, share the host's PID namespace",
    },
    Probe {
        hook: "tcp_destroy_sock",
        kind: Kind::RawTracepoint("tcp_destroy_sock"),
        programs: &[Variant { program: "tcp_destroy_sock", arguments: 1, degraded: None }],
        required: false,
        loss: "owners of accepted connections that end at once are less sure",
        remedy: "Linux 4.16 or later has it",
    },
    Probe {
        hook: LOOKUP,
        kind: Kind::OnDemand("task_file"),
        programs: &[Variant { program: "task_file_awaited", arguments: 0, degraded: None }],
        required: false,
        loss: "owners of accepted connections are less sure",
        remedy: "Linux 5.8 or later has it; in a container, share the host's PID namespace",
    },
    Probe {
        hook: "tcp_receive_reset",
        kind: Kind::RawTracepoint("tcp_receive_reset"),
        programs: &[Variant { program: "tcp_receive_reset", arguments: 1, degraded: None }],
        required: true,
        loss: "received resets are not seen",
        remedy: "Linux 4.16 or later has it",
    },
    Probe {
        hook: "tcp_send_reset",
        kind: Kind::RawTracepoint("tcp_send_reset"),
        programs: &[
            Variant { program: "tcp_send_reset", arguments: 3, degraded: None },
            Variant {
                program: "tcp_send_reset_without_reason",
                arguments: 2,
                degraded: Some(
                    "this kernel gives no reasons and does not report resets from closed ports and TIME_WAIT (Linux 6.10 does)",
                ),
            },
        ],
        required: true,
        loss: "sent resets are not seen",
        remedy: "Linux 6.10 or later has all of it, 4.16 or later a part",
    },
];
