//! Where records go beside standard output.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    host, mounts, netns,
    puppet::Puppet,
    scenarios::{
        deploy,
        receivers::{Collector, Journal, Prometheus, Rsyslog, cpu_times, http_get, wait_until},
    },
    schema,
    stage::{NOBODY_V4, Pair, Stage, V4},
    tracer::Tracer,
};

/// What a run of `--output json` would have written, read from a file.
fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "the last line of {} is torn", path.display());
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    records.iter().for_each(schema::check);
    records
}

fn resets(records: &[Value]) -> u64 {
    records.iter().filter(|line| line["type"] == "reset").map(|line| line["count"].as_u64().unwrap()).sum()
}

/// What the summary of these records says of a sink.
#[track_caller]
fn sink<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let sinks = summary["sinks"].as_array().unwrap();
    sinks.iter().find(|sink| sink["sink"] == name).unwrap_or_else(|| panic!("{name} is not in {summary:#}"))
}

/// A file that grows.
struct Tail {
    file: File,
    lines: u64,
}

impl Tail {
    /// Lines that are in it by now.
    fn lines(&mut self) -> u64 {
        let mut more = Vec::new();
        self.file.read_to_end(&mut more).unwrap();
        self.lines += more.split(|&byte| byte == b'\n').skip(1).count() as u64;
        self.lines
    }
}

/// Refused connections, so many, and what they make.
fn refuse(tracer: &mut Tracer, connections: u64) {
    let mut client = Puppet::start("the-client");
    for _ in 0..connections {
        assert!(client.ask(format_args!("connect c {NOBODY_V4}")).is_err());
    }
    tracer.expect(connections);
}

/// A file has every record that standard output has, and the same.
pub(crate) fn json_file(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let spec = format!("json:{}", path.display());
    for run in 1..=2 {
        let mut tracer = stage.trace_with(&["--received", "--sink", &spec]);
        refuse(&mut tracer, 23);
        let run_said = tracer.finish();
        let records = records(&path);
        assert_eq!(resets(&records), 23 * run, "it appends");
        let from_stdout = run_said.resets.iter().map(|reset| &reset.0);
        let from_file =
            records.iter().filter(|line| line["type"] == "reset").skip(23 * (usize::try_from(run).unwrap() - 1));
        assert!(from_stdout.eq(from_file), "standard output and the file differ");
        let summary = run_said.summaries.last().unwrap();
        for name in ["stdout", &spec] {
            assert_eq!(sink(summary, name)["undelivered"], 0);
        }
        assert_eq!(records.last(), Some(summary), "the summary is in the file too");
    }
}

/// Whoever turns log files moves ours away and sends SIGHUP: from then on lines go to a new one, and none is lost.
pub(crate) fn json_file_is_moved_away(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("records"), directory.path().join("records.1"));
    let mut tracer = stage.trace_with(&["--received", "--sink", &format!("json:{}", path.display())]);
    refuse(&mut tracer, 7);
    fs::rename(&path, &moved).unwrap();
    tracer.signal(Signal::SIGHUP);
    // The new file is the answer to the signal.
    wait_until("a new file", || path.exists());
    refuse(&mut tracer, 16 + 7);
    tracer.finish();
    assert_eq!((resets(&records(&moved)), resets(&records(&path))), (7, 16 + 7));
}

/// The file is removed, and nothing is sent: what comes afterwards is in a new one.
pub(crate) fn json_file_is_removed(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let mut tracer = stage.trace_with(&["--received", "--sink", &format!("json:{}", path.display())]);
    refuse(&mut tracer, 7);
    wait_until("the records in the file", || lines(&path) == 7);
    fs::remove_file(&path).unwrap();
    refuse(&mut tracer, 16);
    tracer.expect(7 + 16);
    let run = tracer.finish();
    assert!(run.stderr.contains("the file was removed, a new one is begun"), "{}", run.stderr);
    assert_eq!(resets(&records(&path)), 16);
}

