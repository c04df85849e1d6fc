//! The puppet's process: reads commands, executes them, answers.

use std::{
    collections::HashMap,
    ffi::CStr,
    io::{self, BufRead as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{fd::AsFd as _, unix::net::UnixDatagram},
    process::{Child, ExitCode},
    str::FromStr,
};

use nix::{
    errno::Errno,
    sched::sched_setaffinity,
    sys::{prctl, wait::waitpid},
    unistd::Pid,
};

use super::{
    destroy,
    handover::{self, Forked, ForkedHolder},
    sockets::{self, Socket},
    uring,
};
use crate::cpu;

/// Sockets of a puppet, by the names that the scenario has given them.
#[derive(Default)]
struct Agent {
    sockets: HashMap<String, Socket>,
    receivers: HashMap<String, UnixDatagram>,
    forked_holders: Vec<ForkedHolder>,
    holders: Vec<Child>,
}

/// Executes commands until the end of standard input. Puppets with the same number run on the same CPU.
pub(crate) fn main(number: &str) -> ExitCode {
    let cpu = cpu::shared_by(parse(number).unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
    let mut agent = Agent::default();
    // Unbuffered between commands, so that a forked child misses nothing that its parent has already read: the scenario
    // sends the next command only after the answer to the last.
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return ExitCode::FAILURE };
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match agent.obey(&words) {
            Ok(answer) => format!("ok {answer}\n"),
            Err(error) => format!("error {}\n", name(&error)),
        };
        if io::stdout().write_all(answer.as_bytes()).and_then(|()| io::stdout().flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Symbolic name of an error, such as `ECONNREFUSED`; otherwise its message.
fn name(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), errno_name)
}

/// Symbolic name of an error number, such as `ECONNRESET` for 104.
pub(super) fn errno_name(number: i32) -> String {
    let text = Errno::from_raw(number).to_string();
    text.split(':').next().unwrap_or_default().to_owned()
}

/// Error for a command that cannot be parsed.
fn nonsense(what: &str) -> io::Error {
    io::Error::other(format!("cannot do this: {what}"))
}

/// Sets the process's name to the bytes of a number, since a name need not be text.
fn rename(number: u128) -> io::Result<()> {
    let bytes = number.to_be_bytes();
    Ok(prctl::set_name(CStr::from_bytes_until_nul(&bytes).map_err(io::Error::other)?)?)
}

fn parse<T: FromStr>(word: &str) -> io::Result<T> {
    word.parse().ok().ok_or_else(|| nonsense(word))
}

impl Agent {
    fn obey(&mut self, words: &[&str]) -> io::Result<String> {
        match *words {
            ["name", number] => rename(parse(number)?)?,
            ["listen", name, address, backlog] => {
                let listener = TcpListener::bind(parse::<SocketAddr>(address)?)?;
                sockets::listen_again(&listener, parse(backlog)?)?;
                let local = listener.local_addr()?;
                self.keep(name, Socket::Listener(listener));
                return Ok(local.to_string());
            }
            ["accept", name, from] => {
                let (stream, peer) = self.listener(from)?.accept()?;
                self.keep(name, Socket::Stream(stream));
                return Ok(peer.to_string());
            }
            ["connect", name, address] => {
                return self.keep_client(name, TcpStream::connect(parse::<SocketAddr>(address)?)?);
            }
            ["connect-from", name, local, address] => {
                return self.keep_client(name, sockets::connect_from(parse(local)?, parse(address)?)?);
            }
            // Like `accept` and `connect`, by a thread whose name differs from the process's.
            ["accept-in-thread", name, from] => {
                let listener = self.listener(from)?.try_clone()?;
                let (stream, peer) = in_thread(move || listener.accept())?;
                self.keep(name, Socket::Stream(stream));
                return Ok(peer.to_string());
            }
            ["accept-by-uring", name, from] => {
                let stream = uring::accept(self.listener(from)?)?;
                self.keep(name, Socket::Stream(stream));
            }
            ["connect-in-thread", name, address] => {
                let address = parse::<SocketAddr>(address)?;
                return self.keep_client(name, in_thread(move || TcpStream::connect(address))?);
            }
            ["listen-in-group", name, address, backlog] => {
                let listener = sockets::listen_in_group(parse(address)?, parse(backlog)?)?;
                let local = listener.local_addr()?;
                self.keep(name, Socket::Listener(listener));
                return Ok(local.to_string());
            }
            ["bind-unix", name] => drop(self.receivers.insert(name.to_owned(), handover::bind_unix(name)?)),
            ["lend", name, to] => handover::give(self.stream(name)?, to)?,
            ["give", name, to] => {
                handover::give(self.stream(name)?, to)?;
                self.sockets.remove(name);
            }
            ["take", name, from] => {
                let stream = handover::take(self.receivers.get(from).ok_or_else(|| nonsense(from))?)?;
                self.keep(name, Socket::Stream(stream));
            }
            // Starts a program that has the connection as its standard input, and keeps no copy.
            ["serve", name] => {
                let Some(Socket::Stream(stream)) = self.sockets.remove(name) else { return Err(nonsense(name)) };
                let holder = handover::start_holder(stream)?;
                let pid = holder.id();
                self.holders.push(holder);
                return Ok(pid.to_string());
            }
            ["await-holders"] => {
                for mut holder in self.holders.drain(..) {
                    holder.wait()?;
                }
            }
            ["fork-holder"] => {
                let holder = ForkedHolder::fork()?;
                let pid = holder.pid().to_string();
                self.forked_holders.push(holder);
                return Ok(pid);
            }
            ["end-holder"] => self.forked_holders.pop().ok_or_else(|| nonsense("no holder"))?.end()?,
            ["burst", address, count] => burst(parse(address)?, parse(count)?)?,
            ["close", name] => drop(self.sockets.remove(name).ok_or_else(|| nonsense(name))?),
            ["shutdown", name, how] => {
                let how = match how {
                    "rd" => Shutdown::Read,
                    "wr" => Shutdown::Write,
                    "rdwr" => Shutdown::Both,
                    _ => return Err(nonsense(how)),
                };
                self.stream(name)?.shutdown(how)?;
            }
            ["backlog", name, backlog] => sockets::listen_again(self.listener(name)?, parse(backlog)?)?,
            ["idle", name, ms] => match self.sockets.get(name) {
                Some(Socket::Stream(stream)) => sockets::idle(stream.as_fd(), parse(ms)?)?,
                Some(Socket::Listener(listener)) => sockets::idle(listener.as_fd(), parse(ms)?)?,
                None => return Err(nonsense(name)),
            },
            ["vanish", name] => {
                sockets::on_stream(self.stream(name)?, "vanish", &[])?;
                self.sockets.remove(name);
            }
            ["defer_accept", name, seconds] => sockets::defer_accept(self.listener(name)?, parse(seconds)?)?,
            ["fork", how] => return self.fork(how, None),
            ["fork", "hand-over-to", pid] => return self.fork("hand-over", Some(Pid::from_raw(parse(pid)?))),
            ["destroy", local, peer] => destroy(parse(local)?, parse(peer)?)?,
            [verb, name, ref rest @ ..] => return sockets::on_stream(self.stream(name)?, verb, rest),
            _ => return Err(nonsense("no command")),
        }
        Ok(String::new())
    }

    fn keep(&mut self, name: &str, socket: Socket) {
        self.sockets.insert(name.to_owned(), socket);
    }

    /// Keeps a connection that this puppet has opened; the answer is its local end.
    fn keep_client(&mut self, name: &str, stream: TcpStream) -> io::Result<String> {
        let local = stream.local_addr()?;
        self.keep(name, Socket::Stream(stream));
        Ok(local.to_string())
    }

    fn listener(&self, name: &str) -> io::Result<&TcpListener> {
        match self.sockets.get(name) {
            Some(Socket::Listener(listener)) => Ok(listener),
            _ => Err(nonsense(name)),
        }
    }

    fn stream(&self, name: &str) -> io::Result<&TcpStream> {
        match self.sockets.get(name) {
            Some(Socket::Stream(stream)) => Ok(stream),
            _ => Err(nonsense(name)),
        }
    }

    /// Forks. The child continues to execute commands; the parent stays until the child exits, with its sockets
    /// (`keep`) or without (`hand-over`), or exits immediately (`leave`). With `namespace` the child is in a PID
    /// namespace of its own; with a PID the child has that PID.
    fn fork(&mut self, how: &str, pid: Option<Pid>) -> io::Result<String> {
        if how == "namespace" {
            handover::leave_pid_namespace()?;
        }
        let parent = |child, mut to_child: io::PipeWriter| {
            if how == "hand-over" {
                self.sockets.clear();
            }
            write!(to_child, "{child}")?;
            if how == "leave" {
                std::process::exit(0);
            }
            drop(to_child);
            waitpid(child, None)?;
            Err::<(), _>(nonsense("the child is gone"))
        };
        let forked = match pid {
            Some(pid) => handover::fork_as(pid, parent),
            None => handover::fork_with(parent),
        };
        match forked? {
            Forked::Child(pid) => Ok(pid),
            Forked::Parent(()) => Err(nonsense("two parents")),
        }
    }
}

/// Runs `act` in a thread whose name differs from the process's.
fn in_thread<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("a-thread".to_owned()).spawn(act)?;
    thread.join().map_err(|_panic| nonsense("the thread died"))?
}

/// Connects and resets `count` times, without a scenario's command in between.
fn burst(address: SocketAddr, count: u32) -> io::Result<()> {
    for _ in 0..count {
        let stream = TcpStream::connect(address)?;
        sockets::linger_zero(&stream)?;
    }
    Ok(())
}
