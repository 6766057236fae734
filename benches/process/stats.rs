//! Statistics: medians, quantiles, and the growth of a cost.

use serde::Serialize;

/// Many runs as three numbers.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Summary {
    /// The median of the runs, or a quantile over all of them together.
    pub(crate) value: f64,
    /// The least of the runs.
    pub(crate) min: f64,
    /// The greatest of the runs.
    pub(crate) max: f64,
    /// Their number.
    pub(crate) runs: usize,
}

impl Summary {
    /// The median of the runs.
    pub(crate) fn of(runs: &[f64]) -> Self {
        Self::with(quantile(runs, 0.5), runs)
    }

    /// A quantile over the samples of all runs together; the extremes are those of the same quantile run by run.
    pub(crate) fn pooled(runs: &[Vec<f64>], part: f64) -> Self {
        let each: Vec<f64> = runs.iter().map(|run| quantile(run, part)).collect();
        Self::with(quantile(&runs.concat(), part), &each)
    }

    /// A value that was found otherwise, with the extremes of the runs.
    pub(crate) fn with(value: f64, runs: &[f64]) -> Self {
        let min = runs.iter().copied().fold(f64::INFINITY, f64::min);
        let max = runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self { value, min, max, runs: runs.len() }
    }
}

/// The least value that at least `part` of all values do not exceed.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "few values"
    )]
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// The slope of the straight line nearest to the points, by least squares.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "few points")]
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let together: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (spread > 0.0).then(|| together / spread)
}

/// The exponent k of the power law `cost = c * size^k` nearest to the points: a slope among the logarithms.
pub(crate) fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> =
        points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0).map(|(x, y)| (x.ln(), y.ln())).collect();
    slope(&logs)
}
