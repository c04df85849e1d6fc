//! The arguments of a kernel function that a program is attached to, however it is attached, and those of a BTF
//! tracepoint.
//!
//! Those of functions are read like any other memory, so that pointers among them are numbers: the verifier lets nobody
//! calculate with typed ones ([`Typed`](crate::fields::Typed)), and a kprobe's context looks different on every
//! architecture.

use aya_ebpf::{
    EbpfContext, Global,
    programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use rsttrace_common::offsets::ABSENT;

use crate::fields::{REGS, REGS_AX, REGS_CX, REGS_DI, REGS_DX, REGS_SI, copy_from, field, has, read};

/// How many arguments `inet_csk_accept` has: its result comes after them. The user side knows from BTF.
#[unsafe(no_mangle)]
static ACCEPT_ARGUMENTS: Global<u32> = Global::new(ABSENT);

/// At the entry of a function.
pub(crate) trait Entry: EbpfContext {
    /// An argument by its position; there are at most four.
    fn argument(&self, position: u64) -> u64;
}

impl Entry for FEntryContext {
    #[inline(always)]
    fn argument(&self, position: u64) -> u64 {
        read(self.as_ptr() as u64 + position * size_of::<u64>() as u64)
    }
}

impl Entry for ProbeContext {
    #[inline(always)]
    fn argument(&self, position: u64) -> u64 {
        let registers = self.as_ptr() as u64;
        if has(&REGS) {
            // aarch64: an array, of which the first are the arguments.
            return field(registers + position * size_of::<u64>() as u64, &REGS);
        }
        // x86-64 names them.
        field(
            registers,
            match position {
                0 => &REGS_DI,
                1 => &REGS_SI,
                2 => &REGS_DX,
                _ => &REGS_CX,
            },
        )
    }
}

/// The first arguments of a BTF tracepoint, read like other memory: numbers of which the verifier does not know that they are
/// the same as the typed pointers.
#[inline(always)]
pub(crate) fn numbers<const COUNT: usize>(ctx: &BtfTracePointContext) -> [u64; COUNT] {
    let mut numbers = [0; COUNT];
    copy_from(ctx.as_ptr() as u64, &mut numbers);
    numbers
}

/// The first arguments of a BTF tracepoint as numbers that tell them from others in the same place: how far they are from
/// where the kernel keeps them. The verifier lets nobody calculate with typed pointers, except that one taken from another
/// makes a number; and [`numbers`] is a call, which a program that mostly has nothing to do can go without.
#[inline(always)]
pub(crate) fn apart<const COUNT: usize>(ctx: &BtfTracePointContext) -> [u64; COUNT] {
    let arguments = ctx.as_ptr().cast::<u64>();
    core::array::from_fn(|position| {
        // SAFETY: the context has it. Volatile, so that this is not the same as what is looked at for NULL, which is none.
        let argument = unsafe { arguments.add(position).read_volatile() };
        argument.wrapping_sub(arguments as u64)
    })
}

/// At the end of `inet_csk_accept`.
pub(crate) trait Accepted {
    /// The accepted socket; 0 when there is none.
    fn socket(&self) -> u64;
}

impl Accepted for FExitContext {
    #[inline(always)]
    fn socket(&self) -> u64 {
        let arguments = u64::from(ACCEPT_ARGUMENTS.load());
        read(self.as_ptr() as u64 + arguments * size_of::<u64>() as u64)
    }
}

impl Accepted for RetProbeContext {
    #[inline(always)]
    fn socket(&self) -> u64 {
        let registers = self.as_ptr() as u64;
        field(registers, if has(&REGS) { &REGS } else { &REGS_AX })
    }
}