/// Whole lines in a file.
fn lines(path: &Path) -> usize {
    fs::read(path).unwrap().split(|&byte| byte == b'\n').count() - 1
}

/// logrotate's `copytruncate`, and then no room: what is written in part is taken out again, and nothing else is put in.
pub(crate) fn json_file_is_truncated_and_the_disk_full(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    mounts::leave().unwrap();
    mounts::mount("tmpfs", directory.path().to_str().unwrap(), "size=512k").unwrap();
    let path = directory.path().join("records");
    let mut tracer = stage.trace_with(&["--received", "--sink", &format!("json:{}", path.display())]);
    refuse(&mut tracer, 53);
    wait_until("the records in the file", || lines(&path) == 53);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let rest = directory.path().join("rest");
    let mut filler = File::create(&rest).unwrap();
    assert_eq!(io::copy(&mut io::repeat(0), &mut filler).unwrap_err().kind(), io::ErrorKind::StorageFull);
    // Room for some records and a part of one.
    filler.set_len(filler.metadata().unwrap().len() - 8192).unwrap();
    refuse(&mut tracer, 23);
    tracer.expect(53 + 23);
    tracer.expect_said("No space left on device");
    assert!(fs::read(&path).unwrap().last().is_none_or(|&byte| byte == b'\n'), "a part of a line is left");
    fs::remove_file(rest).unwrap();
    drop(filler);
    tracer.expect_said("delivers again; 0 records were not delivered");
    tracer.finish();
    let numbers: Vec<u64> = records(&path).iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(53 + 1..=53 + 23), "{numbers:?}");
}

/// Allows a process (0: this one) files of so many bytes, and to allow itself larger ones again.
fn limit_file_size(pid: u32, bytes: u64) -> io::Result<()> {
    let most = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure lives through the call, and nothing is returned.
    let result = unsafe { libc::prlimit(pid.cast_signed(), libc::RLIMIT_FSIZE, &raw const most, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The limit of a file's size is like a full disk: it is said, and when it is raised, the records are in the file.
pub(crate) fn json_file_meets_its_size_limit(stage: &Stage) {
    const LIMIT: u64 = 64 << 10;
    const CONNECTIONS: u64 = 101;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let (spec, netns) = (format!("json:{}", path.display()), stage.netns.to_string());
    let mut command = Command::new(host::rsttrace());
    command.args(stage.arguments()).args(["--received", "--netns", &netns, "--sink", &spec]);
    let limit = || limit_file_size(0, LIMIT);
    let mut tracer = Tracer::start_command(netns::original(), command, Stdio::piped(), limit);
    refuse(&mut tracer, CONNECTIONS);
    tracer.expect_said(&format!("sink {spec}: cannot write to {}: File too large", path.display()));
    assert!(fs::metadata(&path).unwrap().len() <= LIMIT);
    limit_file_size(tracer.pid(), libc::RLIM_INFINITY).unwrap();
    tracer.expect_said("delivers again; 0 records were not delivered");
    tracer.finish();
    assert!(fs::metadata(&path).unwrap().len() > LIMIT);
    let numbers: Vec<u64> = records(&path).iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(1..=CONNECTIONS), "{numbers:?}");
}

/// The start writes no file, whatever it does with the kernel's types.
pub(crate) fn start_within_a_file_size_limit(stage: &Stage) {
    let netns = stage.netns.to_string();
    for limit in [0, 97 << 10] {
        let mut command = Command::new(host::rsttrace());
        command.args(stage.arguments()).args(["--netns", &netns, "--duration", "1ms"]).stdin(Stdio::null());
        // SAFETY: one system call with a structure that lives through it.
        unsafe { command.pre_exec(move || limit_file_size(0, limit)) };
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.contains("0 resets in"), "{limit}: {}, {stderr}", output.status);
    }
}

/// A full disk, a reader of standard output that takes nothing: the third way out has everything.
pub(crate) fn one_that_fails_harms_no_other(stage: &Stage) {
    const BURST: u64 = 200;
    const CONNECTIONS: u64 = 10 * BURST;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let (_reader, writer) = io::pipe().unwrap();
    let (spec, netns) = (format!("json:{}", path.display()), stage.netns.to_string());
    let arguments = ["--netns", &netns, "--sink", "json:/dev/full", "--sink", &spec, "--sink-queue", "1000"];
    let tracer = Tracer::start_writing_to(&[&stage.arguments()[..], &arguments].concat(), writer.into());
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let server_end = server.listen("l", V4, 4096);
    let mut tail = Tail { file: File::open(&path).unwrap(), lines: 0 };
    for burst in 1..=CONNECTIONS / BURST {
        client.tell(format_args!("burst {server_end} {BURST}"));
        // Before the next one, so that only those miss something that stand still.
        wait_until("the records of a burst", || tail.lines() >= 2 * BURST * burst);
    }
    tracer.signal(Signal::SIGINT);
    let (status, stderr) = tracer.status();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("sink json:/dev/full: cannot write to /dev/full: No space left on device"), "{stderr}");
    assert!(stderr.contains("records are missing: it is not read"), "{stderr}");
    let records = records(&path);
    assert_eq!(resets(&records), 2 * CONNECTIONS, "{stderr}");
    let summary = records.last().unwrap();
    let full = sink(summary, "json:/dev/full");
    assert_eq!(full["delivered"], 0);
    assert_eq!(full["undelivered"].as_u64().unwrap() + full["waiting"].as_u64().unwrap(), 2 * CONNECTIONS);
    assert_eq!(sink(summary, &spec)["undelivered"], 0);
    assert!(sink(summary, "stdout")["undelivered"].as_u64() > Some(0), "{summary:#}");
}

