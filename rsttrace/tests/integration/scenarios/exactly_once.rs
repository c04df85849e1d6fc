//! No reset is missed, none is reported twice.

use std::collections::BTreeSet;

use crate::stage::{Pair, Stage, V4};

/// Twenty-three resets, one after another: a prime number, so that no batch divides it.
pub(crate) fn twenty_three_resets_are_reported(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let mut ends = BTreeSet::from([pair.client_end]);
    pair.client_aborts();
    for _ in 1..23 {
        ends.insert(pair.connect("c", "s"));
        pair.client_aborts();
    }

    let run = stage.finish(tracer, 23, 23);
    let sent: BTreeSet<_> = run.sent().map(|sent| sent.end("local")).collect();
    let received: BTreeSet<_> = run.received().map(|received| received.end("peer")).collect();
    assert_eq!(sent, ends);
    assert_eq!(received, ends);
    for reset in &run.resets {
        let owner = if reset.is_sent() { &pair.client } else { &pair.server };
        reset.owner(owner).state("ESTABLISHED").is("/count", 1);
    }
}
