//! Which of the objects: the way that events come out, as the user wants it and the kernel allows.

use anyhow::Result;

use super::{Kernel, Loaded, Object, Options};
use crate::{
    cli::{Filters, TransportChoice},
    exit::{Failure, note, sentence},
    util::degraded::Degraded,
};

/// What the user wants.
pub struct Choice<'a> {
    /// The way out.
    pub transport: TransportChoice,
    /// Whether the programs are to log what they do.
    pub debug: bool,
    /// Size of the buffer.
    pub bytes: Option<u32>,
    /// Connections to remember, if not as many as usual.
    pub remember: Option<u32>,
    /// What the kernel side may drop.
    pub filters: &'a Filters,
    /// The only wanted network namespace.
    pub netns: Option<u32>,
}

/// Loads the object for the wanted transport. `auto` takes the BPF ring buffer where the kernel has it: it keeps the
/// order of events over all CPUs, shares its memory between them, and costs less per event.
pub fn choose(kernel: &Kernel, choice: &Choice<'_>) -> Result<(Object, Loaded), Failure> {
    let try_load = |object| {
        let options = Options {
            object,
            buffer_bytes: choice.bytes,
            remember: choice.remember,
            filters: choice.filters,
            netns: choice.netns,
        };
        Loaded::load(kernel, &options).map(|loaded| (object, loaded))
    };
    if choice.debug {
        match try_load(Object::Debug) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => note(format_args!("the kernel side's messages cannot be had: {}", sentence(&error))),
        }
    }
    match choice.transport {
        TransportChoice::Ring => try_load(Object::Ring).map_err(Failure::Host),
        TransportChoice::Perf => try_load(Object::Perf).map_err(Failure::Host),
        TransportChoice::Auto => try_load(Object::Ring).or_else(|refusal| {
            let (object, mut loaded) = try_load(Object::Perf).map_err(Failure::Host)?;
            loaded.degraded.push(Degraded {
                what: "BPF ring buffer".to_owned(),
                why: sentence(&refusal),
                loss: "events of different CPUs may come out of order".to_owned(),
            });
            Ok((object, loaded))
        }),
    }
}
