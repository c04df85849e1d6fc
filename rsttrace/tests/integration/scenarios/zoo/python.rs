//! Servers in Python, each with its own way of bringing a connection to whoever serves it.

use super::{program::Program, reset_in_every_way};
use crate::stage::Stage;

/// What all of them do with a connection.
const SERVE: &str = include_str!("serve.py");

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

pub(crate) fn threads(stage: &Stage) {
    reset_in_every_way(stage, || start(THREADS, 1));
}

/// Starts a server that says so many times that it is ready.
fn start(server: &str, times: u32) -> Program {
    let program = Program::start("python3", &["-c", &[SERVE, server].concat()]);
    for _ in 0..times {
        program.says("ready");
    }
    program
}
