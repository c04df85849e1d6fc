//! Scenarios that a run plays, unless its arguments name some.

use crate::stage::Transport;

/// Argument that a selection's name follows.
const ARGUMENT: &str = "--selection";

/// Families of scenarios whose outcome user space decides alone, on every kernel.
const OF_USER_SPACE: [&str; 11] = [
    "bad_input",
    "conntrack_lookups",
    "deploy",
    "hostile",
    "joined_hosts",
    "name_service",
    "own_words",
    "programs",
    "sinks",
    "summary",
    "top_view",
];
/// Families about what passes through the buffers between the kernel and user space; the others differ in nothing there.
const OF_TRANSPORTS: [&str; 6] = ["aborts", "exactly_once", "flood", "lost", "machine", "mixed"];
/// Families that show on a kernel that everything there is attached and read rightly: each kind of reset, of socket and of
/// owner, each probe, each address family.
const CORE: [&str; 25] = [
    "aborts",
    "after_close",
    "cross_check",
    "destroy",
    "exactly_once",
    "forwarded",
    "functions",
    "handed_over",
    "ignored",
    "injected",
    "keepalive",
    "limits",
    "listener",
    "machine",
    "mapped",
    "mixed",
    "namespaces",
    "owners",
    "privileges",
    "refused",
    "rejected",
    "reuse",
    "snapshot",
    "timers",
    "translated",
];
/// Families that start many services, or wait for timers of the kernel and of other programs.
const SLOW: [&str; 5] = ["deploy", "endings", "faults", "real_programs", "sinks"];

/// Families that a list here names.
pub(crate) fn named_families() -> impl Iterator<Item = &'static str> {
    [&OF_USER_SPACE[..], &OF_TRANSPORTS, &CORE, &SLOW].into_iter().flatten().copied()
}

/// Which scenarios are played.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Every scenario through each kind of buffer.
    All,
    /// Every scenario through the BPF ring buffer, and through the perf ring buffer those of the tests' own processes.
    Usual,
    /// Those that a kernel decides: through the BPF ring buffer, and what depends on the buffer also through the other.
    Kernel,
    /// The part of these that shows that everything is attached and read rightly.
    Core,
    /// Those that take a moment, through the BPF ring buffer.
    Quick,
}

impl Selection {
    /// Takes `--selection NAME` out of the arguments; everything without it. `None` for an unknown name.
    pub(crate) fn take(arguments: &mut Vec<String>) -> Option<Self> {
        let Some(at) = arguments.iter().position(|argument| argument == ARGUMENT) else { return Some(Self::All) };
        let taken: Vec<String> = arguments.drain(at..arguments.len().min(at + 2)).collect();
        match taken.get(1).map(String::as_str) {
            Some("all") => Some(Self::All),
            Some("usual") => Some(Self::Usual),
            Some("kernel") => Some(Self::Kernel),
            Some("core") => Some(Self::Core),
            Some("quick") => Some(Self::Quick),
            _ => None,
        }
    }

    /// Whether a scenario is played through this kind of buffer.
    pub(crate) fn has(self, transport: Transport, scenario: &str) -> bool {
        let family = scenario.split("::").next().unwrap_or_default();
        match self {
            Self::All => true,
            Self::Usual => {
                transport == Transport::Ring || family != "real_programs" && !OF_USER_SPACE.contains(&family)
            }
            Self::Kernel if transport == Transport::Perf => OF_TRANSPORTS.contains(&family),
            Self::Kernel => !OF_USER_SPACE.contains(&family),
            Self::Core => CORE.contains(&family) && (transport == Transport::Ring || OF_TRANSPORTS.contains(&family)),
            Self::Quick => transport == Transport::Ring && !SLOW.contains(&family),
        }
    }
}
