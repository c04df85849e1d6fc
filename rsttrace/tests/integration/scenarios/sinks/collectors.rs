//! The sink `otlp:` and backends that are not on loopback in clear text: TLS, client certificates, tokens, proxies, and everything
//! that a backend may answer.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{AT_ONCE, refuse, reset_many, sink, wait_for_empty_queues};
use crate::{
    child::Guard,
    host::{self, Lack},
    lines::{Lines, Next, TIMEOUT},
    puppet::Puppet,
    scenarios::{
        authority::{self, Authority},
        receivers::{self, PYTHON_WITH_OTLP, cpu_times, http_get, wait_until},
    },
    stage::{CLOSED_V4, Stage, V4},
    tracer::Tracer,
};

/// What this host lacks of a backend with TLS.
pub(crate) fn lack() -> Option<Lack> {
    authority::lack().or_else(receivers::no_collector)
}

/// What this host lacks of a collector that passes on what it receives.
pub(crate) fn lacks_rotel() -> Option<Lack> {
    let lack = |text: &str| if host::is_guest() { Lack::Guest(text.into()) } else { Lack::Missing(text.into()) };
    receivers::no_collector()
        .or_else(|| rotel().is_none().then(|| lack("rotel is not installed in the tests' Python (cargo xtask setup)")))
}

/// The program of the package `rotel`.
fn rotel() -> Option<PathBuf> {
    let script = "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
    let output = Command::new(PYTHON_WITH_OTLP).args(["-c", script]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_file().then_some(path)
}

/// Arguments of a run whose records are those of one client.
const ONE_CLIENT: [&str; 2] = ["--comm", "the-client"];

/// Starts the script with these arguments, and waits until it is ready.
fn start(arguments: &[&str]) -> Guard {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/scenarios/backend.py");
    let mut daemon = Command::new(PYTHON_WITH_OTLP)
        .arg(SCRIPT)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = Lines::of(daemon.stdout.take().unwrap());
    let daemon = Guard(daemon);
    assert!(matches!(said.next(Instant::now() + TIMEOUT), Next::Line(_)), "the backend does not start");
    daemon
}

/// A backend in Python.
struct Backend {
    _daemon: Guard,
    directory: TempDir,
}

impl Backend {
    const HTTP: u16 = 4318;
    const GRPC: u16 = 4317;

    /// Starts a backend at the ports of the protocol, with these settings beside.
    fn start(settings: Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut all = json!({"http": Self::HTTP, "grpc": Self::GRPC, "out": directory.path().join("out")});
        for (name, value) in settings.as_object().unwrap() {
            all[name] = value.clone();
        }
        Self { _daemon: start(&["serve", &all.to_string()]), directory }
    }

    /// A backend with the certificate of an authority, for clients with one.
    fn secure(authority: &Authority, more: Value) -> Self {
        let mut settings = json!({
            "cert": authority.path("server.pem"),
            "key": authority.path("server.key"),
            "client_ca": authority.path("ca.pem"),
        });
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        Self::start(settings)
    }

    /// Records that have arrived, in their order.
    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.directory.path().join("out")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Resets among the records.
    fn resets(&self) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["attributes"]["rsttrace.type"] == "reset").collect()
    }

    /// Numbers of the resets, in the order in which they came.
    fn numbers(&self) -> Vec<u64> {
        self.resets().iter().map(number).collect()
    }
}

fn number(reset: &Value) -> u64 {
    reset["attributes"]["rsttrace.seq"].as_u64().unwrap()
}

/// Options of a sink with the certificates of an authority.
fn certificates(authority: &Authority) -> String {
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| authority.path(name));
    format!("ca={ca},cert={cert},key={key}")
}

