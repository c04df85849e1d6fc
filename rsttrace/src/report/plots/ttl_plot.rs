//! TTL of resets against that of the handshake: what lies off the diagonal was not made where the peer is.

use maud::html;

use crate::report::{
    content::Report,
    fault_counts::{FaultCounts, class},
    marks::{Canvas, DataTable, Plot, circle, line, text},
    scales::count_f64,
    shown::{counted, number},
};

const ID: &str = "ttl";
/// Most rows of the table.
const ROWS_MAX: usize = 60;

/// The plot; `None` where all TTLs are equal, or none is known.
pub(super) fn plot(report: &Report) -> Option<Plot> {
    let count = |is_wanted: fn(&(u8, u8)) -> bool| -> u64 {
        report.ttls.iter().filter(|(pair, _)| is_wanted(pair)).map(|(_, counts)| counts.total()).sum()
    };
    let (other, all) = (count(|(own, ttl)| own != ttl), count(|_| true));
    if other == 0 {
        return None;
    }
    let sentence = format!(
        "In {} of {} the reset's TTL was not that of the peer's handshake: it came another way, or from something between.",
        number(other),
        counted(all, "incident"),
    );
    let draw = |canvas: Canvas| {
        let (left, bottom, top) = (54.0, canvas.height - 44.0, 12.0);
        let side = bottom - top;
        let at = |ttl: u8| f64::from(ttl) / 255.0 * side;
        let most = report.ttls.values().map(FaultCounts::total).max().unwrap_or(1);
        let body = html! {
            @for ttl in [0, 64, 128, 192, 255] {
                (line((left, bottom - at(ttl)), (left + side, bottom - at(ttl)), "grid"))
                (text(left - 7.0, bottom - at(ttl) + 4.0, "e", &ttl.to_string()))
                (text(left + at(ttl), bottom + 17.0, "m", &ttl.to_string()))
            }
            (line((left, bottom), (left + side, top), "axis"))
            (text(left + side / 2.0, bottom + 36.0, "m quiet", "TTL of the handshake (across), of the reset (up)"))
            @for (&(own, ttl), counts) in &report.ttls {
                g {
                    title { "handshake " (own) ", reset " (ttl) ": " (counted(counts.total(), "incident")) }
                    @let radius = 3.0 + 7.0 * (count_f64(counts.total()) / count_f64(most)).sqrt();
                    (circle(&format!("soft {}", class(counts.main())), left + at(own), bottom - at(ttl), radius))
                }
            }
        };
        canvas.svg(&sentence, &body)
    };
    let mut pairs: Vec<_> = report.ttls.iter().collect();
    pairs.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.total()));
    let row = |(&(own, ttl), counts): (&(u8, u8), &FaultCounts)| {
        vec![own.to_string(), ttl.to_string(), number(counts.total())]
    };
    let rows = pairs.into_iter().take(ROWS_MAX).map(row).collect();
    Some(Plot {
        id: ID,
        title: "TTL of the reset and of the handshake",
        wide: draw(Canvas { width: 380.0, ..Canvas::wide(ID, 340.0) }),
        narrow: None,
        table: Some(DataTable { titles: vec!["TTL of the handshake", "TTL of the reset", "incidents"], rows }),
        sentences: vec![sentence],
    })
}
