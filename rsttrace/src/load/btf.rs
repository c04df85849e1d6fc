//! What the running kernel says about itself in BTF: offsets of fields, names of reasons, arguments of tracepoints.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use btf_rs::{Backend, Btf, Member, Struct, Type};
use rsttrace_common::offsets::ABSENT;

use super::names::{Mapped, Names};

/// Where the kernel keeps its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Types that may stand between a name and what it is.
const LINKS: usize = 32;

/// The running kernel's types.
pub struct KernelTypes {
    btf: Btf,
    names: Names,
}

/// What a type is, of those that programs are loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A function.
    Function,
    /// Another name for a type, as tracepoints have one.
    Typedef,
}

/// A type that programs are loaded for or attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its number among all types.
    pub id: u32,
    /// How many arguments it hands to a program.
    pub arguments: usize,
}

/// One row of the table of fields with the place where this kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldOffset {
    /// The kernel side's global.
    pub global: &'static str,
    /// `struct.member.path`, for messages.
    pub name: &'static str,
    /// Bytes from the start of the struct; [`ABSENT`] where the kernel has no such field.
    pub offset: u32,
    /// Bits to shift the read value right by, for a bit field.
    pub shift: u32,
    /// What its absence means.
    pub need: Need,
}

/// What the absence of a field means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing sensible can be said without it.
    Required,
    /// Records lack a figure.
    Optional,
    /// Nothing: it is what earlier kernels have in place of the field before it.
    Former,
    /// Nothing: only some processor architectures have it.
    Machine,
}

macro_rules! need {
    (required) => {
        Need::Required
    };
    (optional) => {
        Need::Optional
    };
    (fallback) => {
        Need::Former
    };
    (arch) => {
        Need::Machine
    };
}

