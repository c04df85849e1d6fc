//! Fields of kernel structs, by offsets that the user side found in the running kernel's BTF.

use core::ffi::c_void;

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
