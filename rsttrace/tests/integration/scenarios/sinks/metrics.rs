//! The metrics server.

use std::{
    collections::VecDeque,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::refuse;
use crate::{
    host,
    puppet::Puppet,
    scenarios::{
        authority::Authority,
        deploy,
        receivers::{Prometheus, http_get, wait_until},
    },
    stage::Stage,
    tracer::Tracer,
};

/// Prometheus scrapes rsttrace and answers queries with the right counts.
pub(crate) fn prometheus_gets_the_counts(stage: &Stage) {
    let spec =
        ["--received", "--comm", "the-client", "--metrics", "9477", "--metrics-peers", "1", "--sink", "json:/dev/null"];
    let mut tracer = stage.trace_here(&spec);
    let _prometheus = Prometheus::start(9477);
    refuse(&mut tracer, 23);
    // A series that begins with many incidents, and grows, is a fault of the peer for the alerts.
    let pending = "count(ALERTS{alertname=\"FaultOfPeer\",alertstate=\"pending\",cause=\"connection-refused\"})";
    wait_until("the alert", || Prometheus::query(pending) == Some(1.0));
    // Another peer, which exceeds `--metrics-peers` and has no series of its own.
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
        ("up{job=\"rsttrace\"}", 1.0),
        ("sum(rsttrace_backend_incidents_total{port=\"9\",fault=\"peer\",benign=\"false\"})", 30.0),
        ("count(ALERTS)", 1.0),
    ] {
        assert_eq!(Prometheus::query(query), Some(value), "{query}");
    }
    // Connection attempts before Prometheus listened were refused as well.
    assert!(Prometheus::query("rsttrace_host_counter_delta_total{counter=\"TcpAttemptFails\"}") >= Some(30.0));
    assert!(Prometheus::query("process_resident_memory_bytes{job=\"rsttrace\"} > 1e6").is_some());
    let (head, text) = http_get("127.0.0.1:9477", "/metrics").unwrap();
    assert!(head.contains("application/openmetrics-text") && text.ends_with("# EOF\n"), "{head}\n{text}");
    // The series of the dashboard and of the alerts exist, or are declared.
    for query in deploy::queries_of_the_dashboard().into_iter().chain(deploy::expressions_of_the_alerts()) {
        // A malformed query panics.
        Prometheus::query(&query);
        let words = query.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        for name in words.filter(|word| word.starts_with("rsttrace_") || word.starts_with("process_")) {
            let family = name.trim_end_matches("_bucket").trim_end_matches("_total");
            // With filters, the host's counters cannot be compared with the records; and a test has no unit, no container, and
            // may have nothing that is degraded.
            let is_omitted = [
                "rsttrace_host_counter_observed",
                "rsttrace_unit_incidents",
                "rsttrace_container_incidents",
                "rsttrace_degraded",
            ]
            .contains(&family);
            assert!(is_omitted || text.contains(&format!("# TYPE {family} ")), "{name} of {query}");
        }
    }
    assert_eq!(http_get("127.0.0.1:9477", "/healthz").unwrap().1, "ok\n");
    assert_eq!(http_get("127.0.0.1:9477", "/readyz").unwrap().1, "ok\n");
    assert!(http_get("127.0.0.1:9477", "/").is_none());
    // Another scenario's flood fills the buffers too.
    let lost = Prometheus::query("sum(rsttrace_lost_total)").expect("a series from the start on");
    let run = tracer.finish();
    let all = run.summaries.last().expect("a summary")["lost"].as_u64().expect("a count");
    assert!(lost <= f64::from(u32::try_from(all).expect("few")), "{lost} {all}");
}

