//! The kernel's BTF, of which nothing is left but the numbers of the types that programs are loaded for.
//!
//! aya looks up such a number by name, and for that reads all types of the kernel into memory: 25 MB, beside the maps that
//! are there by then. Here each type that nobody asks for stands as the shortest that there is.

use std::iter;

use anyhow::{Context as _, Result};
use aya::{Btf, Endianness};

use super::btf::Kind;

/// `BTF_KIND_FWD`, `BTF_KIND_TYPEDEF` and `BTF_KIND_FUNC` of `Documentation/bpf/btf.rst` of the kernel, where `info` has
/// them.
const FORWARD: u32 = 7 << 24;
/// See [`FORWARD`].
const TYPEDEF: u32 = 8 << 24;
/// See [`FORWARD`].
const FUNCTION: u32 = 12 << 24;

/// Magic, version and flags of a header.
const MAGIC: u32 = if cfg!(target_endian = "little") { 0x0001_eb9f } else { 0xeb9f_0100 };
/// Bytes of a header.
const HEADER_BYTES: u32 = 24;
/// Words of any of these kinds of types.
const TYPE_WORDS: u32 = 3;

/// For aya: each of these types, by its number in the kernel's BTF, with its kind and name.
pub(super) fn btf<Name: AsRef<str> + Ord>(known: impl IntoIterator<Item = (u32, Kind, Name)>) -> Result<Btf> {
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let mut types: Vec<u32> = Vec::new();
    // The name of what has none.
    let mut strings = vec![0];
    let mut next = 1;
    for (id, kind, name) in known {
        types.extend(iter::repeat_n([0, FORWARD, 0], id.saturating_sub(next).try_into()?).flatten());
        let info = match kind {
            Kind::Function => FUNCTION,
            Kind::Typedef => TYPEDEF,
        };
        types.extend([strings.len().try_into()?, info, 0]);
        strings.extend_from_slice(name.as_ref().as_bytes());
        strings.push(0);
        next = id + 1;
    }
    let (types_bytes, strings_bytes) = ((next - 1) * TYPE_WORDS * 4, strings.len().try_into()?);
    let header = [MAGIC, HEADER_BYTES, 0, types_bytes, types_bytes, strings_bytes];
    let mut bytes: Vec<u8> = header.into_iter().chain(types).flat_map(u32::to_ne_bytes).collect();
    bytes.extend(strings);
    Btf::parse(&bytes, Endianness::default()).context("the types of the kernel cannot be told to the loader")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::load::btf::{KERNEL_BTF, KernelTypes};

    #[test]
    fn types_keep_their_numbers() {
        let types = KernelTypes::read(Path::new(KERNEL_BTF)).expect("this kernel has BTF");
        let names = [
            (Kind::Function, "tcp_reset"),
            (Kind::Typedef, "btf_trace_tcp_send_reset"),
            (Kind::Function, "bpf_iter_task_file"),
        ];
        let known = names.map(|(kind, name)| (types.hook(kind, name).expect("this kernel has it").id, kind, name));
        let btf = btf(known).expect("it is BTF");
        // aya shows what it has read only as BTF again.
        let library = btf_rs::Btf::from_bytes(&btf.to_bytes()).expect("it is BTF");
        for (id, kind, name) in known {
            assert_eq!(library.resolve_ids_by_name(name).ok(), Some(vec![id]), "{name}");
            let is_typedef = matches!(library.resolve_type_by_id(id), Ok(btf_rs::Type::Typedef(_)));
            assert_eq!(is_typedef, kind == Kind::Typedef, "{name}");
        }
    }

    #[test]
    fn without_types_there_is_nothing() {
        assert!(btf::<&str>([]).is_ok());
        let (first, second) = ((1, Kind::Function, "first"), (2, Kind::Typedef, "second"));
        assert!(btf([first, second, second]).is_ok());
    }
}
