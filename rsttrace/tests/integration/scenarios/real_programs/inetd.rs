//! Super-servers: one process listens, and starts another that serves.

use std::fs;

use super::{
    ADDRESS, address,
    program::{self, Program, until},
    reset_in_every_way,
    truth::{End, Truth, sent_by},
};
use crate::{
    puppet::Puppet,
    stage::{Stage, V4},
};

/// Script that serves the connection at its standard input and output.
const SHELL: &str = "#!/bin/sh
echo $$
read command
case $command in
    alone*) exec cat >/dev/null 2>&1 ;;
    pipeline*) cat | tr a-z A-Z ;;
    leave*) ;;
esac
";

/// Socket-activated service that accepts by itself, from descriptor 3.
const SERVICE: &str = "
listener = socket.socket(fileno=3)
while True:
    serve(listener.accept()[0])
";

/// Service manager that starts the service and keeps a copy of the listener.
const MANAGER: &str = "
listener = listen()
if os.fork() == 0:
    # It may be 3 already.
    os.dup2(listener.fileno(), 3)
    os.set_inheritable(3, True)
    os.execve('/usr/bin/python3', ['python3', '-c', sys.argv[1]],
              {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())})
ready()
os.wait()
";

/// xinetd accepts, forks, and starts a shell with the connection as its standard input and output.
pub(crate) fn xinetd_starts_a_shell(stage: &Stage) {
    let directory = program::directory();
    let shell = program::script(directory.path(), "serve", SHELL);
    let path = directory.path().display();
    let (address, port) = ADDRESS.split_once(':').unwrap();
    let configuration = format!(
        "service rsttest
         {{
             type = UNLISTED
             socket_type = stream
             protocol = tcp
             wait = no
             user = nobody
             bind = {address}
             port = {port}
             server = {shell}
         }}
         "
    );
    let file = directory.path().join("xinetd.conf");
    fs::write(&file, configuration).unwrap();
    let arguments = ["-dontfork", "-stayalive", "-filelog", "/dev/stderr", "-f"];
    let files = [&file.display().to_string(), "-pidfile", &format!("{path}/pid")];
    shells(stage, || {
        let xinetd = Program::start("xinetd", &[&arguments[..], &files].concat());
        xinetd.says("Started working");
        xinetd
    });
}

/// systemd's tool accepts, as for a socket unit with `Accept=yes`.
pub(crate) fn systemd_accepts(stage: &Stage) {
    let directory = program::directory();
    let shell = program::script(directory.path(), "serve", SHELL);
    shells(stage, || systemd(&["--accept", "--inetd", "--listen", ADDRESS, &shell]));
}

/// systemd's tool listens, and executes the service on the first connection, as for a socket unit with `Accept=no`.
pub(crate) fn systemd_hands_over(stage: &Stage) {
    let service = [super::python::SERVE, SERVICE].concat();
    reset_in_every_way(stage, || systemd(&["--listen", ADDRESS, "/usr/bin/python3", "-c", &service]));
}

/// A service manager listens, keeps the listener, and starts the program, which alone accepts.
pub(crate) fn manager_keeps_the_listener(stage: &Stage) {
    let service = [super::python::SERVE, SERVICE].concat();
    let manager = [super::python::SERVE, MANAGER].concat();
    reset_in_every_way(stage, || {
        let manager = Program::start("python3", &["-c", &manager, &service]);
        manager.says("ready");
        manager
    });
}

fn systemd(arguments: &[&str]) -> Program {
    let tool = Program::start("systemd-socket-activate", arguments);
    tool.says("Listening on");
    tool
}

/// The client gives up on a program, and on a pipeline of a shell and two programs; a shell ends with data unread.
fn shells(stage: &Stage, start: impl FnOnce() -> Program) {
    let tracer = stage.trace();
    let server = start();
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();
    let connect = |client: &mut Puppet, name: &str| {
        let client_end = client.connect(name, address());
        let pid: u32 = client.tell(format_args!("hear_line {name}")).parse().unwrap();
        assert_ne!(pid, server.pid());
        (pid, client_end, End::of(client, client_end, address()))
    };

    let (pid, client_end, end) = connect(&mut client, "alone");
    client.tell("say_line alone alone");
    until("the shell is cat", || program::comm(pid) == "cat");
    let alone = End::held_by(pid, address(), client_end);
    client.abort("alone");
    truth.resets(&end, &alone);

    let (pid, client_end, end) = connect(&mut client, "pipeline");
    client.tell("say_line pipeline pipeline");
    let pipeline = End::shared_by(pid, &["cat", "serve", "tr"], address(), client_end);
    // The pipeline's programs end immediately: the shell may be the only holder by the time of the lookup.
    client.abort("pipeline");
    truth.resets(&end, &pipeline);

    let (pid, client_end, end) = connect(&mut client, "leave");
    let leave = End::held_by(pid, address(), client_end);
    // The shell reads its line byte by byte, and leaves the two bytes after it.
    client.tell("say leave leave");
    client.wait_error("leave", "ECONNRESET");
    truth.resets(&leave, &end);

    let run = truth.finish(stage, tracer);
    sent_by(&run, &leave).is("/socket/unread_bytes", 2);
}

/// A shell connects, and a child process reads. The shell keeps the connection.
pub(crate) fn shell_connects(stage: &Stage) {
    const SCRIPT: &str = "exec 3<>\"/dev/tcp/127.0.0.1/$1\"; echo ready; cat <&3; echo done";
    let mut server = Puppet::start("the-server");
    let server_end = server.listen("l", V4, 16);
    let tracer = stage.trace();
    let shell = Program::start("bash", &["-c", SCRIPT, "bash", &server_end.port().to_string()]);
    let client_end = server.tell("accept s l").parse().unwrap();
    shell.says("ready");
    let end = End::opened_by(shell.pid(), client_end, server_end);
    server.abort("s");
    shell.says("done");
    let mut truth = Truth::default();
    truth.resets(&End::of(&server, server_end, client_end), &end);
    truth.finish(stage, tracer);
}
