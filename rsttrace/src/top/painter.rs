//! The thread of the view: takes keys, and draws what has changed, four times a second at most.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ratatui::{
    Terminal, TerminalOptions, Viewport, backend::CrosstermBackend, crossterm::style::force_color_output, layout::Rect,
};
use tokio::sync::mpsc;

use super::{
    keys::{Key, KeyReader},
    screen,
    snapshot::Snapshot,
    terminal_device::{DrawingWriter, TerminalDevice},
    view::{Request, View},
};

/// Shortest time between two drawings.
pub const DRAW_INTERVAL: Duration = Duration::from_millis(250);
/// Limit for the thread to end.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval at which it is looked whether the thread has ended.
const END_POLL: Duration = Duration::from_millis(5);

/// The newest snapshot, which the run puts here and the thread takes.
type Slot = Arc<Mutex<Option<Arc<Snapshot>>>>;

/// A view that is on the terminal. Dropping it gives the terminal back.
pub struct Painter {
    device: Arc<TerminalDevice>,
    slot: Slot,
    thread: Option<JoinHandle<()>>,
}

impl Painter {
    /// Takes the terminal and starts the thread. The requests of keys come through the channel; it ends where the terminal has gone.
    /// Fails where the thread cannot be started or the terminal has gone.
    pub fn start(device: Arc<TerminalDevice>, view: View) -> io::Result<(Self, mpsc::UnboundedReceiver<Request>)> {
        let (requests, received) = mpsc::unbounded_channel();
        let slot = Slot::default();
        let mut painter = Self { device, slot, thread: None };
        // The view has no colors where there are to be none; the library would look at NO_COLOR beside that.
        force_color_output(true);
        painter.device.enter()?;
        let (device, slot) = (Arc::clone(&painter.device), Arc::clone(&painter.slot));
        let run = move || Painting::new(device, slot, view, requests).run();
        painter.thread = Some(thread::Builder::new().name("view".into()).spawn(run)?);
        Ok((painter, received))
    }

    /// Shows a snapshot with the next drawing.
    pub fn show(&self, snapshot: Snapshot) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(snapshot));
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        self.device.end();
        let deadline = Instant::now() + END_TIMEOUT;
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(END_POLL);
            }
        }
        self.device.leave();
    }
}

/// State of the thread.
struct Painting {
    device: Arc<TerminalDevice>,
    slot: Slot,
    view: View,
    requests: mpsc::UnboundedSender<Request>,
    /// What is drawn; `None` before the first snapshot.
    shown: Option<Arc<Snapshot>>,
    /// What is drawn once the view is not paused.
    newest: Option<Arc<Snapshot>>,
    terminal: Option<(Rect, Terminal<CrosstermBackend<DrawingWriter>>)>,
    keys: KeyReader,
    /// Whether something has changed since the last drawing.
    is_due: bool,
    drawn: Option<Instant>,
}

impl Painting {
    fn new(device: Arc<TerminalDevice>, slot: Slot, view: View, requests: mpsc::UnboundedSender<Request>) -> Self {
        let keys = KeyReader::default();
        Self {
            device,
            slot,
            view,
            requests,
            shown: None,
            newest: None,
            terminal: None,
            keys,
            is_due: false,
            drawn: None,
        }
    }

    /// Draws until the view ends, or the terminal has gone.
    fn run(mut self) {
        while !self.device.is_ending() {
            if self.step().is_err() {
                // The run ends with its view.
                let _ignored = self.requests.send(Request::Quit);
                return;
            }
        }
    }

    fn step(&mut self) -> io::Result<()> {
        let left = self.drawn.map_or(Duration::ZERO, |drawn| DRAW_INTERVAL.saturating_sub(drawn.elapsed()));
        let wait = if self.is_due { left } else { DRAW_INTERVAL };
        let mut bytes = [0; 256];
        let read = self.device.read(&mut bytes, u16::try_from(wait.as_millis()).unwrap_or(u16::MAX))?;
        for key in self.keys.read(bytes.get(..read).unwrap_or_default()) {
            self.take(key);
        }
        if let Some(snapshot) = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.is_due |= self.view.observe(&snapshot);
            self.newest = Some(snapshot);
        }
        if !self.view.paused
            && let Some(snapshot) = self.newest.take()
        {
            self.shown = Some(snapshot);
            self.is_due = true;
        }
        let size = self.device.size();
        self.is_due |= self.terminal.as_ref().is_none_or(|(known, _)| *known != size);
        if self.is_due && self.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW_INTERVAL) {
            self.draw(size)?;
        }
        Ok(())
    }

    fn take(&mut self, key: Key) {
        if key == Key::Redraw {
            self.terminal = None;
        }
        let request = match &self.shown {
            Some(snapshot) => self.view.key(key, snapshot),
            // Nothing is there yet to look at.
            None => matches!(key, Key::Char('q') | Key::Interrupt).then_some(Request::Quit),
        };
        if let Some(request) = request {
            // The run may have ended.
            let _ignored = self.requests.send(request);
        }
        self.is_due = true;
    }

    fn draw(&mut self, size: Rect) -> io::Result<()> {
        let Some(snapshot) = self.shown.clone() else { return Ok(()) };
        if self.terminal.as_ref().is_none_or(|(known, _)| *known != size) {
            let backend = CrosstermBackend::new(DrawingWriter::new(Arc::clone(&self.device)));
            let options = TerminalOptions { viewport: Viewport::Fixed(size) };
            let mut terminal = Terminal::with_options(backend, options)?;
            // With `Terminal::clear` the place of the cursor would be asked for, whose answer comes among the keys.
            ratatui::backend::Backend::clear(terminal.backend_mut())?;
            self.terminal = Some((size, terminal));
        }
        let Some((_, terminal)) = &mut self.terminal else { return Ok(()) };
        let view = &mut self.view;
        terminal.draw(|frame| {
            if let Some(cursor) = screen::draw(view, &snapshot, frame.buffer_mut()) {
                frame.set_cursor_position(cursor);
            }
        })?;
        (self.is_due, self.drawn) = (false, Some(Instant::now()));
        Ok(())
    }
}
