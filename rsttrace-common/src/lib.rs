//! The interface between the kernel side (`rsttrace-ebpf`) and the user side (`rsttrace`): every byte that crosses
//! between them is laid out here, and every offset is asserted at compile time.
//!
//! Nothing in here is a `bool`, an `Option`, an enum or a `usize`: what the kernel side writes is data to be checked,
//! not a value to be trusted.
#![no_std]

/// Where the fields of a type are, whoever compiles it.
macro_rules! assert_offsets {
    ($type:ty, $($field:ident @ $offset:literal),+ $(,)?) => {
        const _: () = {
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)+
        };
    };
}

pub mod config;
pub mod event;
pub mod flood;
pub mod names;
pub mod nested;
pub mod offsets;
pub mod owner;
