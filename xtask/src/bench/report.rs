//! The table, for the terminal and for docs/overhead.md.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    Measured, Outcome, Plan,
    figures::{Quartiles, rounded},
    watcher::Tool,
};
use crate::{process, workspace};

/// Marks around the generated part of the document.
const BEGIN: &str = "<!-- cargo xtask bench writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// All measurements, as Markdown.
pub(super) fn table(tools: &[Tool], outcomes: &[Outcome], plan: Plan, cpus: usize, rsttrace: &Path) -> Result<String> {
    let mut text = String::new();
    conditions(&mut text, plan, cpus, rsttrace)?;
    rates(&mut text, tools, outcomes)?;
    programs(&mut text, outcomes)?;
    starts(&mut text, tools, outcomes)?;
    Ok(text)
}

fn conditions(text: &mut String, plan: Plan, cpus: usize, rsttrace: &Path) -> Result<()> {
    let date = process::text(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, model)| model);
    let version = process::text(Command::new(rsttrace).arg("--version"))?;
    let (rounds, slice) = (plan.rounds, plan.slice.as_millis());
    writeln!(
        text,
        "{version}, {date}, Linux {}, {cpus} CPUs ({model}), {rounds} rounds of {slice} ms.\n",
        kernel.trim()
    )?;
    Ok(())
}

fn rates(text: &mut String, tools: &[Tool], outcomes: &[Outcome]) -> Result<()> {
    text.push_str("| load | a second, without | with | ratio | quartiles | resets a second | lost | CPU |\n");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    for outcome in outcomes {
        let without = median(&outcome.without);
        for (tool, measured) in tools.iter().zip(&outcome.tools) {
            let ratio = Quartiles::of(&measured.ratios).context("no rounds")?;
            write!(text, "| {} | {} | {} ", outcome.load.name(), rounded(without), tool.name)?;
            write!(text, "| {:.3} | {:.3} to {:.3} ", ratio.median, ratio.low, ratio.high)?;
            writeln!(text, "| {} |", resets(measured))?;
        }
    }
    text.push('\n');
    Ok(())
}

/// Resets per second, the share that was lost, and the cost of one for the program.
fn resets(measured: &Measured) -> String {
    let made = median(&measured.made);
    let cpu = median(&measured.cpu);
    if made == 0.0 {
        return format!("none | | {:.1} ms a second", cpu * 1e3);
    }
    let lost = Quartiles::of(&measured.lost)
        .map_or_else(|| "not said".to_owned(), |lost| format!("{:.1} %", lost.median * 100.0));
    let user = cpu * median(&measured.user);
    format!("{} | {lost} | {:.2} µs a reset, {:.2} in user space", rounded(made), cpu * 1e6, user * 1e6)
}

fn programs(text: &mut String, outcomes: &[Outcome]) -> Result<()> {
    text.push_str("| load | rsttrace's program in the kernel | runs | ns a run |\n|---|---|---|---|\n");
    for outcome in outcomes {
        for ((name, _), &(time, runs)) in &outcome.cost {
            #[expect(clippy::cast_precision_loss, reason = "some seconds and millions")]
            let (time, runs) = (time as f64, runs as f64);
            let (load, unit) = (outcome.load.name(), outcome.load.unit());
            let each = runs / outcome.counted_units;
            // Other processes of the host, at the same time.
            if each < 0.01 {
                continue;
            }
            writeln!(text, "| {load} | `{name}` | {each:.2} for each {unit} | {:.0} |", time / runs)?;
        }
    }
    text.push('\n');
    Ok(())
}

fn starts(text: &mut String, tools: &[Tool], outcomes: &[Outcome]) -> Result<()> {
    text.push_str("| program | start to attached | peak memory | of it its own |\n|---|---|---|---|\n");
    for (index, tool) in tools.iter().enumerate() {
        let all: Vec<&Measured> = outcomes.iter().filter_map(|outcome| outcome.tools.get(index)).collect();
        let starts: Vec<f64> = all.iter().flat_map(|measured| measured.starts.iter().copied()).collect();
        let most = |of: fn(&Measured) -> u64| all.iter().map(|measured| of(measured)).max().unwrap_or(0).div_ceil(1024);
        let (peak, own) = (most(|measured| measured.peak_kb), most(|measured| measured.own_kb));
        writeln!(text, "| {} | {:.0} ms | {peak} MB | {own} MB |", tool.name, median(&starts) * 1e3)?;
    }
    Ok(())
}

fn median(samples: &[f64]) -> f64 {
    Quartiles::of(samples).map_or(0.0, |quartiles| quartiles.median)
}

/// Prints the report to standard output.
pub(super) fn print(table: &str) -> Result<()> {
    io::stdout().write_all(table.as_bytes()).context("cannot write to standard output")
}

/// Writes the report into docs/overhead.md.
pub(super) fn write(table: &str) -> Result<()> {
    let path = workspace::root()?.join("docs/overhead.md");
    let document = String::from_utf8(workspace::read(&path)?).context("docs/overhead.md is no text")?;
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.context("docs/overhead.md has lost the comments that the figures stand between")?;
    workspace::write(&path, format!("{before}{BEGIN}\n{table}\n{END}{after}").as_bytes())
}
