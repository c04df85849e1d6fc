//! curl, Python and nginx.

use std::{
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use nix::sys::signal::Signal;

use crate::{
    child::Guard,
    host,
    lines::{Lines, Next, TIMEOUT},
    puppet::Puppet,
    stage::{CLOSED_V4, Stage, V4},
};

fn command(program: &str) -> Command {
    Command::new(host::program(program).expect("it is installed"))
}

/// Master process whose workers end when it is asked to end, and would stay if it were killed.
struct Master(Guard);

impl Drop for Master {
    fn drop(&mut self) {
        // An error means that it has already exited.
        if self.0.signal(Signal::SIGTERM).is_ok() {
            drop(self.0.wait());
        }
    }
}

/// curl connects to a closed port.
pub(crate) fn curl_is_refused(stage: &Stage) {
    let tracer = stage.trace();
    let url = format!("http://{CLOSED_V4}/");
    let mut curl = command("curl").args(["--silent", "--noproxy", "*", &url]).spawn().unwrap();
    let pid = curl.id();
    assert_eq!(curl.wait().unwrap().code(), Some(7), "curl says that it could not connect");

    let run = stage.finish(tracer, host::shows_without_socket().into(), 1);
    run.the_received().process(pid, "curl").state("SYN_SENT").cause("connection-refused");
}

/// A script that sets `SO_LINGER` 0, as is often recommended to clients with too many sockets in `TIME_WAIT`.
pub(crate) fn python_aborts(stage: &Stage) {
    const SCRIPT: &str = "import socket, struct, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
s.close()";
    let mut server = Puppet::start("the-server");
    let server_end = server.listen("l", V4, 16);
    let tracer = stage.trace();
    let mut python = command("python3").args(["-c", SCRIPT, &server_end.port().to_string()]).spawn().unwrap();
    let pid = python.id();
    assert!(python.wait().unwrap().success());

    let run = stage.finish(tracer, 1, 1);
    let sent = run.the_sent();
    sent.is("/process/pid", pid).state("ESTABLISHED").provenance("connect").cause("linger-zero");
    let comm = sent["process"]["comm"].as_str().unwrap_or_default();
    assert!(comm.starts_with("python"), "{:#}", sent.0);
    run.the_received().owner(&server);
}

/// nginx returns 444, which closes without an answer, here by a reset. The master listens; the reset is the worker's.
pub(crate) fn nginx_worker_resets(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let configuration = format!(
        "daemon off; worker_processes 1; pid {path}/pid; error_log stderr notice; user root;
         events {{ worker_connections 16; }}
         http {{
             access_log off; reset_timedout_connection on;
             client_body_temp_path {path}; proxy_temp_path {path}; fastcgi_temp_path {path};
             uwsgi_temp_path {path}; scgi_temp_path {path};
             server {{ listen 127.0.0.1:8080; location / {{ return 444; }} }}
         }}"
    );
    let file = directory.path().join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let tracer = stage.trace();
    let mut nginx = Master(Guard(
        command("nginx").arg("-c").arg(&file).arg("-p").arg(directory.path()).stderr(Stdio::piped()).spawn().unwrap(),
    ));
    let worker = worker_of(&Lines::of(nginx.0.stderr.take().unwrap()));
    let mut client = Puppet::start("the-client");
    let server_end = "127.0.0.1:8080".parse().unwrap();
    let client_end = client.connect("c", server_end);
    client.tell("say c GET / HTTP/1.0");
    client.wait_error("c", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent().between(server_end, client_end).process(worker, "nginx").state("ESTABLISHED").cause("linger-zero");
    run.the_received().between(client_end, server_end).owner(&client);
    assert_ne!(worker, nginx.0.id());
}

/// PID of nginx's worker, once it has started.
fn worker_of(log: &Lines) -> u32 {
    let deadline = Instant::now() + TIMEOUT;
    let mut said = String::new();
    while let Next::Line(line) = log.next(deadline) {
        if let Some((_, pid)) = line.split_once("start worker process ") {
            return pid.trim().parse().unwrap();
        }
        said += &line;
    }
    panic!("nginx does not start: {said}");
}
