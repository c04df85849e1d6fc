//! What of the running kernel's types the rooms behind need: looked up at once, so that the types, which take more memory
//! than all else, are gone before there are programs and maps.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use rsttrace_common::offsets::ABSENT;

use super::{
    btf::{self, FieldOffset, Hook, KERNEL_BTF, KernelTypes, Kind},
    probes::{Attach, PROBES},
};
use crate::exit::Failure;

/// The running kernel.
pub struct Kernel {
    /// Every field of the table.
    pub offsets: Vec<FieldOffset>,
    /// The names of `enum sk_rst_reason` without their prefix; empty before 6.10.
    pub reset_reasons: BTreeMap<u32, Arc<str>>,
    /// The names of `enum skb_drop_reason` without their prefix; empty before 5.17.
    pub drop_reasons: BTreeMap<u32, Arc<str>>,
    /// Whether a task may be preempted in the middle of a tracepoint's programs (7.0).
    pub(super) preempts_tracepoints: bool,
    /// Whether a program may be told the current task with its type (5.11).
    pub(super) has_typed_tasks: bool,
    /// How many arguments `inet_csk_accept` has; [`ABSENT`] when that is not known.
    pub(super) accept_arguments: u32,
    /// What the table of probes names.
    hooks: BTreeMap<(Kind, String), Hook>,
}

impl Kernel {
    /// Reads the running kernel's BTF.
    pub fn read() -> Result<Self, Failure> {
        let types = KernelTypes::read(Path::new(KERNEL_BTF)).map_err(Failure::Host)?;
        let named = PROBES.iter().flat_map(|probe| probe.ways).filter_map(|way| way.attach.kernel_type());
        let hooks = named.filter_map(|(kind, name)| Some((types.hook(kind, &name)?, kind, name)));
        let accept = types.hook(Kind::Function, "inet_csk_accept");
        Ok(Self {
            offsets: types.offsets().map_err(Failure::Host)?,
            reset_reasons: types.reset_reasons(),
            drop_reasons: types.drop_reasons(),
            preempts_tracepoints: types.preempts_tracepoints(),
            has_typed_tasks: types.hook(Kind::Function, "bpf_get_current_task_btf").is_some(),
            accept_arguments: accept.and_then(|hook| hook.arguments.try_into().ok()).unwrap_or(ABSENT),
            hooks: hooks.map(|(hook, kind, name)| ((kind, name), hook)).collect(),
        })
    }

    /// What a program of the table goes to; `None` when this kernel has nothing of that name, or none is needed.
    pub(super) fn hook(&self, attach: Attach) -> Option<Hook> {
        self.hooks.get(&attach.kernel_type()?).copied()
    }

    /// All that programs of the table go to: number, kind and name.
    pub(super) fn hooks(&self) -> impl Iterator<Item = (u32, Kind, &str)> {
        self.hooks.iter().map(|((kind, name), hook)| (hook.id, *kind, name.as_str()))
    }

    /// Bits to shift `chrono_type` right by; `None` when the kernel has no such field.
    pub fn chrono_shift(&self) -> Option<u32> {
        let field = self.offsets.iter().find(|field| field.global == "TP_CHRONO_TYPE")?;
        (field.offset != ABSENT).then_some(field.shift)
    }

    /// Fields of the table that this kernel does not have.
    pub fn absent(&self) -> impl Iterator<Item = &'static str> {
        btf::absent(&self.offsets)
    }
}
