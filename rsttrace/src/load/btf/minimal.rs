//! BTF that has nothing but given types, under the ids that they have in the kernel's BTF.

use anyhow::Result;

use super::{
    TypeKind,
    format::{self, HEADER_BYTES, MAGIC, TYPE_BYTES, VERSION, kind},
};

/// Encodes these types: id in the kernel's BTF, kind, and name. Every id in between gets an unnamed forward declaration, the
/// shortest type. A typedef refers to void and a function to no prototype: only ids and names are looked up in the result.
/// Fails when ids or names exceed 32 bits.
pub(in super::super) fn encode<Name: AsRef<str> + Ord>(
    types: impl IntoIterator<Item = (u32, TypeKind, Name)>,
) -> Result<Vec<u8>> {
    let mut named: Vec<_> = types.into_iter().collect();
    named.sort_unstable();
    named.dedup();
    let unnamed = type_bytes(0, kind::FWD);
    let mut encoded = Vec::new();
    // Offset 0 is the empty name.
    let mut strings = vec![0];
    let mut next_id = 1;
    for (id, kind, name) in named {
        encoded.extend_from_slice(&unnamed.repeat(id.saturating_sub(next_id).try_into()?));
        let kind = match kind {
            TypeKind::Function => kind::FUNC,
            TypeKind::Typedef => kind::TYPEDEF,
        };
        encoded.extend_from_slice(&type_bytes(strings.len().try_into()?, kind));
        strings.extend_from_slice(name.as_ref().as_bytes());
        strings.push(0);
        next_id = id + 1;
    }
    let [low, high] = MAGIC.to_ne_bytes();
    let magic = u32::from_ne_bytes([low, high, VERSION, 0]);
    let (types_bytes, strings_bytes) = (encoded.len().try_into()?, strings.len().try_into()?);
    let header = [magic, HEADER_BYTES, 0, types_bytes, types_bytes, strings_bytes];
    Ok([header.map(u32::to_ne_bytes).as_flattened(), &encoded, &strings].concat())
}

/// A type without a size, members or another type: its name's offset, its kind, and 0.
fn type_bytes(name: u32, kind: u32) -> [u8; TYPE_BYTES as usize] {
    let mut bytes = [0; TYPE_BYTES as usize];
    bytes.as_chunks_mut().0.copy_from_slice(&[name, format::info(kind), 0].map(u32::to_ne_bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aya::{Btf, Endianness};

    use super::{
        super::{KERNEL_BTF, KernelTypes},
        *,
    };

    #[test]
    fn keeps_the_ids_of_types() {
        let types = KernelTypes::read(Path::new(KERNEL_BTF)).expect("this kernel has BTF");
        let names = [
            (TypeKind::Function, "tcp_reset"),
            (TypeKind::Typedef, "btf_trace_tcp_send_reset"),
            (TypeKind::Function, "bpf_iter_task_file"),
        ];
        let named = names.map(|(kind, name)| (types.find(kind, name).expect("this kernel has it").id, kind, name));
        let bytes = encode(named).expect("the ids are small");
        // The only access to what aya has parsed is BTF again.
        let parsed = Btf::parse(&bytes, Endianness::default()).expect("it is BTF");
        let library = btf_rs::Btf::from_bytes(&parsed.to_bytes()).expect("it is BTF");
        for (id, kind, name) in named {
            assert_eq!(library.resolve_ids_by_name(name).ok(), Some(vec![id]), "{name}");
            let is_typedef = matches!(library.resolve_type_by_id(id), Ok(btf_rs::Type::Typedef(_)));
            assert_eq!(is_typedef, kind == TypeKind::Typedef, "{name}");
        }
    }

    #[test]
    fn encodes_no_types_and_repeated_types() {
        let parses =
            |bytes: Result<Vec<u8>>| Btf::parse(&bytes.expect("the ids are small"), Endianness::default()).is_ok();
        assert!(parses(encode::<&str>([])));
        let (first, second) = ((1, TypeKind::Function, "first"), (2, TypeKind::Typedef, "second"));
        assert!(parses(encode([first, second, second])));
    }
}
