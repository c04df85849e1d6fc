//! Summaries of a run.

use serde_json::Value;

use crate::stage::{Pair, Stage, V4};

/// Counters of another namespace than rsttrace's own are in the summary beside the records of that namespace, and
/// agree.
pub(crate) fn counters_of_another_namespace_agree(stage: &Stage) {
    let mut pair = Pair::open(V4);
    let mut tracer = stage.trace_everywhere(&[]);
    for _ in 0..3 {
        pair.client_aborts();
        pair.connect("c", "s");
    }
    // Other scenarios run at the same time, so the number of records alone does not show that these have arrived.
    while tracer.count(|reset| reset["netns"]["inode"] == stage.netns) < 6 {
        tracer.read_one();
    }
    let run = tracer.finish();
    let summary = run.summaries.last().expect("a summary");
    let others = summary["coverage"]["others"].as_array().expect("namespaces");
    let own = others.iter().find(|other| other["netns"] == stage.netns).expect("this namespace");
    for (name, moved) in [("TcpOutRsts", 3), ("TcpEstabResets", 6), ("TcpAttemptFails", 0)] {
        let counters = own["counters"].as_array().expect("counters");
        let counter = counters.iter().find(|counter| counter["name"] == name).expect("this counter");
        assert_eq!(counter["delta"], moved, "{counter}");
        assert!(counter["observed"] == moved || run.lost > 0, "{counter}");
        assert_eq!(counter["explanation"], Value::Null, "{counter}");
    }
}

/// `--summary-interval`: the counts so far, while the run continues.
pub(crate) fn summaries_come_at_intervals(stage: &Stage) {
    let mut tracer = stage.trace_with(&["--summary-interval", "200ms"]);
    let mut pair = Pair::open(V4);
    pair.client_aborts();
    tracer.expect(2).expect_summary(2);
    pair.connect("c", "s");
    pair.client.abort("c");
    let run = stage.finish(tracer, 2, 2);

    let (last, before) = run.summaries.split_last().expect("a summary");
    assert!(last["final"] == true && before.iter().all(|summary| summary["final"] == false));
    assert_eq!((&last["resets"], &last["sent"]), (&4.into(), &2.into()));
    let processes: Vec<_> = last["by_process"].as_array().expect("processes").iter().collect();
    for puppet in [&pair.client, &pair.server] {
        let process = processes.iter().find(|process| process["comm"] == puppet.comm()).expect("both are there");
        assert_eq!((&process["count"], &process["pids"][0]), (&2.into(), &puppet.pid().into()));
    }
    assert!(
        last["verdict"].as_str().is_some_and(|verdict| verdict.contains("Of 4 resets this host sent 2")),
        "{last:#}"
    );
    assert!(run.stderr.contains("verdict"), "{}", run.stderr);
    // What came in each interval adds up to what had come by the last one.
    let new = run.stderr.lines().filter(|line| line.contains(" resets in the last 200 ms; since the start:"));
    let new: Vec<u64> = new.map(|line| line.split_whitespace().find_map(|word| word.parse().ok()).unwrap()).collect();
    let by_interval = before.last().expect("one at an interval")["resets"].as_u64();
    assert_eq!(Some(new.iter().sum()), by_interval, "{}", run.stderr);
}
