//! Whole screens of `rsttrace top` over the golden run, and its numbers beside those of the summary, the report and the metrics.

use std::sync::Arc;

use jiff::{SignedDuration, tz::TimeZone};
use rsttrace::{
    diagnose::timeouts::Timeouts,
    metrics::Metrics,
    model::{Record, Reset, Summary},
    report::{ReportCollector, ReportFormat, ReportOrigin},
    summary::Tally,
    top::{Board, Key, Narrowing, Request, Snapshot, SnapshotContext, Source, View, drawing},
};

use crate::{
    clock, compare, options,
    run::{gateway, play},
};

/// State of a run with a view.
struct Run {
    board: Board,
    tally: Tally,
    collector: ReportCollector,
    summary: Summary,
}

impl Run {
    fn new(resets: &[Reset], summary: Summary) -> Self {
        let (mut board, mut tally, mut collector) = (Board::default(), Tally::default(), ReportCollector::default());
        for reset in resets {
            let record = Record::Reset(Arc::new(reset.clone()));
            tally.count(reset);
            collector.count(&record);
            board.count(&record);
        }
        Self { board, tally, collector, summary }
    }

    fn golden() -> Self {
        let (resets, summary) = play(gateway());
        Self::new(&resets, summary)
    }

    fn snapshot(&self, source: Source) -> Snapshot {
        let context = SnapshotContext {
            source,
            clock: clock().wall,
            zone: TimeZone::UTC,
            host: String::new(),
            summary: self.summary.clone(),
            messages: vec!["limited: nothing".into()],
            answer: None,
        };
        self.board.snapshot(&self.tally, &self.collector, context)
    }
}

fn view() -> View {
    View::new(options(120), false)
}

/// Types keys, and returns the last request.
fn press(view: &mut View, snapshot: &Snapshot, keys: &[Key]) -> Option<Request> {
    keys.iter().filter_map(|key| view.key(*key, snapshot)).last()
}

/// Lines of a screen, without blanks at their ends.
fn lines(view: &mut View, snapshot: &Snapshot, size: (u16, u16)) -> Vec<String> {
    let buffer = drawing(view, snapshot, size);
    let rows = buffer.content().chunks(usize::from(size.0).max(1));
    rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()).collect()
}

#[test]
fn screens_are_as_stored() {
    let run = Run::golden();
    let snapshot = run.snapshot(Source::Live);
    for size in [(80, 24), (120, 40), (200, 60)] {
        let mut view = view();
        for (name, keys) in [
            ("causes", &[][..]),
            ("peers", &[Key::Char('2')]),
            ("processes", &[Key::Char('3')]),
            ("incidents", &[Key::Char('4'), Key::Down]),
            ("block", &[Key::Enter]),
            ("health", &[Key::Escape, Key::Char('5')]),
            ("help", &[Key::Char('?')]),
        ] {
            // On each screen a new size, as on a terminal that was resized.
            assert!(press(&mut view, &snapshot, keys).is_none(), "{name}");
            let mut text = lines(&mut view, &snapshot, size).join("\n");
            text.push('\n');
            compare(&format!("top/{name}-{}x{}.txt", size.0, size.1), &text);
        }
    }
}

#[test]
fn any_size_will_do() {
    let run = Run::golden();
    let snapshot = run.snapshot(Source::Moment);
    let empty = Run::new(&[], play(Vec::new()).1).snapshot(Source::Recording);
    for snapshot in [&snapshot, &empty] {
        for size in [(0, 0), (1, 1), (2, 40), (400, 1), (20, 5), (33, 7), (79, 9), (300, 100)] {
            let mut view = view();
            for key in ['1', '2', '3', '4', '5', '?', 'q', '/'] {
                drop(press(&mut view, snapshot, &[Key::Char(key)]));
                drop(lines(&mut view, snapshot, size));
            }
        }
    }
    assert!(lines(&mut view(), &empty, (80, 24)).iter().any(|line| line == "no resets"));
}