/// The host's journal, or one like it: each record is an entry with its fields, and the journal adds what it knows of
/// the owner.
pub(crate) fn journal(stage: &Stage) {
    let journal = Journal::start();
    let mut tracer = stage.trace_with(&["--sink", &format!("journald:{}", journal.socket().display())]);
    let mut pair = Pair::open(V4);
    pair.leave_unread("c", "s", 5);
    pair.server.tell("close s");
    pair.client.wait_error("c", "ECONNRESET");
    tracer.expect(2);
    let run = tracer.finish();
    let entries = journal.entries_up_to_summary();
    let resets: Vec<&Value> = entries.iter().filter(|entry| entry["RSTTRACE_TYPE"] == "reset").collect();
    assert_eq!(resets.len(), 2);
    let sent = *resets.iter().find(|entry| entry["RSTTRACE_DIRECTION"] == "sent").unwrap();
    let record = run.the_sent();
    let text = |pointer: &str| {
        let value = record.0.pointer(pointer).unwrap();
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    };
    for (field, pointer) in [
        ("RSTTRACE_CAUSE", "/cause/code"),
        ("RSTTRACE_FAULT", "/cause/fault"),
        ("RSTTRACE_PEER", "/peer/address"),
        ("RSTTRACE_PEER_PORT", "/peer/port"),
        ("RSTTRACE_LOCAL_PORT", "/local/port"),
        ("RSTTRACE_STATE", "/socket/state"),
        ("RSTTRACE_UNREAD_BYTES", "/socket/unread_bytes"),
        ("RSTTRACE_AGE_MS", "/socket/age_ms"),
        ("RSTTRACE_SUMMARY", "/cause/summary"),
        ("RSTTRACE_TIME", "/time"),
        ("RSTTRACE_PROCESS", "/process/comm"),
        ("OBJECT_PID", "/process/pid"),
    ] {
        assert_eq!(sent[field], text(pointer), "{field} in {sent:#}");
    }
    assert_eq!((&sent["PRIORITY"], &sent["SYSLOG_IDENTIFIER"]), (&"4".into(), &"rsttrace".into()));
    assert_eq!(sent["OBJECT_COMM"], pair.server.comm(), "the journal adds what it knows of the owner");
    let message = sent["MESSAGE"].as_str().unwrap();
    assert!(
        message.starts_with("SENT 127.0.0.1:") && message.contains("closed-with-unread-data unread 5"),
        "{message}"
    );
}

