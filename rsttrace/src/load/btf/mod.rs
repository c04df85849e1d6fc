//! Look-ups in the running kernel's BTF: offsets of fields, names of reasons, arguments of tracepoints and functions.

mod format;
mod kernel_info;
mod mapped_file;
pub(super) mod minimal;
mod name_index;

pub use self::kernel_info::KernelInfo;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use btf_rs::{Backend, Btf, Member, Struct, Type};
use rsttrace_common::offsets::ABSENT;

use self::{mapped_file::MappedFile, name_index::NameIndex};

/// Path of the running kernel's BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Most typedefs, qualifiers and pointers that are followed from one type to another. BTF with a cycle is malformed, and must
/// not be followed forever.
const MAX_LINKS: usize = 32;

/// The running kernel's types.
pub struct KernelTypes {
    btf: Btf,
    index: NameIndex,
}

/// Kind of a type that programs are loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TypeKind {
    /// `BTF_KIND_FUNC`: a function, or an iterator (`bpf_iter_*`).
    Function,
    /// `BTF_KIND_TYPEDEF`: a tracepoint (`btf_trace_*`).
    Typedef,
}

/// A type that programs are loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetType {
    /// Its BTF id.
    pub id: u32,
    /// Arguments that a program receives.
    pub arguments: usize,
}

/// A field of [`rsttrace_common::for_each_field`] with its offset in this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldOffset {
    /// Name of the kernel side's global.
    pub global: &'static str,
    /// `struct.member.path`, for messages.
    pub name: &'static str,
    /// Bytes from the start of the struct; [`ABSENT`] when the kernel has no such field.
    pub offset: u32,
    /// Bits to shift the byte at `offset` right by: 0 to 7, 0 for all but bit fields.
    pub shift: u32,
    /// Consequence of its absence.
    pub need: FieldNeed,
}

/// Consequence of a field's absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldNeed {
    /// Nothing can be traced.
    Required,
    /// Records lack a figure.
    Optional,
    /// None: earlier kernels have it in place of the field of the row before.
    Fallback,
    /// None: only some processor architectures have it.
    ArchSpecific,
}

macro_rules! need {
    (required) => {
        FieldNeed::Required
    };
    (optional) => {
        FieldNeed::Optional
    };
    (fallback) => {
        FieldNeed::Fallback
    };
    (arch) => {
        FieldNeed::ArchSpecific
    };
}

macro_rules! rows {
    ($($global:ident: $struct:literal $path:literal $need:ident,)+) => {
        const ROWS: &[(&str, &str, &str, &str, FieldNeed)] = &[
            $((
                stringify!($global),
                $struct,
                $path,
                concat!($struct, ".", $path),
                need!($need),
            ),)+
        ];
    };
}
rsttrace_common::for_each_field!(rows);

impl KernelTypes {
    /// Reads the BTF at this path. Fails when it cannot be read, is truncated, or has a type of an unknown kind.
    pub fn read(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot read the kernel's type information (BTF) in {}", path.display());
        let mapped = MappedFile::open(path).with_context(cannot)?;
        let index =
            NameIndex::parse(&mapped.bytes).context("it is torn, or newer than this program").with_context(cannot)?;
        let btf = match &mapped.path {
            // Parses each type when it is asked for; the other backend parses all of them at once.
            Some(path) => Btf::from_file_with_backend(path, Backend::Mmap),
            None => Btf::from_bytes(&mapped.bytes),
        };
        let btf = btf.with_context(cannot)?;
        Ok(Self { btf, index })
    }

