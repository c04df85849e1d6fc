//! The interface between the kernel side (`rsttrace-ebpf`) and the user side (`rsttrace`): every byte that crosses
//! between them is laid out here, and every offset is asserted at compile time.
//!
//! Nothing in here is a `bool`, an `Option`, an enum or a `usize`: what the kernel side writes is data to be checked,
//! not a value to be trusted.
#![no_std]

pub mod config;
pub mod event;
pub mod names;
pub mod offsets;
