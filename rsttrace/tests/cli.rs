//! The command line as far as it works without root: accepted and refused options, messages and exit statuses.
#![expect(clippy::expect_used, reason = "what fails here fails the test")]

use std::process::{Command, Stdio};

/// Runs rsttrace and returns its status, standard output and standard error.
fn rsttrace(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn invalid_options_are_refused_before_the_start() {
    for (arguments, said) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["--peer", "10.0.0.0/33"], "from 0 to 32"),
        (&["--peer", "example.org"], "names of hosts are not resolved"),
        (&["--peer", "10.0.0.300"], "not an address"),
        (&["--port", "99999"], "not a port"),
        (&["--port", "90-80"], "80-90"),
        (&["--pid", "0"], "not a process id"),
        (&["--pid", "nginx"], "--comm takes names"),
        (&["--sent", "--received"], "cannot be used with"),
        (&["-4", "-6"], "cannot be used with"),
        (&["--duration", "soon"], "30s"),
        (&["--duration", "0s"], "more than 0"),
        (&["--count", "0"], "a number from 1 on"),
        (&["--output", "xml"], "json"),
        (&["--fault", "me"], "local"),
        (&["--transport", "pigeon"], "ring"),
        (&["--buffer-size", "0"], "a size of more than 0, up to 1G"),
        (&["--buffer-size", "8X"], "is not a size"),
        (&["--cause", "no-such-cause"], "rsttrace explain"),
        (&["--cause", "connection-refuse"], "did you mean 'connection-refused'?"),
        (&["--port", "443,no-such-service"], "not a port"),
        (&["--netns", "no-such-name"], "there is no network namespace 'no-such-name'"),
        (&["--timeouts", "/no/such/file"], "cannot read /no/such/file"),
        (&["--netns", "/no/such/namespace"], "/proc/PID/ns/net"),
        (&["--netns", "12345"], "cannot be the inode number"),
        (&["--port", "0"], "no connection has port 0"),
        (&["--port", "0-80"], "no connection has port 0"),
        (&["--peer", "10.0.0.0/8,x"], "'x' is not an address"),
        (&["--pid", "1,nginx"], "'nginx' is not a process id"),
        (&["-d", "0"], "more than 0"),
        (&["--summary-interval", "0"], "more than 0"),
        (&["--netns", "/etc/hostname", "--bogus"], "--bogus"),
        (&["--netns", "/etc/passwd"], "not a network namespace"),
        (&["--netns", "/proc/self/ns/mnt"], "of another kind"),
        (&["--netns", "0"], "cannot be the inode number"),
        (&["--config", "/dev/zero"], "cannot read /dev/zero: expected a file or a pipe, not a device"),
        (&["--config", "/"], "cannot read /: expected a file or a pipe, not a directory"),
        (&["--timeouts", "/dev/zero"], "--timeouts: cannot read /dev/zero: expected a file or a pipe, not a device"),
        (&["check-config", "/dev/zero"], "not a device"),
        (&["explain", "no-such-cause"], "rsttrace explain"),
        (&["explain", "keepalve-race"], "did you mean 'keepalive-race'?"),
        (&["no-such-command"], "no-such-command"),
        (&["--sink", "pigeon"], "there is no sink 'pigeon', only json:PATH"),
        (&["--sink", "json"], "a path is missing; the form is json:PATH"),
        (&["--sink", "json:/a,rotate=much"], "'much' is not a size"),
        (&["--sink", "json:/a,rotat=100M"], "did you mean 'rotate'?"),
        (&["--sink-queue", "0"], "1 to 1048576"),
        (&["--sink", "syslog:logs.example"], "a path, or udp://, tcp:// or tls://HOST[:PORT]"),
        (&["--sink", "otlp:ftp://collector"], "a URL is missing"),
        (
            &["--sink", "otlp:https://user:hunter2@collector"],
            "invalid value 'otlp:https://…@collector' for '--sink <SPEC>'",
        ),
        (&["--sink", "otlp:https://collector,token=Bearer hunter2"], "token takes the path of a file"),
        (&["--sink", "otlp:https://collector,tokn=/t"], "did you mean 'token'?"),
        (&["--sink", "otlp:https://collector,token=/no/such/token"], "cannot read /no/such/token"),
        (&["--sink", "syslog:tls://logs,cert=/no/such/cert"], "cannot read /no/such/cert"),
        (&["--sink", "syslog:tls://logs,name=a b"], "cannot be in a certificate"),
        (&["--metrics", "9477", "--metrics-config", "/no/such/file"], "--metrics-config: cannot read /no/such/file"),
        (&["--metrics-config", "/no/such/file"], "--metrics"),
        (&["--metrics", "localhost"], "expected a port"),
        (&["--metrics-peers", "5"], "--metrics"),
        (&["--metrics", "80000"], "a port up to 65535"),
        (&["--metrics", ":9477"], "0.0.0.0:9477 is every address of IPv4"),
        (&["--metrics", "localhost:9477"], "9477 alone is on the loopback address"),
        (&["--sink", "foo:bar"], "there is no sink 'foo', only json:PATH, journald"),
        (&["--sink", "jsn:/a"], "did you mean 'json:/a'?"),
        (&["--port", "80-"], "did you mean 80-65535?"),
        (&["--port", "80:90"], "did you mean 80-90?"),
        (&["--peer", ":80"], "--peer-port 80"),
        (&["--peer", "10.0.0.1:443"], "did you mean '10.0.0.1' and --peer-port 443?"),
        (&["--peer", "[::1]:80"], "did you mean '::1' and --peer-port 80?"),
        (&["--forwarded", "no-such-if"], "there is no interface 'no-such-if'"),
        (&["--hints", "/"], "--hints: cannot read /: expected a file or a pipe, not a directory"),
        (&["check-config", "/"], "expected a file or a pipe, not a directory"),
        (&["--sent", "doctor"], "the subcommand 'doctor' cannot be used with '--sent'"),
    ] {
        let (status, out, err) = rsttrace(arguments);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
        assert!(!err.contains("panicked") && !err.contains("backtrace"), "{err}");
    }
}

