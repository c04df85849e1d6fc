//! An hour of ordinary traffic, compressed: nothing is wrong, and the verdict says so. The same with one fault in it: the
//! verdict names that one.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{
    nginx::Nginx,
    program::{self, Program},
    tls::{CERTIFICATE, KEY},
};
use crate::{
    host::{self, Lack},
    reset::Reset,
    scenarios::deploy,
    stage::Stage,
    tracer::Run,
};

/// Ports of nginx without and with TLS, and of HAProxy without and with TLS.
const NGINX: u16 = 8081;
const NGINX_TLS: u16 = 8443;
/// Port of nginx with a short idle timeout.
const NGINX_IMPATIENT: u16 = 8082;
const HAPROXY: u16 = 8080;
const HAPROXY_TLS: u16 = 9443;

/// A pool of keep-alive connections in Node.js, used in three rounds and destroyed: its URL is the argument.
const NODE_POOL: &str = "
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = 0;
    const url = process.argv[1], web = require(url.startsWith('https') ? 'https' : 'http');
    const agent = new web.Agent({ keepAlive: true, maxSockets: 8 });
    const ask = () => new Promise((done, fail) => web.get(url, { agent }, answer => answer.resume().on('end', done)).on('error', fail));
    (async () => {
        for (let round = 0; round < 3; round++) await Promise.all(Array.from({ length: 16 }, ask));
        agent.destroy();
    })();
";

/// A load generator in Node.js: forty connections that are busy until the process ends, by itself, at the end of the run.
const NODE_LOAD: &str = "
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = 0;
    const url = process.argv[1], web = require(url.startsWith('https') ? 'https' : 'http');
    const agent = new web.Agent({ keepAlive: true });
    let answers = 0;
    const ask = () => web.get(url, { agent }, answer => answer.resume().on('end', () => {
        if (++answers == 1000) process.exit(0);
        ask();
    }));
    for (let connection = 0; connection < 40; connection++) ask();
";

/// A load generator in Python that drops its connections, half of them with a request under way, and goes on to something
/// else: the port is the argument.
const PYTHON_LOAD: &str = "
import socket, struct, sys
port = int(sys.argv[1])
request = b'GET /pid HTTP/1.1\\r\\nHost: example\\r\\n\\r\\n'
connections = [socket.create_connection(('127.0.0.1', port)) for _ in range(40)]
for _ in range(5):
    for connection in connections:
        connection.sendall(request)
    for connection in connections:
        connection.recv(4096)
for connection in connections[::2]:
    connection.sendall(request)
for connection in connections:
    connection.close()
";

/// Requests of Python's own client: on one connection, and on one each.
const PYTHON_CLIENT: &str = "
import http.client, ssl, sys, urllib.request
port = int(sys.argv[1])
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection('127.0.0.1', port, context=context)
for _ in range(5):
    connection.request('GET', '/pid')
    connection.getresponse().read()
connection.close()
for _ in range(5):
    urllib.request.urlopen(f'https://127.0.0.1:{port}/pid', context=context).read()
";

/// A pool that uses a connection again, three times, after its server has closed it: the port is the argument.
const BLIND_POOL: &str = "
import http.client, select, sys
failed = 0
for _ in range(3):
    connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
    connection.request('GET', '/pid')
    connection.getresponse().read()
    select.select([connection.sock], [], [])
    try:
        connection.request('GET', '/pid')
        connection.getresponse()
    except ConnectionError:
        failed += 1
print(failed, 'requests failed')
";

/// A download that Node.js stops: the URL is the argument.
const NODE_STOP: &str = "
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = 0;
    const url = process.argv[1], web = require(url.startsWith('https') ? 'https' : 'http');
    web.get(url, answer => answer.once('data', () => answer.destroy())).on('error', () => {});
";

/// What this host lacks.
pub(crate) fn lack() -> Option<Lack> {
    ["nginx", "haproxy", "curl", "python3"]
        .into_iter()
        .find_map(host::lacks_program)
        .or_else(|| host::lacks_runtime("node"))
}

/// Services of the hour: nginx, and HAProxy before it with checks of three kinds.
struct Services {
    nginx: Nginx,
    _haproxy: Program,
    _directory: TempDir,
}

impl Services {
    fn start() -> Self {
        let directory = program::directory();
        let place = directory.path().display();
        for (name, text) in [
            ("key.pem", KEY.to_owned()),
            ("certificate.pem", CERTIFICATE.to_owned()),
            ("both.pem", format!("{CERTIFICATE}{KEY}")),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        fs::write(directory.path().join("large"), vec![b'x'; 30_000_000]).unwrap();
        let locations = format!(
            "location = /pid {{ return 200 \"$pid\\n\"; }} location = /health {{ return 200 \"ok\\n\"; }}
             location / {{ root {place}; }}"
        );
        let tls = format!(
            "server {{ listen 127.0.0.1:{NGINX_TLS} ssl; ssl_certificate {place}/certificate.pem;
                 ssl_certificate_key {place}/key.pem; {locations} }}
             server {{ listen 127.0.0.1:{NGINX_IMPATIENT}; keepalive_timeout 1s; {locations} }}"
        );
        let plain = format!("location = /health {{ return 200 \"ok\\n\"; }} location / {{ root {place}; }}");
        let nginx = Nginx::start(&format!("127.0.0.1:{NGINX}"), &plain, &tls);
        let haproxy = start_haproxy(directory.path());
        Self { nginx, _haproxy: haproxy, _directory: directory }
    }
}

