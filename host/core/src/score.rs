//! Metrics that say how good predictions are, for each kind of task.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Whether something is so. The label is true or false (1 or 0); the prediction is greater
    /// where it is more likely, and ideally a probability.
    Binary,
    /// A number.
    Regression,
}

/// Labels and predictions, collected row by row, from which metrics are computed.
#[derive(Clone, Debug)]
pub struct Scores {
    task: Task,
    /// The label and the prediction of each row.
    rows: Vec<(f64, f64)>,
    /// Number of rows without a prediction, or with NaN as label or prediction.
    missing: u64,
}

impl Scores {
    /// Creates scores without rows.
    pub fn new(task: Task) -> Self {
        Self {
            task,
            rows: Vec::new(),
            missing: 0,
        }
    }

    /// Adds a row with its label, and its prediction if there is one.
    pub fn add(&mut self, label: f64, prediction: Option<f64>) {
        match prediction.filter(|p| !p.is_nan() && !label.is_nan()) {
            Some(prediction) => self.rows.push((label, prediction)),
            None => self.missing += 1,
        }
    }

    /// Computes the metrics, by name. A metric that is not a finite number is absent.
    ///
    /// - Of [`Task::Binary`]: `auc` (area under the ROC curve, with ties counted half; absent when
    ///   all labels are the same), `log_loss` and `brier` (absent when a prediction is not a
    ///   probability), and `positives` (the fraction of positive labels).
    /// - Of [`Task::Regression`]: `rmse`, `mae`, and `r2` (absent when all labels are the same).
    /// - Of both: `rows`, and `missing` if there are rows without a prediction.
    ///
    /// Sums are computed in the order of the rows, so that equal inputs give equal metrics.
    ///
    /// Definitions: T. Hastie et al., "The Elements of Statistical Learning", 2009; for ties: T.
    /// Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27.
    pub fn figures(&self) -> BTreeMap<String, f64> {
        let mut figures = match self.task {
            Task::Binary => self.binary(),
            Task::Regression => self.regression(),
        };
        figures.insert("rows", Some(self.rows.len() as f64));
        let missing = (self.missing > 0).then_some(self.missing as f64);
        figures.insert("missing", missing);
        let figure = |(name, value): (&str, Option<f64>)| {
            Some((name.to_owned(), value.filter(|value| value.is_finite())?))
        };
        figures.into_iter().filter_map(figure).collect()
    }

    fn mean(&self, term: impl Fn(f64, f64) -> f64) -> f64 {
        let sum: f64 = self.rows.iter().map(|(y, p)| term(*y, *p)).sum();
        sum / self.rows.len() as f64
    }

    fn binary(&self) -> BTreeMap<&'static str, Option<f64>> {
        let any = !self.rows.is_empty();
        let is_probability = any && self.rows.iter().all(|(_, p)| (0.0..=1.0).contains(p));
        // Clamped, as in other libraries, so that a certain but wrong prediction does not have an
        // infinite loss.
        let log_loss = |y: f64, p: f64| {
            let p = p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
            let likelihood = if is_positive(y) { p } else { 1.0 - p };
            -libm::log(likelihood)
        };
        let one = |y: f64| f64::from(u8::from(is_positive(y)));
        BTreeMap::from([
            ("auc", self.auc()),
            ("log_loss", is_probability.then(|| self.mean(log_loss))),
            (
                "brier",
                is_probability.then(|| self.mean(|y, p| (p - one(y)) * (p - one(y)))),
            ),
            ("positives", any.then(|| self.mean(|y, _| one(y)))),
        ])
    }

    fn auc(&self) -> Option<f64> {
        let mut rows: Vec<(f64, bool)> = self
            .rows
            .iter()
            .map(|(y, p)| (*p, is_positive(*y)))
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let positives = rows.iter().filter(|(_, y)| *y).count() as f64;
        let negatives = rows.len() as f64 - positives;
        if positives == 0.0 || negatives == 0.0 {
            return None;
        }
        // Counts the pairs in which the positive row has the greater prediction, and ties as
        // halves. Sums of halves are exact up to 2^52 pairs.
        let (mut below, mut pairs) = (0.0, 0.0);
        for tie in rows.chunk_by(|a, b| a.0 == b.0) {
            let tied_positives = tie.iter().filter(|(_, y)| *y).count() as f64;
            let tied_negatives = tie.len() as f64 - tied_positives;
            pairs += tied_positives * (below + tied_negatives / 2.0);
            below += tied_negatives;
        }
        Some(pairs / (positives * negatives))
    }

    fn regression(&self) -> BTreeMap<&'static str, Option<f64>> {
        let any = !self.rows.is_empty();
        let squares = self.mean(|y, p| (y - p) * (y - p));
        let mean = self.mean(|y, _| y);
        let variance = self.mean(|y, _| (y - mean) * (y - mean));
        BTreeMap::from([
            ("rmse", any.then(|| squares.sqrt())),
            ("mae", any.then(|| self.mean(|y, p| (y - p).abs()))),
            ("r2", (variance > 0.0).then(|| 1.0 - squares / variance)),
        ])
    }
}