/// What newcomers type has one answer, in one line.
#[test]
fn mistakes_have_a_tip() {
    for (arguments, said) in [
        (&["dr"][..], "did you mean the subcommand 'doctor'?"),
        (&["docter"], "a similar subcommand exists: 'doctor'"),
        (&["nginx"], "'--comm nginx' selects processes of this name"),
        (&["10.0.0.1"], "'--peer 10.0.0.1' selects peers"),
        (&["443"], "'--pid 443' selects a process, '--port 443' a port"),
        (&["tcp", "port", "443"], "filters are options: '--port 443'"),
        (&["--sent", "nginx"], "'--comm nginx'"),
        (&["help", "me"], "'--help' shows the options"),
        (&["keepalive-race"], "'rsttrace explain keepalive-race'"),
        (&["rsttrace.toml"], "'--config rsttrace.toml'"),
        (&["--ouput", "json"], "a similar argument exists: '--output'"),
        (&["-o", "jsn"], "a similar value exists: 'json'"),
        (&["--json"], "'--output json'"),
        (&["-v"], "'--output long'"),
        (&["--verbose"], "'--output long'"),
        (&["-i", "eth0"], "'--forwarded IFACE'"),
        (&["--interface", "eth0"], "'--forwarded IFACE'"),
        (&["-f"], "rsttrace runs until Ctrl-C"),
        (&["--follow"], "rsttrace runs until Ctrl-C"),
        (&["-w", "resets.json"], "'--sink json:PATH'"),
        (&["--dst", "10.0.0.1"], "'--peer ADDRESS'"),
        (&["--dport", "443"], "'--peer-port'"),
        (&["--timeout", "5"], "'--duration TIME'"),
        (&["--filter", "tcp"], "filters are options"),
        (&["--time", "Europe/Berlin"], "TZ=Europe/Berlin"),
        (&["--time", "utc+2"], "TZ=UTC-2"),
        (&["--benign"], "harmless resets are shown by default; '--no-benign' hides them"),
        (&["--since", "10m"], "'--duration TIME' stops it"),
        (&["-n", "10"], "did you mean '--count 10'? '-n' shows numbers"),
        (&["-n10"], "'--count 10'"),
        (&["--port", "-80"], "'--port 1-80'"),
        (&["--group-by", "port"], "'local-port' and 'peer-port'"),
        (&["--group-by", "cause,comm"], "did you mean 'process'?"),
        (&["--not-cause", "linger-zero"], "'--no-benign' hides the harmless ones"),
        (&["--not-comm", "nginx"], "'--comm' only selects"),
        (&["--cause", ""], "the value is empty"),
        (&["--fault", ""], "the value is empty"),
        (&["--comm", ""], "the value is empty"),
        (&["--netns="], "the value is empty"),
        (&["--port", "80,"], "'--port 80'"),
        (&["--port", "80,", "90"], "'--port 80,90'"),
        (&["--port", "80", "90"], "did you mean '--port 80,90'?"),
        (&["--comm", "nginx", "envoy"], "did you mean '--comm nginx,envoy'?"),
        (&["--output", "text,json"], "standard output takes one format"),
        (&["--color", "auto,never"], "'--color' takes one value"),
        (&["explain", "linger-zero", "port-closed"], "'explain' takes one CODE"),
        (&["check-config", "/a", "/b"], "'check-config' takes one FILE"),
        (&["doctor", "nginx"], "'doctor' takes only options"),
        (&["doctor", "-o", "json"], "'rsttrace doctor --json' prints JSON"),
        (&["doctor", "--jsn"], "a similar argument exists: '--json'"),
        (&["help", "doctor", "x"], "'rsttrace doctor --help'"),
        (&["tcp", "port", "80"], "filters are options: '--port 80'"),
        (&["src 10.0.0.1 and not port 22"], "'--peer 10.0.0.1 --not-port 22'"),
        (&["--filter", "host 10.0.0.1"], "'--peer 10.0.0.1'"),
        (&["--filter", "tcp[tcpflags] & tcp-rst != 0"], "filters are options, such as"),
        (&["-vv"], "'--output long'"),
        (&["--format", "json"], "'--output FORMAT' sets the format"),
    ] {
        let (status, out, err) = rsttrace(arguments);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(said) && err.matches("tip: ").count() == 1, "{arguments:?}: {err}");
    }
}

