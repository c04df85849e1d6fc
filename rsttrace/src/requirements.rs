//! The page of requirements: what is needed, and kernel by kernel what is seen, from the table of probes.

use std::io::{self, Write};

use crate::load::probes::{Condition, Flag, PROBES, Probe, Version};

/// The kernels that the tests run on, oldest first.
const KERNELS: [Version; 5] = [(5, 10), (6, 1), (6, 12), (6, 18), (7, 2)];

const HEAD: &str = "# Requirements

This page is made by `cargo xtask generate` from the table of probes (`rsttrace/src/load/probes.rs`).

| what | why | without it |
|---|---|---|
| Linux 5.10 or later | tracepoints, BPF ring buffer, iterators | nothing is promised; older kernels with BTF may work with `--transport perf` |
| BTF: `/sys/kernel/btf/vmlinux` (CONFIG_DEBUG_INFO_BTF=y) | the places of fields in the kernel's structs | status 3 |
| root, or CAP_BPF and CAP_PERFMON | loading programs and reading kernel memory | status 3 |
| CAP_SYS_PTRACE (root has it) | `executable` of other users' processes | those are `null` |
| CAP_NET_ADMIN (root has it) | `--forwarded` | status 3 with that flag |
| CAP_SETUID and CAP_SETGID (root has them) | `--user` | status 3 with that flag |
| before Linux 5.11: CAP_SYS_RESOURCE (root has it), or an unlimited RLIMIT_MEMLOCK | memory of maps | status 3 |
| seccomp (CONFIG_SECCOMP_FILTER), on x86-64 and 64-bit ARM | the fence around a run | a line at the start |
| the first user namespace | in another, as of a rootless container, capabilities do not count for loading programs | status 3 |
| 52 MiB of memory where a cgroup limits it, the kernel's part included | maps, and reading BTF | status 3 |
| where they are limited: 64 MiB of address space (RLIMIT_AS), 512 KiB of stack (RLIMIT_STACK), 56 open files (RLIMIT_NOFILE) | a start takes as much | status 3 |
| lockdown not in `confidentiality` mode | it forbids programs to read kernel memory | status 3 |
| cgroup v2 mounted somewhere | paths of the sockets' cgroups | `cgroup.path` is `null`; `unit` and `container` come from the owner's `/proc/PID/cgroup` |

`rsttrace doctor` checks each of them, tries every probe, and names the remedy. Not needed: tracefs, debugfs, a mounted bpf file system, kernel headers, any library.

The kernel options that matter, all of them set in the distributions' kernels: CONFIG_BPF_SYSCALL and CONFIG_DEBUG_INFO_BTF (required); CONFIG_FUNCTION_TRACER for fentry, or CONFIG_KPROBES (what they add is in the table below); CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF for `--forwarded` before 6.6.

## Kernel by kernel

How each thing is seen on a kernel of the distributions; a dash where it is not. Which way is taken is found by trying, never by the version: a kernel that refuses to have its functions traced (locked down, hardened, built without) lacks what the rows with fentry, fexit and kprobe show, and the first lines of a run say so.
";

const TAIL: &str = "
Before 6.10 the kernel gives no reasons for resets, in 6.10 and 6.11 only for those that answer a packet; the cause is told from the socket then.

The end-to-end tests run on Linux 6.18 natively, which refuses fentry and has no kprobes, and in virtual machines (`cargo xtask vm`) on Debian's 5.10, 6.1, 6.12 and 7.2, all on x86-64 and with the same binary. Other architectures have not been tried; the objects are little-endian.
";

/// Writes the page.
pub(crate) fn page(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{HEAD}")?;
    write!(out, "| what is seen |")?;
    for (major, minor) in KERNELS {
        write!(out, " {major}.{minor} |")?;
    }
    write!(out, "\n|---|{}\n", "---|".repeat(KERNELS.len()))?;
    for probe in PROBES {
        write!(out, "| {} |", probe.purpose)?;
        for kernel in KERNELS {
            write!(out, " {} |", cell(probe, kernel))?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "\n## Probe by probe\n\n| hook | ways, the best first | attached | without it | remedy |\n|---|---|---|---|---|"
    )?;
    for probe in PROBES {
        let options: Vec<String> = probe
            .options
            .iter()
            .map(|option| {
                let (major, minor) = option.since;
                let lack = option.degraded.map(|lack| format!(": {lack}")).unwrap_or_default();
                format!("{} ({major}.{minor}){lack}", option.attach.name())
            })
            .collect();
        writeln!(
            out,
            "| `{}` | {} | {} | {} | {} |",
            probe.hook,
            options.join("; "),
            attached(probe),
            probe.loss,
            probe.remedy
        )?;
    }
    out.write_all(TAIL.as_bytes())
}

fn cell(probe: &Probe, kernel: Version) -> String {
    if let Condition::IfNeeded(_, last) = probe.condition
        && kernel > last
    {
        return "(by the tracepoint)".to_owned();
    }
    match probe.options.iter().find(|option| option.since <= kernel) {
        None => "–".to_owned(),
        Some(option) if option.degraded.is_some() => format!("{}, in part", option.attach.name()),
        Some(option) => option.attach.name().to_owned(),
    }
}

fn attached(probe: &Probe) -> String {
    match probe.condition {
        Condition::Required => "always; required".to_owned(),
        Condition::Always => "always".to_owned(),
        Condition::IfNeeded(_, (major, minor)) => format!("up to {major}.{minor}"),
        Condition::OnRequest(Flag::Ignored) => "with `--ignored`".to_owned(),
        Condition::OnRequest(Flag::Forwarded) => "with `--forwarded`".to_owned(),
    }
}
