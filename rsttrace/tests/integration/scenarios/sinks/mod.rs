//! Sinks: records beside standard output.

pub(crate) mod collectors;
pub(crate) mod json_file;
pub(crate) mod metrics;
pub(crate) mod recording;
pub(crate) mod report_at_end;

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    puppet::Puppet,
    scenarios::authority::Authority,
    scenarios::receivers::{Collector, Journal, Rsyslog, cpu_times, http_get, wait_until},
    schema,
    stage::{CLOSED_V4, Pair, Stage, V4},
    tracer::Tracer,
};

/// Records that a run of `--output json` would have written, read from a file.
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

/// Figures of a sink in the summary of these records.
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
    /// Number of lines so far.
    fn lines(&mut self) -> u64 {
        let mut more = Vec::new();
        self.file.read_to_end(&mut more).unwrap();
        self.lines += more.split(|&byte| byte == b'\n').skip(1).count() as u64;
        self.lines
    }
}

/// Connections that are reset at once: those of one listener that no process accepts.
const AT_ONCE: usize = 1_000;

/// Resets this many connections, a multiple of [`AT_ONCE`], and waits for their records on standard output.
fn reset_many(tracer: &mut Tracer, connections: usize) {
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    for burst in 1..=connections / AT_ONCE {
        // A new listener each time: no process accepts, and all of them do not fit into one queue.
        let server_end = server.listen("l", V4, 4096);
        client.tell(format_args!("burst {server_end} {AT_ONCE}"));
        tracer.expect((burst * AT_ONCE).try_into().unwrap());
    }
}

/// Waits until nothing waits in the queue of any of this many outputs.
fn wait_for_empty_queues(outputs: usize) {
    wait_until("empty queues", || {
        let (_, text) = http_get("127.0.0.1:9477", "/metrics").unwrap();
        let waiting: Vec<&str> =
            text.lines().filter(|line| line.starts_with("rsttrace_sink_waiting_records{")).collect();
        waiting.len() == outputs && waiting.iter().all(|line| line.ends_with(" 0"))
    });
}

/// Makes this many refused connections, and waits for their records.
fn refuse(tracer: &mut Tracer, connections: u64) {
    let mut client = Puppet::start("the-client");
    for _ in 0..connections {
        assert!(client.ask(format_args!("connect c {CLOSED_V4}")).is_err());
    }
    tracer.expect(connections);
}

