//! The puppet's own side: reads commands, does them, answers.

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
    hands::{self, Forked, Twin},
    sockets::{self, Socket},
    uring,
};
use crate::cpu;

/// A puppet's sockets, by the names that the scenario has given them.
#[derive(Default)]
struct Agent {
    sockets: HashMap<String, Socket>,
    boxes: HashMap<String, UnixDatagram>,
    twins: Vec<Twin>,
    holders: Vec<Child>,
}

/// Obeys until standard input ends. Puppets that are given the same number work on the same CPU.
pub(crate) fn main(number: &str) -> ExitCode {
    let cpu = cpu::shared_by(parse(number).unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
    let mut agent = Agent::default();
    // Unbuffered between commands, so that a forked child finds nothing that its parent has read already: the
    // scenario sends the next command only after the answer to the last.
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

/// The kernel's name of an error, `ECONNREFUSED`; or the error in words.
fn name(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), errno_name)
}

/// `ECONNRESET` for 104.
pub(super) fn errno_name(number: i32) -> String {
    let text = Errno::from_raw(number).to_string();
    text.split(':').next().unwrap_or_default().to_owned()
}

/// What to say of a command that cannot be understood.
fn nonsense(what: &str) -> io::Error {
    io::Error::other(format!("cannot do this: {what}"))
}

/// Gives this process a name: the bytes of a number, for it need be no text.
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
            // As `listen` and `connect`, by another thread with another name than the process.
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
            ["open-box", name] => drop(self.boxes.insert(name.to_owned(), hands::open_box(name)?)),
            ["lend", name, to] => hands::give(self.stream(name)?, to)?,
            ["give", name, to] => {
                hands::give(self.stream(name)?, to)?;
                self.sockets.remove(name);
            }
            ["take", name, from] => {
                let stream = hands::take(self.boxes.get(from).ok_or_else(|| nonsense(from))?)?;
                self.keep(name, Socket::Stream(stream));
            }
            // Starts a program that has the connection as its standard input, and keeps no copy.
            ["serve", name] => {
                let Some(Socket::Stream(stream)) = self.sockets.remove(name) else { return Err(nonsense(name)) };
                let holder = hands::start_holder(stream)?;
                let pid = holder.id();
                self.holders.push(holder);
                return Ok(pid.to_string());
            }
            ["await-holders"] => {
                for mut holder in self.holders.drain(..) {
                    holder.wait()?;
                }
            }
            ["twin"] => {
                let twin = Twin::fork()?;
                let pid = twin.pid().to_string();
                self.twins.push(twin);
                return Ok(pid);
            }
            ["dismiss"] => self.twins.pop().ok_or_else(|| nonsense("no twin"))?.dismiss()?,
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

    /// Keeps a connection that this puppet has opened; the answer is its own end.
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

    /// Forks. The child goes on to obey; the parent stays, with its sockets (`keep`) or without (`hand-over`), until the
    /// child is gone, or leaves at once (`leave`). In `namespace` the child has a PID namespace of its own. With a PID the
    /// child has that.
    fn fork(&mut self, how: &str, pid: Option<Pid>) -> io::Result<String> {
        if how == "namespace" {
            hands::leave_pid_namespace()?;
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
            Some(pid) => hands::fork_as(pid, parent),
            None => hands::fork_with(parent),
        };
        match forked? {
            Forked::Child(pid) => Ok(pid),
            Forked::Parent(()) => Err(nonsense("two parents")),
        }
    }
}

/// Does something in a thread of its own, whose name is not the process's.
fn in_thread<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("a-thread".to_owned()).spawn(act)?;
    thread.join().map_err(|_panic| nonsense("the thread died"))?
}

/// Connects and resets, again and again, with nobody waiting in between.
fn burst(address: SocketAddr, count: u32) -> io::Result<()> {
    for _ in 0..count {
        let stream = TcpStream::connect(address)?;
        sockets::linger_zero(&stream)?;
    }
    Ok(())
}