/// Over TLS with client certificates and headers, by HTTP and gRPC, compressed or not: a backend gets every record, once and in
/// order. `RSTTRACE_RECORDS=100000` runs it with more, and prints the cost.
pub(crate) fn backend_gets_every_record_over_tls(stage: &Stage) {
    let wanted = std::env::var("RSTTRACE_RECORDS").ok().map(|records| records.parse::<usize>().unwrap());
    let records = wanted.unwrap_or(2_000).next_multiple_of(AT_ONCE);
    let authority = Authority::new();
    let backend = Backend::secure(&authority, json!({}));
    let ways = [("https", "none"), ("https", "gzip"), ("grpcs", "none"), ("grpcs", "gzip")];
    let specs = ways.map(|(scheme, compression)| {
        let port = if scheme == "https" { Backend::HTTP } else { Backend::GRPC };
        let name = format!("{scheme}-{compression}");
        let headers = authority.write(&name, &format!("X-Way: {name}\nAuthorization: Bearer hunter2\n"));
        let certificates = certificates(&authority);
        format!(
            "otlp:{scheme}://127.0.0.1:{port},headers={},compression={compression},{certificates}",
            headers.display()
        )
    });
    let mut arguments = [&ONE_CLIENT[..], &["--sink-queue", "200000", "--metrics", "9477"]].concat();
    arguments.extend(specs.iter().flat_map(|spec| ["--sink", spec]));
    let mut tracer = stage.trace_here(&arguments);
    reset_many(&mut tracer, records);
    wait_for_empty_queues(specs.len() + 1);
    let costs = cpu_times(tracer.pid());
    let run = tracer.finish();
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    let mut by_way: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for reset in backend.resets() {
        let headers = &reset["headers"];
        assert_eq!(headers["authorization"], "Bearer hunter2");
        let way = headers["x-way"].as_str().unwrap();
        // gRPC's own library decompresses, and does not show how.
        if way == "https-gzip" {
            assert_eq!(headers["content-encoding"], "gzip");
        }
        by_way.entry(way.to_owned()).or_default().push(number(&reset));
    }
    assert_eq!(by_way.len(), ways.len());
    for (way, numbers) in by_way {
        assert!(numbers.iter().copied().eq(1..=records as u64), "{way}: {} records", numbers.len());
    }
    if wanted.is_some() {
        let mut out = io::stdout().lock();
        for (thread, time) in costs {
            let each = time.as_nanos() / records as u128;
            writeln!(out, "{records} records, {thread}: {} ms of CPU, {each} ns a record", time.as_millis()).unwrap();
        }
    }
}

/// Nothing goes to a server whose certificate is of another authority, has expired or has another name, and a server that wants
/// a certificate gets no record from a client with none, a foreign or an expired one; each is said.
pub(crate) fn wrong_certificates_are_refused(stage: &Stage) {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = Backend::secure(&authority, json!({}));
    let server = |name: &str, http: u16| {
        let [cert, key] = ["pem", "key"].map(|kind| authority.path(&format!("{name}.{kind}")));
        Backend::start(json!({"cert": cert, "key": key, "http": http, "grpc": http + 100}))
    };
    let (expired, stranger) = (server("expired", 4400), server("stranger", 4401));
    let [ca, foreign_ca] = [authority.path("ca.pem"), other.path("ca.pem")];
    let identity = |of: &Authority, name: &str| {
        format!("cert={},key={}", of.path(&format!("{name}.pem")), of.path(&format!("{name}.key")))
    };
    let refused = [
        (format!("otlp:https://127.0.0.1,ca={foreign_ca},{}", identity(&authority, "client")), ""),
        (
            format!("otlp:https://127.0.0.1:4318,ca={foreign_ca},{}", identity(&authority, "client")),
            "invalid peer certificate: BadSignature",
        ),
        (format!("otlp:https://127.0.0.1:4400,ca={ca}"), "expired"),
        (format!("otlp:https://127.0.0.1:4401,ca={ca}"), "not valid for name"),
        (
            format!("otlp:grpcs://127.0.0.1:4317,ca={ca}"),
            "no answer from 127.0.0.1:4317: does the server want a client certificate",
        ),
        (format!("otlp:https://192.0.2.1:4318,ca={ca}"), "CertificateRequired"),
        (format!("otlp:https://127.0.0.2:4318,name=127.0.0.1,ca={ca},{}", identity(&other, "client")), "UnknownCA"),
        (
            format!("otlp:https://127.0.0.3:4318,name=127.0.0.1,ca={ca},{}", identity(&authority, "late")),
            "CertificateExpired",
        ),
    ];
    let accepted = [
        format!("otlp:https://127.0.0.4:4318,name=backend.test,{}", certificates(&authority)),
        format!("otlp:https://127.0.0.4:4401,name=stranger.test,ca={ca}"),
    ];
    host::run("ip", &["address", "add", "192.0.2.1/32", "dev", "lo"]);
    let specs: Vec<&str> =
        refused.iter().map(|(spec, _)| spec.as_str()).chain(accepted.iter().map(|it| &**it)).collect();
    let mut arguments = ONE_CLIENT.to_vec();
    arguments.extend(specs.iter().flat_map(|spec| ["--sink", *spec]));
    let mut tracer = stage.trace_here(&arguments);
    refuse(&mut tracer, 7);
    let label = |spec: &str| {
        let label = spec.split(',').next().unwrap().to_owned();
        if label.ends_with("//127.0.0.1") { label + ":443" } else { label }
    };
    let run = tracer.finish();
    for (spec, said) in &refused {
        let lines = run.stderr.lines().filter(|line| line.contains(&format!("sink {}: ", label(spec))));
        assert!(lines.filter(|line| line.contains(said)).count() > 0, "{spec}: {said}: {}", run.stderr);
    }
    let summary = run.summaries.last().unwrap();
    for (spec, _) in &refused {
        let count = sink(summary, &label(spec));
        assert_eq!((&count["delivered"], &count["undelivered"]), (&0.into(), &0.into()), "{spec}: {}", run.stderr);
    }
    for spec in &accepted {
        assert_eq!(sink(summary, &label(spec))["undelivered"], 0, "{spec}: {}", run.stderr);
    }
    assert_eq!((good.numbers().len(), stranger.numbers().len(), expired.numbers().len()), (7, 7, 0), "{}", run.stderr);
}

