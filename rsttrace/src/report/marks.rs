//! Marks of plots as SVG: text, lines, bars and dots, each with a class for the style sheet and none with a style of its own,
//! which the page's security policy would refuse.

use maud::{Markup, PreEscaped, html};

use super::{fault_counts::class, shown::position};
use crate::model::Fault;

/// A plot with what stands around it.
pub(super) struct Plot {
    /// Identifier of its section.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What it shows, one sentence each.
    pub(super) sentences: Vec<String>,
    /// Drawing for wide screens and paper.
    pub(super) wide: Markup,
    /// Drawing for phones; `None` where the wide one fits them.
    pub(super) narrow: Option<Markup>,
    /// The values, as rows of a table with their titles; `None` where the drawing is a table.
    pub(super) table: Option<DataTable>,
}

/// Values behind a drawing.
#[derive(Default)]
pub(super) struct DataTable {
    pub(super) titles: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Size of a drawing, in units of some pixels.
#[derive(Clone, Copy)]
pub(super) struct Canvas {
    pub(super) id: &'static str,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) is_narrow: bool,
}

impl Canvas {
    pub(super) const fn wide(id: &'static str, height: f64) -> Self {
        Self { id, width: 960.0, height, is_narrow: false }
    }

    pub(super) const fn narrow(id: &'static str, height: f64) -> Self {
        Self { id, width: 380.0, height, is_narrow: true }
    }

    /// Identifier of an element of the drawing.
    pub(super) fn part(&self, part: &str) -> String {
        format!("{}-{}{part}", self.id, if self.is_narrow { "n" } else { "w" })
    }

    /// The drawing, with a title that readers of screens speak.
    pub(super) fn svg(&self, title: &str, body: &Markup) -> Markup {
        let view = format!("0 0 {} {}", position(self.width), position(self.height));
        let label = self.part("t");
        html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox=(view) role="img" aria-labelledby=(label) {
                title id=(label) { (title) }
                (body)
            }
        }
    }

    /// A pattern of hatching, which `fill` refers to.
    pub(super) fn hatching(&self) -> Markup {
        html! {
            defs {
                pattern id=(self.part("h")) width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect class="hatch" width="2.5" height="6" {}
                }
            }
        }
    }

    /// A hatched area.
    pub(super) fn hatched(&self, area: Area, title: &str) -> Markup {
        let fill = format!("url(#{})", self.part("h"));
        html! {
            rect x=(position(area.x)) y=(position(area.y)) width=(position(area.width)) height=(position(area.height)) fill=(fill) {
                title { (title) }
            }
        }
    }
}

/// A rectangle.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Area {
    /// A filled rectangle.
    pub(super) fn bar(self, class: &str) -> Markup {
        let Self { x, y, width, height } = self;
        html! {
            rect class=(class) x=(position(x)) y=(position(y)) width=(position(width)) height=(position(height)) {}
        }
    }

    /// A filled rectangle with a title.
    pub(super) fn titled_bar(self, class: &str, title: &str) -> Markup {
        let Self { x, y, width, height } = self;
        html! {
            rect class=(class) x=(position(x)) y=(position(y)) width=(position(width)) height=(position(height)) {
                title { (title) }
            }
        }
    }
}

/// Text, with its beginning, middle or end (by its class: none, `m`, `e`) at a place.
pub(super) fn text(x: f64, y: f64, class: &str, text: &str) -> Markup {
    html! { text class=(class) x=(position(x)) y=(position(y)) { (text) } }
}

/// A straight line.
pub(super) fn line(from: (f64, f64), to: (f64, f64), class: &str) -> Markup {
    html! {
        line class=(class) x1=(position(from.0)) y1=(position(from.1)) x2=(position(to.0)) y2=(position(to.1)) {}
    }
}

/// A dot whose shape and colour tell the fault: circle, square, diamond, triangle, and a ring for what is harmless.
pub(super) fn dot(fault: Fault, x: f64, y: f64, radius: f64) -> Markup {
    let name = class(fault);
    match fault {
        Fault::Local => circle(name, x, y, radius),
        Fault::None => circle("none ring", x, y, radius * 0.8),
        Fault::Peer => {
            let side = radius * 1.75;
            Area { x: x - side / 2.0, y: y - side / 2.0, width: side, height: side }.bar(name)
        }
        Fault::Path => {
            let reach = radius * 1.3;
            polygon(name, &[(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)])
        }
        Fault::Unknown => {
            let reach = radius * 1.25;
            polygon(name, &[(x, y - reach), (x + reach, y + reach * 0.8), (x - reach, y + reach * 0.8)])
        }
    }
}

/// A circle.
pub(super) fn circle(class: &str, x: f64, y: f64, radius: f64) -> Markup {
    html! { circle class=(class) cx=(position(x)) cy=(position(y)) r=(position(radius)) {} }
}

fn polygon(class: &str, points: &[(f64, f64)]) -> Markup {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", position(*x), position(*y))).collect();
    html! { polygon class=(class) points=(points.join(" ")) {} }
}

/// The shape of a fault, for legends and rows.
pub(super) fn symbol(fault: Fault) -> Markup {
    html! { svg.symbol viewBox="0 0 12 12" aria-hidden="true" { (dot(fault, 6.0, 6.0, 4.4)) } }
}

/// Drawings one after the other.
pub(super) fn all(marks: impl IntoIterator<Item = Markup>) -> Markup {
    PreEscaped(marks.into_iter().map(|PreEscaped(mark)| mark).collect())
}