    /// Parses BTF that need not be a kernel's. Fails when it is malformed.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let index = NameIndex::parse(&bytes::Bytes::copy_from_slice(bytes)).context("no BTF")?;
        Ok(Self { btf: Btf::from_bytes(bytes)?, index })
    }

    /// Looks up every field of the table. Fails when a required one is missing.
    pub fn offsets(&self) -> Result<Vec<FieldOffset>> {
        let mut offsets = Vec::with_capacity(ROWS.len());
        // Many rows share a struct, and parsing one with hundreds of members is slow.
        let mut structures: HashMap<&str, Option<Struct>> = HashMap::new();
        for &(global, parent, path, name, need) in ROWS {
            let structure = structures.entry(parent).or_insert_with(|| self.structure(parent));
            let found = structure.as_ref().and_then(|found| self.field(found, path));
            if found.is_none() && need == FieldNeed::Required {
                bail!("this kernel has no field {name}, without which its sockets cannot be read");
            }
            let (bits, shift) = found.map_or((ABSENT, 0), |bits| (bits / 8, bits % 8));
            offsets.push(FieldOffset { global, name, offset: bits, shift, need });
        }
        Ok(offsets)
    }

    /// Names of `enum sk_rst_reason` by number, without their prefix; empty before 6.10.
    pub fn reset_reasons(&self) -> BTreeMap<u32, Arc<str>> {
        self.reasons("sk_rst_reason", "SK_RST_REASON_")
    }

    /// Names of `enum skb_drop_reason` by number, without their prefix; empty before 5.17.
    pub fn drop_reasons(&self) -> BTreeMap<u32, Arc<str>> {
        self.reasons("skb_drop_reason", "SKB_DROP_REASON_")
    }

    fn reasons(&self, name: &str, prefix: &str) -> BTreeMap<u32, Arc<str>> {
        let Some(Type::Enum(reasons)) = self.named(name).into_iter().find(|found| matches!(found, Type::Enum(_)))
        else {
            return BTreeMap::new();
        };
        reasons
            .members
            .iter()
            .filter_map(|member| {
                let name = self.btf.resolve_name(member).ok()?;
                Some((member.val(), Arc::from(name.strip_prefix(prefix).unwrap_or(&name))))
            })
            .collect()
    }

    /// Whether a task may be preempted in the middle of a tracepoint's programs: since 7.0 `__DECLARE_TRACE` guards them with
    /// sleepable RCU. Older kernels have had its variable `tracepoint_srcu` for other tracepoints, but not together with
    /// `struct srcu_ctr` (6.15).
    pub fn preempts_tracepoints(&self) -> bool {
        let exists = |name: &str, is: fn(&Type) -> bool| self.named(name).iter().any(is);
        exists("tracepoint_srcu_srcu_data", |found| matches!(found, Type::Var(_)))
            && exists("srcu_ctr", |found| matches!(found, Type::Struct(_)))
    }

    /// Finds a function or tracepoint of the kernel proper (not of a module) by the name of its type; `None` when there is
    /// none.
    pub fn find(&self, kind: TypeKind, name: &str) -> Option<TargetType> {
        let has_kind = |found: &Type| match kind {
            TypeKind::Function => matches!(found, Type::Func(_)),
            TypeKind::Typedef => matches!(found, Type::Typedef(_)),
        };
        let types = self.index.ids(name).into_iter().filter_map(|id| Some((id, self.btf.resolve_type_by_id(id).ok()?)));
        let (id, found) = types.into_iter().find(|(_, found)| has_kind(found))?;
        let parameters = self.parameters(found)?;
        // The first parameter of a tracepoint's prototype is its private data, which programs do not receive.
        let arguments = parameters.checked_sub(usize::from(kind == TypeKind::Typedef))?;
        Some(TargetType { id, arguments })
    }

    /// Number of parameters of a function, or of the prototype that a typedef points to; `None` when the type leads to no
    /// prototype.
    fn parameters(&self, start: Type) -> Option<usize> {
        let mut next = start;
        for _ in 0..MAX_LINKS {
            match next {
                Type::FuncProto(prototype) => return Some(prototype.parameters.len()),
                other => next = self.btf.resolve_chained_type(other.as_btf_type()?).ok()?,
            }
        }
        None
    }

    fn named(&self, name: &str) -> Vec<Type> {
        self.index.ids(name).into_iter().filter_map(|id| self.btf.resolve_type_by_id(id).ok()).collect()
    }

    fn structure(&self, name: &str) -> Option<Struct> {
        // A forward declaration may have that name, too.
        self.named(name).into_iter().find_map(|found| match found {
            Type::Struct(structure) => Some(structure),
            _ => None,
        })
    }

    /// Bits from the start of the struct to the member at the end of a path such as `sk_lock.owned`; `None` when there is no
    /// such member.
    fn field(&self, structure: &Struct, path: &str) -> Option<u32> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let (offset, member) = self.member(structure, first, MAX_LINKS)?;
        match rest {
            None => Some(offset),
            Some(rest) => offset.checked_add(self.field(&self.aggregate(&member)?, rest)?),
        }
    }

    /// A member by name, with its bits from the start of the struct; looks into anonymous structs and unions, at most `depth`
    /// levels deep.
    fn member(&self, structure: &Struct, wanted: &str, depth: usize) -> Option<(u32, Member)> {
        let depth = depth.checked_sub(1)?;
        structure.members.iter().find_map(|member| {
            let name = self.btf.resolve_name(member).unwrap_or_default();
            if name == wanted {
                return Some((member.bit_offset(), member.clone()));
            }
            if !name.is_empty() {
                return None;
            }
            let (offset, inner) = self.member(&self.aggregate(member)?, wanted, depth)?;
            Some((member.bit_offset().checked_add(offset)?, inner))
        })
    }

    /// The struct or union that is a member's type, behind typedefs and qualifiers; `None` for another type.
    fn aggregate(&self, member: &Member) -> Option<Struct> {
        let mut next = self.btf.resolve_chained_type(member).ok()?;
        for _ in 0..MAX_LINKS {
            match next {
                Type::Struct(found) | Type::Union(found) => return Some(found),
                Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) | Type::TypeTag(_) => {
                    next = self.btf.resolve_chained_type(next.as_btf_type()?).ok()?;
                }
                _ => return None,
            }
        }
        None
    }
}

