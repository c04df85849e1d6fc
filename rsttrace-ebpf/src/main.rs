//! The kernel side of rsttrace.
//!
//! A probe is a file in `probes/`, named after the hook that it is attached to. Probes do three things: keep the story
//! of each connection (`story`), take a snapshot of the socket at a reset (`sock`, `packet`, `task`), and hand it over
//! (`emit`). They decide nothing: what a reset means is for the user side.
#![no_std]
#![no_main]
#![expect(
    clippy::inline_always,
    reason = "a BPF program is one function: a call costs stack, of which there are 512 bytes, and hides bounds from the verifier"
)]
#![expect(
    clippy::large_stack_frames,
    reason = "an estimate before inlining; the linker refuses what really exceeds 512 bytes"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "registers, and some fields, are wider than what the kernel defines to be in them"
)]

mod ambiguous;
mod arguments;
mod awaited;
mod connection;
mod departed;
mod emit;
mod fields;
mod filter;
mod flood;
mod forget;
mod header;
mod log;
mod maps;
mod nested;
mod packet;
mod probes;
mod process;
mod sock;
mod story;
mod table;
mod task;
mod turns;

/// The kernel lends GPL-only helpers (`bpf_probe_read_kernel` is one) to programs that say this.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that could get here, so none does.
    loop {}
}