/// rsyslog, by all three ways: it understands every message and its structured data.
pub(crate) fn syslog(stage: &Stage) {
    let rsyslog = Rsyslog::start();
    let (socket, udp, tcp) = (
        format!("syslog:{}", rsyslog.socket().display()),
        format!("syslog:udp://{}", Rsyslog::UDP),
        format!("syslog:tcp://{}", Rsyslog::TCP),
    );
    let mut tracer = stage.trace_here(&["--comm", "the-client", "--sink", &socket, "--sink", &udp, "--sink", &tcp]);
    refuse(&mut tracer, 23);
    let run = tracer.finish();
    for (input, name) in [("imuxsock", &socket), ("imudp", &udp), ("imtcp", &tcp)] {
        let messages = rsyslog.messages(input);
        let resets: Vec<_> = messages.iter().filter(|message| message[3] == "reset").collect();
        assert_eq!(resets.len(), 23, "by {input}");
        for ([severity, facility, application, _, data, text], reset) in resets.iter().zip(&run.resets) {
            assert_eq!((severity.as_str(), facility.as_str(), application.as_str()), ("4", "daemon", "rsttrace"));
            let data: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data}"));
            let number = |name: &str| data[name].as_str().unwrap().parse::<u64>().unwrap();
            assert_eq!(data["cause"], reset.0["cause"]["code"]);
            assert_eq!(data["advice"], reset.0["cause"]["advice"]);
            assert_eq!(number("seq"), reset.0["seq"]);
            assert_eq!(number("local_port"), reset.0["local"]["port"]);
            assert_eq!(number("pid"), reset.0["process"]["pid"]);
            assert!(text.contains("RECV 127.0.0.1:") && text.contains("connection-refused"), "{text}");
        }
        assert_eq!(sink(run.summaries.last().unwrap(), name)["undelivered"], 0);
    }
}

/// A syslog daemon that is not there yet gets everything when it comes, and each record once.
pub(crate) fn syslog_comes_late(stage: &Stage) {
    let tcp = format!("syslog:tcp://{}", Rsyslog::TCP);
    let mut tracer = stage.trace_here(&["--comm", "the-client", "--sink", &tcp]);
    refuse(&mut tracer, 23);
    tracer.expect_said(&format!("sink {tcp}: cannot reach {}", Rsyslog::TCP));
    let rsyslog = Rsyslog::start();
    let run = tracer.finish();
    assert!(run.stderr.contains(&format!("sink {tcp}: delivers again; 0 records")), "{}", run.stderr);
    assert_eq!(rsyslog.messages("imtcp").iter().filter(|message| message[3] == "reset").count(), 23);
}

/// In TLS, to whom has the right certificate, and to nobody else.
pub(crate) fn syslog_tls(stage: &Stage) {
    let rsyslog = Rsyslog::start_with_tls();
    let spec = format!("syslog:tls://{}", Rsyslog::TLS);
    let arguments = ["--comm", "the-client", "--sink", &spec];
    let authority = rsyslog.authority();
    let mut tracer = stage.trace_here_with(&arguments, &[("SSL_CERT_FILE", &authority)]);
    refuse(&mut tracer, 23);
    let run = tracer.finish();
    assert_eq!(sink(run.summaries.last().unwrap(), &spec)["undelivered"], 0);
    assert_eq!(rsyslog.messages("imtcp").iter().filter(|message| message[3] == "reset").count(), 23, "{}", run.stderr);

    // Another's certificate of authority.
    let other = Rsyslog::certificates();
    let mut tracer = stage.trace_here_with(&arguments, &[("SSL_CERT_FILE", &other.path().join("ca.pem"))]);
    refuse(&mut tracer, 7);
    let run = tracer.finish();
    assert!(run.stderr.contains("cannot speak TLS with 127.0.0.1:6514: invalid peer certificate"), "{}", run.stderr);
    let count = sink(run.summaries.last().unwrap(), &spec);
    assert_eq!((&count["delivered"], &count["waiting"]), (&0.into(), &7.into()));
}

