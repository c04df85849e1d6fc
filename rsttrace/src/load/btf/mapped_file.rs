//! The bytes of the kernel's BTF, mapped where that is possible.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::fs::FileExt as _,
    },
    path::{Path, PathBuf},
};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

/// The contents of a file, and a path under which `btf-rs` can map them as well.
pub(super) struct MappedFile {
    /// Kept open, since `path` may name its descriptor.
    _file: File,
    /// `None` when no file could be mapped: `bytes` is memory of this process then.
    pub(super) path: Option<PathBuf>,
    pub(super) bytes: Bytes,
}

impl MappedFile {
    /// Maps a file. Where its file system does not support that (sysfs before 6.16 for the kernel's BTF), maps a copy in a
    /// memfd; where that fails (`RLIMIT_FSIZE` applies to a memfd), reads the file. Fails when the file cannot be read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // The kernel's BTF allows private mappings only (`btf_sysfs_vmlinux_mmap`).
        // SAFETY: the kernel's own file does not change.
        match unsafe { MmapOptions::new().map_copy_read_only(&file) } {
            Ok(bytes) => Ok(Self { _file: file, path: Some(path.to_owned()), bytes: Bytes::from_owner(bytes) }),
            Err(_) => Self::copy(path).or_else(|_| Self::read(path)),
        }
    }

    /// Maps a copy of the file in a memfd. Fails when the file cannot be read, or the copy not written (`RLIMIT_FSIZE`).
    pub(super) fn copy(path: &Path) -> io::Result<Self> {
        // SAFETY: the name is terminated by a NUL; returns a descriptor or -1.
        let raw = unsafe { libc::memfd_create(c"btf".as_ptr(), libc::MFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nothing else owns.
        let mut file = unsafe { File::from_raw_fd(raw) };
        // `io::copy` lets the kernel copy where it can; `read` returns one page per call.
        if io::copy(&mut File::open(path)?, &mut file).is_err() {
            file.set_len(0)?;
            file.write_all_at(&fs::read(path)?, 0)?;
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        // SAFETY: no other process has the copy.
        let bytes = unsafe { Mmap::map(&file) }?;
        Ok(Self { _file: file, path: Some(path), bytes: Bytes::from_owner(bytes) })
    }

    /// Reads the file into memory of this process. `btf-rs` then parses all types at once: the start takes 25 MB more. Fails
    /// when the file cannot be read.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(Self { _file: File::open(path)?, path: None, bytes: fs::read(path)?.into() })
    }
}
