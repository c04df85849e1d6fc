//! The binary format of BTF (`Documentation/bpf/btf.rst` of the kernel), as far as it is read and written here.

/// `BTF_MAGIC`, in the byte order of the host: the running kernel's.
pub(super) const MAGIC: u16 = 0xeb9f;
/// `BTF_VERSION`.
pub(super) const VERSION: u8 = 1;
/// Words of a `struct btf_header`: magic, version and flags; its length; then offset and length, in bytes, of the types and
/// of the strings.
pub(super) const HEADER_WORDS: u32 = 6;
/// Bytes of a `struct btf_header`.
pub(super) const HEADER_BYTES: u32 = HEADER_WORDS * 4;
/// Words of a `struct btf_type`, with which every type begins: offset of the name, `info`, and size or type.
pub(super) const TYPE_WORDS: u32 = 3;
/// Bytes of a `struct btf_type`.
pub(super) const TYPE_BYTES: u32 = TYPE_WORDS * 4;

/// Kinds of types (`BTF_KIND_*`).
pub(super) mod kind {
    pub(in super::super) const INT: u32 = 1;
    pub(in super::super) const PTR: u32 = 2;
    pub(in super::super) const ARRAY: u32 = 3;
    pub(in super::super) const STRUCT: u32 = 4;
    pub(in super::super) const UNION: u32 = 5;
    pub(in super::super) const ENUM: u32 = 6;
    pub(in super::super) const FWD: u32 = 7;
    pub(in super::super) const TYPEDEF: u32 = 8;
    pub(in super::super) const VOLATILE: u32 = 9;
    pub(in super::super) const CONST: u32 = 10;
    pub(in super::super) const RESTRICT: u32 = 11;
    pub(in super::super) const FUNC: u32 = 12;
    pub(in super::super) const FUNC_PROTO: u32 = 13;
    pub(in super::super) const VAR: u32 = 14;
    pub(in super::super) const DATASEC: u32 = 15;
    pub(in super::super) const FLOAT: u32 = 16;
    pub(in super::super) const DECL_TAG: u32 = 17;
    pub(in super::super) const TYPE_TAG: u32 = 18;
    pub(in super::super) const ENUM64: u32 = 19;
}

/// The `info` of a type of this kind without members.
pub(super) const fn info(kind: u32) -> u32 {
    kind << 24
}

/// Bytes of a type after its `struct btf_type`, from its `info`; `None` for an unknown kind.
pub(super) fn trailing_bytes(info: u32) -> Option<usize> {
    let members = usize::from(u16::try_from(info & 0xffff).ok()?);
    Some(match info >> 24 & 0x1f {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => members * 12,
        kind::ENUM | kind::FUNC_PROTO => members * 8,
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        _ => return None,
    })
}
