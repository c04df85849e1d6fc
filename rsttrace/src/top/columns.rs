//! Columns of a table, as many as fit, and how values are fitted into them.

use std::borrow::Cow;

use ratatui::{buffer::Buffer, style::Style, text::Span};

/// Blank columns between two.
const GAP: usize = 1;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Narrowest and widest.
    pub(super) widths: (usize, usize),
    /// Whether values stand at the right end.
    pub(super) is_number: bool,
    /// Columns of higher ranks are left out first where there is no room.
    pub(super) rank: u8,
}

impl Column {
    pub(super) const fn text(title: &'static str, widths: (usize, usize), rank: u8) -> Self {
        Self { title, widths, is_number: false, rank }
    }

    pub(super) const fn number(title: &'static str, width: usize, rank: u8) -> Self {
        Self { title, widths: (width, width), is_number: true, rank }
    }
}

/// Widths of the columns on so many columns of the screen; `None` for those that have no room.
pub(super) fn fitted(columns: &[Column], width: usize) -> Vec<Option<usize>> {
    let mut widths = vec![None; columns.len()];
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|&place| columns[place].rank);
    let mut left = width;
    for (count, &place) in order.iter().enumerate() {
        let gap = if count == 0 { 0 } else { GAP };
        let narrowest = columns[place].widths.0;
        if narrowest + gap > left {
            // The first is there in any case, cut.
            if count == 0 {
                (widths[place], left) = (Some(left), 0);
            }
            break;
        }
        widths[place] = Some(narrowest);
        left -= narrowest + gap;
    }
    for place in order {
        if let Some(width) = &mut widths[place] {
            let more = columns[place].widths.1.saturating_sub(*width).min(left);
            *width += more;
            left -= more;
        }
    }
    widths
}

/// A text of at most so many columns on the screen; one that is longer ends in `…`.
pub(super) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    let width_of = |text: &str| Span::raw(text).width();
    if text.len() <= width || width_of(text) <= width {
        return text.into();
    }
    let mut end = 0;
    for (place, character) in text.char_indices() {
        let after = place + character.len_utf8();
        if width_of(&text[..after]) > width.saturating_sub(1) {
            break;
        }
        end = after;
    }
    format!("{}…", &text[..end]).into()
}

/// Writes a value into its column. Returns the columns that it takes.
pub(super) fn write(buffer: &mut Buffer, (x, y): (u16, u16), text: &str, width: usize, style: Style) -> u16 {
    let room = u16::try_from(width).unwrap_or(u16::MAX).min(buffer.area.right().saturating_sub(x));
    if y >= buffer.area.bottom() || room == 0 {
        return 0;
    }
    let text = cut(text, room.into());
    let (end, _) = buffer.set_stringn(x, y, &text, room.into(), style);
    end.saturating_sub(x)
}

/// Writes a row: each value into the column of its place, with its style.
pub(super) fn write_row(
    buffer: &mut Buffer,
    y: u16,
    columns: &[Column],
    widths: &[Option<usize>],
    values: Vec<(Cow<'_, str>, Style)>,
) {
    let mut x = buffer.area.left();
    for ((column, width), (value, style)) in columns.iter().zip(widths).zip(values) {
        let Some(width) = *width else { continue };
        let value = cut(&value, width);
        let blank = if column.is_number { width.saturating_sub(Span::raw(&*value).width()) } else { 0 };
        let blank = u16::try_from(blank).unwrap_or_default();
        write(buffer, (x.saturating_add(blank), y), &value, width - usize::from(blank), style);
        x = x.saturating_add(u16::try_from(width + GAP).unwrap_or(u16::MAX));
    }
}

/// Bars of counts, one for each group of them: so many groups as fit.
pub(super) fn bars(counts: &[u32], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let group = counts.len().div_ceil(width.max(1)).max(1);
    let sums: Vec<u64> = counts.rchunks(group).map(|group| group.iter().copied().map(u64::from).sum()).collect();
    let highest = sums.iter().copied().max().unwrap_or_default().max(1);
    // Anything is more than nothing.
    let bar = |sum: u64| BARS[usize::try_from((sum * 7).div_ceil(highest)).unwrap_or(0).min(7)];
    sums.into_iter().rev().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::text("A", (5, 10), 0),
        Column::number("B", 4, 2),
        Column::text("C", (6, 60), 1),
        Column::number("D", 3, 3),
    ];

    #[test]
    fn columns_that_have_no_room_are_left_out() {
        for (width, expected) in [
            (100, [Some(10), Some(4), Some(60), Some(3)]),
            (40, [Some(10), Some(4), Some(20), Some(3)]),
            (21, [Some(5), Some(4), Some(6), Some(3)]),
            (20, [Some(8), Some(4), Some(6), None]),
            (12, [Some(5), None, Some(6), None]),
            (11, [Some(10), None, None, None]),
            (3, [Some(3), None, None, None]),
            (0, [Some(0), None, None, None]),
        ] {
            assert_eq!(fitted(&COLUMNS, width), expected, "{width}");
        }
    }

    #[test]
    fn texts_are_cut_by_their_width_on_the_screen() {
        for (text, width, expected) in [
            ("nginx", 5, "nginx"),
            ("nginx", 4, "ngi…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("abc", 0, "…"),
        ] {
            assert_eq!(cut(text, width), expected);
        }
    }

    #[test]
    fn bars_show_any_count() {
        assert_eq!(bars(&[0, 0, 1, 0, 7, 100], 6), "▁▁▂▁▂█");
        assert_eq!(bars(&[0; 60], 20), "▁".repeat(20));
        assert_eq!(bars(&[1; 60], 7).chars().count(), 7);
        assert_eq!(bars(&[u32::MAX; 60], 1), "█");
    }
}
