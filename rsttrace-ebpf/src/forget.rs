//! Making the verifier forget.
//!
//! It walks what comes after a branch once for each thing that it knows differently there: a version that is 4 or 6, an
//! address whose first words are 0. Where many such paths meet, what they know is of no use to it any more, and less of it is
//! less to walk: the program for sent resets took 32,000 steps, and takes 5,200.

use core::{ffi::c_void, mem::MaybeUninit, ptr};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// Copies a value to another place of the stack, of which the verifier knows nothing then: it does not see the kernel read
/// it. A typed pointer becomes a number by it.
#[inline(always)]
pub(crate) fn forget<'a, T: Copy>(value: &T, to: &'a mut MaybeUninit<T>) -> &'a T {
    let from: *const c_void = (&raw const *value).cast();
    // SAFETY: the helper writes all of it. Were it refused, it would leave zeros, which every `T` used here has as a value.
    unsafe {
        bpf_probe_read_kernel(to.as_mut_ptr().cast(), size_of::<T>() as u32, from);
        to.assume_init_ref()
    }
}

/// What is true or not of a reset, and is asked for in several places: one bit each. Read anew each time, since the compiler
/// would keep what it has read, and the verifier walk each combination.
#[derive(Clone, Copy)]
pub(crate) struct Facts(u8);

impl Facts {
    pub(crate) const NONE: Self = Self(0);
    /// The headers of the packet are known.
    pub(crate) const HEADERS: Self = Self(1 << 0);
    /// There is a full socket.
    pub(crate) const FULL_SOCKET: Self = Self(1 << 1);
    /// The task that the CPU runs holds the socket's lock.
    pub(crate) const IN_TASK: Self = Self(1 << 2);
    /// What has come may be no reset at all.
    pub(crate) const MAYBE_SENT: Self = Self(1 << 3);

    #[inline(always)]
    pub(crate) fn add(&mut self, fact: Self, is_true: bool) {
        if is_true {
            self.0 |= fact.0;
        }
    }

    #[inline(always)]
    pub(crate) fn have(&self, fact: Self) -> bool {
        // SAFETY: a reference is valid.
        unsafe { ptr::from_ref(&self.0).read_volatile() & fact.0 != 0 }
    }
}
