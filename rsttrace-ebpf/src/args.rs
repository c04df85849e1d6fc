//! Arguments of kernel functions, however the program is attached, and of BTF tracepoints.
//!
//! Arguments of functions are read like any other memory, so that pointers among them are scalars: the verifier refuses
//! arithmetic on typed ones ([`BtfPtr`](crate::kernel_struct::BtfPtr)), and a kprobe's context differs between architectures.

use aya_ebpf::{
    EbpfContext, Global,
    programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use rsttrace_common::offsets::ABSENT;

use crate::kernel_struct::{REGS, REGS_AX, REGS_CX, REGS_DI, REGS_DX, REGS_SI, copy_from, field, has, read};

/// Number of arguments of `inet_csk_accept`, which its result follows in the context of fexit. The user side sets it from
/// BTF.
#[unsafe(no_mangle)]
static ACCEPT_ARGS: Global<u32> = Global::new(ABSENT);

/// Context of a program at the entry of a function.
pub(crate) trait FunctionArgs: EbpfContext {
    /// The argument at this position, 0 to 3.
    fn argument(&self, position: u64) -> u64;
}

impl FunctionArgs for FEntryContext {
    #[inline(always)]
    fn argument(&self, position: u64) -> u64 {
        read(self.as_ptr() as u64 + position * size_of::<u64>() as u64)
    }
}

impl FunctionArgs for ProbeContext {
    #[inline(always)]
    fn argument(&self, position: u64) -> u64 {
        let registers = self.as_ptr() as u64;
        if has(&REGS) {
            // aarch64: an array, of which the first are the arguments.
            return field(registers + position * size_of::<u64>() as u64, &REGS);
        }
        // x86-64: a member for each register.
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

/// The first arguments of a BTF tracepoint as scalars, read like other memory: the verifier does not know that they equal
/// the typed pointers.
#[inline(always)]
pub(crate) fn scalar_args<const COUNT: usize>(ctx: &BtfTracePointContext) -> [u64; COUNT] {
    let mut args = [0; COUNT];
    copy_from(ctx.as_ptr() as u64, &mut args);
    args
}

/// Scalars that stand for the first arguments of a BTF tracepoint: the distance of each from the address of the context.
/// For one context, equal arguments have equal fingerprints, and others have others. The one arithmetic that the verifier
/// allows on a typed pointer is the difference to another, and it is a scalar; [`scalar_args`] is a call, which a program
/// that mostly has nothing to do can go without.
#[inline(always)]
pub(crate) fn arg_fingerprint<const COUNT: usize>(ctx: &BtfTracePointContext) -> [u64; COUNT] {
    let args = ctx.as_ptr().cast::<u64>();
    core::array::from_fn(|position| {
        // SAFETY: the context has the argument. Volatile, so that the compiler does not take it for the value that is
        // compared with NULL, which would make it NULL to the verifier.
        let arg = unsafe { args.add(position).read_volatile() };
        arg.wrapping_sub(args as u64)
    })
}

/// Context of a program at the return of `inet_csk_accept`.
pub(crate) trait AcceptReturn {
    /// Address of the accepted socket; 0 when accept failed.
    fn socket(&self) -> u64;
}

impl AcceptReturn for FExitContext {
    #[inline(always)]
    fn socket(&self) -> u64 {
        let args = u64::from(ACCEPT_ARGS.load());
        read(self.as_ptr() as u64 + args * size_of::<u64>() as u64)
    }
}

impl AcceptReturn for RetProbeContext {
    #[inline(always)]
    fn socket(&self) -> u64 {
        let registers = self.as_ptr() as u64;
        field(registers, if has(&REGS) { &REGS } else { &REGS_AX })
    }
}
