//! Multiplicative hashing.

/// 2^64 divided by the golden ratio (Fibonacci hashing).
pub(crate) const FIBONACCI_MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hash of an address, 32 bits.
#[inline(always)]
pub(crate) fn address(address: u64) -> u64 {
    address.wrapping_mul(FIBONACCI_MULTIPLIER) >> 32
}

/// Maps a hash of 32 bits to `0..range` by a multiplication (Lemire's fastrange), where a modulo would be a division.
#[inline(always)]
pub(crate) fn fastrange(hash: u64, range: u32) -> u32 {
    ((hash * u64::from(range)) >> 32) as u32
}
