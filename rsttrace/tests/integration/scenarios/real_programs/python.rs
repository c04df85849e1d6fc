//! Servers in Python, each with its own way of passing a connection to the process that serves it.

use std::fs;

use nix::sys::signal::Signal;

use super::{
    ADDRESS, abort_after_visit,
    program::{self, Program},
    reset_in_every_way,
    truth::{Truth, sent_by},
    visit, visit_web,
};
use crate::{puppet::Puppet, stage::Stage};

/// Common part of the servers: what they do with a connection.
pub(super) const SERVE: &str = include_str!("serve.py");

/// WSGI application for gunicorn.
const APPLICATION: &str = "
import os

def serve(request, start_response):
    body = b'%d\\n' % os.getpid()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
";

/// Workers that are forked after the master has listened, and accept by themselves, as in gunicorn.
const PREFORK: &str = "
listener = listen()
for _ in range(3):
    if os.fork() == 0:
        while True:
            serve(listener.accept()[0])
ready()
os.wait()
";

/// A master that accepts, and forks for each connection.
const FORKING: &str = "
listener = listen()
ready()
while True:
    connection = listener.accept()[0]
    if os.fork() == 0:
        serve(connection)
        os._exit(0)
    connection.close()
";

/// A pool of threads with names of their own; the process is the owner.
const THREADS: &str = "
from concurrent.futures import ThreadPoolExecutor
def name_thread():
    with open('/proc/thread-self/comm', 'w') as comm:
        comm.write('a-thread')
listener = listen()
ready()
with ThreadPoolExecutor(4, initializer=name_thread) as pool:
    while True:
        pool.submit(serve, listener.accept()[0])
";

/// One process accepts and passes the descriptor over a Unix socket to another, which never had the listener.
const PASSING: &str = "
mine, its = socket.socketpair()
if os.fork() == 0:
    mine.close()
    while True:
        descriptor, = socket.recv_fds(its, 1, 1)[1]
        serve(socket.socket(fileno=descriptor))
its.close()
listener = listen()
ready()
while True:
    connection = listener.accept()[0]
    socket.send_fds(mine, [b'x'], [connection.fileno()])
    connection.close()
";

/// Several processes, each with its own listener.
const REUSEPORT: &str = "
for _ in range(3):
    if os.fork() == 0:
        listener = listen(reuse_port=True)
        ready()
        while True:
            serve(listener.accept()[0])
os.wait()
";

pub(crate) fn preforked_workers_own(stage: &Stage) {
    reset_in_every_way(stage, || start(PREFORK, 1));
}

pub(crate) fn forked_child_owns(stage: &Stage) {
    reset_in_every_way(stage, || start(FORKING, 1));
}

pub(crate) fn process_owns_what_its_threads_serve(stage: &Stage) {
    reset_in_every_way(stage, || start(THREADS, 1));
}

pub(crate) fn receiving_process_owns(stage: &Stage) {
    reset_in_every_way(stage, || start(PASSING, 1));
}

pub(crate) fn reuseport_processes_own(stage: &Stage) {
    reset_in_every_way(stage, || start(REUSEPORT, 3));
}

/// The server, and one of its connections, existed before rsttrace started.
pub(crate) fn older_preforked_workers_are_known(stage: &Stage) {
    let _server = start(PREFORK, 1);
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();
    let old = visit(&mut client, "old");
    let tracer = stage.trace();
    let new = visit(&mut client, "new");
    for (name, (server_end, client_end)) in [("old", &old), ("new", &new)] {
        client.abort(name);
        truth.resets(client_end, server_end);
    }
    truth.finish(stage, tracer);
}

/// gunicorn itself, with threads in its workers. The client gives up an idle connection; a worker answers a request
/// without reading its body, and closes.
pub(crate) fn gunicorn_workers_own(stage: &Stage) {
    const HEAD: &str = "POST / HTTP/1.1|Host: example|Connection: close|Content-Length: 20000";
    let directory = program::directory();
    fs::write(directory.path().join("application.py"), APPLICATION).unwrap();
    let path = directory.path().display().to_string();
    let tracer = stage.trace();
    let gunicorn = Program::start(
        "gunicorn",
        &[
            "--workers",
            "2",
            "--threads",
            "2",
            "--keep-alive",
            "60",
            "--bind",
            ADDRESS,
            "--chdir",
            &path,
            "application:serve",
        ],
    );
    gunicorn.says("Listening at");
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();

    abort_after_visit(&mut client, &mut truth);

    let (unread, client_end) = visit_web(&mut client, "unread");
    program::stop(unread.pid());
    client.tell(format_args!("say unread {HEAD}"));
    client.tell("send unread 20000");
    let head = HEAD.replace('|', "\r\n").len() + 4;
    unread.has_unread(20_000 + u32::try_from(head).unwrap());
    program::signal(unread.pid(), Signal::SIGCONT);
    client.wait_error("unread", "ECONNRESET");
    truth.resets(&unread, &client_end);

    let run = truth.finish(stage, tracer);
    sent_by(&run, &unread).cause("closed-with-unread-data");
}

/// Starts a server, which reports this many times that it is ready.
fn start(server: &str, times: u32) -> Program {
    let program = Program::start("python3", &["-c", &[SERVE, server].concat()]);
    for _ in 0..times {
        program.says("ready");
    }
    program
}
