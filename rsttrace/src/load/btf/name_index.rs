//! Index of the kernel's types by name, built in one pass over BTF.
//!
//! `btf-rs` looks through all types, some 150,000, for every name, and eighty names are looked up before anything is attached.

use bytes::Bytes;
use memchr::memmem;

use super::format::{self, HEADER_WORDS, MAGIC, TYPE_BYTES};

/// Type ids by name.
#[derive(Debug)]
pub(super) struct NameIndex {
    /// Offset of a type's name in `strings`, and the id of the type; sorted.
    types: Vec<(u32, u32)>,
    strings: Bytes,
}

impl NameIndex {
    /// Indexes BTF. `None` when the bytes are not BTF of the host's byte order, are truncated, or have a type of an unknown
    /// kind, whose length is unknown.
    pub(super) fn parse(bytes: &Bytes) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let header: Vec<usize> =
            (0..HEADER_WORDS as usize).filter_map(|index| word(index * 4)?.try_into().ok()).collect();
        let &[_, header_bytes, types_at, types_bytes, strings_at, strings_bytes] = header.as_slice() else {
            return None;
        };
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let section = |at: usize, length: usize| bytes.get(header_bytes.checked_add(at)?..)?.get(..length);
        let types = section(types_at, types_bytes)?;
        section(strings_at, strings_bytes)?;
        let mut named = Vec::with_capacity(types.len() / 32);
        let mut rest = types;
        // Id 0 is void, which BTF does not store.
        for id in 1.. {
            if rest.is_empty() {
                break;
            }
            let word = |at: usize| Some(u32::from_ne_bytes(*rest.get(at..)?.first_chunk()?));
            named.push((word(0)?, id));
            rest = rest.get(TYPE_BYTES as usize + format::trailing_bytes(word(4)?)?..)?;
        }
        named.sort_unstable();
        let from = header_bytes + strings_at;
        Some(Self { types: named, strings: bytes.slice(from..from + strings_bytes) })
    }

    /// Ids of the types of this name, ascending; empty when there are none.
    pub(super) fn ids(&self, name: &str) -> Vec<u32> {
        // BTF may share storage: a name that is the end of a longer one can point into the middle of that.
        let offsets = memmem::find_iter(&self.strings, &[name.as_bytes(), b"\0"].concat()).collect::<Vec<_>>();
        let named = |offset: usize| {
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            let from = self.types.partition_point(|&(known, _)| known < offset);
            self.types[from..].iter().take_while(move |&&(known, _)| known == offset).map(|&(_, id)| id)
        };
        let mut ids: Vec<u32> = offsets.into_iter().flat_map(named).collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{
        super::{KERNEL_BTF, mapped_file::MappedFile},
        *,
    };

    #[test]
    fn finds_the_types_that_the_library_finds() {
        let mapped = MappedFile::open(Path::new(KERNEL_BTF)).expect("this kernel has BTF");
        let copied = MappedFile::copy(Path::new(KERNEL_BTF)).expect("it can be copied");
        let read = MappedFile::read(Path::new(KERNEL_BTF)).expect("it can be read");
        assert!(mapped.bytes[..] == copied.bytes[..] && mapped.bytes[..] == read.bytes[..] && read.path.is_none());
        let index = NameIndex::parse(&mapped.bytes).expect("it is BTF");
        let library = btf_rs::Btf::from_bytes(&read.bytes).expect("it is BTF");
        for name in ["sock", "tcp_sock", "sk_buff", "tcp_reset", "btf_trace_tcp_send_reset", "int", "no_such_type"] {
            let mut ids = library.resolve_ids_by_name(name).unwrap_or_default();
            ids.sort_unstable();
            assert_eq!(index.ids(name), ids, "{name}");
        }
    }

    #[test]
    fn rejects_truncated_and_foreign_bytes() {
        let mapped = MappedFile::open(Path::new(KERNEL_BTF)).expect("this kernel has BTF");
        for length in [0, 1, 23, 24, 100, 10_000, mapped.bytes.len() - 1] {
            assert!(NameIndex::parse(&mapped.bytes.slice(..length)).is_none(), "{length} bytes");
        }
        let mut swapped = mapped.bytes[..].to_vec();
        swapped.swap(0, 1);
        assert!(NameIndex::parse(&swapped.into()).is_none());
    }
}
