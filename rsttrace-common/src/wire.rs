//! The macro that declares the records.

/// Declares a record that the kernel side and the user side share: a buffer's record or a map's value.
///
/// Each field is declared once, with its offset: `OFFSET => pub name: type`. The size stands after the struct's name.
/// Offsets and size are asserted when the crate is compiled, for either side. (A size alone does not catch a wrong pad.)
/// Padding is a field of its own, so that it is zeroed like the others.
///
/// On the user side the record is also read out of bytes (`zerocopy`) and out of maps (`aya::Pod`).
macro_rules! wire {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident: $size:literal {
            $($(#[$field_attribute:meta])* $offset:literal => pub $field:ident: $type:ty,)+
        }
    ) => {
        $(#[$attribute])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(
            feature = "user",
            derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
        )]
        pub struct $name {
            $($(#[$field_attribute])* pub $field: $type,)+
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(core::mem::offset_of!($name, $field) == $offset);)+
        };

        // SAFETY: `FromBytes` and `IntoBytes` are derived only for types without padding, of which every bit pattern is a
        // value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name {}
    };
}