/// The usage of the whole program says nothing of a mistake in one option.
#[test]
fn a_value_with_a_hyphen_is_not_taken_for_a_count() {
    let (status, _, said) = rsttrace(&["--user", "-1"]);
    assert!(status == Some(2) && said.contains("--user") && !said.contains("--count"), "{said}");
}

#[test]
fn mistakes_show_no_usage_of_the_program() {
    for arguments in
        [&["-4", "-6"][..], &["--no-such-flag"], &["-r", "x"], &["a b"], &["--ouput"], &["--sent", "doctor"]]
    {
        let (status, _, err) = rsttrace(arguments);
        assert_eq!(status, Some(2), "{err}");
        assert!(!err.contains("Usage"), "{arguments:?}: {err}");
    }
    let (_, _, err) = rsttrace(&["check-config"]);
    assert!(err.contains("Usage: rsttrace check-config <FILE>"), "{err}");
}

#[test]
fn a_file_without_settings_is_told() {
    for text in ["", "# duration = '30s'\n"] {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("it can be written");
        let path = file.path().to_str().expect("UTF-8");
        let (status, _, err) = rsttrace(&["check-config", path]);
        assert_eq!((status, err.as_str()), (Some(0), &*format!("rsttrace: {path}: the file has no settings\n")));
        let (status, _, err) = rsttrace(&["--config", path, "--count", "0"]);
        assert!(status == Some(2) && err.contains("a number from 1 on"), "the file is no fault: {err}");
    }
}

#[test]
fn files_of_another_form_show_the_form() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "nginx = 2\n").expect("it can be written");
    let path = file.path().to_str().expect("UTF-8");
    for (option, said) in [
        ("--timeouts", "[[timeout]], owner = \"nginx\", seconds = 75"),
        ("--names", "write each entry as \"ADDRESS\" = \"NAME\""),
    ] {
        let (status, _, err) = rsttrace(&[option, path]);
        assert_eq!(status, Some(2), "{err}");
        assert!(err.contains(&format!("{path}:1:1: ")) && err.contains(said) && err.lines().count() == 1, "{err}");
    }
}

#[test]
fn every_fault_of_a_config_file_is_told() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    let text = "output = 'jsn'\ncount = 0\nmetric = 9477\ntimeouts = '/no/such/file'\nnetns = 'no-such-name'\n";
    std::fs::write(file.path(), text).expect("it can be written");
    let (status, _, err) = rsttrace(&["check-config", path]);
    assert_eq!(status, Some(2), "{err}");
    let places = ["1:10: ", "2:9: ", "3:1: ", "4:12: ", "5:9: "];
    for (line, place) in err.lines().zip(places) {
        assert!(line.starts_with(&format!("rsttrace: error: {path}:{place}")), "{err}");
    }
    assert_eq!(err.lines().count(), places.len(), "{err}");
    let (status, _, err) = rsttrace(&["--config", path]);
    assert_eq!((status, err.lines().count()), (Some(2), 3), "{err}");
}

#[test]
fn invalid_timeouts_are_refused_with_line_and_column() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[[timeout]]\nowner = 'ours'\nseconds = 'soon'\n").expect("it can be written");
    let path = file.path().to_str().expect("UTF-8");
    let (status, out, err) = rsttrace(&["--timeouts", path]);
    assert_eq!((status, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains(&format!("{path}:3:11: ")), "{err}");
}

