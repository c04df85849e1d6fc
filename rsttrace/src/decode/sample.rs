//! One sample of the buffer to one [`ResetEvent`].

use bytes::Buf;
use rsttrace_common::event::{KIND_FORWARDED, KIND_IGNORED, KIND_RECEIVED, KIND_REJECTED, KIND_SENT, ResetEvent};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Why a sample is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than an event has.
    Short {
        /// Bytes that came.
        bytes: usize,
    },
    /// A kind of event that this version does not know.
    Kind(u8),
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short { bytes } => {
                write!(formatter, "a sample of {bytes} bytes, where an event has {}", size_of::<ResetEvent>())
            }
            Self::Kind(kind) => write!(formatter, "an event of the unknown kind {kind}"),
        }
    }
}

/// Reads an event out of a sample that may lie in two parts and may be longer than the event: the kernel pads perf
/// samples. Every number in it is data to be doubted, none can make this fail.
pub fn event(mut sample: impl Buf) -> Result<ResetEvent, Malformed> {
    let mut event = ResetEvent::new_zeroed();
    if sample.remaining() < size_of::<ResetEvent>() {
        return Err(Malformed::Short { bytes: sample.remaining() });
    }
    sample.copy_to_slice(event.as_mut_bytes());
    match event.kind {
        KIND_SENT | KIND_RECEIVED | KIND_REJECTED | KIND_IGNORED | KIND_FORWARDED => Ok(event),
        kind => Err(Malformed::Kind(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        // Every byte different from its neighbours, so that a shifted field shows.
        let mut bytes: Vec<u8> = (0..=250).cycle().take(size_of::<ResetEvent>()).collect();
        bytes[std::mem::offset_of!(ResetEvent, kind)] = KIND_SENT;
        bytes
    }

    #[test]
    fn every_split_gives_the_same_event() {
        let bytes = sample();
        let whole = event(&bytes[..]).expect("an event");
        assert_eq!(whole.as_bytes(), bytes);
        let port = std::mem::offset_of!(ResetEvent, local_port);
        assert_eq!(whole.local_port, u16::from_ne_bytes([bytes[port], bytes[port + 1]]));
        for split in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(split);
            assert_eq!(event(head.chain(tail)), Ok(whole), "split at {split}");
        }
    }

    #[test]
    fn kernel_padding_is_ignored() {
        let mut bytes = sample();
        let whole = event(&bytes[..]);
        bytes.extend([0xff; 12]);
        assert_eq!(event(&bytes[..]), whole);
    }

    #[test]
    fn short_samples_are_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert_eq!(event(&bytes[..length]), Err(Malformed::Short { bytes: length }));
        }
    }

    #[test]
    fn unknown_kinds_are_refused() {
        for kind in (0..=u8::MAX).filter(|kind| !(KIND_SENT..=KIND_FORWARDED).contains(kind)) {
            let mut bytes = sample();
            bytes[std::mem::offset_of!(ResetEvent, kind)] = kind;
            assert_eq!(event(&bytes[..]), Err(Malformed::Kind(kind)));
        }
    }
}
