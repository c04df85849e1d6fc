//! Fields of kernel structs, by offsets that the user side found in the running kernel's BTF.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{Global, helpers::generated::bpf_probe_read_kernel};
use rsttrace_common::offsets::ABSENT;

/// Makes one `.rodata` global of each row. One global a field, not one struct of all: a struct is loaded and spilled
/// whole wherever one member is used.
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

/// Copies `size_of::<T>()` bytes from an address of the kernel to where they belong. Zeros when the kernel refuses the
/// address; the result of the helper is not looked at, since every branch doubles what the verifier has to walk.
#[inline(always)]
pub(crate) fn copy_from<T: Copy>(address: u64, to: &mut T) {
    // SAFETY: bpf_probe_read_kernel checks the address itself, zeroes the destination when it is bad, and every T used
    // here is plain integers.
    unsafe {
        bpf_probe_read_kernel((&raw mut *to).cast(), size_of::<T>() as u32, address as *const c_void);
    }
}

/// Reads a value at an address of the kernel; zero when the kernel refuses the address.
#[inline(always)]
pub(crate) fn read<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    copy_from(address, &mut value);
    value
}

/// Copies a field of the struct at `base` to where it belongs; leaves that alone when the kernel has no such field.
#[inline(always)]
pub(crate) fn copy<T: Copy>(base: u64, offset: &Global<u32>, to: &mut T) {
    let offset = offset.load();
    if offset != ABSENT {
        copy_from(base + u64::from(offset), to);
    }
}

/// Reads a field of the struct at `base`; zero when there is none or the address is bad.
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

/// Room for a part of a struct. One for all parts of a struct, one after the other: the stack is small.
#[repr(C, align(8))]
pub(crate) struct Room([MaybeUninit<u8>; ROOM_BYTES]);

/// The longest part.
const ROOM_BYTES: usize = 96;

/// A part of a struct, fetched at one go: each fetch is a call, and fields that are asked for together are near each other.
pub(crate) struct Part<'a, const BYTES: usize> {
    base: u64,
    from: u32,
    bytes: &'a Room,
}

impl Room {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self([MaybeUninit::uninit(); ROOM_BYTES])
    }

    /// The part of the struct at `base` that begins with the first of these fields.
    #[inline(always)]
    pub(crate) fn part<const BYTES: usize>(&mut self, base: u64, fields: &[&Global<u32>]) -> Part<'_, BYTES> {
        let mut from = ABSENT;
        for offset in fields {
            let offset = offset.load();
            from = if offset < from { offset } else { from };
        }
        self.part_from(base, from & !7)
    }

    /// The part that begins so many bytes from the struct's beginning, a multiple of eight.
    #[inline(always)]
    pub(crate) fn part_from<const BYTES: usize>(&mut self, base: u64, from: u32) -> Part<'_, BYTES> {
        const { assert!(BYTES <= ROOM_BYTES) };
        let address = (base + u64::from(from)) as *const c_void;
        // SAFETY: the helper fills all of the part, with zeros if it may not read.
        unsafe { bpf_probe_read_kernel(self.0.as_mut_ptr().cast(), BYTES as u32, address) };
        Part { base, from, bytes: self }
    }
}

impl<const BYTES: usize> Part<'_, BYTES> {
    /// A field of the struct; fetched by itself where this kernel has it elsewhere, zero where it has none.
    #[inline(always)]
    pub(crate) fn field<T: Copy + Default>(&self, offset: &Global<u32>) -> T {
        let at = offset.load().wrapping_sub(self.from) as usize;
        if at <= BYTES - size_of::<T>() {
            // SAFETY: inside the part, all of which is filled, and aligned as the kernel's own struct is.
            unsafe { self.bytes.0.as_ptr().add(at).cast::<T>().read() }
        } else {
            field(self.base, offset)
        }
    }
}
