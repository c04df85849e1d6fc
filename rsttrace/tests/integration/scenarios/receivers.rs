//! Third-party programs that receive records: each is started for one test, and the host's own are not touched.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::authority::Authority;
use crate::{
    child::Guard,
    host::{self, Lack},
    lines::{Lines, Next, TIMEOUT},
};

/// Waits until a condition holds, for programs that do not announce it.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come in time");
        thread::yield_now();
    }
}

/// Path of the journal's daemon in Debian.
const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// What this host lacks to run a journal.
pub(crate) fn no_journal() -> Option<Lack> {
    if !Path::new(JOURNALD).exists() {
        return Some(Lack::Missing("systemd-journald is not installed (package systemd)".to_owned()));
    }
    if !Path::new("/etc/machine-id").exists() {
        return Some(Lack::Guest("this host has no machine id, without which there is no journal".to_owned()));
    }
    host::lacks_program("journalctl")
}

/// What this host lacks to run every receiver.
pub(crate) fn no_receivers() -> Option<Lack> {
    no_journal().or_else(|| host::lacks_runtime("rsyslogd")).or_else(no_collector)
}

/// What this host lacks for syslog over TLS: openssl, and an rsyslog that supports it.
pub(crate) fn no_tls() -> Option<Lack> {
    if !cfg!(feature = "tls") {
        return Some(Lack::Guest("built without the feature tls".to_owned()));
    }
    let driver = fs::read_dir("/usr/lib").ok()?.flatten().any(|it| it.path().join("rsyslog/lmnsd_ossl.so").exists());
    host::lacks_runtime("rsyslogd")
        .or_else(|| host::lacks_runtime("openssl"))
        .or_else(|| (!driver).then(|| Lack::Missing("rsyslog-openssl is not installed".to_owned())))
}

/// A journal in a mount namespace of its own.
pub(crate) struct Journal {
    daemon: Guard,
}

impl Journal {
    /// Starts the journal and waits until it listens.
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

    /// Directory that the journal sees as `/run`.
    fn run(&self) -> PathBuf {
        Path::new("/proc").join(self.daemon.id().to_string()).join("root/run")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run().join("systemd/journal/socket")
    }

    /// Entries that match, by `journalctl -o json`.
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

    /// All entries of rsttrace, once the summary has arrived.
    pub(crate) fn entries_up_to_summary(&self) -> Vec<Value> {
        wait_until("the summary in the journal", || !self.entries(&["RSTTRACE_TYPE=summary"]).is_empty());
        self.entries(&["SYSLOG_IDENTIFIER=rsttrace"])
    }
}

/// rsyslog, listening at a Unix socket, by UDP and by TCP in the calling thread's namespace.
pub(crate) struct Rsyslog {
    _daemon: Guard,
    directory: TempDir,
}

impl Rsyslog {
    pub(crate) const UDP: &str = "127.0.0.1:5514";
    pub(crate) const TCP: &str = "127.0.0.1:5601";
    pub(crate) const TLS: &str = "127.0.0.1:6514";

