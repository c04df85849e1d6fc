//! The static program in a root that has nothing else: it traces, finds hosts, switches to a user, and checks certificates.

use std::{
    fs,
    io::Read as _,
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, unshare};

use super::{
    Root,
    name_server::{self, HOST},
};
use crate::process;

/// Port of the collector, syslog over TLS.
const PORT: &str = "6514";
/// User and group that the program switches to. No file of the root names them.
const USER: &str = "65534:65534";
/// Authorities, where Debian, Alpine and others have them, and where RHEL has them.
const AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
/// Cause of the record that the collector waits for.
const CAUSE: &str = "port-closed";
/// Longest wait for a record at the collector, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the trial. Name server and collector are this program's.
pub(super) fn run(root: &Root) -> Result<()> {
    in_namespaces(root, alone)
}

/// Runs a trial in a network namespace of its own, with the kernel's files in the root. The namespaces are those of a thread, and
/// end with it and its processes.
pub(super) fn in_namespaces(root: &Root, trial: impl FnOnce(&Root) -> Result<()> + Send + 'static) -> Result<()> {
    let root = root.clone();
    let thread = thread::spawn(move || set_up(&root).and_then(|()| trial(&root)));
    thread.join().map_err(|_panic| anyhow!("the trial has panicked"))?
}

fn set_up(root: &Root) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("cannot make namespaces")?;
    process::output(Command::new("mount").args(["--make-rprivate", "/"]))?;
    for directory in ["/proc", "/sys"] {
        process::output(Command::new("mount").args(["--rbind", directory]).arg(root.path(directory)))?;
    }
    process::output(Command::new("ip").args(["link", "set", "lo", "up"])).map(drop)
}

fn alone(root: &Root) -> Result<()> {
    name_server::start()?;
    let said = root.run("/rsttrace", &["--version"])?;
    ensure!(said.ends_with("static"), "the program says: {said}");
    root.run("/rsttrace", &["doctor"]).context("doctor")?;
    let refused = Trace::start(root, &["--sink", &sink(HOST)])?.end()?;
    ensure!(refused.contains("no certificates to trust"), "without authorities the program says: {refused}");

    let collector = Collector::start(root.0.parent().context("a root has a parent")?)?;
    for authorities in AUTHORITIES {
        root.write(authorities, &collector.authority)?;
        let trace = Trace::start(root, &["--user", USER, "--sink", &sink(HOST)])?;
        make_reset();
        let received = collector.next_record().with_context(|| format!("with the authorities in {authorities}"));
        // The collector has the record after the switch, which follows the attachment of the probes.
        let user = trace.user()?;
        let said = trace.end()?;
        ensure!(user == USER, "the program runs as {user} and says: {said}");
        received.with_context(|| format!("the program says: {said}"))?;
        fs::remove_file(root.path(authorities)).context("cannot remove the authorities")?;
    }
    Ok(())
}

fn sink(host: &str) -> String {
    format!("syslog:tls://{host}:{PORT}")
}

/// Has the kernel send a reset: port 9 is closed.
fn make_reset() {
    drop(TcpStream::connect("127.0.0.1:9"));
}

/// The program, started in the root.
struct Trace {
    child: Child,
    /// Whether it traces; otherwise it is about to end.
    is_ready: bool,
}

impl Trace {
    /// Starts the program and waits until it traces, or has given up.
    fn start(root: &Root, arguments: &[&str]) -> Result<Self> {
        let mut command = root.command("/rsttrace");
        command.args(["--output", "none", "--duration", "20s", "--ready-fd", "1"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let is_ready = child.stdout.as_mut().context("no output")?.read(&mut [0])? == 1;
        Ok(Self { child, is_ready })
    }

    /// Effective user and group, as `UID:GID`.
    fn user(&self) -> Result<String> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).context("the program has ended")?;
        let second = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
        };
        Ok(format!("{}:{}", second("Uid:"), second("Gid:")))
    }

    /// Ends the program and returns what it has said.
    fn end(mut self) -> Result<String> {
        if self.is_ready {
            process::output(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        }
        let mut said = String::new();
        self.child.stderr.take().context("no messages")?.read_to_string(&mut said)?;
        self.child.wait().context("cannot wait for the program")?;
        Ok(said)
    }
}

/// Server of TLS that prints what it receives.
struct Collector {
    server: Child,
    /// Certificate of the authority that has signed the server's.
    authority: String,
    received: mpsc::Receiver<String>,
}

impl Collector {
    fn start(directory: &Path) -> Result<Self> {
        let file = |name: &str| directory.join(name).display().to_string();
        let (authority, key, certificate) = (file("ca.pem"), file("key.pem"), file("certificate.pem"));
        let openssl = |line: &str| process::output(Command::new("openssl").args(line.split_whitespace()));
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        openssl(&format!("{new} -subj /CN=authority -keyout {authority}.key -out {authority}"))?;
        let name = format!("-subj /CN={HOST} -addext subjectAltName=DNS:{HOST} -addext basicConstraints=CA:FALSE");
        openssl(&format!("{new} {name} -CA {authority} -CAkey {authority}.key -keyout {key} -out {certificate}"))?;
        let mut server = Command::new("openssl");
        server.args(["s_server", "-quiet", "-accept", PORT, "-key", &key, "-cert", &certificate]);
        // It ends a connection at the end of its standard input, which is open as long as the child is not dropped.
        let mut server = server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let received = parts(server.stdout.take().context("no output")?);
        let authority = fs::read_to_string(&authority).context("openssl has written no certificate")?;
        Ok(Self { server, authority, received })
    }

    /// What has been received up to a record of a closed port.
    fn next_record(&self) -> Result<String> {
        let mut received = String::new();
        while !received.contains(CAUSE) {
            match self.received.recv_timeout(PATIENCE) {
                Ok(part) => received.push_str(&part),
                Err(_) => bail!("the collector has received no record within {} s: {received}", PATIENCE.as_secs()),
            }
        }
        Ok(received)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Errors mean that it has already ended.
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// Content of a pipe, read by a thread of its own, so that the caller can wait for it with a deadline. Records of syslog over
/// TLS have no ends of lines.
fn parts(mut pipe: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            let part = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            if sender.send(part).is_err() {
                break;
            }
        }
    });
    receiver
}

/// In a root with another version of the C library: its modules for names are not loaded into the static program.
pub(super) fn ignores_name_service_modules(root: &Root) -> Result<()> {
    in_namespaces(root, with_modules)
}

fn with_modules(root: &Root) -> Result<()> {
    root.write("/etc/nsswitch.conf", "passwd: systemd files\ngroup: systemd files\nhosts: myhostname files dns\n")?;
    root.write("/etc/hosts", "127.0.0.1 localhost collector.example\n")?;
    let lookup =
        ["--duration", "1ms", "--output", "none", "--user", "daemon", "--sink", "syslog:tcp://collector.example:9"];
    let traced = root.command("rsttrace").args(lookup).stdin(Stdio::null()).output()?;
    ensure!(traced.status.success(), "{}: {}", traced.status, String::from_utf8_lossy(&traced.stderr));
    Ok(())
}
