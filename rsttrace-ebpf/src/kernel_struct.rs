//! Fields of kernel structs, by offsets that the user side found in the running kernel's BTF.

use core::{ffi::c_void, mem::MaybeUninit, num::NonZero};

use aya_ebpf::{Global, helpers::generated::bpf_probe_read_kernel, programs::BtfTracePointContext};
use rsttrace_common::offsets::ABSENT;

/// Makes one `.rodata` global of each row. Not one struct of all: a struct is loaded and spilled whole wherever one member
/// is used.
macro_rules! globals {
    ($($name:ident: $struct:literal $path:literal $need:ident,)+) => {
        $(
            #[doc = concat!("Offset of `", $struct, ".", $path, "`.")]
            #[unsafe(no_mangle)]
            pub(crate) static $name: Global<u32> = Global::new(ABSENT);
        )+
    };
}
rsttrace_common::for_each_field!(globals);

/// Copies `size_of::<T>()` bytes from a kernel address; zeros when the kernel refuses the address. The helper's result is
/// not looked at, since each branch doubles what the verifier has to walk.
#[inline(always)]
pub(crate) fn copy_from<T: Copy>(address: u64, to: &mut T) {
    // SAFETY: bpf_probe_read_kernel checks the address itself, zeroes the destination when it is bad, and every T used
    // here is plain integers.
    unsafe {
        bpf_probe_read_kernel((&raw mut *to).cast(), size_of::<T>() as u32, address as *const c_void);
    }
}

/// Reads a value at a kernel address; zero when the kernel refuses the address.
#[inline(always)]
pub(crate) fn read<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    copy_from(address, &mut value);
    value
}

/// Copies a field of the struct at `base`; leaves `to` unchanged when the kernel has no such field.
#[inline(always)]
pub(crate) fn copy<T: Copy>(base: u64, offset: &Global<u32>, to: &mut T) {
    let offset = offset.load();
    if offset != ABSENT {
        copy_from(base + u64::from(offset), to);
    }
}

/// Reads a field of the struct at `base`; zero when the kernel has no such field or refuses the address.
#[inline(always)]
pub(crate) fn field<T: Copy + Default>(base: u64, offset: &Global<u32>) -> T {
    let mut value = T::default();
    copy(base, offset, &mut value);
    value
}

/// Whether the running kernel has the field.
#[inline(always)]
pub(crate) fn has(offset: &Global<u32>) -> bool {
    offset.load() != ABSENT
}

/// Bytes of a kernel struct from which fields can be read: all of it, or a window.
pub(crate) trait ReadField: Copy {
    /// What a pointer in a field leads to.
    type Target: KernelStruct;

    /// Reads a field; zero when the kernel has no such field or refuses the address.
    fn field<T: Copy + Default>(self, offset: &Global<u32>) -> T;

    /// Follows the pointer in a field; `None` for NULL.
    fn deref(self, offset: &Global<u32>) -> Option<Self::Target>;
}

/// A kernel struct at an address, which is a scalar (`u64`) or a typed pointer ([`BtfPtr`]) to the verifier.
pub(crate) trait KernelStruct: ReadField {
    /// A part of the struct.
    type Window<'a, const BYTES: usize>: ReadField;

    /// The address.
    fn address(self) -> u64;

    /// The window of `BYTES` bytes at this offset, a multiple of eight. Each read of a scalar address is a call of a helper,
    /// so fields that are near each other are read together.
    fn window_at<const BYTES: usize>(self, buffer: &mut ReadBuffer, offset: u32) -> Self::Window<'_, BYTES>;

    /// The window of `BYTES` bytes that begins with the first of these fields.
    #[inline(always)]
    fn window<'a, const BYTES: usize>(
        self,
        buffer: &'a mut ReadBuffer,
        fields: &[&Global<u32>],
    ) -> Self::Window<'a, BYTES> {
        let mut first = ABSENT;
        for offset in fields {
            let offset = offset.load();
            first = if offset < first { offset } else { first };
        }
        self.window_at::<BYTES>(buffer, first & !7)
    }
}

/// An address that is a scalar to the verifier: a helper reads each field.
impl ReadField for u64 {
    type Target = Self;

    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: &Global<u32>) -> T {
        field(self, offset)
    }

    #[inline(always)]
    fn deref(self, offset: &Global<u32>) -> Option<Self> {
        let target = field(self, offset);
        (target != 0).then_some(target)
    }
}

impl KernelStruct for u64 {
    type Window<'a, const BYTES: usize> = Window<'a, BYTES>;