/// A token that is replaced during the run is read again, also where the backend has refused the old one; none is in a message.
pub(crate) fn rotated_token_is_read_again(stage: &Stage) {
    let authority = Authority::new();
    let known = authority.write("known", "first-hunter2");
    let (http, grpc) =
        (authority.write("http-token", "first-hunter2\n"), authority.write("grpc-token", "first-hunter2\n"));
    let backend = Backend::secure(&authority, json!({"token": known}));
    let certificates = certificates(&authority);
    let specs = [
        format!("otlp:https://127.0.0.1:4318,token={},{certificates}", http.display()),
        format!("otlp:grpcs://127.0.0.1:4317,token={},{certificates}", grpc.display()),
    ];
    let arguments = [&ONE_CLIENT[..], &["--sink", &specs[0], "--sink", &specs[1]]].concat();
    let mut tracer = stage.trace_here(&arguments);
    refuse(&mut tracer, 7);
    wait_until("the first records", || backend.numbers().len() == 2 * 7);
    for name in ["known", "http-token", "grpc-token"] {
        authority.write(name, "second-hunter2");
    }
    let mut client = Puppet::start("the-client");
    for _ in 0..16 {
        assert!(client.ask(format_args!("connect c {CLOSED_V4}")).is_err());
    }
    tracer.expect(7 + 16);
    wait_until("records by the second token", || backend.numbers().len() == 2 * (7 + 16));
    // Now the backend alone has another.
    authority.write("known", "third-hunter2");
    assert!(client.ask(format_args!("connect c {CLOSED_V4}")).is_err());
    tracer.expect_said("401 Unauthorized");
    tracer.expect_said("status 16 (UNAUTHENTICATED)");
    let run = tracer.finish();
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    let summary = run.summaries.last().unwrap();
    for name in ["otlp:https://127.0.0.1:4318", "otlp:grpcs://127.0.0.1:4317"] {
        // The last reset and the summary behind it; that comes after the count.
        assert!(sink(summary, name)["undelivered"].as_u64() >= Some(1), "{summary:#}");
        assert_eq!(sink(summary, name)["delivered"].as_u64(), Some(7 + 16));
    }
}

