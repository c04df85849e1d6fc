//! Everything that the other modules need of the kernel's BTF, looked up at once.
//!
//! Parsed BTF takes more memory than anything else of a start; it is freed here, before there are programs and maps.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use rsttrace_common::offsets::ABSENT;

use super::{FieldOffset, KERNEL_BTF, KernelTypes, TargetType, TypeKind, absent_fields};
use crate::load::{
    LoadError,
    probes::{Attach, PROBES},
};

/// The running kernel: offsets, names and types.
pub struct KernelInfo {
    /// Offset of each field of [`rsttrace_common::for_each_field`].
    pub offsets: Vec<FieldOffset>,
    /// Names of `enum sk_rst_reason` by number, without their prefix; empty before 6.10.
    pub reset_reasons: BTreeMap<u32, Arc<str>>,
    /// Names of `enum skb_drop_reason` by number, without their prefix; empty before 5.17.
    pub drop_reasons: BTreeMap<u32, Arc<str>>,
    /// Whether a task may be preempted in the middle of a tracepoint's programs (7.0).
    pub(in super::super) preempts_tracepoints: bool,
    /// Whether `bpf_get_current_task_btf` exists (5.11).
    pub(in super::super) has_typed_tasks: bool,
    /// Whether the netlink interface of connection tracking is part of the kernel; it may still be there as a module.
    pub has_conntrack_netlink: bool,
    /// Parameters of `inet_csk_accept`; [`ABSENT`] when the kernel has no such function.
    pub(in super::super) accept_arguments: u32,
    /// The types that the table of probes refers to, without those that the kernel does not have.
    targets: BTreeMap<(TypeKind, String), TargetType>,
}

impl KernelInfo {
    /// Reads the running kernel's BTF. Blocks while it is indexed. Fails when there is no BTF, when it is malformed, or when a
    /// required field is missing.
    pub fn read() -> Result<Self, LoadError> {
        let types = KernelTypes::read(Path::new(KERNEL_BTF)).map_err(LoadError::KernelTypes)?;
        let names = PROBES.iter().flat_map(|probe| probe.options).filter_map(|option| option.attach.kernel_type());
        let targets = names.filter_map(|(kind, name)| Some((types.find(kind, &name)?, kind, name)));
        let accept = types.find(TypeKind::Function, "inet_csk_accept");
        Ok(Self {
            offsets: types.offsets().map_err(LoadError::KernelTypes)?,
            reset_reasons: types.reset_reasons(),
            drop_reasons: types.drop_reasons(),
            preempts_tracepoints: types.preempts_tracepoints(),
            has_conntrack_netlink: types.find(TypeKind::Function, "ctnetlink_get_conntrack").is_some(),
            has_typed_tasks: types.find(TypeKind::Function, "bpf_get_current_task_btf").is_some(),
            accept_arguments: accept.and_then(|function| function.arguments.try_into().ok()).unwrap_or(ABSENT),
            targets: targets.map(|(target, kind, name)| ((kind, name), target)).collect(),
        })
    }

    /// The type that a program of the table is loaded for; `None` when this kernel has none of that name, or when such
    /// programs need none.
    pub(in super::super) fn target(&self, attach: Attach) -> Option<TargetType> {
        self.targets.get(&attach.kernel_type()?).copied()
    }

    /// All types that programs of the table are loaded for: id, kind and name.
    pub(in super::super) fn targets(&self) -> impl Iterator<Item = (u32, TypeKind, &str)> {
        self.targets.iter().map(|((kind, name), target)| (target.id, *kind, name.as_str()))
    }

    /// Bits to shift the byte of a bit field right by; `None` when the kernel has no such field. `global` is its name in
    /// the table of fields.
    pub fn shift(&self, global: &str) -> Option<u32> {
        let field = self.offsets.iter().find(|field| field.global == global)?;
        (field.offset != ABSENT).then_some(field.shift)
    }

    /// Names of the fields that this kernel does not have.
    pub fn absent(&self) -> impl Iterator<Item = &'static str> {
        absent_fields(&self.offsets)
    }
}