fn start_haproxy(directory: &Path) -> Program {
    let place = directory.display();
    let configuration = format!(
        "global
             nbthread 1
         defaults
             mode http
             timeout connect 10s
             timeout client 60s
             timeout server 60s
         frontend near
             bind 127.0.0.1:{HAPROXY}
             bind 127.0.0.1:{HAPROXY_TLS} ssl crt {place}/both.pem
             default_backend web
         backend web
             option httpchk GET /health
             http-reuse always
             server one 127.0.0.1:{NGINX} check inter 200ms
         backend plain
             server one 127.0.0.1:{NGINX} check inter 200ms
         backend encrypted
             server one 127.0.0.1:{NGINX_TLS} ssl verify none check inter 200ms\n"
    );
    let file = directory.join("haproxy.conf");
    fs::write(&file, configuration).unwrap();
    let haproxy = Program::start("haproxy", &["-W", "-f", &file.display().to_string()]);
    haproxy.says("Loading success");
    haproxy
}

/// Runs a shell command, whose own status does not matter.
fn shell(command: &str) {
    let status = Command::new("/bin/sh").args(["-c", command]).stderr(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.is_ok(), "{command}: {status:?}");
}

/// The traffic of an hour.
fn pass_an_hour(services: &Services) {
    let base = [
        format!("http://127.0.0.1:{NGINX}"),
        format!("https://127.0.0.1:{NGINX_TLS}"),
        format!("http://127.0.0.1:{HAPROXY}"),
        format!("https://127.0.0.1:{HAPROXY_TLS}"),
    ];
    let curl = ["--silent", "--insecure", "--noproxy", "*", "--output", "/dev/null"];
    for base in &base {
        let page = format!("{base}/pid");
        for more in [&[][..], &["--header", "Connection: close"], &["--http1.0"], &[&page, "--output", "/dev/null"]] {
            host::run("curl", &[&curl[..], more, &[&page]].concat());
        }
        host::run("node", &["-e", NODE_POOL, &page]);
        host::run("node", &["-e", NODE_LOAD, &page]);
    }
    for port in [NGINX_TLS, HAPROXY_TLS] {
        host::run("python3", &["-c", PYTHON_CLIENT, &port.to_string()]);
    }
    for port in [NGINX, HAPROXY] {
        host::run("python3", &["-c", PYTHON_LOAD, &port.to_string()]);
    }
    services.nginx.reload();
    for base in &base {
        let large = format!("{base}/large");
        shell(&format!("curl --silent --insecure --noproxy '*' {large} | head -c 1000"));
        host::run("node", &["-e", NODE_STOP, &large]);
    }
}

/// Records that blame a side, with confidence.
fn blamed(run: &Run) -> Vec<&Reset> {
    let is_blamed = |reset: &&Reset| reset["cause"]["fault"] != "none" && reset["cause"]["confidence"] != "guess";
    run.resets.iter().filter(is_blamed).collect()
}

/// The last verdict of a run.
fn verdict(run: &Run) -> String {
    run.summaries.last().expect("a summary")["verdict"].as_str().expect("a text").to_owned()
}

/// Checks that the ordinary events of the hour were seen.
#[track_caller]
fn has_everything(run: &Run) {
    for (direction, code, comm) in [
        ("received", "client-ended", "nginx"),
        ("received", "client-ended", "haproxy"),
        ("sent", "client-ended", "node"),
        ("sent", "client-ended", "python3"),
        ("sent", "client-cancelled", "curl"),
        ("sent", "client-cancelled", "node"),
        ("sent", "health-probe", "haproxy"),
    ] {
        let is_it = |reset: &Reset| {
            reset["direction"] == direction && reset["cause"]["code"] == code && reset["process"]["comm"] == comm
        };
        assert!(run.resets.iter().any(is_it), "no {code} of {comm}, {direction}; {}", run.stderr);
    }
}

/// Nothing is wrong, and no record says otherwise.
pub(crate) fn nothing_is_wrong(stage: &Stage) {
    let services = Services::start();
    let tracer = stage.trace();
    pass_an_hour(&services);
    let run = tracer.finish();
    has_everything(&run);
    let blamed = blamed(&run);
    assert!(blamed.is_empty(), "{} of {}, such as:\n{:#}", blamed.len(), run.resets.len(), blamed[0].0);
    assert!(verdict(&run).contains("harmless: nothing has to be changed"), "{}", run.stderr);
    deploy::fires(&run, &[]);
}

/// A pool that does not look at its connections uses three that their server had closed; the rest of the hour is ordinary.
pub(crate) fn one_fault_is_named_first(stage: &Stage) {
    let services = Services::start();
    let tracer = stage.trace();
    let pool = Program::start("python3", &["-u", "-c", BLIND_POOL, &NGINX_IMPATIENT.to_string()]);
    pool.says("3 requests failed");
    pass_an_hour(&services);
    let run = tracer.finish();
    has_everything(&run);
    let blamed = blamed(&run);
    assert_eq!(blamed.iter().filter(|reset| !reset.is_sent()).count(), 3, "{}", run.stderr);
    for reset in blamed {
        let code = if reset.is_sent() { "keepalive-race" } else { "reused-closed-connection" };
        reset.cause(code).is(if reset.is_sent() { "/local/port" } else { "/peer/port" }, NGINX_IMPATIENT);
    }
    // Of the two ends, the one that has something to change, whichever record came first.
    let expected = format!("Look first at: reused-closed-connection (3 times), python3 → 127.0.0.1:{NGINX_IMPATIENT}.");
    let verdict = verdict(&run);
    assert!(verdict.contains(&expected), "{verdict}");
    deploy::fires(&run, &["KeepaliveRace"]);
}
