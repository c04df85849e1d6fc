//! The kernel side of rsttrace.
//!
//! A probe is a file in `probes/`, named after the hook that it is attached to. Probes keep the history of each connection
//! (`history`), take a snapshot of the socket at a reset (`sock`, `headers`, `task`), and emit it as an event (`emit`). They
//! do not interpret it: the user side finds the cause.
//!
//! Each module owns the maps that it uses. `helpers`, `map`, `hash`, `verifier`, `kernel_struct` and `args` own none, and
//! everything else is built upon them; `probes` is on top.
#![no_std]
#![no_main]
#![expect(
    clippy::inline_always,
    reason = "a BPF program is one function: a call costs stack, of which there are 512 bytes, and hides bounds from the verifier"
)]
#![expect(
    clippy::large_stack_frames,
    reason = "an estimate before inlining; the linker refuses a program that exceeds 512 bytes"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "registers, and some fields, are wider than the values that the kernel defines for them"
)]

mod ambiguous;
mod args;
mod closed;
mod cmdline;
mod connection;
mod cursor;
mod emit;
mod filter;
mod flood;
mod hash;
mod headers;
mod helpers;
mod history;
mod holder_lookup;
mod kernel_struct;
mod log;
mod map;
mod probes;
mod recursion;
mod rst_header;
mod sock;
mod table;
mod task;
mod verifier;

/// The licence that GPL-only helpers require (`bpf_probe_read_kernel` is one).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: the verifier refuses a program that could get here.
    loop {}
}
