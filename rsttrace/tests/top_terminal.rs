//! `rsttrace top` on a terminal: sizes, keys, signals, and the terminal as it was afterwards. Without root.
//!
//! Needs `tmux` (`cargo xtask setup`), and is skipped without it.
#![expect(clippy::expect_used, clippy::print_stderr, reason = "what fails here fails the test; a skip is told")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A recording with 218 resets, 72 of them keep-alive races.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/report-example.jsonl.zst");
/// Limit for what has to show.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Interval at which it is looked for.
const POLL: Duration = Duration::from_millis(50);

/// A terminal in tmux with a shell, ended with the value.
struct Terminal {
    socket: String,
    directory: tempfile::TempDir,
}

impl Terminal {
    /// Starts it in a directory of its own; `None`, with the reason, where there is no tmux.
    fn start(name: &str, columns: u32, rows: u32) -> Option<Self> {
        let found = Command::new("tmux").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("skipped: tmux is not installed (cargo xtask setup)");
            return None;
        }
        let socket = format!("rsttrace-{name}-{}", std::process::id());
        let terminal = Self { socket, directory: tempfile::tempdir().expect("a directory") };
        let directory = terminal.directory.path().to_str().expect("UTF-8").to_owned();
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let size = ["-x", &columns, "-y", &rows, "-c", &directory];
        terminal.tmux(
            &[
                &["-f", "/dev/null", "new-session", "-d"],
                &size[..],
                &["env -u NO_COLOR -u CLICOLOR TZ=UTC PS1='$ ' sh"],
            ]
            .concat(),
        );
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("tmux").args(["-L", &self.socket, "-u"]).args(arguments).output().expect("tmux starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Types text.
    fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key with a name of tmux.
    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Runs a command line of the shell, in which `top` is the program with its subcommand.
    fn run(&self, line: &str) {
        let program = format!("{} top --time utc", env!("CARGO_BIN_EXE_rsttrace"));
        self.type_text(&line.replace("top", &program));
        self.press("Enter");
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as wanted, and returns it.
    fn wait(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let screen = self.screen();
            if is_there(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{what} does not show:\n{screen}");
            thread::sleep(POLL);
        }
    }

    fn wait_for(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }

    /// Settings of the terminal, and whether the alternate screen and the cursor are on, as a program finds them. Waits for the
    /// shell.
    fn state(&self) -> String {
        let file = self.path("state");
        let _ignored = fs::remove_file(&file);
        self.run(&format!("stty -a > {}; mv {0} {0}.done", file.display()));
        let done = self.path("state.done");
        let deadline = Instant::now() + TIMEOUT;
        while !done.exists() {
            assert!(Instant::now() < deadline, "the shell does not answer:\n{}", self.screen());
            thread::sleep(POLL);
        }
        let settings = fs::read_to_string(&done).expect("the settings");
        fs::remove_file(&done).expect("it can be removed");
        // The size changes in tests.
        let settings: Vec<&str> = settings.lines().filter(|line| !line.contains("rows")).collect();
        format!("{settings:?} {}", self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn resize(&self, columns: u32, rows: u32) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Sends a signal to the view, by its number in a file that the shell has written.
    fn signal(&self, name: &str) {
        let number = fs::read_to_string(self.path("pid")).expect("the number");
        let status = Command::new("kill").args([&format!("-{name}"), number.trim()]).status().expect("kill starts");
        assert!(status.success(), "{name}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ignored = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).status();
    }
}

/// The line `keepalive-race …` with its total.
fn has_races(screen: &str) -> bool {
    screen.lines().any(|line| line.starts_with("keepalive-race") && line.contains(" 72 "))
}

#[test]
fn the_view_follows_the_size_and_quits() {
    let Some(terminal) = Terminal::start("size", 80, 24) else { return };
    let before = terminal.state();
    terminal.run(&format!("top {EXAMPLE}; echo status $?"));
    let narrow = terminal.wait("the causes", has_races);
    assert!(narrow.contains("RECORDING") && !narrow.contains("PROCESSES "), "{narrow}");
    terminal.resize(200, 50);
    let wide = terminal.wait_for("IDLE p50");
    assert!(has_races(&wide) && wide.contains("PROCESSES"), "{wide}");
    terminal.resize(20, 5);
    terminal.wait("a small screen", |screen| screen.starts_with("top") && !screen.contains("IDLE"));
    terminal.resize(80, 24);
    terminal.wait("the causes", |screen| has_races(screen) && screen.contains("? help"));
    terminal.press("q");
    let after = terminal.wait_for("status 0");
    // The summary follows.
    assert!(after.contains("Look first at: keepalive-race (72 times)"), "{after}");
    assert_eq!(terminal.state(), before);
}

#[test]
fn keys_open_filter_and_go_to_times() {
    let Some(terminal) = Terminal::start("keys", 120, 40) else { return };
    terminal.run(&format!("top {EXAMPLE}; echo status $?"));
    terminal.wait("the causes", has_races);
    terminal.press("Enter");
    let block = terminal.wait_for("  advice     ");
    assert!(block.contains("keepalive-race") && block.contains("  evidence   "), "{block}");
    terminal.press("Escape");
    terminal.wait("the causes", has_races);
    terminal.type_text("/fault:path");
    terminal.press("Enter");
    let narrowed = terminal.wait("the filter", |screen| screen.contains("/ fault:path") && !has_races(screen));
    assert!(narrowed.contains("idle-reset"), "{narrowed}");
    terminal.press("/");
    terminal.press("C-u");
    terminal.press("Enter");
    terminal.wait("the causes", has_races);
    // The counts are those of a replay up to that time.
    terminal.type_text("g2026-11-29T15:00:00Z");
    terminal.press("Enter");
    let moment = terminal.wait_for("UP TO HERE");
    let replayed = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
        .args(["replay", "--output", "none", "--until", "2026-11-29T15:00:00Z", EXAMPLE])
        .output()
        .expect("the program starts");
    let summary = String::from_utf8(replayed.stderr).expect("UTF-8");
    let causes = summary.split("causes").nth(1).and_then(|rest| rest.split("peers ").next()).expect("the causes");
    for cause in causes.split(',') {
        let (code, count) = cause.trim().rsplit_once(' ').expect("a count");
        let row = moment.lines().find(|line| line.starts_with(code)).expect(code);
        assert_eq!(row.split_whitespace().nth(4), Some(count), "{row}");
    }
    terminal.press("T");
    terminal.wait("a step back", |screen| screen.contains("14:59:30"));
    terminal.press("r");
    let told = terminal.wait_for("report: rsttrace-");
    let name = told.split("report: ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a name");
    let report = fs::read_to_string(terminal.path(name)).expect("the report");
    assert!(report.starts_with("<!DOCTYPE html>") && report.contains("The view showed what was before"), "{name}");
    terminal.press("C-c");
    terminal.wait_for("status 0");
}

#[test]
fn signals_and_their_terminal() {
    let Some(terminal) = Terminal::start("signals", 100, 30) else { return };
    let before = terminal.state();
    for signal in ["TERM", "INT", "HUP"] {
        let pid = terminal.path("pid").display().to_string();
        terminal.run(&format!("clear; sh -c 'echo $$ > {pid}; exec top {EXAMPLE}'; echo status $?"));
        terminal.wait("the causes", has_races);
        terminal.signal(signal);
        terminal.wait_for("status 0");
        assert_eq!(terminal.state(), before, "{signal}");
    }
}

#[test]
fn standard_input_may_be_records() {
    let Some(terminal) = Terminal::start("input", 100, 30) else { return };
    let before = terminal.state();
    terminal.run(&format!("(cat {EXAMPLE}; sleep 600) | top -; echo status $?"));
    // Keys come from the terminal, while the pipe is open.
    let screen = terminal.wait("the causes", |screen| screen.contains("INPUT"));
    assert!(!screen.contains("RECORDING"), "{screen}");
    terminal.press("4");
    terminal.wait_for("SILENCE");
    terminal.press("T");
    terminal.wait_for("times can be gone to in recordings");
    terminal.press("C-c");
    terminal.wait("the shell or its pipe", |screen| screen.contains("resets in"));
    terminal.press("C-c");
    terminal.wait_for("status");
    assert_eq!(terminal.state(), before);
    // An input without records, and one of another program.
    terminal.run("clear; printf '' | top -; echo status $?");
    terminal.wait_for("no resets");
    terminal.press("q");
    terminal.wait_for("status 0");
    terminal.run("clear; echo hello | top -; echo status $?");
    terminal.wait("the reason", |screen| screen.contains("nothing to show") && screen.contains("status 2"));
    assert_eq!(terminal.state(), before);
}

#[test]
fn colours_can_be_absent() {
    let Some(terminal) = Terminal::start("colours", 100, 30) else { return };
    let colors = || {
        let shown = terminal.tmux(&["capture-pane", "-p", "-e"]);
        // Red, green and cyan, in either form.
        ["[31m", "[32m", "[36m", "38;5;1m", "38;5;2m", "38;5;6m"].iter().filter(|color| shown.contains(**color)).count()
    };
    terminal.run(&format!("top {EXAMPLE}; echo status $?"));
    terminal.wait("the causes", has_races);
    assert!(colors() > 0, "{}", terminal.tmux(&["capture-pane", "-p", "-e"]));
    terminal.press("q");
    terminal.wait_for("status 0");
    terminal.run(&format!("clear; NO_COLOR=1 top {EXAMPLE}; echo status $?"));
    terminal.wait("the causes", has_races);
    assert_eq!(colors(), 0, "{}", terminal.tmux(&["capture-pane", "-p", "-e"]));
    terminal.press("q");
    terminal.wait_for("status 0");
}

/// The program without a terminal.
fn without_terminal(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

#[test]
fn what_makes_no_view_is_refused() {
    for (arguments, said) in [
        (&["top"][..], "standard output is none"),
        (&["top", EXAMPLE], "standard output is none"),
        (&["top", "--since", "1h"], "INPUT"),
        (&["top", "--local", "10.0.0.0/8"], "INPUT"),
        (&["top", "--duration", "5s", EXAMPLE], "cannot be used with"),
        (&["top", "--metrics", "9477", EXAMPLE], "cannot be used with"),
        (&["top", "--since", "soon", EXAMPLE], "--since 'soon'"),
        (&["top", "--cause", "no-such-cause"], "rsttrace explain"),
    ] {
        let (status, error) = without_terminal(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}