/// A sink with a full disk and a reader of standard output that does not read: the third sink gets every record.
pub(crate) fn failed_sink_harms_no_other(stage: &Stage) {
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
        // Waits before the next burst, so that only the stuck sinks miss records.
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

/// The host's journal, or one started for the test: each record is an entry with its fields, and the journal adds what
/// it knows of the owner.
pub(crate) fn journal_gets_every_field(stage: &Stage) {
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

/// rsyslog, by all three transports, parses every message and its structured data.
pub(crate) fn rsyslog_parses_every_message(stage: &Stage) {
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

/// A syslog daemon that starts late gets every record, once.
pub(crate) fn late_syslog_gets_every_record(stage: &Stage) {
    let tcp = format!("syslog:tcp://{}", Rsyslog::TCP);
    let mut tracer = stage.trace_here(&["--comm", "the-client", "--sink", &tcp]);
    refuse(&mut tracer, 23);
    tracer.expect_said(&format!("sink {tcp}: cannot reach {}", Rsyslog::TCP));
    let rsyslog = Rsyslog::start();
    let run = tracer.finish();
    assert!(run.stderr.contains(&format!("sink {tcp}: delivers again; no record was lost")), "{}", run.stderr);
    assert_eq!(rsyslog.messages("imtcp").iter().filter(|message| message[3] == "reset").count(), 23);
}

/// Over TLS, records go to a server with the right certificate, and to no other.
pub(crate) fn syslog_tls_checks_the_certificate(stage: &Stage) {
    let rsyslog = Rsyslog::start_with_tls();
    let spec = format!("syslog:tls://{}", Rsyslog::TLS);
    let arguments = ["--comm", "the-client", "--sink", &spec];
    let authority = rsyslog.authority();
    let mut tracer = stage.trace_here_with(&arguments, &[("SSL_CERT_FILE", &authority)]);
    refuse(&mut tracer, 23);
    let run = tracer.finish();
    assert_eq!(sink(run.summaries.last().unwrap(), &spec)["undelivered"], 0);
    assert_eq!(rsyslog.messages("imtcp").iter().filter(|message| message[3] == "reset").count(), 23, "{}", run.stderr);

    // Certificate of another authority.
    let other = Rsyslog::certificates();
    let mut tracer = stage.trace_here_with(&arguments, &[("SSL_CERT_FILE", &other.path().join("ca.pem"))]);
    refuse(&mut tracer, 7);
    let run = tracer.finish();
    assert!(run.stderr.contains("cannot speak TLS with 127.0.0.1:6514: invalid peer certificate"), "{}", run.stderr);
    let count = sink(run.summaries.last().unwrap(), &spec);
    assert_eq!((&count["delivered"], &count["waiting"]), (&0.into(), &7.into()));
}

/// rsyslog takes records from a client with the right certificate alone, and shows one that has the name that is asked for. Where
/// the key is replaced before its certificate, the earlier pair stays in use.
pub(crate) fn syslog_tls_shows_a_certificate(stage: &Stage) {
    let authority = Authority::new();
    let rsyslog = Rsyslog::start_for_clients(&authority);
    let [ca, cert, key, late, late_key] =
        ["ca.pem", "client.pem", "client.key", "late.pem", "late.key"].map(|name| authority.path(name));
    let to = format!("syslog:tls://{}", Rsyslog::TLS);
    let good = format!("{to},ca={ca},cert={cert},key={key},name=backend.test");
    let mut tracer = stage.trace_here(&["--comm", "the-client", "--sink", &good]);
    refuse(&mut tracer, 7);
    let key_text = fs::read_to_string(&key).unwrap();
    authority.write("client.key", &fs::read_to_string(&late_key).unwrap());
    let mut client = Puppet::start("the-client");
    for _ in 0..16 {
        assert!(client.ask(format_args!("connect c {CLOSED_V4}")).is_err());
    }
    tracer.expect(7 + 16);
    let run = tracer.finish();
    authority.write("client.key", &key_text);
    assert_eq!(sink(run.summaries.last().unwrap(), &to)["undelivered"], 0, "{}", run.stderr);
    let resets = || rsyslog.messages("imtcp").iter().filter(|message| message[3] == "reset").count();
    assert_eq!(resets(), 7 + 16, "{}", run.stderr);

    for (options, said) in [
        (format!("ca={ca},name=backend.test"), ""),
        (format!("ca={ca},name=backend.test,cert={late},key={late_key}"), ""),
        (format!("ca={ca},name=other.test,cert={cert},key={key}"), "not valid for name \"other.test\""),
    ] {
        let mut tracer = stage.trace_here(&["--comm", "the-client", "--sink", &format!("{to},{options}")]);
        refuse(&mut tracer, 7);
        tracer.expect_said(&format!("sink {to}: cannot "));
        let run = tracer.finish();
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
    assert_eq!(resets(), 7 + 16, "from none of the others");
}

/// This many records through each sink, concurrently: each gets every record, once. `RSTTRACE_RECORDS=100000` runs it
/// with more, and prints the cost.
pub(crate) fn each_sink_gets_every_record(stage: &Stage) {
    let wanted = std::env::var("RSTTRACE_RECORDS").ok().map(|records| records.parse::<usize>().unwrap());
    let records = wanted.unwrap_or(2_000).next_multiple_of(AT_ONCE);
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
    reset_many(&mut tracer, records);
    wait_for_empty_queues(specs.len() + 1);
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

/// Attributes of the resets that a collector has received.
fn collected(collector: &Collector, way: &str) -> Vec<Value> {
    let records = collector.records(way).into_iter().map(|mut record| record["attributes"].take());
    records.filter(|attributes| attributes["rsttrace.type"] == "reset").collect()
}

/// A collector that rejects everything for five seconds: afterwards it gets every record, once and in order, by HTTP
/// and by gRPC.
pub(crate) fn late_collector_gets_every_record(stage: &Stage) {
    let collector = Collector::start(5);
    let sinks = ["--sink", Collector::HTTP, "--sink", Collector::GRPC, "--metrics", "9477"];
    let mut tracer = stage.trace_here(&[&["--comm", "the-client"][..], &sinks].concat());
    refuse(&mut tracer, 23);
    // A few more arrive while it rejects.
    let mut client = Puppet::start("the-client");
    for _ in 0..7 {
        assert!(client.ask(format_args!("connect c {CLOSED_V4}")).is_err());
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
        assert!(run.stderr.contains(&format!("sink {spec}: delivers again; no record was lost")), "{}", run.stderr);
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
