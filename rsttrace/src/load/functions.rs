//! The kernel's BTF, of which nothing is left but the numbers of some functions.
//!
//! aya looks up the number of a function by its name, and for that reads all types of the kernel into memory: 25 MB, beside
//! the maps that are there by then. Here each type that nobody asks for stands as the shortest that there is.

use std::iter;

use anyhow::{Context as _, Result};
use aya::{Btf, Endianness};

/// `BTF_KIND_FWD` and `BTF_KIND_FUNC` of `Documentation/bpf/btf.rst` of the kernel, where `info` has them.
const FORWARD: u32 = 7 << 24;
/// See [`FORWARD`].
const FUNCTION: u32 = 12 << 24;

/// Magic, version and flags of a header.
const MAGIC: u32 = if cfg!(target_endian = "little") { 0x0001_eb9f } else { 0xeb9f_0100 };
/// Bytes of a header.
const HEADER_BYTES: u32 = 24;
/// Words of either kind of type.
const TYPE_WORDS: u32 = 3;

/// For aya: each of these functions, by its number in the kernel's BTF and its name.
pub(super) fn btf<Name: AsRef<str> + Ord>(functions: impl IntoIterator<Item = (u32, Name)>) -> Result<Btf> {
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_unstable();
    functions.dedup();
    let mut types: Vec<u32> = Vec::new();
    // The name of what has none.
    let mut strings = vec![0];
    let mut next = 1;
    for (id, name) in functions {
        types.extend(iter::repeat_n([0, FORWARD, 0], id.saturating_sub(next).try_into()?).flatten());
        types.extend([strings.len().try_into()?, FUNCTION, 0]);
        strings.extend_from_slice(name.as_ref().as_bytes());
        strings.push(0);
        next = id + 1;
    }
    let (types_bytes, strings_bytes) = ((next - 1) * TYPE_WORDS * 4, strings.len().try_into()?);
    let header = [MAGIC, HEADER_BYTES, 0, types_bytes, types_bytes, strings_bytes];
    let mut bytes: Vec<u8> = header.into_iter().chain(types).flat_map(u32::to_ne_bytes).collect();
    bytes.extend(strings);
    Btf::parse(&bytes, Endianness::default()).context("the functions of the kernel cannot be told to the loader")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::load::btf::{KERNEL_BTF, KernelTypes};

    #[test]
    fn functions_keep_their_numbers() {
        let types = KernelTypes::read(Path::new(KERNEL_BTF)).expect("this kernel has BTF");
        let names = ["tcp_reset", "bpf_iter_task_file", "tcp_v4_send_reset"];
        let known = names.map(|name| (types.function_id(name).expect("this kernel has it"), name));
        let btf = btf(known).expect("it is BTF");
        // aya shows what it has read only as BTF again.
        let library = btf_rs::Btf::from_bytes(&btf.to_bytes()).expect("it is BTF");
        for (id, name) in known {
            assert_eq!(library.resolve_ids_by_name(name).ok(), Some(vec![id]), "{name}");
        }
    }

    #[test]
    fn without_functions_there_is_nothing() {
        assert!(btf::<&str>([]).is_ok());
        assert!(btf([(1, "first"), (2, "second"), (2, "second")]).is_ok());
    }
}
