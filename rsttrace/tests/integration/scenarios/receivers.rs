//! The programs of others that take records: each started for one test, with nothing of the host's own changed.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use serde_json::Value;

use crate::{
    child::Guard,
    host::{self, Lack},
    lines::PATIENCE,
};

/// Waits until something is so; nothing here announces itself.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come in time");
        thread::yield_now();
    }
}

/// Where Debian has the journal's daemon, which is in nobody's path.
const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// Whether the journal can be played.
pub(crate) fn no_journal() -> Option<Lack> {
    if !Path::new(JOURNALD).exists() {
        return Some(Lack::Missing("systemd-journald is not installed (package systemd)".to_owned()));
    }
    if !Path::new("/etc/machine-id").exists() {
        return Some(Lack::Guest("this host has no machine id, without which there is no journal".to_owned()));
    }
    host::lacks_program("journalctl")
}

/// A journal in a mount namespace of its own.
pub(crate) struct Journal {
    daemon: Guard,
}

impl Journal {
    /// Starts it and waits until it listens.
    pub(crate) fn start() -> Self {
        const SCRIPT: &str = "set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
mount -t tmpfs tmpfs /etc/systemd
printf '[Journal]\\nStorage=volatile\\nRateLimitBurst=0\\nReadKMsg=no\\nAudit=no\\nRuntimeMaxUse=2G\\n' \\
    > /etc/systemd/journald.conf
exec /lib/systemd/systemd-journald";
        let daemon = Command::new(host::program("unshare").expect("it is installed"))
            .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let journal = Self { daemon: Guard(daemon) };
        wait_until("the journal", || journal.socket().exists());
        journal
    }

    /// What it sees as `/run`.
    fn run(&self) -> PathBuf {
        format!("/proc/{}/root/run", self.daemon.id()).into()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run().join("systemd/journal/socket")
    }

    /// What it has, by `journalctl -o json`, with these matches.
    pub(crate) fn entries(&self, matches: &[&str]) -> Vec<Value> {
        let output = Command::new(host::program("journalctl").expect("it is installed"))
            .args(["--quiet", "--output", "json", "--all", "--directory"])
            .arg(self.run().join("log/journal"))
            .args(matches)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// All of ours, once the last has come.
    pub(crate) fn entries_up_to_summary(&self) -> Vec<Value> {
        wait_until("the summary in the journal", || !self.entries(&["RSTTRACE_TYPE=summary"]).is_empty());
        self.entries(&["SYSLOG_IDENTIFIER=rsttrace"])
    }
}
