//! Which of the kernel's types have a name: an index of BTF, made in one pass.
//!
//! The library that reads the types looks through all of them, some 150,000, for every name, and there are eighty of them
//! to be looked up before anything is attached. The format is that of `Documentation/bpf/btf.rst` of the kernel.

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
use memchr::memmem;
use memmap2::{Mmap, MmapOptions};

/// `BTF_MAGIC`, in the order of this machine's bytes: the running kernel's.
const MAGIC: u16 = 0xeb9f;
/// Words of a `struct btf_header`: magic and version, its length, then offset and length of types and of strings.
const HEADER_WORDS: usize = 6;
/// Bytes of a `struct btf_type`, which every type begins with.
const TYPE_BYTES: usize = 12;

/// The bytes of a file, and a path by which the library can map it as well.
pub(super) struct Mapped {
    /// Kept open, since the path is by its number.
    _file: File,
    /// `None` where there is no file that can be mapped.
    pub(super) path: Option<PathBuf>,
    pub(super) bytes: Bytes,
}

impl Mapped {
    /// Maps a file. Where its file system does not allow that (sysfs before 6.16 for the kernel's BTF), a copy in memory is
    /// mapped, and where that cannot be made, the file is read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // The kernel's BTF has private mappings alone (`btf_sysfs_vmlinux_mmap`).
        // SAFETY: the kernel's own file does not change.
        match unsafe { MmapOptions::new().map_copy_read_only(&file) } {
            Ok(bytes) => Ok(Self { _file: file, path: Some(path.to_owned()), bytes: Bytes::from_owner(bytes) }),
            // A memfd is a file too: RLIMIT_FSIZE holds for it.
            Err(_) => Self::copy(path).or_else(|_| Self::read(path)),
        }
    }

    fn copy(path: &Path) -> io::Result<Self> {
        // SAFETY: the name ends in a zero; returns a descriptor or -1.
        let raw = unsafe { libc::memfd_create(c"btf".as_ptr(), libc::MFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nothing else owns.
        let mut file = unsafe { File::from_raw_fd(raw) };
        // Within the kernel, where it can: read by hand it comes a page at a time.
        if io::copy(&mut File::open(path)?, &mut file).is_err() {
            file.set_len(0)?;
            file.write_all_at(&fs::read(path)?, 0)?;
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        // SAFETY: no other process has the copy.
        let bytes = unsafe { Mmap::map(&file) }?;
        Ok(Self { _file: file, path: Some(path), bytes: Bytes::from_owner(bytes) })
    }

    /// Reads the file into memory of this process. The library then reads all types at once: the start takes 25 MB more.
    fn read(path: &Path) -> io::Result<Self> {
        Ok(Self { _file: File::open(path)?, path: None, bytes: fs::read(path)?.into() })
    }
}

/// The index.
#[derive(Debug)]
pub(super) struct Names {
    /// Where the name of a type begins among the strings, and the number of the type; in this order.
    types: Vec<(u32, u32)>,
    strings: Bytes,
}

impl Names {
    /// Reads BTF; `None` where it is none, or is torn.
    pub(super) fn of(bytes: &Bytes) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let header: Vec<usize> = (0..HEADER_WORDS).filter_map(|index| word(index * 4)?.try_into().ok()).collect();
        let &[_, header_bytes, types_at, types_bytes, strings_at, strings_bytes] = header.as_slice() else {
            return None;
        };
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let part = |at: usize, length: usize| bytes.get(header_bytes.checked_add(at)?..)?.get(..length);
        let types = part(types_at, types_bytes)?;
        part(strings_at, strings_bytes)?;
        let mut named = Vec::with_capacity(types.len() / 32);
        let mut rest = types;
        // 0 is void, and is not there.
        for id in 1.. {
            if rest.is_empty() {
                break;
            }
            let word = |at: usize| Some(u32::from_ne_bytes(*rest.get(at..)?.first_chunk()?));
            named.push((word(0)?, id));
            rest = rest.get(TYPE_BYTES + more_bytes(word(4)?)?..)?;
        }
        named.sort_unstable();
        let from = header_bytes + strings_at;
        Some(Self { types: named, strings: bytes.slice(from..from + strings_bytes) })
    }

    /// The numbers of the types that have this name.
    pub(super) fn ids(&self, name: &str) -> Vec<u32> {
        // A name that another ends in may be a part of that.
        let places = memmem::find_iter(&self.strings, &[name.as_bytes(), b"\0"].concat()).collect::<Vec<_>>();
        let named = |place: usize| {
            let offset = u32::try_from(place).unwrap_or(u32::MAX);
            let from = self.types.partition_point(|&(known, _)| known < offset);
            self.types[from..].iter().take_while(move |&&(known, _)| known == offset).map(|&(_, id)| id)
        };
        let mut ids: Vec<u32> = places.into_iter().flat_map(named).collect();
        ids.sort_unstable();
        ids
    }
}

/// Bytes of a type after its beginning, by its `info`; `None` for a kind that is not known.
fn more_bytes(info: u32) -> Option<usize> {
    let members = usize::from(u16::try_from(info & 0xffff).ok()?);
    // INT, ARRAY, STRUCT, UNION, ENUM, FUNC_PROTO, VAR, DATASEC, DECL_TAG, ENUM64; the others have nothing more.
    Some(match info >> 24 & 0x1f {
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => members * 12,
        6 | 13 => members * 8,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::btf::KERNEL_BTF;

    #[test]
    fn the_running_kernels_types_are_found_as_the_library_finds_them() {
        let mapped = Mapped::open(Path::new(KERNEL_BTF)).expect("this kernel has BTF");
        let copied = Mapped::copy(Path::new(KERNEL_BTF)).expect("it can be copied");
        let read = Mapped::read(Path::new(KERNEL_BTF)).expect("it can be read");
        assert!(mapped.bytes[..] == copied.bytes[..] && mapped.bytes[..] == read.bytes[..] && read.path.is_none());
        let names = Names::of(&mapped.bytes).expect("it is BTF");
        let library = btf_rs::Btf::from_bytes(&read.bytes).expect("it is BTF");
        for name in ["sock", "tcp_sock", "sk_buff", "tcp_reset", "btf_trace_tcp_send_reset", "int", "no_such_type"] {
            let mut ids = library.resolve_ids_by_name(name).unwrap_or_default();
            ids.sort_unstable();
            assert_eq!(names.ids(name), ids, "{name}");
        }
    }

    #[test]
    fn what_is_torn_has_no_names() {
        let mapped = Mapped::open(Path::new(KERNEL_BTF)).expect("this kernel has BTF");
        for length in [0, 1, 23, 24, 100, 10_000, mapped.bytes.len() - 1] {
            assert!(Names::of(&mapped.bytes.slice(..length)).is_none(), "{length} bytes");
        }
        let mut turned = mapped.bytes[..].to_vec();
        turned.swap(0, 1);
        assert!(Names::of(&turned.into()).is_none());
    }
}
