//! What is looked at, and what keys do. Nothing here draws, reads or waits.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;

use super::{
    keys::Key,
    narrowing::{self, Narrowing},
    snapshot::{Row, RowKey, Snapshot},
};
use crate::{
    format::TextOptions,
    model::Fault,
    report::{self, KeptIncident},
};

/// What the view asks of the run.
#[derive(Debug)]
pub enum Request {
    /// End.
    Quit,
    /// Show the records that match; all with `None`.
    Narrow(Option<Box<Narrowing>>),
    /// Go one step on in time, or back.
    Step {
        /// Whether the step is forward.
        forward: bool,
    },
    /// Go to a time, in the forms of `--since`.
    Go(String),
    /// Write the report of what is shown.
    Report,
}

/// Tables of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Causes,
    Peers,
    Processes,
    Incidents,
    Health,
}

impl Tab {
    /// All, in the order of their numbers.
    pub(super) const ALL: [Self; 5] = [Self::Causes, Self::Peers, Self::Processes, Self::Incidents, Self::Health];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Causes => "Causes",
            Self::Peers => "Peers",
            Self::Processes => "Processes",
            Self::Incidents => "Incidents",
            Self::Health => "Health",
        }
    }

    const fn place(self) -> usize {
        self as usize
    }

    fn moved(self, forward: bool) -> Self {
        let step = if forward { 1 } else { Self::ALL.len() - 1 };
        Self::ALL[(self.place() + step) % Self::ALL.len()]
    }

    /// The orders that `s` goes through, by the titles of their columns.
    pub(super) const fn orders(self) -> &'static [&'static str] {
        match self {
            Self::Causes | Self::Peers | Self::Processes => &["TOTAL", "1m", "10m", "LAST", "NAME"],
            Self::Incidents => &["TIME", "SILENCE", "AGE"],
            Self::Health => &["TOTAL"],
        }
    }
}

/// What the selection stays with while rows move.
#[derive(Clone, Debug, PartialEq)]
enum Anchor {
    Row(RowKey),
    Incident(Arc<str>, u64),
}

/// Selection of one table.
#[derive(Clone, Debug, Default)]
struct Selection {
    place: usize,
    /// `None` at the first row, which the selection stays with.
    anchor: Option<Anchor>,
    order: usize,
    /// First row on the screen.
    pub(super) first: usize,
}

/// A line that is typed.
#[derive(Clone, Debug)]
pub(super) enum Prompt {
    Filter(String),
    Go(String),
}

/// A page over the table.
#[derive(Clone, Debug)]
pub(super) enum Page {
    Help,
    /// Block of an incident.
    Block(Box<KeptIncident>),
}

/// What is looked at.
pub struct View {
    pub(super) tab: Tab,
    selections: [Selection; 5],
    /// Whether what is harmless is hidden.
    pub(super) faults_only: bool,
    pub(super) paused: bool,
    pub(super) prompt: Option<Prompt>,
    pub(super) page: Option<Page>,
    /// First line of the page, or of the health, on the screen.
    pub(super) scroll: usize,
    /// What is to be told in the last line.
    pub(super) notice: Option<String>,
    /// Number of the last answer that was told.
    answered: u64,
    /// Rows of the table on the screen, for whole pages.
    pub(super) page_rows: usize,
    pub(super) text: TextOptions,
    pub(super) is_colored: bool,
}

impl View {
    /// The first screen. `text` is how blocks are presented, and has the time zone.
    pub fn new(text: TextOptions, is_colored: bool) -> Self {
        Self {
            tab: Tab::Causes,
            selections: <[Selection; 5]>::default(),
            faults_only: false,
            paused: false,
            prompt: None,
            page: None,
            scroll: 0,
            notice: None,
            answered: 0,
            page_rows: 10,
            text,
            is_colored,
        }
    }

    /// Takes the answer that a new snapshot brings. Returns whether there is a new one.
    pub fn observe(&mut self, snapshot: &Snapshot) -> bool {
        let Some((number, answer)) = snapshot.answer.as_ref().filter(|(number, _)| *number != self.answered) else {
            return false;
        };
        (self.answered, self.notice) = (*number, Some(answer.clone()));
        true
    }

