//! End to end, as root: real sockets, real resets, the real program.
//!
//! A scenario is one function and one row in [`registry`]; it runs in a network namespace of its own, once for each
//! way in which the kernel can hand events over. Its actors are puppets: this very program, started again, obeying
//! one command at a time (see [`puppet`]), so that nothing here ever waits for time to pass. The test is one file and
//! runs in a virtual machine that has nothing else.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking; the lints' own exception for tests does not reach a harness of one's own"
)]

mod capture;
mod chain;
mod child;
mod confusion;
mod cpu;
mod forge;
mod hooks;
mod host;
mod lines;
mod mounts;
mod netns;
mod puppet;
mod registry;
mod reset;
mod scenarios;
mod schema;
mod score;
mod stage;
mod tracer;

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use libtest_mimic::Arguments;

/// Scenarios at once. Each spends its time waiting for other processes.
const THREADS: usize = 4;
/// The same where a processor is emulated, and most of the time goes into loading rsttrace's programs: just enough that
/// one plays while another waits.
const THREADS_IN_GUEST: usize = 2;

fn main() -> ExitCode {
    if env::args().nth(1).is_some_and(|argument| argument == puppet::ARGUMENT) {
        return puppet::agent::main(&env::args().nth(2).unwrap());
    }
    if env::args().nth(1).is_some_and(|argument| argument == puppet::hands::HOLDER) {
        puppet::hands::hold();
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(if host::is_guest() { THREADS_IN_GUEST } else { THREADS });
    if !arguments.list && !nix::unistd::geteuid().is_root() {
        drop(writeln!(
            io::stderr(),
            "The integration tests load eBPF programs and make network namespaces: run them as root, with `cargo xtask test`."
        ));
        return ExitCode::FAILURE;
    }
    netns::remember_original();
    let conclusion = libtest_mimic::run(&arguments, registry::trials());
    drop(write!(io::stdout(), "{}", confusion::Table));
    if !arguments.list {
        drop(writeln!(io::stdout(), "{}\n", score::Score));
    }
    conclusion.exit_code()
}