    /// Starts rsyslog and waits until it listens.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "")
    }

    /// Starts rsyslog with TLS too, by a certificate for 127.0.0.1 of a new authority, see [`Self::authority`].
    pub(crate) fn start_with_tls() -> Self {
        let directory = Self::certificates();
        let path = directory.path().display();
        let input = format!(
            r#"input(type="imtcp" address="127.0.0.1" port="6514" streamdriver.name="ossl" streamdriver.mode="1"
    streamdriver.authmode="anon" streamdriver.cafile="{path}/ca.pem" streamdriver.certfile="{path}/cert.pem"
    streamdriver.keyfile="{path}/key.pem")"#
        );
        Self::start_in(directory, &input)
    }

    /// Starts rsyslog with TLS for clients with the authority's certificate `client`, and with its certificate `server`.
    pub(crate) fn start_for_clients(authority: &Authority) -> Self {
        let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| authority.path(name));
        let input = format!(
            r#"input(type="imtcp" address="127.0.0.1" port="6514" streamdriver.name="ossl" streamdriver.mode="1"
    streamdriver.authmode="x509/name" permittedpeer=["client"] streamdriver.cafile="{ca}" streamdriver.certfile="{cert}"
    streamdriver.keyfile="{key}")"#
        );
        Self::start_in(tempfile::tempdir().unwrap(), &input)
    }

    /// Creates an authority, and a certificate that it has signed.
    pub(crate) fn certificates() -> TempDir {
        const SCRIPT: &str = "set -e
new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=authority -days 2
openssl req $new -keyout key.pem -out request.pem -subj /CN=logs
echo subjectAltName=IP:127.0.0.1 > names
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names";
        let directory = tempfile::tempdir().unwrap();
        let output = Command::new("sh").args(["-c", SCRIPT]).current_dir(directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        directory
    }

    /// Path of the authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    fn start_in(directory: TempDir, more: &str) -> Self {
        let path = directory.path().display();
        let configuration = format!(
            r#"global(workDirectory="{path}" maxMessageSize="64k")
module(load="imuxsock" SysSock.Use="off")
module(load="imtcp")
module(load="imudp")
module(load="mmpstrucdata")
input(type="imuxsock" Socket="{path}/log" UseSpecialParser="off" ParseHostname="on" RateLimit.Interval="0")
input(type="imtcp" address="127.0.0.1" port="5601")
input(type="imudp" address="127.0.0.1" port="5514" rcvbufSize="4m")
template(name="ours" type="string" string="%inputname%\t%syslogseverity%\t%syslogfacility-text%\t%app-name%\t%msgid%\t%$!rfc5424-sd!rsttrace@32473%\t%msg%\n")
main_queue(queue.size="200000")
{more}
action(type="mmpstrucdata")
action(type="omfile" file="{path}/out" template="ours" flushOnTXEnd="on")
"#
        );
        let file = directory.path().join("rsyslog.conf");
        fs::write(&file, configuration).unwrap();
        let daemon = Command::new(host::program("rsyslogd").expect("it is installed"))
            .args(["-n", "-i", "NONE", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let rsyslog = Self { _daemon: Guard(daemon), directory };
        wait_until("rsyslog", || rsyslog.socket().exists() && TcpStream::connect(Self::TCP).is_ok());
        rsyslog
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Messages received by `imuxsock`, `imudp` or `imtcp` up to the summary, once that has arrived: severity,
    /// facility, application, identifier, structured data and text of each.
    pub(crate) fn messages(&self, input: &str) -> Vec<[String; 6]> {
        let path = self.directory.path().join("out");
        let mut text = String::new();
        let is_last = |line: &str| line.starts_with(input) && line.contains("\trsttrace\tsummary\t");
        wait_until(input, || {
            text = fs::read_to_string(&path).unwrap_or_default();
            text.ends_with('\n') && text.lines().rev().take(100).any(is_last)
        });
        let fields = text.lines().map(|line| line.splitn(7, '\t').map(str::to_owned).collect::<Vec<_>>());
        fields.filter(|fields| fields[0] == input).map(|fields| fields[1..].to_vec().try_into().unwrap()).collect()
    }
}

/// Python with the OpenTelemetry packages, where `cargo xtask setup` installs it.
pub(crate) const PYTHON_WITH_OTLP: &str = "/usr/local/lib/rsttrace-tests/python/bin/python3";

/// What this host lacks to run a collector.
pub(crate) fn no_collector() -> Option<Lack> {
    let is_there = Command::new(PYTHON_WITH_OTLP)
        .args(["-c", "import grpc, opentelemetry.proto.collector.logs.v1.logs_service_pb2"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let lack =
        |text: &str| if host::is_guest() { Lack::Guest(text.to_owned()) } else { Lack::Missing(text.to_owned()) };
    (!is_there).then(|| lack("Python's opentelemetry-proto is not installed"))
}

/// OpenTelemetry collector, made of the project's published messages and of the gRPC library.
pub(crate) struct Collector {
    _daemon: Guard,
    directory: TempDir,
}

impl Collector {
    pub(crate) const HTTP: &str = "otlp:http://127.0.0.1:4318";
    pub(crate) const GRPC: &str = "otlp:grpc://127.0.0.1:4317";

    /// Starts a collector that rejects everything for this many seconds after the first request of each protocol.
    pub(crate) fn start(refuses_s: u32) -> Self {
        const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/scenarios/collector.py");
        let directory = tempfile::tempdir().unwrap();
        let mut daemon = Command::new(PYTHON_WITH_OTLP)
            .args([SCRIPT, "4318", "4317", &refuses_s.to_string()])
            .arg(directory.path().join("out"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Lines::of(daemon.stdout.take().unwrap());
        let collector = Self { _daemon: Guard(daemon), directory };
        assert!(matches!(said.next(Instant::now() + TIMEOUT), Next::Line(_)), "the collector does not start");
        collector
    }

    /// Records received by `http` or `grpc`, once the summary has arrived.
    pub(crate) fn records(&self, way: &str) -> Vec<Value> {
        let path = self.directory.path().join("out");
        let mut text = String::new();
        let is_last = |line: &str| {
            line.contains(&format!("\"way\": \"{way}\"")) && line.contains("\"rsttrace.type\": \"summary\"")
        };
        wait_until(way, || {
            text = fs::read_to_string(&path).unwrap_or_default();
            text.ends_with('\n') && text.lines().rev().take(100).any(is_last)
        });
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|record| record["way"] == way)
            .collect()
    }
}

/// Prometheus, scraping a port of the loopback address every second.
pub(crate) struct Prometheus {
    _daemon: Guard,
    _directory: TempDir,
}

impl Prometheus {
    const ADDRESS: &str = "127.0.0.1:9090";

    /// Starts Prometheus and waits until it answers.
    pub(crate) fn start(port: u16) -> Self {
        Self::start_with(&[
            json!({"job_name": "rsttrace", "static_configs": [{"targets": [format!("127.0.0.1:{port}")]}]}),
        ])
    }

    /// Starts Prometheus with these jobs and waits until it answers.
    pub(crate) fn start_with(jobs: &[Value]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("prometheus.yml");
        // JSON is YAML.
        // With the alerts as they are installed; compiled in, since a virtual machine has no sources.
        let rules = include_str!("../../../../deploy/prometheus/rsttrace-alerts.yml");
        fs::write(directory.path().join("rules.yml"), rules).unwrap();
        let configuration = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": jobs,
        });
        fs::write(&file, configuration.to_string()).unwrap();
        let daemon = Command::new(host::program("prometheus").expect("it is installed"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={}", Self::ADDRESS))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Self { _daemon: Guard(daemon), _directory: directory };
        wait_until("Prometheus", || http_get(Self::ADDRESS, "/-/ready").is_some());
        prometheus
    }

    /// Value of a query; `None` while there is none.
    pub(crate) fn query(query: &str) -> Option<f64> {
        let encoded = query.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"));
        let (_, body) = http_get(Self::ADDRESS, &format!("/api/v1/query?query={encoded}"))?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        assert_eq!(answer["status"], "success", "{query}: {answer:#}");
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

/// Head and body of an answer with status 200.
pub(crate) fn http_get(address: &str, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| (head.to_owned(), body.to_owned()))
}

/// CPU time that each thread of a process has used, by its name.
pub(crate) fn cpu_times(pid: u32) -> Vec<(String, Duration)> {
    let times = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|thread| {
        let thread = thread.unwrap().path();
        let name = fs::read_to_string(thread.join("comm")).unwrap().trim_end().to_owned();
        let nanoseconds = fs::read_to_string(thread.join("schedstat")).unwrap();
        let nanoseconds = nanoseconds.split(' ').next().unwrap().parse().unwrap();
        (name, Duration::from_nanos(nanoseconds))
    });
    times.collect()
}