/// Status of curl's request for a path, with these options.
fn status(authority: &Authority, path: &str, options: &[&str]) -> String {
    let output = Command::new(host::program("curl").expect("it is installed"))
        .args([
            "--silent",
            "--noproxy",
            "*",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            "--max-time",
            "10",
        ])
        .args(["--cacert", &authority.path("ca.pem")])
        .args(options)
        .arg(format!("https://backend.test:9477{path}"))
        .args(["--resolve", "backend.test:9477:127.0.0.1"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Prometheus scrapes by TLS, with a password and with a token; nothing but the health is told without. Replaced files are read again.
pub(crate) fn prometheus_scrapes_with_tls_and_a_password(stage: &Stage) {
    let authority = Authority::new();
    let hash = bcrypt::hash("hunter2", 5).unwrap();
    let settings = |auth: &str| {
        format!(
            "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n{auth}\nbearer_token_file: token\n"
        )
    };
    authority.write("token", "abc-hunter2\n");
    let config = authority.write("web.yml", &settings(&format!("basic_auth_users:\n  alice: {hash}")));
    let config = config.display().to_string();
    let mut tracer = stage.trace_here(&["--comm", "the-client", "--metrics", "9477", "--metrics-config", &config]);
    let job = |name: &str, password: &str| {
        json!({
            "job_name": name,
            "scheme": "https",
            "tls_config": {"ca_file": authority.path("ca.pem"), "server_name": "backend.test"},
            "basic_auth": {"username": "alice", "password": password},
            "static_configs": [{"targets": ["127.0.0.1:9477"]}],
        })
    };
    let _prometheus = Prometheus::start_with(&[job("rsttrace", "hunter2"), job("wrong", "hunter3")]);
    refuse(&mut tracer, 23);
    wait_until("the resets in Prometheus", || Prometheus::query("sum(rsttrace_resets_total)") == Some(23.0));
    wait_until("both jobs", || Prometheus::query("count(up)") == Some(2.0));
    assert_eq!(Prometheus::query("up{job=\"rsttrace\"}"), Some(1.0));
    assert_eq!(Prometheus::query("up{job=\"wrong\"}"), Some(0.0));
    let token = |token: &str| status(&authority, "/metrics", &["--header", &format!("Authorization: Bearer {token}")]);
    assert_eq!((token("abc-hunter2"), token("abc")), ("200".into(), "401".into()));
    for (path, expected) in [("/metrics", "401"), ("/healthz", "200"), ("/readyz", "200"), ("/other", "404")] {
        assert_eq!(status(&authority, path, &[]), expected, "{path}");
    }
    // In clear text nothing is answered.
    assert!(http_get(METRICS, "/healthz").is_none());
    authority.write("token", "def-hunter2");
    wait_until("the new token", || token("def-hunter2") == "200" && token("abc-hunter2") == "401");
    // The certificate and its key, one after the other, and then clients with a certificate alone.
    for kind in ["pem", "key"] {
        let text = fs::read_to_string(authority.path(&format!("stranger.{kind}"))).unwrap();
        authority.write(&format!("server.{kind}"), &text);
    }
    wait_until("the new certificate", || status(&authority, "/healthz", &[]) == "000");
    let only = "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert";
    let text = settings(only).replace("server.", "expired.").replace("bearer_token_file: token\n", "");
    authority.write("web.yml", &text);
    let identity = [authority.path("client.pem"), authority.path("client.key")];
    let shown = ["--insecure", "--cert", &identity[0], "--key", &identity[1]];
    wait_until("clients with a certificate", || status(&authority, "/metrics", &shown) == "200");
    assert_eq!(status(&authority, "/metrics", &["--insecure"]), "403");
    assert_eq!(status(&authority, "/healthz", &["--insecure"]), "200");
    // A file that cannot be used changes nothing.
    authority.write("web.yml", "basic_auth_users: {alice: hunter2}");
    tracer_says(&mut tracer, &authority, "the change cannot be used");
    assert_eq!(status(&authority, "/metrics", &shown), "200");
    let run = tracer.finish();
    assert!(!run.stderr.contains("hunter2") && !run.stderr.contains("are for everyone"), "{}", run.stderr);

    for (arguments, is_said) in [(&["--metrics", "0.0.0.0:9477"][..], true), (&["--metrics", "9477"], false)] {
        let run = stage.trace_here(arguments).finish();
        assert_eq!(run.stderr.contains("metrics at 0.0.0.0:9477 are for everyone who reaches it"), is_said);
    }
}

/// Waits for a message that comes with the next connection.
#[track_caller]
fn tracer_says(tracer: &mut Tracer, authority: &Authority, text: &str) {
    let connect = || drop(status(authority, "/healthz", &["--insecure"]));
    // A look at a file comes once a second.
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                connect();
            }
        });
        tracer.expect_said(text);
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Address of `--metrics 9477`.
const METRICS: &str = "127.0.0.1:9477";

/// Requests are answered promptly, whatever other clients do with their connections; a slow client is answered while
/// there is room for it.
pub(crate) fn slow_clients_delay_no_answer(stage: &Stage) {
    let mut tracer = stage.trace_here(&["--received", "--metrics", "9477"]);
    let slow = thread::spawn(|| {
        let mut client = begin_request(METRICS, "GET /metrics HTTP/1.1\r\nHost:");
        // A slow client is what is tested; there is no signal to wait for.
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
    // More than the server keeps: it closes the oldest.
    let more: Vec<TcpStream> = (0..300).map(|_| half_open()).collect();
    answers_come_soon("428 idle connections");
    drop((idle, more));
    let unread: Vec<TcpStream> =
        (0..300).map(|_| begin_request(METRICS, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")).collect();
    answers_come_soon("clients that do not read");
    drop(unread);
    // New connections throughout.
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut open = VecDeque::new();
            // Fewer than there are ports, each of which stays in TIME_WAIT.
            for _ in (0..10_000).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                open.push_back(half_open());
                if open.len() > 64 {
                    open.pop_front();
                }
            }
        });
        for _ in 0..10 {
            answers_come_soon("64 connections that are replaced");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // Clients that close with an unread answer have caused resets too.
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

/// Checks that both pages are served in half the time for which the server waits for the rest of a request.
#[track_caller]
fn answers_come_soon(beside: &str) {
    for path in ["/healthz", "/metrics"] {
        let began = Instant::now();
        wait_until(path, || http_get(METRICS, path).is_some());
        let took = began.elapsed();
        assert!(took < Duration::from_millis(2_500), "{path} took {took:?} beside {beside}");
    }
}
