//! What came first: the peer's FIN, this host's next data, or the reset.

use maud::html;

use crate::model::FinOrderCounts;
use crate::report::{
    content::Report,
    marks::{Area, Canvas, DataTable, Plot, text},
    scales::count_f64,
    shown::{number, percent},
};

const ID: &str = "order";
/// Fewest resets for which there is a plot.
const WORTH: u64 = 3;

/// The plot; `None` for a few resets.
pub(super) fn plot(report: &Report) -> Option<Plot> {
    let FinOrderCounts { fin_first, send_first, no_fin } = report.summary.order;
    let total = fin_first + send_first + no_fin;
    if total < WORTH {
        return None;
    }
    let parts = [
        (fin_first, "FIN first", "the peer had closed before this host sent again", "order1"),
        (send_first, "crossed", "the peer's FIN and this host's data crossed", "order2"),
        (no_fin, "no FIN", "the peer had not closed", "order3"),
    ];
    let said: Vec<String> = parts
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, _, meaning, _)| format!("{meaning} in {} ({})", number(*count), percent(*count, total)))
        .collect();
    let sentence = format!("On connections that this host had opened and used: {}.", said.join("; "));
    let draw = |canvas: Canvas| {
        let width = canvas.width - 2.0;
        let mut x = 1.0;
        let body = html! {
            @for (count, name, _, class) in parts {
                @if count > 0 {
                    @let begin = { let begin = x; x += width * count_f64(count) / count_f64(total); begin };
                    (Area { x: begin, y: 1.0, width: (x - begin - 2.0).max(1.0), height: 34.0 }.bar(class))
                    @if x - begin > 64.0 { (text(f64::midpoint(begin, x), 23.0, "m inside", name)) }
                }
            }
        };
        canvas.svg(&sentence, &body)
    };
    let (wide, narrow) = (draw(Canvas::wide(ID, 36.0)), draw(Canvas::narrow(ID, 36.0)));
    let rows = parts.map(|(count, name, meaning, _)| vec![name.to_owned(), meaning.to_owned(), number(count)]);
    Some(Plot {
        id: ID,
        title: "What came first",
        sentences: vec![sentence],
        wide,
        narrow: Some(narrow),
        table: Some(DataTable { titles: vec!["order", "meaning", "resets"], rows: rows.into() }),
    })
}
