//! The plots: each is a function of the report. One that has nothing to say is left out.

mod age_plot;
mod connection_times;
mod fin_order_plot;
mod incident_times;
mod peer_matrix;
mod phase_plot;
pub(super) mod silence_plot;
mod ttl_plot;

pub(super) use self::connection_times::drawing as connection_times;
use super::{Report, marks::Plot};

/// The plots of a report, the main one first.
pub(super) fn of(report: &Report) -> Vec<Plot> {
    let all = [
        silence_plot::plot(report),
        incident_times::plot(report),
        peer_matrix::plot(report),
        fin_order_plot::plot(report),
        age_plot::plot(report),
        phase_plot::plot(report),
        ttl_plot::plot(report),
    ];
    all.into_iter().flatten().collect()
}