#[test]
fn check_config_validates_a_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    std::fs::write(file.path(), "received = true\nsink = ['journald']\n").expect("it can be written");
    let (status, out, err) = rsttrace(&["check-config", path]);
    assert_eq!((status, out.as_str()), (Some(0), ""), "{err}");
    for (text, said) in [
        ("received = true\nduration = 'soon'\n", ":2:12: "),
        ("recieved = true\n", ":1:1: unknown setting 'recieved'"),
        ("sent = true\nreceived = true\n", "cannot be used with"),
        ("cause = 'no-such-cause'\n", "rsttrace explain"),
        ("timeouts = '/no/such/file'\n", "cannot read /no/such/file"),
    ] {
        std::fs::write(file.path(), text).expect("it can be written");
        let (status, out, err) = rsttrace(&["check-config", path]);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{text}: {err}");
        assert!(err.contains(said), "{text}: {err}");
    }
    let (status, _, err) = rsttrace(&["--config", "/no/such/file"]);
    assert_eq!(status, Some(2));
    assert!(err.contains("cannot read /no/such/file"), "{err}");
}

#[test]
fn check_config_reads_a_pipe() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    std::io::Write::write_all(&mut writer, b"recieved = true\n").expect("it has room");
    drop(writer);
    let output = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
        .args(["--config", "/dev/stdin"])
        .stdin(reader)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/dev/stdin:1:1: unknown setting 'recieved'"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_silent_pipe_times_out() {
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let output = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
        .args(["--timeouts", "/dev/stdin"])
        .stdin(reader)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--timeouts: cannot read /dev/stdin: no data from the pipe for 5 s"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["-h"], &["--version"], &["doctor", "--help"], &["explain", "--help"]] {
        let (status, out, err) = rsttrace(arguments);
        assert_eq!((status, err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(!out.is_empty());
    }
    for (asked, option) in [(&["help"][..], &["--help"][..]), (&["help", "replay"], &["replay", "--help"])] {
        assert_eq!(rsttrace(asked), rsttrace(option), "{asked:?}");
    }
}

