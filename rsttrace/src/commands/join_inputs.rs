//! Inputs of `rsttrace join`: which host or place of capture each line is of.

use std::path::{Path, PathBuf};

use crate::{
    diagnose::Diagnosis,
    exit::Failure,
    filter::RecordFilter,
    join::{JoinError, Joined, Joiner},
    model::{FilterOptions, Record, Reset},
    pipeline::{captured::CapturedChain, processor::Output},
    replay::{CaptureView, Inputs, Line, TimeRange, capture_groups},
};

/// An input that is open.
pub(super) struct JoinInput {
    name: String,
    inputs: Inputs,
    /// Captures of a directory that may be one after the other, or of several places; empty for any other input.
    parts: Vec<PathBuf>,
    view: CaptureView,
}

/// What was read.
pub(super) struct Read {
    /// The result; an error where the inputs cannot be joined.
    pub(super) joined: Result<Joined, JoinError>,
    /// What has to be said of the inputs.
    pub(super) notes: Vec<String>,
    /// Whether one could not be read to its end.
    pub(super) is_damaged: bool,
}

impl JoinInput {
    fn open(name: String, paths: &[PathBuf], view: &CaptureView) -> Result<Self, Failure> {
        // What ended nothing tells whether a reset has arrived.
        let view = CaptureView { paths: true, ignored: true, ..view.clone() };
        let inputs = Inputs::open(paths, TimeRange::default(), view.clone()).map_err(Failure::usage)?;
        Ok(Self { name, inputs, parts: Vec::new(), view })
    }

    /// The captures one by one, where they are not one after the other; otherwise this input. Blocks while it reads them.
    fn apart(self) -> Result<Vec<Self>, Failure> {
        if self.parts.len() < 2 {
            return Ok(vec![self]);
        }
        let mut whole = self.inputs;
        while whole.next().is_some() {}
        if whole.paths().count() > 1 {
            self.parts.iter().map(|path| Self::open(name(path), std::slice::from_ref(path), &self.view)).collect()
        } else {
            Ok(vec![Self::open(self.name, &self.parts, &self.view)?])
        }
    }
}

fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// Opens each input on its own: joining has to know which one a line is of. All times are read, since what is outside of those that
/// are shown may be the proof. Fails with status 2 when one cannot be read.
pub(super) fn open(paths: &[PathBuf], view: &CaptureView) -> Result<Vec<JoinInput>, Failure> {
    let mut opened = Vec::new();
    for path in paths {
        let is_directory = path.as_os_str() != "-" && path.is_dir();
        let groups = if is_directory { capture_groups(path).ok().flatten().unwrap_or_default() } else { Vec::new() };
        match groups.as_slice() {
            // The captures of several places.
            [_, _, ..] => {
                for group in groups {
                    let first = group.first().map(|path| name(path)).unwrap_or_default();
                    opened.push(JoinInput { parts: group.clone(), ..JoinInput::open(first, &group, view)? });
                }
            }
            [group] if group.len() > 1 => {
                opened.push(JoinInput { parts: group.clone(), ..JoinInput::open(name(path), group, view)? });
            }
            _ => opened.push(JoinInput::open(name(path), std::slice::from_ref(path), view)?),
        }
    }
    Ok(opened)
}

/// Reads and joins inputs. Blocks meanwhile. Fails with status 2 when one is nothing that can be read.
pub(super) fn read(opened: Vec<JoinInput>) -> Result<Read, Failure> {
    let mut joiner = Joiner::default();
    let (mut notes, mut is_damaged) = (Vec::new(), false);
    for input in opened {
        for JoinInput { name, mut inputs, .. } in input.apart()? {
            joiner.begin(&name);
            let taken = take(&mut joiner, &mut inputs)?;
            notes.extend(joiner.take_notes());
            let said = inputs.notes();
            if inputs.is_foreign() {
                return Err(Failure::usage(format_args!("nothing to join in {name}: {}", said.join("; "))));
            }
            notes.extend(inputs.remarks().map(str::to_owned));
            let named = |note: String| if note.contains(&name) { note } else { format!("{name}: {note}") };
            notes.extend(said.into_iter().map(named));
            is_damaged |= inputs.is_damaged();
            if let Err(error) = taken {
                return Ok(Read { joined: Err(error), notes, is_damaged });
            }
        }
    }
    Ok(Read { joined: joiner.finish(), notes, is_damaged })
}

/// Takes one input. The inner result fails where there is too much of it.
fn take(joiner: &mut Joiner, inputs: &mut Inputs) -> Result<Result<(), JoinError>, Failure> {
    let everything = RecordFilter::for_recording(FilterOptions::default())?;
    let mut captured = CapturedChain::new(&Diagnosis::default(), everything);
    let mut ready = Ready::default();
    let (mut holes, is_capture) = (0, inputs.has_captures());
    while let Some(line) = inputs.next() {
        if inputs.holes() > holes {
            holes = inputs.holes();
            joiner.hole();
        }
        let taken = match line {
            Line::Header(header) => joiner.header(&header),
            Line::Mark(mark) => {
                joiner.mark(&mark);
                Ok(())
            }
            Line::Captured(reset) => {
                captured.take(*reset, &mut ready);
                ready.hand_on(joiner)
            }
            Line::Record(record) => joiner.record(&record, is_capture),
            Line::Summary(_) => Ok(()),
        };
        if taken.is_err() {
            return Ok(taken);
        }
    }
    captured.finish(&mut ready);
    let taken = ready.hand_on(joiner).and_then(|()| inputs.paths().try_for_each(|path| joiner.path(path)));
    Ok(taken)
}

/// Records of a capture.
#[derive(Default)]
struct Ready(Vec<Record>);

impl Ready {
    fn hand_on(&mut self, joiner: &mut Joiner) -> Result<(), JoinError> {
        self.0.drain(..).try_for_each(|record| joiner.record(&record, true))
    }
}

impl Output for Ready {
    fn observe(&mut self, _: &Reset) {}

    fn emit(&mut self, record: Record) {
        self.0.push(record);
    }
}