/// Names of the fields that the kernel has neither under their own name nor under the one of the fallback in the row after.
fn absent_fields(offsets: &[FieldOffset]) -> impl Iterator<Item = &'static str> {
    let successors = offsets.iter().skip(1).map(Some).chain([None]);
    offsets
        .iter()
        .zip(successors)
        .filter(|(field, next)| {
            let stands_in = next.is_some_and(|next| next.need == FieldNeed::Fallback && next.offset != ABSENT);
            field.offset == ABSENT && matches!(field.need, FieldNeed::Required | FieldNeed::Optional) && !stands_in
        })
        .map(|(field, _)| field.name)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn running() -> KernelTypes {
        KernelTypes::read(Path::new(KERNEL_BTF)).expect("this kernel has BTF")
    }

    #[test]
    fn finds_every_field_of_the_running_kernel() {
        let offsets = running().offsets().expect("the required ones are there");
        assert_eq!(offsets.len(), ROWS.len());
        assert_eq!(absent_fields(&offsets).collect::<Vec<_>>(), [""; 0]);
        // `tcp_sock` begins with `inet_sock`, which begins with `sock`: fields of the outer struct come later.
        let of = |global| offsets.iter().find(|field| field.global == global).map(|field| field.offset);
        assert!(of("SKC_STATE") < of("SK_SOCKET") && of("SK_SOCKET") < of("INET_SPORT"));
        assert!(of("INET_SPORT") < of("TP_RCV_NXT"));
    }

    #[test]
    fn strips_the_prefix_of_reasons() {
        let types = running();
        let reasons = types.reset_reasons();
        if types.find(TypeKind::Typedef, "btf_trace_tcp_send_reset").map(|found| found.arguments) == Some(2) {
            // Before 6.10 there is no such enum.
            assert!(reasons.is_empty());
            return;
        }
        assert_eq!(reasons.get(&0).map(|name| &**name), Some("NOT_SPECIFIED"));
        assert!(reasons.values().any(|name| &**name == "NO_SOCKET"));
        assert!(!reasons.values().any(|name| name.contains("SK_RST")));
    }

    #[test]
    fn counts_arguments_without_private_data_of_tracepoints() {
        let types = running();
        let arguments = |kind, name| types.find(kind, name).map(|found| found.arguments);
        assert_eq!(arguments(TypeKind::Typedef, "btf_trace_tcp_receive_reset"), Some(1));
        assert_eq!(arguments(TypeKind::Typedef, "btf_trace_inet_sock_set_state"), Some(3));
        assert_eq!(arguments(TypeKind::Typedef, "no_such_tracepoint"), None);
        assert_eq!(arguments(TypeKind::Function, "tcp_close"), Some(2));
        assert_eq!(arguments(TypeKind::Function, "no_such_function"), None);
    }

    #[test]
    fn rejects_bytes_that_are_not_btf() {
        let whole = std::fs::read(KERNEL_BTF).expect("this kernel has BTF");
        let noise: Vec<u8> = (0..=u8::MAX).cycle().take(4096).collect();
        for bytes in [&[][..], b"\0", b"\x9f\xeb\x01\0", &whole[..24], &whole[..10_000], &noise] {
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(bytes).expect("it takes bytes");
            let read = KernelTypes::read(file.path());
            assert!(read.is_err_and(|error| error.to_string().contains("BTF")), "{} bytes", bytes.len());
        }
    }
}
