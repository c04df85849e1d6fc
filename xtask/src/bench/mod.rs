//! Overhead of tracing: the same load with and without rsttrace, alternating.

mod bpf;
mod figures;
mod load;
mod report;
mod syn;
mod watcher;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CloneFlags, CpuSet, sched_getaffinity, unshare},
    unistd::Pid,
};

use self::{
    bpf::{Cost, Counting},
    figures::ratios,
    load::Load,
    watcher::{Tool, Watcher},
};
use crate::process;

/// Measure the overhead of rsttrace and of its alternatives, and write docs/overhead.md
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measure few and short rounds, without writing docs/overhead.md
    #[arg(long)]
    quick: bool,
    /// Number of rounds of each load, each without and with each program
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Measure only rsttrace
    #[arg(long)]
    alone: bool,
    /// Program to measure, instead of the one of this checkout
    #[arg(long, value_name = "FILE")]
    rsttrace: Option<PathBuf>,
}

/// Duration and number of the measurements.
#[derive(Clone, Copy)]
struct Plan {
    rounds: u16,
    slice: Duration,
}

/// Result of one load.
struct Outcome {
    load: Load,
    /// Units per second, without any program.
    without: Vec<f64>,
    /// Results with each program.
    tools: Vec<Measured>,
    /// Cost of the programs in the kernel, and the number of units that it is for.
    cost: Cost,
    counted_units: f64,
}

/// Result of one load with one program, a sample per round.
#[derive(Default)]
struct Measured {
    /// Rate of the load, relative to the rate without the program.
    ratios: Vec<f64>,
    /// Resets per second that the load has made.
    made: Vec<f64>,
    /// Share of these that was lost, where the program reports it.
    lost: Vec<f64>,
    /// CPU time of the program in seconds: for each reset that it has shown, or for each second where there are none.
    cpu: Vec<f64>,
    /// Share of the CPU time in user space.
    user: Vec<f64>,
    /// Seconds from the start until ready.
    starts: Vec<f64>,
    /// Maximum memory over all rounds, in kilobytes: with pages of files, and without.
    peak_kb: u64,
    own_kb: u64,
}

/// Runs `cargo xtask bench`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let rsttrace = match &args.rsttrace {
        Some(file) => file.clone(),
        None => process::build_rsttrace("release")?,
    };
    if !process::is_root() {
        let mut command = process::as_root(&env::current_exe()?, "CARGO_MANIFEST_DIR,PATH");
        command.args(env::args_os().skip(1)).arg("--rsttrace").arg(rsttrace);
        return process::become_it(&mut command);
    }
    let plan = Plan {
        rounds: args.rounds.unwrap_or(if args.quick { 5 } else { 31 }),
        slice: Duration::from_millis(if args.quick { 300 } else { 1000 }),
    };
    enter_namespace()?;
    let mut tools = vec![Tool::rsttrace(&rsttrace)?];
    if !args.alone {
        tools.extend(Tool::others());
    }
    let cpus = cpus()?;
    let mut results = Vec::new();
    for load in Load::ALL {
        results.push(measure(load, &tools, &cpus, plan)?);
    }
    let table = report::table(&tools, &results, plan, cpus.len(), &rsttrace)?;
    report::print(&table)?;
    if args.quick { Ok(()) } else { report::write(&table) }
}

/// Moves this process to a network namespace of its own, which has only the loopback device, and to a mount namespace
/// of its own: perf and bpftrace need tracefs, which not every host has mounted.
fn enter_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("cannot make a namespace")?;
    process::run(Command::new("mount").args(["--make-rprivate", "/"]))?;
    let tracing = Path::new("/sys/kernel/tracing");
    if !tracing.join("events").exists() {
        process::run(Command::new("mount").args(["-t", "tracefs", "tracefs"]).arg(tracing))?;
    }
    process::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    // The oldest entries must expire before their ports are needed again.
    let limit = "/proc/sys/net/ipv4/tcp_max_tw_buckets";
    fs::write(limit, "4096").with_context(|| format!("cannot write {limit}"))
}

