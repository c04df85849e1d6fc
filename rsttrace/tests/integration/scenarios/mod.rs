//! One file a promise or a hook.

pub(crate) mod aborts;
pub(crate) mod after_close;
pub(crate) mod belongs;
pub(crate) mod cross_check;
pub(crate) mod destroy;
pub(crate) mod endings;
pub(crate) mod endings_of_peers;
pub(crate) mod exactly_once;
pub(crate) mod filters;
pub(crate) mod functions;
pub(crate) mod handed_over;
pub(crate) mod idle;
pub(crate) mod keepalive;
pub(crate) mod listener;
pub(crate) mod lost;
pub(crate) mod mapped;
pub(crate) mod namespaces;
pub(crate) mod own_words;
pub(crate) mod owners;
pub(crate) mod programs;
pub(crate) mod refused;
pub(crate) mod routed;
pub(crate) mod snapshot;
pub(crate) mod summary;
pub(crate) mod timers;
pub(crate) mod zoo;
