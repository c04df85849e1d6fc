//! Times of one connection before its reset, on a logarithmic axis: opening, last data, FINs.

use maud::{Markup, html};

use crate::{
    model::Reset,
    report::{
        marks::{circle, line, text},
        scales::{LogScale, count_f64},
        shown,
    },
};

/// The drawing; `None` where fewer than two times are known.
pub(in crate::report) fn drawing(reset: &Reset) -> Option<Markup> {
    let socket = reset.socket.as_ref()?;
    let mut times: Vec<(f64, &str)> = [
        (socket.age_ms, "opened"),
        (socket.since_receive_ms, "last data received"),
        (socket.since_send_ms, "last data sent"),
        (socket.fin_received_ms, "peer's FIN"),
        (socket.fin_sent_ms, "FIN sent"),
    ]
    .into_iter()
    .filter_map(|(time, name)| Some((time.filter(|ms| ms.is_finite() && *ms >= 0.0)?, name)))
    .collect();
    if times.len() < 2 {
        return None;
    }
    times.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let oldest = times.first().map_or(1.0, |(ms, _)| *ms).max(0.01);
    let (left, right, axis) = (10.0, 330.0, 12.0);
    let newest = times.iter().map(|(ms, _)| *ms).fold(oldest, f64::min).max(0.001);
    let scale = LogScale { low: newest / 3.0, high: oldest * 1.02, begin: right, end: left };
    let below = 34.0 + 15.0 * count_f64(times.len().try_into().unwrap_or(0));
    let height = below + 6.0;
    let body = html! {
        (line((left, axis), (right, axis), "axis"))
        @for (row, (ms, name)) in (0_u32..).zip(&times) {
            @let (x, y) = (scale.at(*ms), 34.0 + 15.0 * f64::from(row));
            (line((x, axis), (x, y - 9.0), "drop"))
            (circle("event", x, axis, 3.5))
            @let label = format!("{name} {} before", shown::duration(*ms));
            @if x > 170.0 { (text(x + 3.0, y, "e", &label)) } @else { (text(x - 3.0, y, "", &label)) }
        }
        (circle("event end", right, axis, 5.0))
        (line((right, axis), (right, below - 9.0), "drop"))
        (text(right + 4.0, below, "e strong", "reset"))
    };
    // A title of each would need an identifier of each; the rows beside it have the times.
    Some(html! {
        svg.events viewBox={ "0 0 340 " (shown::position(height)) } aria-hidden="true" { (body) }
    })
}
