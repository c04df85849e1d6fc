//! End-to-end tests, run as root: real sockets, real resets, the real program.
//!
//! A scenario is one function and one row in [`registry`]; it runs in a network namespace of its own, once for each
//! kind of buffer between kernel and user space. Its processes are puppets: this program, started again, which executes
//! one command at a time (see [`puppet`]), so that no test waits by sleeping. The test is one file, which also runs in
//! a virtual machine that has nothing else.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking; the lints' own exception for tests does not reach a harness of one's own"
)]

mod agreement;
mod capture;
mod chain;
mod child;
mod confusion;
mod conntrack_client;
mod cpu;
mod delay;
mod forge;
mod hooks;
mod host;
mod lines;
mod mounts;
mod netfilter;
mod netns;
mod puppet;
mod registry;
mod reset;
mod scenarios;
mod schema;
mod score;
mod selection;
mod stage;
mod tape;
mod tracer;
mod wire;

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use libtest_mimic::Arguments;

use self::selection::Selection;

/// Scenarios that run concurrently; each spends its time waiting for other processes.
const THREADS: usize = 3;
/// Scenarios that run concurrently in a virtual machine, whose CPU is emulated and loads rsttrace's programs most of
/// the time: one runs while another waits.
const THREADS_IN_GUEST: usize = 2;

fn main() -> ExitCode {
    if env::args().nth(1).is_some_and(|argument| argument == puppet::ARGUMENT) {
        return puppet::agent::main(&env::args().nth(2).unwrap());
    }
    if env::args().nth(1).is_some_and(|argument| argument == puppet::handover::HOLDER) {
        puppet::handover::hold();
        return ExitCode::SUCCESS;
    }
    if env::args().nth(1).is_some_and(|argument| argument == conntrack_client::ARGUMENT) {
        conntrack_client::serve();
        return ExitCode::SUCCESS;
    }
    let mut arguments: Vec<String> = env::args().collect();
    let Some(selection) = Selection::take(&mut arguments) else {
        drop(writeln!(io::stderr(), "--selection needs `all`, `usual`, `kernel`, `core` or `quick`"));
        return ExitCode::FAILURE;
    };
    let mut arguments = Arguments::from_iter(arguments);
    arguments.test_threads.get_or_insert(if host::is_guest() { THREADS_IN_GUEST } else { THREADS });
    if !arguments.list && !nix::unistd::geteuid().is_root() {
        drop(writeln!(
            io::stderr(),
            "The integration tests load eBPF programs and make network namespaces: run them as root, with `cargo xtask test`."
        ));
        return ExitCode::FAILURE;
    }
    netns::remember_original();
    let conclusion = libtest_mimic::run(&arguments, registry::trials(selection));
    drop(write!(io::stdout(), "{}{}", confusion::Table, agreement::Table));
    if !arguments.list {
        drop(writeln!(io::stdout(), "{}\n", score::Score));
    }
    conclusion.exit_code()
}
