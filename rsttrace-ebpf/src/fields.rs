//! Fields of kernel structs, by offsets that the user side found in the running kernel's BTF.

use core::{ffi::c_void, mem::MaybeUninit, num::NonZero};

use aya_ebpf::{Global, helpers::generated::bpf_probe_read_kernel, programs::BtfTracePointContext};
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

/// What fields of a struct of the kernel can be read from.
pub(crate) trait Fields: Copy {
    /// What a pointer leads to.
    type Target: Struct;

    /// A field; zero where this kernel has none, or refuses the address.
    fn field<T: Copy + Default>(self, offset: &Global<u32>) -> T;

    /// What a field points to, if it does.
    fn target(self, offset: &Global<u32>) -> Option<Self::Target>;
}

/// A struct of the kernel, at an address.
pub(crate) trait Struct: Fields {
    /// Some of its bytes.
    type Part<'a, const BYTES: usize>: Fields;

    /// The address.
    fn address(self) -> u64;

    /// The part of the struct that begins so many bytes from its beginning, a multiple of eight. Each fetch is a call, and
    /// fields that are asked for together are near each other.
    fn part_from<const BYTES: usize>(self, room: &mut Room, from: u32) -> Self::Part<'_, BYTES>;

    /// The part that begins with the first of these fields.
    #[inline(always)]
    fn part<'a, const BYTES: usize>(self, room: &'a mut Room, fields: &[&Global<u32>]) -> Self::Part<'a, BYTES> {
        let mut from = ABSENT;
        for offset in fields {
            let offset = offset.load();
            from = if offset < from { offset } else { from };
        }
        self.part_from::<BYTES>(room, from & !7)
    }
}

/// An address that is just a number to the verifier: each field is fetched by a helper.
impl Fields for u64 {
    type Target = Self;

    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: &Global<u32>) -> T {
        field(self, offset)
    }

    #[inline(always)]
    fn target(self, offset: &Global<u32>) -> Option<Self> {
        let target = field(self, offset);
        (target != 0).then_some(target)
    }
}

impl Struct for u64 {
    type Part<'a, const BYTES: usize> = Part<'a, BYTES>;

    #[inline(always)]
    fn address(self) -> u64 {
        self
    }

    #[inline(always)]
    fn part_from<const BYTES: usize>(self, room: &mut Room, from: u32) -> Part<'_, BYTES> {
        room.fetch(self, from)
    }
}

/// A struct whose type the verifier knows, as it does with arguments of a BTF tracepoint and what they lead to: a field is
/// one instruction, where a helper takes 15 to 20 ns. The offset must be a constant to the verifier, which our globals are.
///
/// What an argument leads to, and what a helper returns, may be a bad address: the kernel makes zeros of what is read there.
/// An argument itself must not be NULL, see [`Typed::argument`]. Its address is not a number: the verifier lets nobody
/// calculate with it.
#[derive(Clone, Copy)]
pub(crate) struct Typed(NonZero<u64>);

impl Typed {
    /// An argument of a BTF tracepoint, by its position, that the kernel never hands over as NULL, or that has been seen
    /// not to be by its number: [`arguments::numbers`](crate::arguments::numbers).
    ///
    /// From 6.5 to 6.12.1 (CVE-2024-56702) the verifier believes that no argument is NULL, removes what asks whether it is,
    /// and lets reads through it go unguarded: they would take down the kernel.
    #[inline(always)]
    pub(crate) fn argument(ctx: &BtfTracePointContext, position: usize) -> Option<Self> {
        NonZero::new(ctx.arg(position)).map(Self)
    }

    /// What a helper has returned.
    #[inline(always)]
    pub(crate) fn of<T>(pointer: *const T) -> Option<Self> {
        NonZero::new(pointer as u64).map(Self)
    }
}

impl Fields for Typed {
    type Target = Self;

    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: &Global<u32>) -> T {
        let offset = offset.load();
        if offset == ABSENT {
            return T::default();
        }
        // SAFETY: the verifier has seen that it is inside the struct, where it is aligned as the kernel has it; every T used
        // here is plain integers.
        unsafe { ((self.0.get() + u64::from(offset)) as *const T).read() }
    }

    #[inline(always)]
    fn target(self, offset: &Global<u32>) -> Option<Self> {
        NonZero::new(self.field(offset)).map(Self)
    }
}

impl Struct for Typed {
    type Part<'a, const BYTES: usize> = Self;

    #[inline(always)]
    fn address(self) -> u64 {
        self.0.get()
    }

    #[inline(always)]
    fn part_from<const BYTES: usize>(self, _room: &mut Room, _from: u32) -> Self {
        self
    }
}

/// Room for a part of a struct. One for all parts of a struct, one after the other: the stack is small.
#[repr(C, align(8))]
pub(crate) struct Room([MaybeUninit<u8>; ROOM_BYTES]);

/// The longest part.
const ROOM_BYTES: usize = 96;

impl Room {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self([MaybeUninit::uninit(); ROOM_BYTES])
    }

    #[inline(always)]
    fn fetch<const BYTES: usize>(&mut self, base: u64, from: u32) -> Part<'_, BYTES> {
        const { assert!(BYTES <= ROOM_BYTES) };
        let address = (base + u64::from(from)) as *const c_void;
        // SAFETY: the helper fills all of the part, with zeros if it may not read.
        unsafe { bpf_probe_read_kernel(self.0.as_mut_ptr().cast(), BYTES as u32, address) };
        Part { base, from, bytes: self }
    }
}

/// A part of a struct, fetched at one go.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a, const BYTES: usize> {
    base: u64,
    from: u32,
    bytes: &'a Room,
}

impl<const BYTES: usize> Fields for Part<'_, BYTES> {
    type Target = u64;

    /// Fetched by itself where this kernel has it elsewhere.
    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: &Global<u32>) -> T {
        let at = offset.load().wrapping_sub(self.from) as usize;
        if at <= BYTES - size_of::<T>() {
            // SAFETY: inside the part, all of which is filled, and aligned as the kernel's own struct is.
            unsafe { self.bytes.0.as_ptr().add(at).cast::<T>().read() }
        } else {
            field(self.base, offset)
        }
    }

    #[inline(always)]
    fn target(self, offset: &Global<u32>) -> Option<u64> {
        let target = self.field(offset);
        (target != 0).then_some(target)
    }
}
