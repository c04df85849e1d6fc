//! Mount namespaces.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt as _, path::Path, ptr};

use nix::sched::{CloneFlags, unshare};

/// Moves the calling thread to a mount namespace of its own, whose mounts no other process sees.
pub(crate) fn leave() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // SAFETY: a path that lives through the call; the rest is not looked at.
    let result =
        unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bind-mounts a file at another path.
pub(crate) fn bind(from: impl AsRef<Path>, at: &Path) -> io::Result<()> {
    let [from, at] = [from.as_ref(), at].map(|path| CString::new(path.as_os_str().as_bytes()).unwrap_or_default());
    // SAFETY: texts that live through the call; the rest is not looked at.
    let result = unsafe { libc::mount(from.as_ptr(), at.as_ptr(), ptr::null(), libc::MS_BIND, ptr::null()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Mounts a file system of this type.
pub(crate) fn mount(kind: &str, at: &str, options: &str) -> io::Result<()> {
    let [kind, at, options] = [kind, at, options].map(|text| CString::new(text).unwrap_or_default());
    // SAFETY: texts that live through the call.
    let result = unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Unmounts what is mounted at this path.
pub(crate) fn unmount(at: &Path) -> io::Result<()> {
    let at = CString::new(at.as_os_str().as_bytes()).unwrap_or_default();
    // SAFETY: a text that lives through the call.
    let result = unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