/// Prometheus scrapes, and answers a query with the right count.
pub(crate) fn metrics(stage: &Stage) {
    let spec =
        ["--received", "--comm", "the-client", "--metrics", "9477", "--metrics-peers", "1", "--sink", "json:/dev/null"];
    let mut tracer = stage.trace_here(&spec);
    let _prometheus = Prometheus::start(9477);
    refuse(&mut tracer, 23);
    // Another peer, which no longer has a series of its own.
    let mut client = Puppet::start("the-client");
    for _ in 0..7 {
        assert!(client.ask("connect c 127.0.0.2:9").is_err());
    }
    tracer.expect(30);
    let all = "sum(rsttrace_resets_total{cause=\"connection-refused\",process=\"the-client\",direction=\"received\"})";
    wait_until("thirty resets in Prometheus", || Prometheus::query(all) == Some(30.0));
    for (query, value) in [
        ("sum(rsttrace_peer_resets_total{peer=\"127.0.0.1\"})", 23.0),
        ("sum(rsttrace_peer_resets_total{peer=\"other\"})", 7.0),
        ("sum(rsttrace_reset_age_seconds_count)", 30.0),
        ("sum(rsttrace_lost_total)", 0.0),
        ("up{job=\"rsttrace\"}", 1.0),
    ] {
        assert_eq!(Prometheus::query(query), Some(value), "{query}");
    }
    // Whoever waited for Prometheus to come was refused as well.
    assert!(Prometheus::query("rsttrace_host_counter_delta_total{counter=\"TcpAttemptFails\"}") >= Some(30.0));
    assert!(Prometheus::query("process_resident_memory_bytes{job=\"rsttrace\"} > 1e6").is_some());
    let (head, text) = http_get("127.0.0.1:9477", "/metrics").unwrap();
    assert!(head.contains("application/openmetrics-text") && text.ends_with("# EOF\n"), "{head}\n{text}");
    // Whatever the dashboard and the alerts ask for is there, or will be when there is something to tell.
    for query in deploy::queries_of_the_dashboard().into_iter().chain(deploy::expressions_of_the_alerts()) {
        // A query that cannot be read panics.
        Prometheus::query(&query);
        let words = query.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        for name in words.filter(|word| word.starts_with("rsttrace_") || word.starts_with("process_")) {
            let family = name.trim_end_matches("_bucket").trim_end_matches("_total");
            // With filters there is nothing to compare the host's counters with.
            let is_left_out = family == "rsttrace_host_counter_observed";
            assert!(is_left_out || text.contains(&format!("# TYPE {family} ")), "{name} of {query}");
        }
    }
    assert_eq!(http_get("127.0.0.1:9477", "/healthz").unwrap().1, "ok\n");
    assert!(http_get("127.0.0.1:9477", "/").is_none());
    tracer.finish();
}

/// Where `--metrics 9477` is.
const METRICS: &str = "127.0.0.1:9477";