/// CPUs that this process may use.
fn cpus() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect())
}

/// Measures one load: without, with the first program, without, with the second, without …
fn measure(load: Load, tools: &[Tool], cpus: &[usize], plan: Plan) -> Result<Outcome> {
    eprintln!("== {}", load.name());
    // Measured for rsttrace only.
    let tools = if load.arguments().is_empty() { tools } else { tools.get(..1).unwrap_or(tools) };
    // The first slice has cold caches and an empty TIME_WAIT table.
    load.run(cpus, plan.slice)?;
    let mut without = vec![load.run(cpus, plan.slice)?];
    let mut with = Vec::new();
    let mut measured: Vec<Measured> = tools.iter().map(|_| Measured::default()).collect();
    for _ in 0..plan.rounds {
        for (tool, measured) in tools.iter().zip(&mut measured) {
            with.push(watched(load, tool, measured, cpus, plan)?);
            without.push(load.run(cpus, plan.slice)?);
        }
    }
    for (ratio, index) in ratios(&without, &with).into_iter().zip((0..tools.len()).cycle()) {
        if let Some(measured) = measured.get_mut(index) {
            measured.ratios.push(ratio);
        }
    }
    let (cost, counted_units) = match tools.first() {
        Some(rsttrace) => count(load, rsttrace, cpus, plan)?,
        None => (Cost::new(), 0.0),
    };
    Ok(Outcome { load, without, tools: measured, cost, counted_units })
}

/// Rate of the load while a program traces.
fn watched(load: Load, tool: &Tool, measured: &mut Measured, cpus: &[usize], plan: Plan) -> Result<f64> {
    let watcher = tool.start(load.arguments())?;
    // The cost of the start is measured separately.
    let (before, ticks) = (settled(&watcher)?, watcher.ticks()?);
    let rate = load.run(cpus, plan.slice)?;
    let cpu = settled(&watcher)?.saturating_sub(before).as_secs_f64();
    measured.user.push(watcher.user_share(ticks)?);
    let (peak_kb, own_kb) = watcher.memory()?;
    measured.peak_kb = measured.peak_kb.max(peak_kb);
    measured.own_kb = measured.own_kb.max(own_kb);
    measured.starts.push(watcher.took.as_secs_f64());
    let seconds = plan.slice.as_secs_f64();
    let made = rate * seconds * load.resets();
    let end = watcher.stop()?;
    let mut shown = made;
    if let Some((reported, lost)) = end.counts() {
        let all = reported + lost;
        anyhow::ensure!(
            load.resets() == 0.0 || (all - made).abs() <= made * 1e-6,
            "{}: {made} resets were made, {reported} reported, {lost} lost: {}",
            load.name(),
            end.said
        );
        shown = reported;
        measured.lost.push(if all > 0.0 { lost / all } else { 0.0 });
    }
    measured.made.push(made / seconds);
    measured.cpu.push(if made > 0.0 { cpu / shown } else { cpu / seconds });
    Ok(rate)
}

/// CPU time of a program once it is idle: after its start, or when it has caught up.
fn settled(watcher: &Watcher) -> Result<Duration> {
    let mut last = watcher.cpu()?;
    loop {
        thread::sleep(Duration::from_millis(30));
        let now = watcher.cpu()?;
        if now.saturating_sub(last) < Duration::from_micros(300) {
            return Ok(now);
        }
        last = now;
    }
}

/// One more slice, in which the kernel counts the nanoseconds of rsttrace's programs.
fn count(load: Load, rsttrace: &Tool, cpus: &[usize], plan: Plan) -> Result<(Cost, f64)> {
    let watcher = rsttrace.start(load.arguments())?;
    let counting = Counting::start()?;
    let rate = load.run(cpus, plan.slice)?;
    let cost = bpf::cost(watcher.pid())?;
    drop(counting);
    watcher.stop()?;
    Ok((cost, rate * plan.slice.as_secs_f64()))
}
