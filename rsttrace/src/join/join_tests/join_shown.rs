//! The result as text, and which pairs are shown.

use super::*;

#[test]
fn text_is_safe_for_a_terminal() {
    let hostile = client().reset(5_000, "received", ("10.1.0.5:1", "10.2.0.9:443"), (7, None), |reset| {
        reset["process"] = json!({"pid": 1, "comm": "a\u{1b}[2Jb", "executable": null, "command_line": null, "uid": null,
            "user": null, "cgroup": null, "provenance": "connect", "confidence": "exact"});
    });
    let text = text(joined(&[&hostile, &server()]));
    assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[2Jb"), "{text}");
    assert!(text.contains("sent by the peer: 4") && text.contains("49.0 s ahead"), "{text}");
}

#[test]
fn pairs_are_chosen_by_verdict_and_port() {
    let joined = joined(&[&deceived(), &server().marks(10, 60)]);
    let count = |verdicts: &[PairVerdict], port: u16| {
        joined.count(&PairFilter { verdicts, is_port: &|other| other == port, ..PairFilter::ALL })
    };
    assert_eq!((count(&[], 443), count(&[PairVerdict::NotSent], 443), count(&[], 40_001), count(&[], 1)), (5, 1, 1, 0));
}

#[test]
fn a_time_selects_pairs_and_takes_no_proof_away() {
    let joined = joined(&[&deceived(), &server().marks(10, 60)]);
    let at = |ms: i64| Some(time(ms).parse().expect("a time"));
    let of = |since, until| {
        let wanted = PairFilter { since, until, ..PairFilter::ALL };
        joined.pairs(&wanted).map(|pair| pair.verdict).collect::<Vec<_>>()
    };
    assert_eq!(of(at(AT_MS), at(AT_MS + 1)), [PairVerdict::NotSent]);
    assert_eq!(of(at(AT_MS + 1), None), []);
    assert_eq!(of(None, at(AT_MS)), [PairVerdict::Sent; 4]);
}

#[test]
fn all_times_are_in_one_zone_that_is_named() {
    let zone = jiff::tz::TimeZone::get("Asia/Kolkata").expect("it is known");
    let joined = joined(&[&deceived(), &server().marks(10, 60)]).in_zone(zone.clone());
    let mut text = Vec::new();
    JoinText { zone, wanted: PairFilter::ALL }.write(&joined, &mut text).expect("a vector");
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(text.starts_with("hosts (times in Asia/Kolkata)\n"), "{text}");
    assert!(text.contains("covers 2027-01-15 13:31:24.000 ± ") && !text.contains("Z ± "), "{text}");
}

#[test]
fn recordings_of_different_times_are_told_to_be_so_once() {
    let (local, peer) = ends(50_000);
    let late = Tape::new("server", 3_600_000).header(|_| ());
    let late = late.sent(1_000, (&peer, "10.3.0.1:1"), (5, Some(6))).marks(10, 60);
    let client = client().received(5_000, (&local, &peer), FORGED).marks(10, 60);
    let apart = text(joined(&[&client, &late]));
    assert_eq!(apart.matches("do not overlap in time").count(), 1, "{apart}");
    assert!(!apart.contains("is matched, so"), "{apart}");
    let near = Tape::new("server", 30_000).header(|_| ());
    let near = near.sent(1_000, (&peer, "10.3.0.1:1"), (5, Some(6))).marks(10, 60);
    assert!(!text(joined(&[&client, &near])).contains("do not overlap"));
}

#[test]
fn the_cause_of_a_sender_names_whose_words_they_are() {
    assert!(text(joined(&[&client(), &server()])).contains("    server: Cause at server. (to be fixed on server)"));
}