    #[inline(always)]
    fn address(self) -> u64 {
        self
    }

    #[inline(always)]
    fn window_at<const BYTES: usize>(self, buffer: &mut ReadBuffer, offset: u32) -> Window<'_, BYTES> {
        buffer.read(self, offset)
    }
}

/// A pointer whose type the verifier knows (`PTR_TO_BTF_ID`), as it does for arguments of a BTF tracepoint and for what they
/// lead to: a field is one instruction, where a helper takes 15 to 20 ns. The offset must be a constant to the verifier,
/// which the globals are.
///
/// A pointer read from a field, or returned by a helper, may be bad: the kernel makes zeros of what is read there. An
/// argument must not be NULL, see [`BtfPtr::argument`]. The verifier refuses arithmetic on a typed pointer.
#[derive(Clone, Copy)]
pub(crate) struct BtfPtr(NonZero<u64>);

impl BtfPtr {
    /// The argument of a BTF tracepoint at this position, which the kernel never passes as NULL, or whose scalar value
    /// (`args::scalar_args`) was found not to be 0.
    ///
    /// From 6.5 to 6.12.1 (CVE-2024-56702) the verifier believes that no argument is NULL, removes the check, and lets reads
    /// through the argument go unguarded: a read through NULL would take down the kernel.
    #[inline(always)]
    pub(crate) fn argument(ctx: &BtfTracePointContext, position: usize) -> Option<Self> {
        NonZero::new(ctx.arg(position)).map(Self)
    }

    /// A pointer that a helper returned; `None` for NULL.
    #[inline(always)]
    pub(crate) fn new<T>(pointer: *const T) -> Option<Self> {
        NonZero::new(pointer as u64).map(Self)
    }
}

impl ReadField for BtfPtr {
    type Target = Self;

    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: &Global<u32>) -> T {
        let offset = offset.load();
        if offset == ABSENT {
            return T::default();
        }
        // SAFETY: the verifier has checked that the field is inside the struct, where it is aligned as the kernel has it;
        // every T used here is plain integers.
        unsafe { ((self.0.get() + u64::from(offset)) as *const T).read() }
    }

    #[inline(always)]
    fn deref(self, offset: &Global<u32>) -> Option<Self> {
        NonZero::new(self.field(offset)).map(Self)
    }
}

impl KernelStruct for BtfPtr {
    type Window<'a, const BYTES: usize> = Self;

    #[inline(always)]
    fn address(self) -> u64 {
        self.0.get()
    }

    /// The struct itself: no read is saved by a window.
    #[inline(always)]
    fn window_at<const BYTES: usize>(self, _buffer: &mut ReadBuffer, _offset: u32) -> Self {
        self
    }
}

/// Stack memory for one window at a time. The windows of a struct share it, since the stack has 512 bytes.
#[repr(C, align(8))]
pub(crate) struct ReadBuffer([MaybeUninit<u8>; READ_BUFFER_BYTES]);

/// Length of the longest window.
const READ_BUFFER_BYTES: usize = 96;

impl ReadBuffer {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self([MaybeUninit::uninit(); READ_BUFFER_BYTES])
    }

    #[inline(always)]
    fn read<const BYTES: usize>(&mut self, base: u64, offset: u32) -> Window<'_, BYTES> {
        const { assert!(BYTES <= READ_BUFFER_BYTES) };
        let address = (base + u64::from(offset)) as *const c_void;
        // SAFETY: the helper fills all of the window, with zeros if it may not read.
        unsafe { bpf_probe_read_kernel(self.0.as_mut_ptr().cast(), BYTES as u32, address) };
        Window { base, offset, bytes: self }
    }
}

/// A part of a struct that one call has read.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a, const BYTES: usize> {
    /// Address of the struct.
    base: u64,
    /// Offset of the window in the struct.
    offset: u32,
    bytes: &'a ReadBuffer,
}

impl<const BYTES: usize> ReadField for Window<'_, BYTES> {
    type Target = u64;

    /// Reads the field by itself where this kernel has it outside the window.
    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: &Global<u32>) -> T {
        let at = offset.load().wrapping_sub(self.offset) as usize;
        if at <= BYTES - size_of::<T>() {
            // SAFETY: inside the window, all of which is filled, and aligned as the kernel's own struct is.
            unsafe { self.bytes.0.as_ptr().add(at).cast::<T>().read() }
        } else {
            field(self.base, offset)
        }
    }

    #[inline(always)]
    fn deref(self, offset: &Global<u32>) -> Option<u64> {
        let target = self.field(offset);
        (target != 0).then_some(target)
    }
}
