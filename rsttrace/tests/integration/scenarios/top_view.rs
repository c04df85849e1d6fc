//! `rsttrace top` of a live run, on a terminal in tmux: its numbers beside those of the summary, the report and the metrics, from
//! inside the sandbox.

use std::{fs, path::Path, process::Command};

use crate::{
    host::{self, Lack},
    puppet::Puppet,
    scenarios::receivers::{http_get, wait_until},
    stage::{CLOSED_V4, Stage},
};

/// What this host lacks.
pub(crate) fn lack() -> Option<Lack> {
    host::lacks_runtime("tmux")
}

/// A terminal in tmux, in the network namespace of the test, ended with the value.
struct Terminal(String);

impl Terminal {
    fn start(line: &str) -> Self {
        let terminal = Self(format!("rsttrace-live-{}", rand_name()));
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "160", "-y", "40", line]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.0, "-u"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ignored = Command::new("tmux").args(["-L", &self.0, "kill-server"]).status();
    }
}

/// A name for a socket that no other test has.
fn rand_name() -> String {
    format!("{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], "")
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// One live run, told by the view, the metrics, the report for the key, and the summary at the end.
pub(crate) fn numbers_are_those_of_the_summary(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let arguments = format!(
        "top --received --transport {} --netns {} --metrics 9477 --ready-fd 3 --report {}",
        stage.transport().name(),
        stage.netns,
        path("resets.md").display()
    );
    let (ready, said, ended) = (path("ready"), path("said"), path("ended"));
    let line = format!(
        "{} {arguments} 3>{} 2>{}; echo $? > {}.new; mv {3}.new {3}; exec sleep 600",
        host::rsttrace().display(),
        ready.display(),
        said.display(),
        ended.display()
    );
    let terminal = Terminal::start(&line);
    wait_until("the view", || text_of(&ready) == "\n" || ended.exists());
    assert!(!ended.exists(), "{}", text_of(&said));
    let mut client = Puppet::start("the-client");
    for _ in 0..23 {
        assert!(client.ask(format_args!("connect c {CLOSED_V4}")).is_err());
    }
    let total = |screen: &str| {
        let row = screen.lines().find(|line| line.starts_with("connection-refused"))?;
        row.split_whitespace().nth(4)?.parse::<u64>().ok()
    };
    wait_until("23 resets", || total(&terminal.screen()) == Some(23));
    let screen = terminal.screen();
    assert!(screen.contains("LIVE") && screen.contains("the-client") && screen.contains("lost 0"), "{screen}");
    let (_, metrics) = http_get("127.0.0.1:9477", "/metrics").unwrap();
    let of_metrics = metrics.lines().filter(|line| line.starts_with("rsttrace_resets_total"));
    let of_metrics: u64 = of_metrics.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert_eq!(of_metrics, 23);
    terminal.press("r");
    wait_until("the report", || terminal.screen().contains("report: "));
    let report = text_of(&path("resets.md"));
    assert!(report.contains("| all | 23 |") && report.contains("  evidence   "), "{report}");
    // Once more, in place of the first.
    assert!(client.ask(format_args!("connect c {CLOSED_V4}")).is_err());
    wait_until("24 resets", || total(&terminal.screen()) == Some(24));
    terminal.press("r");
    wait_until("the second report", || {
        let report = text_of(&path("resets.md"));
        report.contains("| all | 24 |") && report.matches("# TCP resets").count() == 1
    });
    terminal.press("5");
    wait_until("the health", || terminal.screen().contains("connection-refused 24"));
    terminal.press("q");
    wait_until("the end", || ended.exists());
    let said = text_of(&said);
    assert_eq!(text_of(&ended).trim(), "0", "{said}");
    assert!(said.contains("24 resets in") && said.contains("connection-refused 24"), "{said}");
    assert!(!said.contains("panicked") && !said.contains("degraded"), "{said}");
}
