//! Index of the kernel's types by name, built in one pass over BTF.
//!
//! `btf-rs` looks through all types, some 150,000, for every name, and eighty names are looked up before anything is attached.

use bytes::Bytes;
use memchr::memmem;

use super::format::{self, HEADER_WORDS, MAGIC, TYPE_BYTES};

/// Names whose offsets in the string section differ in so many low bits alone are in one group: 16 types on average on Linux 6.18.
const GROUP_BITS: u32 = 9;

/// Type ids by name.
#[derive(Debug)]
pub(super) struct NameIndex {
    /// Offset of a type's name in `strings`, and the id of the type: group by group, in a group by id.
    types: Vec<(u32, u32)>,
    /// Index in `types` of each group's first type, and the end of the last group.
    groups: Vec<usize>,
    strings: Bytes,
}

impl NameIndex {
    /// Indexes BTF; types without a name have no entry. `None` when the bytes are not BTF of the host's byte order, are
    /// truncated, or have a type of an unknown kind, whose length is unknown.
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
        let types = named_types(section(types_at, types_bytes)?)?;
        section(strings_at, strings_bytes)?;
        let from = header_bytes + strings_at;
        let (types, groups) = grouped(&types, strings_bytes);
        Some(Self { types, groups, strings: bytes.slice(from..from + strings_bytes) })
    }

    /// Ids of the types of this name, ascending; empty when there are none.
    pub(super) fn ids(&self, name: &str) -> Vec<u32> {
        // BTF may share storage: a name that is the end of a longer one can point into the middle of that.
        let offsets = memmem::find_iter(&self.strings, &[name.as_bytes(), b"\0"].concat()).collect::<Vec<_>>();
        let named = |offset: usize| {
            let group = offset >> GROUP_BITS;
            self.types[self.groups[group]..self.groups[group + 1]]
                .iter()
                .filter(move |&&(known, _)| known as usize == offset)
                .map(|&(_, id)| id)
        };
        let mut ids: Vec<u32> = offsets.into_iter().flat_map(named).collect();
        ids.sort_unstable();
        ids
    }
}

/// Offset of the name and id of each type that has a name, by id.
fn named_types(section: &[u8]) -> Option<Vec<(u32, u32)>> {
    let mut named = Vec::with_capacity(section.len() / 32);
    let mut rest = section;
    // Id 0 is void, which BTF does not store.
    let mut id = 1;
    while !rest.is_empty() {
        let (head, behind) = rest.split_first_chunk::<{ TYPE_BYTES as usize }>()?;
        let [n0, n1, n2, n3, i0, i1, i2, i3, ..] = *head;
        let name = u32::from_ne_bytes([n0, n1, n2, n3]);
        if name != 0 {
            named.push((name, id));
        }
        rest = behind.get(format::trailing_bytes(u32::from_ne_bytes([i0, i1, i2, i3]))?..)?;
        id += 1;
    }
    Some(named)
}

/// Puts types into groups by their names, and returns where each group begins. A name behind the end of the strings, which
/// only malformed BTF has, is left out: it cannot be found. Counted, not sorted, which took two
/// thirds of the instructions of a start without optimisation.
fn grouped(named: &[(u32, u32)], strings_bytes: usize) -> (Vec<(u32, u32)>, Vec<usize>) {
    let group_of = |name: u32| ((name as usize) < strings_bytes).then_some((name >> GROUP_BITS) as usize);
    // One group more than the strings have, whose beginning is the end of the last.
    let mut groups = vec![0; (strings_bytes >> GROUP_BITS) + 2];
    for &(name, _) in named {
        if let Some(group) = group_of(name) {
            groups[group + 1] += 1;
        }
    }
    let mut total = 0;
    for begins in &mut groups {
        total += *begins;
        *begins = total;
    }
    let mut types = vec![(0, 0); total];
    let mut next = groups.clone();
    for &(name, id) in named {
        if let Some(group) = group_of(name) {
            types[next[group]] = (name, id);
            next[group] += 1;
        }
    }
    (types, groups)
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
