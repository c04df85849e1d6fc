//! The interface between the kernel side (`rsttrace-ebpf`) and the user side (`rsttrace`): every byte that crosses
//! between them is laid out here, and every offset is asserted at compile time.
//!
//! No record contains a `bool`, an `Option`, an enum or a `usize`: what the kernel side writes is data to be checked,
//! not a value to be trusted.
#![no_std]

#[macro_use]
mod wire;

pub mod abi;
pub mod cmdline;
pub mod event;
pub mod filter;
pub mod flood;
pub mod holder_lookup;
pub mod limits;
pub mod offsets;
pub mod recursion;