/// A token that only root may read is read before the user is switched, and stays in use.
pub(crate) fn token_is_read_before_the_switch(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, "hunter2").unwrap();
    fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
    let backend = Backend::start(json!({"token": token}));
    let spec = format!("otlp:http://127.0.0.1:4318,token={}", token.display());
    let mut tracer = stage.trace_here(&[&ONE_CLIENT[..], &["--user", "nobody", "--sink", &spec]].concat());
    refuse(&mut tracer, 7);
    wait_until("the records", || backend.numbers().len() == 7);
    let mut client = Puppet::start("the-client");
    for _ in 0..16 {
        assert!(client.ask(format_args!("connect c {CLOSED_V4}")).is_err());
    }
    tracer.expect(7 + 16);
    let run = tracer.finish();
    assert_eq!(sink(run.summaries.last().unwrap(), "otlp:http://127.0.0.1:4318")["undelivered"], 0, "{}", run.stderr);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
}

/// What a backend may answer: `Retry-After` is obeyed, a lost connection and a late answer are retried, and what a partial success
/// rejects is counted and not sent again.
pub(crate) fn answers_follow_the_specification(stage: &Stage) {
    let backends = [
        (4401, json!(["status 429 2"])),
        (4402, json!(["close", "status 503"])),
        (4403, json!(["slow 3"])),
        (4404, json!(["partial 3"])),
        (4405, json!(["status 400"])),
    ]
    .map(|(port, plan)| (port, Backend::start(json!({"http": port, "grpc": port + 100, "plan": plan}))));
    let spec = |port: u16| format!("otlp:http://127.0.0.1:{port}");
    let specs: Vec<String> = backends.iter().map(|(port, _)| format!("{},timeout=1s", spec(*port))).collect();
    let mut arguments = [&ONE_CLIENT[..], &["--metrics", "9477"]].concat();
    arguments.extend(specs.iter().flat_map(|spec| ["--sink", spec]));
    // The records come as one batch, so that each entry of a plan is for all of them.
    let mut tracer = stage.trace_here(&arguments);
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let server_end = server.listen("l", V4, 64);
    client.tell(format_args!("burst {server_end} 23"));
    tracer.expect(23);
    wait_until("empty queues", || {
        let (_, text) = http_get("127.0.0.1:9477", "/metrics").unwrap();
        let waiting = text.lines().filter(|line| line.starts_with("rsttrace_sink_waiting_records{"));
        waiting.filter(|line| line.ends_with(" 0")).count() == specs.len() + 1
    });
    let run = tracer.finish();
    let summary = run.summaries.last().unwrap();
    let [after, lost, slow, partial, refused] = &backends;
    for (port, backend) in [after, lost] {
        let numbers = backend.numbers();
        assert!(numbers.iter().copied().eq(1..=23), "{port}: {numbers:?}, {}", run.stderr);
        assert_eq!(sink(summary, &spec(*port))["undelivered"], 0);
    }
    // The time of the first answer is that of the run's first record.
    let began = jiff_seconds(&run.resets[0].0["time"]);
    let came = after.1.resets()[0]["time"].as_f64().unwrap();
    assert!(came - began >= 2.0, "it came after {} s", came - began);
    // Kept by the first attempt, which was not answered in time, and by the second.
    let mut numbers = slow.1.numbers();
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.iter().copied().eq(1..=23), "{numbers:?}");
    assert!(slow.1.numbers().len() > 23 && run.stderr.contains("within 1s"), "{}", run.stderr);
    // Up to three of the first request, which may have fewer.
    let refused_of_three = 23 - partial.1.numbers().len();
    assert!((1..=3).contains(&refused_of_three), "{}", run.stderr);
    assert_eq!(sink(summary, &spec(partial.0))["undelivered"], refused_of_three, "{}", run.stderr);
    let records =
        if refused_of_three == 1 { "1 record was".to_owned() } else { format!("{refused_of_three} records were") };
    assert!(run.stderr.contains(&format!("{records} refused: too long")), "{}", run.stderr);
    assert!(sink(summary, &spec(refused.0))["undelivered"].as_u64() > Some(0), "{summary:#}");
    assert!(run.stderr.contains("400 Bad Request"), "{}", run.stderr);
}

fn jiff_seconds(time: &Value) -> f64 {
    time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_duration().as_secs_f64()
}

