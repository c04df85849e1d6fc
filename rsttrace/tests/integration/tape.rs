//! A packet capture of a scenario's namespace, made beside rsttrace and read by it afterwards.

use std::{
    io::{self, IoSliceMut},
    mem::zeroed,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    net::if_::if_nametoindex,
    sys::{
        socket::{ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt},
        time::TimeVal,
    },
};

/// Size of the receive buffer in bytes: room for what comes while the reader does not run.
const BUFFER: usize = 64 << 20;
/// Bytes of each packet that are kept, behind the link header.
const KEPT: usize = 120;
/// Most bytes of a capture.
const MAX: usize = 64 << 20;
/// Longest wait of the reader for a packet.
const WAIT: Duration = Duration::from_millis(20);
/// Link type of Linux cooked captures, and the bytes of its header.
const COOKED: (u32, usize) = (113, 16);

/// A capture that goes on.
pub(crate) struct Tape {
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<Option<Vec<u8>>>>,
}

impl Tape {
    /// Captures every interface of the calling thread's namespace.
    pub(crate) fn start() -> Self {
        Self::start_on(None)
    }

    /// Captures one interface of the calling thread's namespace, by its name; `None` for every one.
    pub(crate) fn start_on(interface: Option<&str>) -> Self {
        let every_protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: takes integers and returns a descriptor or -1.
        let raw = unsafe { libc::socket(libc::AF_PACKET, kind, every_protocol.into()) };
        assert!(raw >= 0, "packet socket: {}", io::Error::last_os_error());
        // SAFETY: a new descriptor that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        if let Some(interface) = interface {
            // SAFETY: all zeros is a valid address.
            let mut address: libc::sockaddr_ll = unsafe { zeroed() };
            address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).unwrap();
            address.sll_protocol = every_protocol;
            address.sll_ifindex = if_nametoindex(interface).unwrap().cast_signed();
            let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
            // SAFETY: the address lives through the call and has the length that is given.
            let bound = unsafe { libc::bind(raw, (&raw const address).cast(), length) };
            assert_eq!(bound, 0, "bind: {}", io::Error::last_os_error());
        }
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
        let wait = TimeVal::new(0, WAIT.subsec_micros().into());
        setsockopt(&socket, sockopt::ReceiveTimeout, &wait).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let reader = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || read(&socket, &is_over)
        });
        Self { is_over, reader: Some(reader) }
    }

    /// Ends the capture, and returns it as a file; `None` where it would be too large.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        self.is_over.store(true, Relaxed);
        self.reader.take()?.join().unwrap()
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
    }
}

/// Reads packets until the capture is over and the buffer empty.
fn read(socket: &OwnedFd, is_over: &AtomicBool) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    for word in [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 65_535, COOKED.0] {
        file.extend(u32::to_le_bytes(word));
    }
    let mut packet = [0; KEPT];
    let mut ancillary = nix::cmsg_space!(libc::timespec);
    loop {
        let was_over = is_over.load(Relaxed);
        let mut buffers = [IoSliceMut::new(&mut packet)];
        // The real length, of which the buffer holds the beginning.
        let flags = MsgFlags::MSG_TRUNC;
        match recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut buffers, Some(&mut ancillary), flags) {
            Ok(message) => {
                let time = message.cmsgs().unwrap().find_map(|message| match message {
                    ControlMessageOwned::ScmTimestampns(time) => Some((time.tv_sec(), time.tv_nsec())),
                    _ => None,
                });
                let (from, length) = (message.address.expect("an address"), message.bytes);
                append(&mut file, time, &from, packet.get(..length.min(KEPT)).unwrap(), length);
            }
            Err(_) if was_over => return Some(file),
            Err(_) => {}
        }
        if file.len() > MAX {
            return None;
        }
    }
}

/// Appends a packet with its cooked header.
fn append(file: &mut Vec<u8>, time: Option<(i64, i64)>, from: &LinkAddr, packet: &[u8], length: usize) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (seconds, nanoseconds) = time.unwrap_or((now.as_secs().cast_signed(), now.subsec_nanos().into()));
    let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    file.extend(u32::try_from(seconds).unwrap().to_le_bytes());
    file.extend(u32::try_from(nanoseconds).unwrap().to_le_bytes());
    file.extend(word(packet.len() + COOKED.1));
    file.extend(word(length + COOKED.1));
    let mut header = [0; COOKED.1];
    header[1] = from.pkttype();
    header[2..4].copy_from_slice(&from.hatype().to_be_bytes());
    header[14..].copy_from_slice(&from.protocol().to_ne_bytes());
    file.extend(header);
    file.extend(packet);
}
