//! The view of `rsttrace top`: tables of a run while it goes on, or of what was recorded, on a terminal.
//!
//! The run keeps a [`Board`] beside the summary's tally and the report's collector, and makes a [`Snapshot`] of the three, whose
//! counts are the summary's. A thread of its own ([`Painter`]) takes the newest snapshot, keys and the terminal, so that nothing
//! waits for a terminal but that thread. What keys do is in [`View`], and a drawing in `screen`; neither does I/O. Everything in a
//! record is untrusted: what is shown is sanitized and cut.

mod activity;
mod board;
mod columns;
mod keys;
mod narrowing;
mod painter;
mod screen;
mod snapshot;
mod terminal_device;
mod text_pages;
mod view;
mod window;

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

pub(crate) use self::view::step_s;
pub use self::{
    board::{Board, HELD_RECORDS},
    keys::Key,
    narrowing::Narrowing,
    painter::{DRAW_INTERVAL, Painter},
    snapshot::{Snapshot, SnapshotContext, Source},
    terminal_device::{NoTerminal, TerminalDevice},
    view::{Request, View},
};

/// A drawing of so many columns and rows in memory, for tests and pictures.
pub fn drawing(view: &mut View, snapshot: &Snapshot, (columns, rows): (u16, u16)) -> Buffer {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, rows));
    let Ok(_) = terminal.draw(|frame| {
        if let Some(cursor) = screen::draw(view, snapshot, frame.buffer_mut()) {
            frame.set_cursor_position(cursor);
        }
    });
    terminal.backend().buffer().clone()
}