#[test]
fn a_full_disk_fails_help_and_version() {
    for arguments in [&["--help"][..], &["-h"], &["--version"], &["explain", "--help"], &["explain"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it can be opened");
        let output = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
            .args(arguments)
            .stdout(full)
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with("rsttrace: error: cannot write to standard output: No space left"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn explain_lists_every_cause_and_shows_one() {
    let (status, list, _) = rsttrace(&["explain"]);
    assert_eq!(status, Some(0));
    for row in rsttrace::diagnose::catalogue::causes() {
        assert!(list.lines().any(|line| line.starts_with(row.code)), "{}", row.code);
        let (status, full, _) = rsttrace(&["explain", row.code]);
        assert_eq!(status, Some(0));
        assert!(full.contains(row.summary) && full.contains(row.advice));
    }
}

#[test]
fn explain_prints_the_catalogue_as_json() {
    let parsed = |arguments: &[&str]| {
        let (status, out, err) = rsttrace(arguments);
        assert_eq!((status, err.as_str()), (Some(0), ""), "{arguments:?}");
        serde_json::from_str::<Vec<serde_json::Value>>(&out).expect("an array")
    };
    let all = parsed(&["explain", "--json"]);
    let codes: Vec<_> = all.iter().filter_map(|cause| cause["code"].as_str()).collect();
    let expected: Vec<_> = rsttrace::diagnose::catalogue::causes().map(|row| row.code).chain(["unknown"]).collect();
    assert_eq!(codes, expected);
    for cause in &all {
        for text in ["direction", "summary", "sender", "fault", "signs", "advice"] {
            assert!(cause[text].as_str().is_some_and(|text| !text.is_empty()), "{text}: {cause}");
        }
        assert!(cause["settings"].is_array(), "{cause}");
    }
    let one = parsed(&["explain", "--json", "keepalive-race"]);
    let directions: Vec<_> = one.iter().map(|cause| cause["direction"].as_str().expect("a text")).collect();
    assert_eq!(directions, ["sent", "received"]);
    let (_, text, _) = rsttrace(&["explain", "keepalive-race"]);
    for setting in one.iter().flat_map(|cause| cause["settings"].as_array().expect("an array")) {
        assert!(text.contains(setting.as_str().expect("a text")), "{setting}");
    }
}

/// With or without root, the document has one form; without root it says what is missing.
#[test]
fn doctor_prints_a_json_document() {
    let (status, out, err) = rsttrace(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let works = report["works"].as_bool().expect("true or false");
    assert_eq!((status, err.as_str()), (Some(if works { 0 } else { 3 }), ""), "{out}");
    assert!(report["limits"].is_array(), "{out}");
    let checks = report["checks"].as_array().expect("an array");
    let statuses = ["ok", "missing", "degraded", "not_tried"];
    for check in checks {
        assert!(check["status"].as_str().is_some_and(|status| statuses.contains(&status)), "{check}");
        assert!(check["subject"].is_string() && check["found"].is_string(), "{check}");
        for text in ["probe", "loss", "remedy"] {
            assert!(check[text].is_string() || check[text].is_null(), "{check}");
        }
    }
    assert_eq!(works, checks.iter().all(|check| check["status"] != "missing"), "{out}");
    assert!(checks.iter().any(|check| check["probe"] == "tcp_receive_reset"), "{out}");
}

#[test]
fn an_exited_reader_is_no_error() {
    for argument in ["explain", "--help", "--version"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
            .arg(argument)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{argument}");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Candidates of the completions for bash, for a command line as bash splits it: at blanks, `=` and `:`.
#[test]
fn completions_know_the_values_of_options() {
    let (_, script, _) = rsttrace(&["generate", "bash"]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), script).expect("it can be written");
    for (words, offered) in [
        ("--cause keepal", "keepalive-answer keepalive-race keepalive-timeout"),
        ("--cause = keepalive-r", "keepalive-race"),
        ("--cause tls-goodbye,idle-r", "tls-goodbye,idle-reset"),
        ("--fault local,p", "local,peer local,path"),
        ("explain keepalive-r", "keepalive-race"),
        ("explain --", "--json --help"),
        ("--output l", "long"),
        ("--sent --sink jou", "journald"),
        ("--sink syslog : u", "udp://"),
        ("--sink json : /etc/passw", "/etc/passwd"),
        ("--config /etc/passw", "/etc/passwd"),
        ("check-config /etc/passw", "/etc/passwd"),
        ("--forwarded l", "lo"),
        ("--user roo", "root"),
        ("--count 1", ""),
        ("do", "doctor"),
        ("--output=js", "--output=json --output=json-flat"),
        ("--group-by cause,fault,c", "cause,fault,container"),
        ("--fault local,peer,p", "local,peer,path"),
        ("--fault = local,", "local,peer local,path local,none local,unknown"),
        ("--sink = json : /etc/passw", "/etc/passwd"),
        ("--sink json : /var/a.json,r", "/var/a.json,rotate="),
        ("--sink json : /var/a.json,rotate = 1M,k", "1M,keep="),
        ("--netns /proc/self/ns/ne", "/proc/self/ns/net"),
        ("doctor ", "--json --help"),
        ("explain --json keepalive-r", "keepalive-race"),
        ("explain keepalive-race ", "--json --help"),
        ("check-config /etc/passwd --", "--help"),
        ("doctor --output ", "--json --help"),
        ("--re", "--received --ready-fd --report"),
        ("report --format m", "markdown"),
        ("report --time u", "utc"),
        ("--de", ""),
        ("ge", ""),
    ] {
        const COMPLETE: &str = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));
            _rsttrace rsttrace "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; echo "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", COMPLETE, "bash"]).arg(file.path()).arg("rsttrace").args(words.split(' '));
        let output = bash.output().expect("bash starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(err.is_empty(), "{words}: {err}");
        let mut candidates: Vec<&str> =
            out.split_whitespace().filter(|word| !word.starts_with("/etc/passwd-")).collect();
        let mut expected: Vec<&str> = offered.split_whitespace().collect();
        candidates.sort_unstable();
        expected.sort_unstable();
        assert_eq!(candidates, expected, "{words}");
    }
}

#[test]
fn generated_files_are_not_empty() {
    for (what, holds) in [
        ("man", ".TH RSTTRACE 1"),
        ("man-doctor", ".TH RSTTRACE-DOCTOR 1"),
        ("man-explain", ".TH RSTTRACE-EXPLAIN 1"),
        ("man-report", ".TH RSTTRACE-REPORT 1"),
        ("man-check-config", ".TH RSTTRACE-CHECK-CONFIG 1"),
        ("bash", "_rsttrace"),
        ("zsh", "#compdef"),
        ("fish", "complete -c"),
        ("options", "--peer"),
        ("examples", "# nginx"),
        ("causes", "### `keepalive-race`"),
    ] {
        let (status, out, _) = rsttrace(&["generate", what]);
        assert_eq!(status, Some(0));
        assert!(out.contains(holds), "{what}");
    }
}