macro_rules! rows {
    ($($global:ident: $struct:literal $path:literal $need:ident,)+) => {
        const ROWS: &[(&str, &str, &str, &str, Need)] = &[
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
    /// Reads the BTF at this path.
    pub fn read(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot read the kernel's type information (BTF) in {}", path.display());
        let mapped = Mapped::open(path).with_context(cannot)?;
        let names = Names::of(&mapped.bytes).context("it is torn, or newer than this program").with_context(cannot)?;
        let btf = match &mapped.path {
            // It reads each type when it is asked for, where its other way is to read all at once.
            Some(path) => Btf::from_file_with_backend(path, Backend::Mmap),
            None => Btf::from_bytes(&mapped.bytes),
        };
        let btf = btf.with_context(cannot)?;
        Ok(Self { btf, names })
    }

    /// From bytes that need not be a kernel's.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of(bytes: &[u8]) -> Result<Self> {
        let names = Names::of(&bytes::Bytes::copy_from_slice(bytes)).context("no BTF")?;
        Ok(Self { btf: Btf::from_bytes(bytes)?, names })
    }

    /// Looks up every field of the table. Fails when one that is required is missing.
    pub fn offsets(&self) -> Result<Vec<FieldOffset>> {
        let mut offsets = Vec::with_capacity(ROWS.len());
        // Many rows are of one structure, and some of these have hundreds of members.
        let mut structures: HashMap<&str, Option<Struct>> = HashMap::new();
        for &(global, parent, path, name, need) in ROWS {
            let structure = structures.entry(parent).or_insert_with(|| self.structure(parent));
            let found = structure.as_ref().and_then(|found| self.field(found, path));
            if found.is_none() && need == Need::Required {
                bail!("this kernel has no field {name}, without which its sockets cannot be read");
            }
            let (bits, shift) = found.map_or((ABSENT, 0), |bits| (bits / 8, bits % 8));
            offsets.push(FieldOffset { global, name, offset: bits, shift, need });
        }
        Ok(offsets)
    }

    /// The names of `enum sk_rst_reason` without their prefix; empty before 6.10.
    pub fn reset_reasons(&self) -> BTreeMap<u32, Arc<str>> {
        self.reasons("sk_rst_reason", "SK_RST_REASON_")
    }

    /// The names of `enum skb_drop_reason` without their prefix; empty before 5.17.
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

    /// Whether a task may be preempted in the middle of a tracepoint's programs (7.0): the kernel guards tracepoints by
    /// sleepable RCU then (`__DECLARE_TRACE`). That has had a variable of this name before, for other tracepoints, but not
    /// together with counters of this kind (6.15).
    pub fn preempts_tracepoints(&self) -> bool {
        let is_there = |name: &str, is: fn(&Type) -> bool| self.named(name).iter().any(is);
        is_there("tracepoint_srcu_srcu_data", |found| matches!(found, Type::Var(_)))
            && is_there("srcu_ctr", |found| matches!(found, Type::Struct(_)))
    }

    /// What of this kind and name is in the kernel proper; `None` when there is no such type.
    pub fn hook(&self, kind: Kind, name: &str) -> Option<Hook> {
        let is_it = |found: &Type| match kind {
            Kind::Function => matches!(found, Type::Func(_)),
            Kind::Typedef => matches!(found, Type::Typedef(_)),
        };
        let types = self.names.ids(name).into_iter().filter_map(|id| Some((id, self.btf.resolve_type_by_id(id).ok()?)));
        let (id, found) = types.into_iter().find(|(_, found)| is_it(found))?;
        let parameters = self.parameters(found)?;
        // The first parameter of a tracepoint is its private data.
        let arguments = parameters.checked_sub(usize::from(kind == Kind::Typedef))?;
        Some(Hook { id, arguments })
    }

    /// Parameters of the prototype that a type leads to.
    fn parameters(&self, start: Type) -> Option<usize> {
        let mut next = start;
        // A typedef of a pointer to a prototype. Types that lead to themselves lead nowhere.
        for _ in 0..LINKS {
            match next {
                Type::FuncProto(prototype) => return Some(prototype.parameters.len()),
                other => next = self.btf.resolve_chained_type(other.as_btf_type()?).ok()?,
            }
        }
        None
    }

    fn named(&self, name: &str) -> Vec<Type> {
        self.names.ids(name).into_iter().filter_map(|id| self.btf.resolve_type_by_id(id).ok()).collect()
    }

    fn structure(&self, name: &str) -> Option<Struct> {
        // A forward declaration may stand under the same name.
        self.named(name).into_iter().find_map(|found| match found {
            Type::Struct(structure) => Some(structure),
            _ => None,
        })
    }

    /// Bits from the start of the struct to the end of a path of members such as `sk_lock.owned`.
    fn field(&self, structure: &Struct, path: &str) -> Option<u32> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let (offset, member) = self.member(structure, first, LINKS)?;
        match rest {
            None => Some(offset),
            Some(rest) => offset.checked_add(self.field(&self.aggregate(&member)?, rest)?),
        }
    }

    /// A member by name, looking into anonymous structs and unions.
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

    /// The struct or union that a member is, through typedefs and qualifiers.
    fn aggregate(&self, member: &Member) -> Option<Struct> {
        let mut next = self.btf.resolve_chained_type(member).ok()?;
        for _ in 0..LINKS {
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

/// Fields that the kernel does not have, neither under today's name nor under a former one.
pub(super) fn absent(offsets: &[FieldOffset]) -> impl Iterator<Item = &'static str> {
    let successors = offsets.iter().skip(1).map(Some).chain([None]);
    offsets
        .iter()
        .zip(successors)
        .filter(|(field, next)| {
            let stands_in = next.is_some_and(|next| next.need == Need::Former && next.offset != ABSENT);
            field.offset == ABSENT && matches!(field.need, Need::Required | Need::Optional) && !stands_in
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
    fn the_running_kernel_has_every_field() {
        let offsets = running().offsets().expect("the required ones are there");
        assert_eq!(offsets.len(), ROWS.len());
        assert_eq!(absent(&offsets).collect::<Vec<_>>(), [""; 0]);
        // Structs that embed one another: the inner field cannot come later than the outer struct's own.
        let of = |global| offsets.iter().find(|field| field.global == global).map(|field| field.offset);
        assert!(of("SKC_STATE") < of("SK_SOCKET") && of("SK_SOCKET") < of("INET_SPORT"));
        assert!(of("INET_SPORT") < of("TP_RCV_NXT"));
    }

    #[test]
    fn reasons_come_without_their_prefix() {
        let types = running();
        let reasons = types.reset_reasons();
        if types.hook(Kind::Typedef, "btf_trace_tcp_send_reset").map(|hook| hook.arguments) == Some(2) {
            // Before 6.10 the kernel has none.
            assert!(reasons.is_empty());
            return;
        }
        assert_eq!(reasons.get(&0).map(|name| &**name), Some("NOT_SPECIFIED"));
        assert!(reasons.values().any(|name| &**name == "NO_SOCKET"));
        assert!(!reasons.values().any(|name| name.contains("SK_RST")));
    }

    #[test]
    fn arguments_are_counted_without_the_tracepoints_own() {
        let types = running();
        let arguments = |kind, name| types.hook(kind, name).map(|hook| hook.arguments);
        assert_eq!(arguments(Kind::Typedef, "btf_trace_tcp_receive_reset"), Some(1));
        assert_eq!(arguments(Kind::Typedef, "btf_trace_inet_sock_set_state"), Some(3));
        assert_eq!(arguments(Kind::Typedef, "no_such_tracepoint"), None);
        assert_eq!(arguments(Kind::Function, "tcp_close"), Some(2));
        assert_eq!(arguments(Kind::Function, "no_such_function"), None);
    }

    #[test]
    fn what_is_no_btf_is_an_error() {
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
