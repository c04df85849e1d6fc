//! Builds, tests and checks rsttrace: `cargo xtask <command>`.
#![expect(clippy::print_stderr, reason = "a build tool tells the person in front of it what it does")]

mod arch;
mod bench;
mod ci;
mod debian;
mod demo;
mod dist;
mod ebpf;
mod fleet;
mod fuzz;
mod generate;
mod layers;
mod lint;
mod process;
mod progress;
mod run;
mod setup;
#[path = "../../rsttrace/build/stamp.rs"]
mod stamp;
mod test;
mod test_build;
mod vm;
mod wording;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests and checks rsttrace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Args),
    Dist(dist::Args),
    Ebpf(ebpf::Args),
    Fleet(fleet::Args),
    Fuzz(fuzz::Args),
    Run(run::Args),
    Setup(setup::Args),
    Test(test::Args),
    Vm(vm::Args),
    /// Check formatting and wording, and run clippy on the user side and on each kernel object
    Lint,
    Ci(ci::Args),
    Demo(demo::Args),
    Generate(generate::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bench(args) => bench::main(&args),
        Command::Dist(args) => dist::main(&args),
        Command::Ebpf(args) => ebpf::main(&args),
        Command::Fleet(args) => fleet::main(&args),
        Command::Fuzz(args) => fuzz::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Setup(args) => setup::main(&args),
        Command::Test(args) => test::main(&args),
        Command::Vm(args) => vm::main(&args),
        Command::Lint => lint::main(),
        Command::Ci(args) => ci::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Generate(args) => generate::main(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