    /// Title of the column that orders the table.
    pub(super) fn order(&self) -> &'static str {
        let orders = self.tab.orders();
        orders[self.selections[self.tab.place()].order % orders.len()]
    }

    /// Rows of the table that are shown, in their order; none for incidents and health.
    pub(super) fn rows<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a Row> {
        let rows = match self.tab {
            Tab::Causes => &snapshot.causes,
            Tab::Peers => &snapshot.peers,
            Tab::Processes => &snapshot.processes,
            Tab::Incidents | Tab::Health => return Vec::new(),
        };
        let is_shown =
            |row: &&Row| !self.faults_only || row.fault.map_or(row.harmful > 0, |fault| fault != Fault::None);
        let mut rows: Vec<&Row> = rows.iter().filter(is_shown).collect();
        // Rows that are equal stay in the order of their totals.
        rows.sort_by(|one, other| other.total.cmp(&one.total).then_with(|| one.name.cmp(&other.name)));
        match self.order() {
            "1m" => rows.sort_by_key(|row| Reverse(row.minute)),
            "10m" => rows.sort_by_key(|row| Reverse(row.ten_minutes)),
            "LAST" => rows.sort_by_key(|row| Reverse(row.last)),
            "NAME" => rows.sort_by(|one, other| one.name.cmp(&other.name)),
            _ => {}
        }
        rows
    }

    /// Incidents that are shown, in their order.
    pub(super) fn incidents<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a KeptIncident> {
        let is_shown = |kept: &&KeptIncident| !self.faults_only || kept.first.cause.fault != Fault::None;
        let mut incidents: Vec<&KeptIncident> = snapshot.incidents.iter().filter(is_shown).collect();
        let longest_first = |value: fn(&KeptIncident) -> Option<f64>| {
            move |one: &&KeptIncident, other: &&KeptIncident| {
                value(other).unwrap_or(-1.0).total_cmp(&value(one).unwrap_or(-1.0))
            }
        };
        match self.order() {
            "SILENCE" => incidents.sort_by(longest_first(|kept| report::silence_ms(&kept.first))),
            "AGE" => incidents.sort_by(longest_first(|kept| kept.first.socket.as_ref()?.age_ms)),
            _ => {}
        }
        incidents
    }

    fn anchors(&self, snapshot: &Snapshot) -> Vec<Anchor> {
        if self.tab == Tab::Incidents {
            let anchor = |kept: &KeptIncident| Anchor::Incident(Arc::clone(&kept.first.host), kept.first.seq);
            return self.incidents(snapshot).into_iter().map(anchor).collect();
        }
        self.rows(snapshot).into_iter().map(|row| Anchor::Row(row.key.clone())).collect()
    }

    /// Number of the selected row, and of the first one on a screen with so many rows.
    pub(super) fn selected(&mut self, snapshot: &Snapshot, height: usize) -> (usize, usize) {
        let anchors = self.anchors(snapshot);
        self.page_rows = height;
        let height = height.max(1);
        let selection = &mut self.selections[self.tab.place()];
        let found = selection.anchor.as_ref().and_then(|anchor| anchors.iter().position(|other| other == anchor));
        let place = found.unwrap_or(selection.place).min(anchors.len().saturating_sub(1));
        selection.place = if selection.anchor.is_none() { 0 } else { place };
        let last_first = anchors.len().saturating_sub(height);
        selection.first = selection.first.clamp((selection.place + 1).saturating_sub(height), selection.place);
        selection.first = selection.first.min(last_first);
        (selection.place, selection.first)
    }

    /// Moves the selection, or the page.
    fn step(&mut self, snapshot: &Snapshot, by: isize) {
        if self.page.is_some() || self.tab == Tab::Health {
            self.scroll = self.scroll.saturating_add_signed(by);
            return;
        }
        let anchors = self.anchors(snapshot);
        let selection = &mut self.selections[self.tab.place()];
        selection.place = selection.place.saturating_add_signed(by).min(anchors.len().saturating_sub(1));
        selection.anchor = if selection.place == 0 { None } else { anchors.into_iter().nth(selection.place) };
    }

    fn show(&mut self, tab: Tab) {
        self.tab = tab;
        self.scroll = 0;
    }

    /// Opens the selected incident, or the newest of the selected row.
    fn open(&mut self, snapshot: &Snapshot) {
        let selected = self.selections[self.tab.place()].place;
        let found = match self.tab {
            Tab::Health => return,
            Tab::Incidents => self.incidents(snapshot).get(selected).copied(),
            Tab::Causes | Tab::Peers | Tab::Processes => {
                let Some(row) = self.rows(snapshot).get(selected).copied() else { return };
                snapshot.incidents.iter().find(|kept| is_of(kept, &row.key))
            }
        };
        match found {
            Some(kept) => {
                self.page = Some(Page::Block(Box::new(kept.clone())));
                self.scroll = 0;
            }
            None => self.notice = Some("none of its incidents is among those that are held in full".to_owned()),
        }
    }

    /// Takes a key. Returns what the run has to do for it.
    pub fn key(&mut self, key: Key, snapshot: &Snapshot) -> Option<Request> {
        self.notice = None;
        if key == Key::Interrupt {
            return Some(Request::Quit);
        }
        if self.prompt.is_some() {
            return self.type_key(key, snapshot);
        }
        if self.page.is_some() && matches!(key, Key::Escape | Key::Enter | Key::Backspace | Key::Char('q' | '?')) {
            (self.page, self.scroll) = (None, 0);
            return None;
        }
        let rows = isize::try_from(self.page_rows.max(1)).unwrap_or(1);
        match key {
            Key::Char('q') => return Some(Request::Quit),
            Key::Char('j') | Key::Down => self.step(snapshot, 1),
            Key::Char('k') | Key::Up => self.step(snapshot, -1),
            Key::PageDown => self.step(snapshot, rows),
            Key::PageUp => self.step(snapshot, -rows),
            Key::Home => self.step(snapshot, isize::MIN),
            Key::End | Key::Char('G') => self.step(snapshot, isize::MAX),
            Key::Char('?') => (self.page, self.scroll) = (Some(Page::Help), 0),
            Key::Char('r') => return Some(Request::Report),
            Key::Char(' ') => self.paused = !self.paused,
            Key::Char('t') => return self.if_seekable(snapshot, Request::Step { forward: true }),
            Key::Char('T') => return self.if_seekable(snapshot, Request::Step { forward: false }),
            Key::Char('g') if self.if_seekable(snapshot, Request::Quit).is_some() => {
                self.prompt = Some(Prompt::Go(String::new()));
            }
            Key::Char('/') => {
                let text = snapshot.narrowing.as_ref().map(|(text, _)| text.clone()).unwrap_or_default();
                self.prompt = Some(Prompt::Filter(text));
            }
            key if self.page.is_none() => self.table_key(key, snapshot),
            _ => {}
        }
        None
    }

    fn table_key(&mut self, key: Key, snapshot: &Snapshot) {
        match key {
            Key::Enter => self.open(snapshot),
            Key::Tab => self.show(self.tab.moved(true)),
            Key::BackTab => self.show(self.tab.moved(false)),
            Key::Char(digit @ '1'..='5') => {
                let place = digit.to_digit(10).and_then(|digit| usize::try_from(digit - 1).ok()).unwrap_or_default();
                self.show(Tab::ALL[place]);
            }
            Key::Char('a') => self.faults_only = false,
            Key::Char('f') => self.faults_only = true,
            Key::Char('s') => {
                let selection = &mut self.selections[self.tab.place()];
                selection.order = (selection.order + 1) % self.tab.orders().len();
                (selection.place, selection.anchor, selection.first) = (0, None, 0);
            }
            _ => {}
        }
    }

    /// The request, where the view can go to other times; otherwise says that it cannot.
    fn if_seekable(&mut self, snapshot: &Snapshot, request: Request) -> Option<Request> {
        if snapshot.source.can_seek() {
            self.paused = false;
            return Some(request);
        }
        self.notice = Some("times can be gone to in recordings and captures: rsttrace top FILE".to_owned());
        None
    }

    /// A key while a line is typed.
    fn type_key(&mut self, key: Key, snapshot: &Snapshot) -> Option<Request> {
        let (Prompt::Filter(text) | Prompt::Go(text)) = self.prompt.as_mut()?;
        match key {
            Key::Char(character) if text.len() < narrowing::LONGEST => text.push(character),
            Key::Backspace => {
                text.pop();
            }
            Key::DeleteLine => text.clear(),
            Key::Escape => self.prompt = None,
            Key::Enter => return self.typed(snapshot),
            _ => {}
        }
        None
    }

    /// The line that was typed, as a request. One that is wrong stays, with the reason.
    fn typed(&mut self, snapshot: &Snapshot) -> Option<Request> {
        match self.prompt.take()? {
            Prompt::Go(text) if text.trim().is_empty() => None,
            Prompt::Go(text) => Some(Request::Go(text)),
            Prompt::Filter(text) => match Narrowing::parse(&text) {
                Ok(None) if snapshot.narrowing.is_none() => None,
                Ok(narrowing) => {
                    self.paused = false;
                    self.selections = self
                        .selections
                        .clone()
                        .map(|selection| Selection { order: selection.order, ..Selection::default() });
                    Some(Request::Narrow(narrowing.map(Box::new)))
                }
                Err(why) => {
                    self.notice = Some(why);
                    self.prompt = Some(Prompt::Filter(text));
                    None
                }
            },
        }
    }
}

/// Whether an incident belongs to a row.
fn is_of(kept: &KeptIncident, key: &RowKey) -> bool {
    let records = || std::iter::once(&kept.first).chain(&kept.further);
    match key {
        RowKey::Cause(code) => records().any(|reset| reset.cause.code == *code),
        RowKey::Peer(address) => records().any(|reset| reset.peer.address == *address),
        RowKey::Process(name) => records().any(|reset| reset.process.is_some() && report::process_name(reset) == *name),
    }
}

/// Step in time that fits a span: some forty of them are the span.
pub(crate) fn step_s(first: Timestamp, last: Timestamp) -> i64 {
    let span_s = last.as_second().saturating_sub(first.as_second());
    let steps = [1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 21_600];
    steps.into_iter().find(|step| step * 40 >= span_s).unwrap_or(86_400)
}