/// One run, told by the text of the summary, the report, the view and the metrics.
#[test]
fn summary_report_view_and_metrics_have_the_same_numbers() {
    let (resets, summary) = play(gateway());
    let run = Run::new(&resets, summary.clone());
    let mut metrics = Metrics::new(10);
    for reset in &resets {
        metrics.count(reset);
    }
    let series = metrics.render(&summary);
    let snapshot = run.snapshot(Source::Live);
    let mut view = view();
    let causes = lines(&mut view, &snapshot, (200, 60));
    let total = |line: &str| line.split_whitespace().nth(4).and_then(|count| count.parse::<u64>().ok());
    for (code, count) in &summary.settled_by_cause {
        let row = causes.iter().find(|line| line.split_whitespace().next() == Some(code)).expect(code);
        assert_eq!(total(row), Some(*count), "{row}");
        assert!(summary.to_string().contains(&format!("{code} {count}")), "{code}");
    }
    let all: u64 = table(&run, '1').iter().filter_map(|line| total(line)).sum();
    let of_series = series.lines().filter(|line| line.starts_with("rsttrace_resets_total"));
    let of_series: u64 = of_series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert_eq!([all, of_series], [summary.resets; 2]);
    // The health has the whole text of the summary, wrapped.
    drop(press(&mut view, &snapshot, &[Key::Char('5')]));
    let health = lines(&mut view, &snapshot, (400, 100)).join(" ");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&health).contains(&words(&summary.to_string())), "{health}");
    // And the report that the view writes the verdict.
    let timeouts = Timeouts::read(None).expect("the known timeouts");
    let report = run.collector.clone().finish(summary.clone(), ReportOrigin::default(), &timeouts, TimeZone::UTC);
    let (page, (_, verdict)) = (report.document(ReportFormat::Markdown), &summary.verdict_lines[0]);
    assert!(page.contains(verdict) && words(&health).contains(verdict), "{page}");
    for (peer, row) in summary.by_peer.iter().zip(table(&run, '2')) {
        assert!(row.starts_with(&peer.address.to_string()) && cells(&row).contains(&peer.count.to_string()), "{row}");
    }
    for (process, row) in summary.by_process.iter().zip(table(&run, '3')) {
        assert!(row.starts_with(&*process.comm) && cells(&row).contains(&process.count.to_string()), "{row}");
    }
}

/// Rows of a table on a wide screen.
fn table(run: &Run, tab: char) -> Vec<String> {
    let (mut view, snapshot) = (view(), run.snapshot(Source::Live));
    drop(press(&mut view, &snapshot, &[Key::Char(tab)]));
    // Title, three lines of the verdict, names of the tables, titles.
    let rows = lines(&mut view, &snapshot, (200, 60)).into_iter().skip(6);
    rows.take_while(|line| !line.is_empty()).collect()
}

