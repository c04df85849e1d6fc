//! Statistics of samples.

/// Median, with the quartiles on both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quartiles {
    pub(super) low: f64,
    pub(super) median: f64,
    pub(super) high: f64,
}

impl Quartiles {
    /// Quartiles of samples, of which there must be at least one.
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            // Linear interpolation between two samples.
            let place = (sorted.len() - 1) * quarter;
            let (below, above) = (sorted.get(place / 4)?, sorted.get(place.div_ceil(4))?);
            #[expect(clippy::cast_precision_loss, reason = "0 to 3")]
            let part = (place % 4) as f64 / 4.0;
            Some(below + (above - below) * part)
        };
        (!sorted.is_empty()).then(|| Some(Self { low: at(1)?, median: at(2)?, high: at(3)? })).flatten()
    }
}

/// Ratio of each sample to the mean of the two that were measured just before and just after it without the tool.
pub(super) fn ratios(without: &[f64], with: &[f64]) -> Vec<f64> {
    without.windows(2).zip(with).map(|(around, with)| 2.0 * with / around.iter().sum::<f64>()).collect()
}

/// A rate with three significant figures: `123,000`.
pub(super) fn rounded(value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "some millions at most")]
    let mut whole = value.round() as i64;
    let mut unit = 1;
    while whole / unit >= 1000 {
        unit *= 10;
    }
    whole = (whole + unit / 2) / unit * unit;
    let digits = whole.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_samples() {
        let of = |samples: &[f64]| Quartiles::of(samples).map(|found| (found.low, found.median, found.high));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7.0]), Some((7.0, 7.0, 7.0)));
        assert_eq!(of(&[3.0, 1.0, 2.0, 5.0, 4.0]), Some((2.0, 3.0, 4.0)));
        assert_eq!(of(&[1.0, 2.0]), Some((1.25, 1.5, 1.75)));
    }

    #[test]
    fn a_drift_cancels_out() {
        assert_eq!(ratios(&[10.0, 20.0, 30.0], &[15.0, 25.0]), [1.0, 1.0]);
    }

    #[test]
    fn rates_have_three_figures() {
        for (value, text) in
            [(0.0, "0"), (999.4, "999"), (1234.0, "1,230"), (98_765.0, "98,800"), (1_234_567.0, "1,230,000")]
        {
            assert_eq!(rounded(value), text);
        }
    }
}
