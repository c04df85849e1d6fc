//! Resets on the wire of a scenario, and the records of them.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr};

use crate::{
    agreement,
    capture::Capture,
    chain::{Chain, Host},
    host,
    reset::Reset,
    tape::Tape,
    tracer::{Run, Tracer},
};

/// Captures of a scenario's hosts.
pub(crate) struct Wire {
    captures: Vec<Capture>,
    /// Whole captures of the ends, with the number of each one's namespace and its addresses.
    tapes: Vec<(u64, String, Tape)>,
    /// Whether every reset of the scenario is in a capture.
    is_complete: bool,
}

impl Wire {
    /// Captures in the calling thread's namespace, in which all ends are.
    pub(crate) fn tap() -> Self {
        Self { captures: vec![Capture::start()], tapes: Vec::new(), is_complete: true }
    }

    /// Captures at both ends of a chain, but not at its router.
    pub(crate) fn tap_ends(chain: &Chain) -> Self {
        let captures = [&chain.client, &chain.server].map(|end| end.inside(Capture::start)).into();
        let tape = |end: &Host| (end.netns, format!("{},{}", end.v4, end.v6), end.inside(Tape::start));
        let tapes = if host::is_guest() { Vec::new() } else { [&chain.client, &chain.server].map(tape).into() };
        Self { captures, tapes, is_complete: false }
    }

    /// Ends the run once this many resets have been reported, and checks that each reset which was sent is on the wire, as
    /// often as it was reported, and each on the wire was reported.
    #[track_caller]
    pub(crate) fn finish(self, mut tracer: Tracer, resets: u64) -> Told {
        tracer.expect(resets);
        let run = tracer.finish();
        assert_eq!(run.lost, 0, "events were lost");
        let mut on_wire: HashMap<(SocketAddr, SocketAddr), u64> = HashMap::new();
        for ends in self.captures.iter().flat_map(Capture::resets) {
            *on_wire.entry(ends).or_default() += 1;
        }
        for (&(from, to), &number) in &on_wire {
            let reports = run.sent().filter(|reset| (reset.end("local"), reset.end("peer")) == (from, to));
            let reported: u64 = reports.map(Reset::count).sum();
            // Older kernels do not report the resets that they send without a socket.
            let agrees = if host::shows_without_socket() { reported == number } else { reported <= number };
            assert!(agrees, "{number} resets from {from} to {to} are on the wire, {reported} were reported");
        }
        for sent in run.sent().filter(|_| self.is_complete) {
            assert!(on_wire.contains_key(&(sent.end("local"), sent.end("peer"))), "not on the wire: {:#}", sent.0);
        }
        for (netns, local, tape) in self.tapes {
            let of_end = run.resets.iter().filter(|reset| reset["netns"]["inode"] == netns);
            agreement::check(tape, &local, &of_end.collect::<Vec<_>>());
        }
        Told { run, taken: RefCell::default() }
    }
}

/// Records of a run. Each can be taken once.
pub(crate) struct Told {
    run: Run,
    taken: RefCell<Vec<*const Reset>>,
}

impl Told {
    /// The first record of a reset that was sent from one end to the other.
    #[track_caller]
    pub(crate) fn sent(&self, local: SocketAddr, peer: SocketAddr) -> &Reset {
        self.take(true, local, peer)
    }

    /// The first record of a reset that one end received from the other.
    #[track_caller]
    pub(crate) fn received(&self, local: SocketAddr, peer: SocketAddr) -> &Reset {
        self.take(false, local, peer)
    }

    /// The only record of a reset that was received from this address.
    #[track_caller]
    pub(crate) fn only_received(&self, peer: SocketAddr) -> &Reset {
        let mut found = self.run.received().filter(|reset| reset.end("peer") == peer);
        let reset = found.next().unwrap_or_else(|| panic!("none received from {peer}"));
        assert!(found.next().is_none(), "more than one received from {peer}");
        self.taken.borrow_mut().push(reset);
        reset
    }

    /// Records that were not taken.
    pub(crate) fn others(&self) -> Vec<&Reset> {
        let taken = self.taken.borrow();
        self.run.resets.iter().filter(|&reset| !taken.contains(&std::ptr::from_ref(reset))).collect()
    }

    /// Checks that every record which was not taken is harmless.
    #[track_caller]
    pub(crate) fn rest_is_harmless(&self) {
        for reset in self.others() {
            reset.is("/cause/benign", true);
        }
    }

    #[track_caller]
    fn take(&self, is_sent: bool, local: SocketAddr, peer: SocketAddr) -> &Reset {
        let mut taken = self.taken.borrow_mut();
        let is_it = |reset: &&Reset| {
            reset.is_sent() == is_sent
                && (reset.end("local"), reset.end("peer")) == (local, peer)
                && reset["cause"]["code"] != "aftermath"
                && !taken.contains(&std::ptr::from_ref(*reset))
        };
        let found = self.run.resets.iter().find(is_it);
        let all = || self.run.resets.iter().map(|reset| format!("{:#}", reset.0)).collect::<Vec<_>>().join("\n");
        let reset = found.unwrap_or_else(|| panic!("no reset, sent: {is_sent}, at {local} with {peer} in:\n{}", all()));
        taken.push(reset);
        reset
    }
}