/// The proxy of the environment is used, with its credentials, for TLS and in clear text; a backend on loopback is reached
/// directly.
pub(crate) fn proxy_of_the_environment_is_used(stage: &Stage) {
    host::run("ip", &["address", "add", "192.0.2.1/32", "dev", "lo"]);
    let authority = Authority::new();
    let secure = Backend::secure(&authority, json!({}));
    let plain = Backend::start(json!({"http": 4400, "grpc": 4500}));
    let log = authority.write("log", "");
    let _proxy = start(&["proxy", "3128", "user:hunter2", &log.display().to_string()]);
    let certificates = certificates(&authority);
    let specs = [
        format!("otlp:https://192.0.2.1:4318,{certificates}"),
        format!("otlp:grpcs://192.0.2.1:4317,{certificates}"),
        "otlp:http://192.0.2.1:4400".to_owned(),
        format!("otlp:https://127.0.0.1:4318,{certificates}"),
    ];
    let mut arguments = ONE_CLIENT.to_vec();
    arguments.extend(specs.iter().flat_map(|spec| ["--sink", spec]));
    let proxy = Path::new("http://user:hunter2@192.0.2.1:3128");
    let environment = [("HTTPS_PROXY", proxy), ("HTTP_PROXY", proxy), ("NO_PROXY", Path::new(""))];
    let mut tracer = stage.trace_here_with(&arguments, &environment);
    refuse(&mut tracer, 23);
    let run = tracer.finish();
    let summary = run.summaries.last().unwrap();
    for spec in &specs {
        let name = spec.split(',').next().unwrap();
        assert_eq!(sink(summary, name)["delivered"].as_u64(), Some(23), "{name}: {}", run.stderr);
    }
    assert_eq!((secure.numbers().len(), plain.numbers().len()), (3 * 23, 23));
    let log = fs::read_to_string(log).unwrap();
    for line in ["CONNECT 192.0.2.1:4318 ", "CONNECT 192.0.2.1:4317 ", "POST http://192.0.2.1:4400/v1/logs "] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("127.0.0.1") && !run.stderr.contains("hunter2"), "{log}, {}", run.stderr);

    // Wrong credentials of the proxy.
    let proxy = Path::new("http://user:hunter3@192.0.2.1:3128");
    let mut tracer =
        stage.trace_here_with(&[&ONE_CLIENT[..], &["--sink", &specs[0]]].concat(), &[("HTTPS_PROXY", proxy)]);
    refuse(&mut tracer, 7);
    tracer.expect_said("the proxy 192.0.2.1:3128 needs credentials");
    assert!(!tracer.finish().stderr.contains("hunter3"));
}

/// The standard variables name the endpoint, the protocol, headers, certificates, compression and attributes of the resource.
pub(crate) fn environment_names_the_endpoint(stage: &Stage) {
    let authority = Authority::new();
    let backend = Backend::secure(&authority, json!({}));
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| PathBuf::from(authority.path(name)));
    let both = [
        ("OTEL_EXPORTER_OTLP_HEADERS", Path::new("authorization=Bearer%20hunter2,x-scope-orgid=shop")),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", Path::new("gzip")),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &ca),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &cert),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", Path::new("3000")),
        ("OTEL_RESOURCE_ATTRIBUTES", Path::new("deployment.environment.name=prod,service.name=x")),
        ("OTEL_SERVICE_NAME", Path::new("resets")),
    ];
    for (url, protocol, name) in [
        ("https://127.0.0.1:4318", "http/protobuf", "otlp:https://127.0.0.1:4318"),
        ("https://127.0.0.1:4317", "grpc", "otlp:grpcs://127.0.0.1:4317"),
    ] {
        let endpoint =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", Path::new(url)), ("OTEL_EXPORTER_OTLP_PROTOCOL", Path::new(protocol))];
        let arguments = [&ONE_CLIENT[..], &["--sink", "otlp"]].concat();
        let mut tracer = stage.trace_here_with(&arguments, &[&both[..], &endpoint].concat());
        refuse(&mut tracer, 7);
        let run = tracer.finish();
        assert_eq!(sink(run.summaries.last().unwrap(), name)["delivered"].as_u64(), Some(7), "{}", run.stderr);
        assert!(!run.stderr.contains("hunter2"));
    }
    let resets = backend.resets();
    assert_eq!(resets.len(), 14);
    for reset in resets {
        let (headers, resource) = (&reset["headers"], &reset["resource"]);
        assert_eq!((&headers["authorization"], &headers["x-scope-orgid"]), (&"Bearer hunter2".into(), &"shop".into()));
        assert_eq!(
            (&resource["service.name"], &resource["deployment.environment.name"]),
            (&"resets".into(), &"prod".into())
        );
    }
}

