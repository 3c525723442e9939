//! How scores of classes become what a classifier answers: `post_transform`, and the second class
//! of classifiers that compute one score for two.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

/// The attribute `post_transform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Logistic,
    Softmax,
    /// The softmax of the scores that are not 0; 0 stays.
    SoftmaxZero,
    Probit,
}

/// What the score of the other class is, where a classifier computes one score for two classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// `1 - score`: scores are probabilities. It comes first.
    Complement,
    /// `-score`, or its logistic; it comes first.
    Opposite,
    /// `-score`, which comes last; its logistic comes first.
    OppositeLast,
    /// There is none.
    Absent,
}

impl Transform {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let name: Option<&str> = node.get_attr_opt("post_transform")?;
        Ok(match name.unwrap_or("NONE") {
            "NONE" => Self::None,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX" => Self::Softmax,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => return node.bail(&format!("there is no post_transform `{other}`")),
        })
    }

    /// Transforms the scores of a row. A single score becomes two, unless `second` is absent.
    pub(super) fn apply(self, scores: &mut Vec<f64>, second: Second) {
        if let [score] = scores[..] {
            *scores = self.of_one(score, second);
            return;
        }
        match self {
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|s| *s = logistic(*s)),
            Self::Probit => scores.iter_mut().for_each(|s| *s = probit(*s)),
            Self::Softmax => softmax(scores, |_| true),
            // As in onnxruntime, scores near 0 are divided by the sum as well, which leaves them
            // near 0.
            Self::SoftmaxZero => softmax(scores, |score| score.abs() > 1e-7),
        }
    }

    fn of_one(self, score: f64, second: Second) -> Vec<f64> {
        match (self, second) {
            (Self::Probit, _) => vec![probit(score)],
            (_, Second::Absent) => vec![score],
            (_, Second::Complement) => vec![1.0 - score, score],
            (Self::Logistic, _) => vec![logistic(-score), logistic(score)],
            (_, Second::Opposite) => vec![-score, score],
            (_, Second::OppositeLast) => vec![score, -score],
        }
    }
}

pub(super) fn logistic(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

fn probit(probability: f64) -> f64 {
    std::f64::consts::SQRT_2 * inverse_error_function(2.0 * probability - 1.0)
}

/// An approximation of the inverse error function: S. Winitzki, "A handy approximation for the
/// error function and its inverse" (2008), with the constant 0.147, as in onnxruntime.
fn inverse_error_function(x: f64) -> f64 {
    const A: f64 = 0.147;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let half = 2.0 / (3.14159 * A) + 0.5 * log;
    let root = (half * half - log / A).sqrt() - half;
    root.sqrt().copysign(x)
}

fn softmax(scores: &mut [f64], takes_part: impl Fn(f64) -> bool) {
    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if takes_part(*score) {
            *score = (*score - greatest).exp();
            sum += *score;
        } else {
            *score *= (-greatest).exp();
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The place of the greatest score, and of the first if there are several.
pub(super) fn greatest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (place, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = place;
        }
    }
    best
}

/// A tensor of 32 bits of the scores of some rows.
pub(super) fn tensor(rows: Vec<Vec<f64>>, width: usize) -> TractResult<Tensor> {
    let count = rows.len();
    let values: Vec<f32> = rows.into_iter().flatten().map(|s| s as f32).collect();
    Tensor::from_shape(&[count, width], &values)
}