fn is_positive(label: f64) -> bool {
    label > 0.5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(task: Task, rows: &[(f64, f64)]) -> BTreeMap<String, f64> {
        let mut scores = Scores::new(task);
        for (label, prediction) in rows {
            scores.add(*label, Some(*prediction));
        }
        scores.figures()
    }

    #[test]
    fn auc_of_binary_predictions() {
        // Computed by hand, and by scikit-learn's roc_auc_score.
        for (rows, wanted) in [
            (
                &[(0.0, 0.1), (0.0, 0.4), (1.0, 0.35), (1.0, 0.8)][..],
                Some(0.75),
            ),
            (&[(0.0, 1.0), (1.0, 2.0)], Some(1.0)),
            (&[(0.0, 2.0), (1.0, 1.0)], Some(0.0)),
            (&[(0.0, 0.5), (1.0, 0.5), (1.0, 0.5)], Some(0.5)),
            (
                &[(0.0, 0.5), (1.0, 0.5), (1.0, 0.7), (0.0, 0.1)],
                Some(0.875),
            ),
            (&[(0.0, -0.0), (1.0, 0.0)], Some(0.5)),
            (&[(1.0, 0.3), (1.0, 0.4)], None),
            (&[], None),
        ] {
            assert_eq!(
                figures(Task::Binary, rows).get("auc").copied(),
                wanted,
                "{rows:?}"
            );
        }
    }

    #[test]
    fn log_loss_and_brier_of_probabilities() {
        let found = figures(Task::Binary, &[(1.0, 0.8), (0.0, 0.4)]);
        assert!((found["log_loss"] - (-(0.8f64.ln()) - 0.6f64.ln()) / 2.0).abs() < 1e-15);
        assert!((found["brier"] - 0.1).abs() < 1e-15);
        assert_eq!((found["positives"], found["rows"]), (0.5, 2.0));
        let found = figures(Task::Binary, &[(1.0, 8.0), (0.0, -0.4)]);
        assert_eq!(found["auc"], 1.0);
        assert!(!found.contains_key("log_loss") && !found.contains_key("brier"));
    }

    #[test]
    fn regression_metrics() {
        let found = figures(
            Task::Regression,
            &[(3.0, 2.5), (-0.5, 0.0), (2.0, 2.0), (7.0, 8.0)],
        );
        // The values that scikit-learn's documentation gives for these rows.
        assert!((found["r2"] - 0.948_608_137_044_967_9).abs() < 1e-12);
        assert_eq!(found["mae"], 0.5);
        assert!((found["rmse"] - 0.375f64.sqrt()).abs() < 1e-15);
        let same = figures(Task::Regression, &[(1.0, 1.0), (1.0, 1.0)]);
        assert!(!same.contains_key("r2") && same["rmse"] == 0.0);
        let infinite = figures(Task::Regression, &[(1.0, f64::INFINITY), (2.0, 1.0)]);
        assert_eq!(infinite.keys().collect::<Vec<_>>(), ["rows"]);
    }

    #[test]
    fn rows_without_a_prediction_are_counted_as_missing() {
        let mut scores = Scores::new(Task::Regression);
        scores.add(1.0, None);
        scores.add(1.0, Some(f64::NAN));
        let found = scores.figures();
        assert_eq!((found["missing"], found["rows"]), (2.0, 0.0));
        assert!(!found.contains_key("rmse"));
    }
}