/// Answers come soon, whatever others do with their connections; as long as there is room for them, slow ones get theirs.
pub(crate) fn metrics_beside_half_open_requests(stage: &Stage) {
    let mut tracer = stage.trace_here(&["--received", "--metrics", "9477"]);
    let slow = thread::spawn(|| {
        let mut client = begin_request(METRICS, "GET /metrics HTTP/1.1\r\nHost:");
        // The time that it takes is what is played.
        thread::sleep(Duration::from_secs(2));
        client.write_all(b" here\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    let half_open = || begin_request(METRICS, "GET /metrics HTTP/1.1\r\nHost:");
    let idle: Vec<TcpStream> = (0..128).map(|_| half_open()).collect();
    answers_come_soon("128 idle connections");
    let answer = slow.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("# EOF\n"), "{answer}");
    // More than there are places for: the oldest make way.
    let more: Vec<TcpStream> = (0..300).map(|_| half_open()).collect();
    answers_come_soon("428 idle connections");
    drop((idle, more));
    let unread: Vec<TcpStream> =
        (0..300).map(|_| begin_request(METRICS, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")).collect();
    answers_come_soon("clients that do not read");
    drop(unread);
    // New ones without end.
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut open = VecDeque::new();
            // Fewer than there are ports, each of which is busy for a while.
            for _ in (0..10_000).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                open.push_back(half_open());
                if open.len() > 64 {
                    open.pop_front();
                }
            }
        });
        for _ in 0..10 {
            answers_come_soon("64 connections that come anew");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // Clients that go with an answer unread have made resets too.
    refuse(&mut tracer, 7);
    let is_counted = |text: &str| text.lines().any(|line| line.contains("connection-refused") && line.ends_with(" 7"));
    wait_until("the count of the refused", || http_get(METRICS, "/metrics").is_some_and(|(_, text)| is_counted(&text)));
    tracer.finish();
}

/// Connects and sends a part of a request, or a whole one.
fn begin_request(address: &str, text: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(text.as_bytes()).unwrap();
    client
}

/// Both pages are to be had in half the time that half a request is waited for: nothing waits for one.
#[track_caller]
fn answers_come_soon(beside: &str) {
    for path in ["/healthz", "/metrics"] {
        let began = Instant::now();
        wait_until(path, || http_get(METRICS, path).is_some());
        let took = began.elapsed();
        assert!(took < Duration::from_millis(2_500), "{path} took {took:?} beside {beside}");
    }
}

/// As many records as are wanted through each sink, all at once: each has every one, once. `RSTTRACE_RECORDS=100000`
/// plays it with more, and says what it costs.
pub(crate) fn many_through_each(stage: &Stage) {
    const BURST: usize = 1_000;
    let wanted = std::env::var("RSTTRACE_RECORDS").ok().map(|records| records.parse::<usize>().unwrap());
    let records = wanted.unwrap_or(2_000).next_multiple_of(BURST);
    let (journal, rsyslog, collector) = (Journal::start(), Rsyslog::start(), Collector::start(0));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let specs = [
        format!("json:{}", path.display()),
        format!("journald:{}", journal.socket().display()),
        format!("syslog:tcp://{}", Rsyslog::TCP),
        Collector::HTTP.to_owned(),
        Collector::GRPC.to_owned(),
    ];
    let mut arguments = vec!["--sink-queue", "200000", "--metrics", "9477", "--comm", "the-client"];
    for spec in &specs {
        arguments.extend(["--sink", spec]);
    }
    let mut tracer = stage.trace_here(&arguments);
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    for burst in 1..=records / BURST {
        // A new one each time: nobody accepts, and so many do not fit into one queue.
        let server_end = server.listen("l", V4, 4096);
        client.tell(format_args!("burst {server_end} {BURST}"));
        tracer.expect((burst * BURST).try_into().unwrap());
    }
    wait_until("empty queues", || {
        let (_, text) = http_get("127.0.0.1:9477", "/metrics").unwrap();
        let waiting: Vec<&str> =
            text.lines().filter(|line| line.starts_with("rsttrace_sink_waiting_records{")).collect();
        waiting.len() == specs.len() + 1 && waiting.iter().all(|line| line.ends_with(" 0"))
    });
    let costs = cpu_times(tracer.pid());
    let run = tracer.finish();
    assert_eq!((run.total(), run.lost), (records as u64, 0));
    let all: Vec<u64> = (1..=records as u64).collect();
    let numbers = |numbers: &mut dyn Iterator<Item = u64>| numbers.collect::<Vec<_>>();
    let in_file = self::records(&path);
    let of_resets = in_file.iter().filter(|line| line["type"] == "reset");
    assert!(numbers(&mut of_resets.map(|line| line["seq"].as_u64().unwrap())) == all, "in the file");
    let entries = journal.entries_up_to_summary();
    let of_resets = entries.iter().filter(|entry| entry["RSTTRACE_TYPE"] == "reset");
    let number = |entry: &Value| entry["RSTTRACE_SEQ"].as_str().unwrap().parse().unwrap();
    assert!(numbers(&mut of_resets.map(number)) == all, "in the journal");
    let messages = rsyslog.messages("imtcp");
    let of_resets = messages.iter().filter(|message| message[3] == "reset");
    let number = |data: &str| serde_json::from_str::<Value>(data).unwrap()["seq"].as_str().unwrap().parse().unwrap();
    assert!(numbers(&mut of_resets.map(|message| number(&message[4]))) == all, "in rsyslog");
    for way in ["http", "grpc"] {
        assert!(
            numbers(&mut collected(&collector, way).iter().map(|record| record["rsttrace.seq"].as_u64().unwrap()))
                == all,
            "by {way}"
        );
    }
    if wanted.is_some() {
        let mut out = io::stdout().lock();
        for (thread, time) in costs {
            let each = time.as_nanos() / records as u128;
            writeln!(out, "{records} records, {thread}: {} ms of CPU, {each} ns a record", time.as_millis()).unwrap();
        }
    }
}

/// The attributes of the resets that a collector has.
fn collected(collector: &Collector, way: &str) -> Vec<Value> {
    let records = collector.records(way).into_iter().map(|mut record| record["attributes"].take());
    records.filter(|attributes| attributes["rsttrace.type"] == "reset").collect()
}

/// A collector that takes nothing for five seconds: then it gets every record, once and in order, by HTTP and by gRPC.
pub(crate) fn collector(stage: &Stage) {
    let collector = Collector::start(5);
    let sinks = ["--sink", Collector::HTTP, "--sink", Collector::GRPC, "--metrics", "9477"];
    let mut tracer = stage.trace_here(&[&["--comm", "the-client"][..], &sinks].concat());
    refuse(&mut tracer, 23);
    // A few more come while it refuses.
    let mut client = Puppet::start("the-client");
    for _ in 0..7 {
        assert!(client.ask(format_args!("connect c {NOBODY_V4}")).is_err());
    }
    tracer.expect(30);
    wait_until("empty queues", || {
        let (_, text) = http_get("127.0.0.1:9477", "/metrics").unwrap();
        let waiting = text.lines().filter(|line| line.starts_with("rsttrace_sink_waiting_records{"));
        waiting.filter(|line| line.ends_with(" 0")).count() == 3
    });
    let run = tracer.finish();
    for (way, spec) in [("http", Collector::HTTP), ("grpc", Collector::GRPC)] {
        assert!(run.stderr.contains(&format!("sink {spec}: the collector answers ")), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("sink {spec}: delivers again; 0 records")), "{}", run.stderr);
        assert_eq!(sink(run.summaries.last().unwrap(), spec)["undelivered"], 0);
        let resets = collected(&collector, way);
        assert_eq!(resets.len(), run.resets.len(), "by {way}");
        for (attributes, reset) in resets.iter().zip(&run.resets) {
            for (name, pointer) in [
                ("rsttrace.seq", "/seq"),
                ("rsttrace.cause", "/cause/code"),
                ("rsttrace.benign", "/cause/benign"),
                ("rsttrace.age_ms", "/socket/age_ms"),
                ("network.type", "/family"),
                ("network.peer.address", "/peer/address"),
                ("network.peer.port", "/peer/port"),
                ("process.pid", "/process/pid"),
                ("process.executable.path", "/process/executable"),
            ] {
                assert_eq!(Some(&attributes[name]), reset.0.pointer(pointer), "{name} by {way}");
            }
        }
        let records = collector.records(way);
        let record = records.iter().find(|record| record["attributes"]["rsttrace.seq"] == 1).unwrap();
        assert_eq!((&record["resource"]["service.name"], &record["severity"]), (&"rsttrace".into(), &13.into()));
        assert!(record["body"].as_str().unwrap().starts_with("RECV 127.0.0.1:"), "{record:#}");
        let time = jiff::Timestamp::from_nanosecond(record["time"].as_u64().unwrap().into()).unwrap();
        assert_eq!(format!("{time:.9}"), run.resets[0].0["time"].as_str().unwrap());
    }
}
