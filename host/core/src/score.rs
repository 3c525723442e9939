//! How good predictions are: the usual figures for each kind of task.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Whether something is so: the label is true or false (1 or 0), the prediction
    /// greater where it is more likely, a probability in the best case.
    Binary,
    /// A number.
    Regression,
}

/// Labels and predictions, row by row, from which figures are computed.
#[derive(Clone, Debug)]
pub struct Scores {
    task: Task,
    /// Label and prediction.
    rows: Vec<(f64, f64)>,
    /// Rows that had a label and no prediction, or NaN.
    missing: u64,
}

impl Scores {
    /// Of no rows yet.
    pub fn new(task: Task) -> Self {
        Self {
            task,
            rows: Vec::new(),
            missing: 0,
        }
    }

    /// Adds a row with a label.
    pub fn add(&mut self, label: f64, prediction: Option<f64>) {
        match prediction.filter(|p| !p.is_nan() && !label.is_nan()) {
            Some(prediction) => self.rows.push((label, prediction)),
            None => self.missing += 1,
        }
    }

    /// The figures, by name. Of `Binary`: `auc` (area under the ROC curve, ties counted
    /// half; absent when all labels are the same), `log_loss` and `brier` (absent when a
    /// prediction is no probability), `positives` (fraction of the labels). Of
    /// `Regression`: `rmse`, `mae`, `r2`. Of both: `rows`, and `missing` when there are.
    /// A figure that is no finite number is absent.
    /// Sums are in the rows' order, so that equal inputs give equal figures.
    ///
    /// Definitions: T. Hastie et al., "The Elements of Statistical Learning", 2009; for
    /// ties: T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27.
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

    fn mean(&self, of: impl Fn(f64, f64) -> f64) -> f64 {
        let sum: f64 = self.rows.iter().map(|(y, p)| of(*y, *p)).sum();
        sum / self.rows.len() as f64
    }

    fn binary(&self) -> BTreeMap<&'static str, Option<f64>> {
        let any = !self.rows.is_empty();
        let is_probability = any && self.rows.iter().all(|(_, p)| (0.0..=1.0).contains(p));
        // As the libraries do: no prediction is believed to be certain.
        let log_loss = |y: f64, p: f64| {
            let p = p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
            let of = if is_positive(y) { p } else { 1.0 - p };
            -libm::log(of)
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
        // Pairs in which the positive one is greater; halves for ties. Sums of halves are
        // exact up to 2^52 pairs.
        let (mut below, mut pairs) = (0.0, 0.0);
        for tie in rows.chunk_by(|a, b| a.0 == b.0) {
            let of_tie = tie.iter().filter(|(_, y)| *y).count() as f64;
            let others = tie.len() as f64 - of_tie;
            pairs += of_tie * (below + others / 2.0);
            below += others;
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
    fn areas_under_the_curve() {
        // By hand, and as scikit-learn's roc_auc_score has them.
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
    fn losses_of_probabilities() {
        let found = figures(Task::Binary, &[(1.0, 0.8), (0.0, 0.4)]);
        assert!((found["log_loss"] - (-(0.8f64.ln()) - 0.6f64.ln()) / 2.0).abs() < 1e-15);
        assert!((found["brier"] - 0.1).abs() < 1e-15);
        assert_eq!((found["positives"], found["rows"]), (0.5, 2.0));
        let found = figures(Task::Binary, &[(1.0, 8.0), (0.0, -0.4)]);
        assert_eq!(found["auc"], 1.0);
        assert!(!found.contains_key("log_loss") && !found.contains_key("brier"));
    }

    #[test]
    fn figures_of_numbers() {
        let found = figures(
            Task::Regression,
            &[(3.0, 2.5), (-0.5, 0.0), (2.0, 2.0), (7.0, 8.0)],
        );
        // As scikit-learn's documentation has them for these rows.
        assert!((found["r2"] - 0.948_608_137_044_967_9).abs() < 1e-12);
        assert_eq!(found["mae"], 0.5);
        assert!((found["rmse"] - 0.375f64.sqrt()).abs() < 1e-15);
        let same = figures(Task::Regression, &[(1.0, 1.0), (1.0, 1.0)]);
        assert!(!same.contains_key("r2") && same["rmse"] == 0.0);
        let endless = figures(Task::Regression, &[(1.0, f64::INFINITY), (2.0, 1.0)]);
        assert_eq!(endless.keys().collect::<Vec<_>>(), ["rows"]);
    }

    #[test]
    fn rows_without_a_prediction_are_counted() {
        let mut scores = Scores::new(Task::Regression);
        scores.add(1.0, None);
        scores.add(1.0, Some(f64::NAN));
        let found = scores.figures();
        assert_eq!((found["missing"], found["rows"]), (2.0, 0.0));
        assert!(!found.contains_key("rmse"));
    }
}