fn cells(row: &str) -> Vec<String> {
    row.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn keys_sort_filter_and_hide() {
    let mut run = Run::golden();
    let snapshot = run.snapshot(Source::Live);
    let mut view = view();
    let first_cells = |view: &mut View, snapshot: &Snapshot| -> Vec<String> {
        let rows = lines(view, snapshot, (200, 60)).into_iter().skip(6).take_while(|line| !line.is_empty());
        rows.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    let by_total = first_cells(&mut view, &snapshot);
    // By the last minute, the last ten, the last time, the name.
    drop(press(&mut view, &snapshot, &[Key::Char('s'); 4]));
    let by_name = first_cells(&mut view, &snapshot);
    assert!(by_name.is_sorted() && by_name.len() == by_total.len() && by_name != by_total, "{by_name:?}");
    drop(press(&mut view, &snapshot, &[Key::Char('s')]));
    assert_eq!(first_cells(&mut view, &snapshot), by_total);
    // What is harmless is hidden, and comes back.
    drop(press(&mut view, &snapshot, &[Key::Char('f')]));
    let faults = lines(&mut view, &snapshot, (200, 60));
    assert!(!faults.iter().any(|line| line.contains(" harmless ")) && faults.len() == 60, "{faults:?}");
    drop(press(&mut view, &snapshot, &[Key::Char('a')]));
    assert_eq!(first_cells(&mut view, &snapshot), by_total);
    // A filter is a request, and what is wrong in one is told.
    let typed = |text: &str| text.chars().map(Key::Char).chain([Key::Enter]).collect::<Vec<_>>();
    assert!(press(&mut view, &snapshot, &typed("/caus:x")).is_none());
    assert!(
        lines(&mut view, &snapshot, (120, 40)).last().is_some_and(|line| line.contains("there is no filter 'caus'"))
    );
    drop(press(&mut view, &snapshot, &[Key::DeleteLine]));
    let Some(Request::Narrow(Some(narrowing))) = press(&mut view, &snapshot, &typed("cause:keepalive-race")) else {
        panic!("a filter")
    };
    run.board.narrow(Some(*narrowing));
    let narrowed = run.snapshot(Source::Live);
    // The counts of the tables are of what matches; the context has the summary of that in a run.
    assert_eq!(table(&run, '2').len(), 1);
    assert!(lines(&mut view, &narrowed, (120, 40))[3..5].iter().any(|line| line.contains("/ cause:keepalive-race")));
    run.board.narrow(None);
    assert!(run.board.narrowing().is_none());
    // Times can be gone to in recordings alone.
    assert!(press(&mut view, &snapshot, &[Key::Char('t')]).is_none());
    let recorded = run.snapshot(Source::Recording);
    assert!(matches!(press(&mut view, &recorded, &[Key::Char('T')]), Some(Request::Step { forward: false })));
    let Some(Request::Go(text)) = press(&mut view, &recorded, &typed("g14:03")) else { panic!("a time") };
    assert_eq!(text, "14:03");
    assert!(matches!(press(&mut view, &recorded, &[Key::Char('r')]), Some(Request::Report)));
    assert!(matches!(press(&mut view, &recorded, &[Key::Char('q')]), Some(Request::Quit)));
}

#[test]
fn the_selection_stays_with_its_row() {
    let (resets, summary) = play(gateway());
    let half = resets.len() / 2;
    let mut view = view();
    let before = Run::new(&resets[..half], summary.clone()).snapshot(Source::Live);
    drop(press(&mut view, &before, &[Key::Char('4'), Key::Down, Key::Down]));
    let title = |view: &mut View, snapshot: &Snapshot| {
        drop(press(view, snapshot, &[Key::Enter]));
        let screen = lines(view, snapshot, (120, 40));
        drop(press(view, snapshot, &[Key::Escape]));
        screen.into_iter().find(|line| line.contains(" reset ")).expect("a block")
    };
    let opened = title(&mut view, &before);
    let after = Run::new(&resets, summary).snapshot(Source::Live);
    // The drawing finds it again.
    drop(lines(&mut view, &after, (120, 40)));
    assert_eq!(title(&mut view, &after), opened);
    // The first row is that of the newest.
    drop(press(&mut view, &after, &[Key::Home]));
    assert_ne!(title(&mut view, &after), opened);
}

#[test]
fn what_is_held_is_bounded_and_counts_are_exact() {
    let (resets, summary) = play(gateway());
    let mut run = Run::new(&[], summary);
    let reset = &resets[0];
    for number in 0..20_000_u64 {
        let mut reset = reset.clone();
        (reset.seq, reset.incident) = (number + 1, number + 1);
        reset.time = clock().wall - SignedDuration::from_millis(i64::try_from(20_000 - number).expect("small"));
        reset.peer.address = std::net::Ipv4Addr::from(u32::try_from(number).expect("small")).into();
        run.tally.count(&reset);
        run.board.count(&Record::Reset(Arc::new(reset)));
    }
    let narrowing = Narrowing::parse(reset.cause.code).expect("a filter").expect("words");
    assert!(run.board.has_dropped());
    run.board.narrow(Some(narrowing));
    let snapshot = run.snapshot(Source::Live);
    let screen = lines(&mut view(), &snapshot, (200, 60));
    // The view tells since when it has all.
    assert!(screen[4].contains(" since "), "{}", screen[4]);
    assert_eq!(run.tally.totals().0, 20_000 * reset.count);
}

#[test]
fn names_of_strangers_are_harmless_on_the_screen() {
    let (mut hostile, summary) = play(gateway());
    let evil = "\u{1b}[31m\u{202e}\u{9b}2J\u{200b}\n\t日本語".repeat(40);
    for reset in &mut hostile {
        reset.host = evil.as_str().into();
        reset.peer.name = Some(evil.as_str().into());
        if let Some(process) = &mut reset.process {
            process.comm = evil.as_str().into();
            process.command_line = Some(evil.as_str().into());
        }
    }
    let snapshot = Run::new(&hostile, summary).snapshot(Source::Recording);
    for size in [(80, 24), (200, 60)] {
        let mut view = view();
        for keys in [&['1'][..], &['2'], &['3'], &['4', 'j'], &['5'], &['4', '\r']] {
            let keys: Vec<Key> =
                keys.iter().map(|key| if *key == '\r' { Key::Enter } else { Key::Char(*key) }).collect();
            drop(press(&mut view, &snapshot, &keys));
            for line in lines(&mut view, &snapshot, size) {
                let is_unsafe = |character: char| {
                    character.is_control() || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
                };
                assert!(!line.contains(is_unsafe), "{line:?}");
            }
        }
    }
}
