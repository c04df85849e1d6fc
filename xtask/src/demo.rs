//! Records the demo of `rsttrace top` on a terminal: an SVG that moves.
//!
//! The program runs in tmux over the recording of the example of a report, gets the keys of [`SCENES`], and each screen becomes a
//! part of the picture, with the colours that the terminal has.

use std::{
    fmt::Write as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

/// Size of the terminal.
const COLUMNS: u16 = 100;
const ROWS: u16 = 24;
/// Recording that is looked at, in `docs`.
const RECORDING: &str = "report-example.jsonl.zst";
/// The picture, in `docs`.
const PICTURE: &str = "top-demo.svg";
/// Keys as tmux names them, what the screen shows then, and seconds for which it is shown.
const SCENES: [(&[&str], &str, f64); 8] = [
    (&[], "keepalive-race", 4.0),
    (&["f"], "[f]aults", 2.5),
    (&["Enter"], "  advice ", 5.0),
    (&["Escape", "4"], "SILENCE", 3.0),
    (&["/", "fault:path", "Enter"], "/ fault:path", 3.5),
    (&["/", "C-u", "Enter", "a", "2"], "FAULTY", 2.5),
    (&["1", "T", "T", "T"], "UP TO HERE", 2.5),
    (&["5"], "  verdict ", 4.0),
];
/// Limit for a screen to come.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Time for which a screen stays as it is before it is taken: longer than the view waits between two drawings.
const STABLE: Duration = Duration::from_millis(700);
/// Width and height of a character in the picture.
const CELL: (f64, f64) = (8.0, 17.0);
/// Colours of the terminal by their numbers: black, red, green, yellow, blue, magenta, cyan, white.
const COLORS: [&str; 8] = ["#1c1f26", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#d0d7de"];
const BACKGROUND: &str = COLORS[0];
const FOREGROUND: &str = COLORS[7];

/// Record the demo of `rsttrace top` in tmux: writes docs/top-demo.svg
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs `cargo xtask demo`.
pub(crate) fn main(_: &Args) -> Result<()> {
    if process::find("tmux", &[]).is_none() {
        bail!("tmux is missing: run `cargo xtask setup` as root");
    }
    let binary = process::build_rsttrace("dev")?;
    let docs = workspace::root()?.join("docs");
    let terminal = Terminal::start(&binary, &docs)?;
    let mut screens = Vec::new();
    for (keys, shown, _) in SCENES {
        for key in keys {
            terminal.press(key)?;
        }
        screens.push(terminal.stable(shown)?);
    }
    drop(terminal);
    workspace::write(&docs.join(PICTURE), picture(&screens).as_bytes())?;
    eprintln!("docs/{PICTURE}");
    Ok(())
}

/// A terminal in tmux, ended with the value.
struct Terminal(String);

impl Terminal {
    fn start(binary: &Path, docs: &Path) -> Result<Self> {
        let terminal = Self(format!("rsttrace-demo-{}", std::process::id()));
        let (columns, rows) = (COLUMNS.to_string(), ROWS.to_string());
        let line = format!("{} top --color always --time utc {RECORDING}", binary.display());
        let docs = docs.to_str().context("the path of the checkout is no text")?;
        let arguments = ["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, "-c", docs, &line];
        terminal.tmux(&arguments)?;
        Ok(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let output = process::output(Command::new("tmux").args(["-L", &self.0, "-u"]).args(arguments))?;
        String::from_utf8(output).context("the screen is no text")
    }

    fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key])?;
        // One drawing for each key.
        thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    /// The screen with its colours, once it shows a text and stays as it is.
    fn stable(&self, shown: &str) -> Result<String> {
        let deadline = Instant::now() + TIMEOUT;
        let (mut before, mut since) = (String::new(), Instant::now());
        loop {
            let screen = self.tmux(&["capture-pane", "-p", "-e"])?;
            if screen != before {
                (before, since) = (screen, Instant::now());
            } else if since.elapsed() >= STABLE && self.tmux(&["capture-pane", "-p"])?.contains(shown) {
                return Ok(before);
            }
            if Instant::now() >= deadline {
                bail!("the screen does not show '{shown}':\n{before}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ignored = Command::new("tmux").args(["-L", &self.0, "kill-server"]).status();
    }
}

/// How text looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Look {
    /// Number of the colour.
    color: Option<usize>,
    is_bold: bool,
    is_dim: bool,
    is_underlined: bool,
    is_reversed: bool,
}

impl Look {
    /// Takes the parameters of a sequence (SGR).
    fn take(&mut self, parameters: &str) {
        let mut numbers = parameters.split([';', ':']).map(|number| number.parse().unwrap_or(0_usize));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                1 => self.is_bold = true,
                2 => self.is_dim = true,
                4 => self.is_underlined = true,
                7 => self.is_reversed = true,
                22 => (self.is_bold, self.is_dim) = (false, false),
                24 => self.is_underlined = false,
                27 => self.is_reversed = false,
                30..=37 => self.color = Some(number - 30),
                38 => self.color = numbers.nth(1).filter(|color| *color < COLORS.len()),
                39 => self.color = None,
                _ => {}
            }
        }
    }
}

/// Parts of a line that look alike, with their first columns. `look` goes on from line to line.
fn parts(line: &str, look: &mut Look) -> Vec<(usize, String, Look)> {
    let mut parts: Vec<(usize, String, Look)> = Vec::new();
    let (mut column, mut rest) = (0, line);
    while let Some(character) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\u{1b}[") {
            let end = sequence.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(sequence.len());
            look.take(sequence.get(..end).unwrap_or_default());
            rest = sequence.get(end + 1..).unwrap_or_default();
            continue;
        }
        match parts.last_mut() {
            Some((first, text, before)) if before == look && *first + text.chars().count() == column => {
                text.push(character);
            }
            _ => parts.push((column, character.to_string(), look.clone())),
        }
        column += 1;
        rest = &rest[character.len_utf8()..];
    }
    parts
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The screens one after the other, without an end. Without motion the first one stays.
fn picture(screens: &[String]) -> String {
    let (width, height) = (f64::from(COLUMNS) * CELL.0 + 20.0, f64::from(ROWS) * CELL.1 + 20.0);
    let all: f64 = SCENES.iter().map(|(_, _, seconds)| seconds).sum();
    let mut style = String::new();
    let mut groups = String::new();
    let mut begin = 0.0;
    for (number, (screen, (_, _, seconds))) in screens.iter().zip(SCENES).enumerate() {
        let (from, to) = (begin / all * 100.0, (begin + seconds) / all * 100.0);
        begin += seconds;
        // A string takes everything.
        let _ignored = writeln!(
            style,
            "@keyframes s{number}{{0%{{opacity:0}}{from:.2}%{{opacity:1}}{to:.2}%{{opacity:0}}100%{{opacity:0}}}}\
             #s{number}{{animation:s{number} {all}s step-end infinite}}"
        );
        let first = if number == 0 { "" } else { " opacity=\"0\"" };
        let _ignored = writeln!(groups, "<g id=\"s{number}\"{first}>{}</g>", drawn(screen));
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>rsttrace top over a recording: causes, an incident, a filter, peers, an earlier time, health</title>\n\
         <style>text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",monospace;white-space:pre}}\n\
         @media (prefers-reduced-motion:no-preference){{{style}}}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{BACKGROUND}\"/>\n{groups}</svg>\n"
    )
}

/// One screen.
fn drawn(screen: &str) -> String {
    let (mut drawing, mut look) = (String::new(), Look::default());
    for (row, line) in (0_u16..).zip(screen.lines()) {
        for (column, text, look) in parts(line, &mut look) {
            let is_plain = !look.is_reversed && !look.is_underlined;
            if text.trim().is_empty() && is_plain {
                continue;
            }
            let (column, length) =
                (u32::try_from(column).unwrap_or(0), u32::try_from(text.chars().count()).unwrap_or(0));
            let (x, y) = (f64::from(column) * CELL.0 + 10.0, f64::from(row) * CELL.1 + 10.0);
            let width = f64::from(length) * CELL.0;
            let color = look.color.map_or(FOREGROUND, |color| COLORS[color]);
            let color = if look.is_reversed {
                let _ignored = write!(
                    drawing,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\" fill=\"{color}\"/>",
                    CELL.1
                );
                BACKGROUND
            } else {
                color
            };
            let mut attributes = String::new();
            for (is_so, attribute) in [
                (look.is_bold, " font-weight=\"bold\""),
                (look.is_dim, " opacity=\"0.6\""),
                (look.is_underlined, " text-decoration=\"underline\""),
            ] {
                attributes.push_str(if is_so { attribute } else { "" });
            }
            let baseline = y + 13.0;
            let _ignored = write!(
                drawing,
                "<text x=\"{x}\" y=\"{baseline}\" textLength=\"{width}\" lengthAdjust=\"spacingAndGlyphs\" \
                 fill=\"{color}\"{attributes}>{}</text>",
                escaped(&text)
            );
        }
    }
    drawing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_looks() {
        let mut look = Look::default();
        let line = "\u{1b}[1mA\u{1b}[0m\u{1b}[38;5;1mb<\u{1b}[39;7m c\u{1b}[27m";
        let parts: Vec<(usize, String)> =
            parts(line, &mut look).into_iter().map(|(column, text, _)| (column, text)).collect();
        assert_eq!(parts, [(0, "A".into()), (1, "b<".into()), (3, " c".into())]);
        assert_eq!(look, Look::default());
        assert!(drawn(line).contains(">b&lt;</text>"));
    }
}