/// A collector of another project takes the records over HTTP and gRPC, compressed and not, and passes every one on.
pub(crate) fn rotel_passes_every_record_on(stage: &Stage) {
    let backend = Backend::start(json!({"http": 4400, "grpc": 4500}));
    let rotel = Command::new(rotel().expect("it is installed"))
        .args(["start", "--exporter", "otlp", "--otlp-exporter-endpoint", "http://127.0.0.1:4400"])
        .args(["--otlp-exporter-protocol", "http", "--otlp-exporter-compression", "gzip"])
        .args(["--otlp-http-endpoint", "127.0.0.1:4318", "--otlp-grpc-endpoint", "127.0.0.1:4317"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _rotel = Guard(rotel);
    wait_until("rotel", || [4317, 4318].iter().all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok()));
    let specs = [
        "otlp:http://127.0.0.1:4318,compression=gzip",
        "otlp:http://127.0.0.1:4318",
        "otlp:grpc://127.0.0.1:4317,compression=gzip",
        "otlp:grpc://127.0.0.1:4317",
    ];
    let mut arguments = ONE_CLIENT.to_vec();
    arguments.extend(specs.iter().flat_map(|spec| ["--sink", *spec]));
    let mut tracer: Tracer = stage.trace_here(&arguments);
    refuse(&mut tracer, 101);
    let run = tracer.finish();
    let summary = run.summaries.last().unwrap();
    for name in specs.map(|spec| spec.split(',').next().unwrap()) {
        // The second of two sinks of one destination has a number.
        for name in [name.to_owned(), format!("{name} (2)")] {
            assert_eq!(sink(summary, &name)["delivered"].as_u64(), Some(101), "{}", run.stderr);
        }
    }
    wait_until("what rotel passes on", || backend.numbers().len() >= 101 * specs.len());
    let mut numbers = backend.numbers();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq((1..=101).flat_map(|number| [number; 4])), "{numbers:?}");
}

/// Resets of rsttrace's own connections are left out and counted, and shown on request.
pub(crate) fn own_connections_are_left_out(stage: &Stage) {
    let closed = format!("syslog:tcp://{CLOSED_V4}");
    let is_own = |value: &Value| value.as_str() == Some("rsttrace");
    for is_shown in [false, true] {
        let mut arguments = vec!["--sink", &*closed];
        arguments.extend(is_shown.then_some("--own-connections"));
        let mut tracer = stage.trace_here(&arguments);
        let mut client = Puppet::start("the-client");
        for _ in 0..7 {
            assert!(client.ask(format_args!("connect c {CLOSED_V4}")).is_err());
        }
        tracer.expect_said("cannot reach");
        while tracer.count(|reset| reset["process"]["comm"] == "the-client") < 7 {
            tracer.read_one();
        }
        if is_shown {
            while tracer.count(|reset| is_own(&reset["process"]["comm"])) == 0 {
                tracer.read_one();
            }
        }
        let run = tracer.finish();
        let own = run
            .resets
            .iter()
            .filter(|reset| is_own(&reset.0["process"]["comm"]) || is_own(&reset.0["other_end"]["process"]["comm"]));
        let (shown, counted) = (own.count(), run.summaries.last().unwrap()["own_resets"].as_u64().unwrap());
        assert_eq!((shown > 0, counted > 0), (is_shown, !is_shown), "{shown} {counted}, {}", run.stderr);
        assert_eq!(run.stderr.contains("resets of rsttrace's own connections are left out"), !is_shown);
    }
}
