//! How scores of classes become what a classifier answers: `post_transform`, and the second class
//! of classifiers that compute one score for two.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

/// The attribute `post_transform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Logistic,
    Softmax,
    /// The softmax of the scores that are not 0; 0 stays.
    SoftmaxZero,
}

/// What the score of the other class, which comes first, is where a classifier computes one score
/// for two classes. With [`Transform::Logistic`] both are logistic, of the score and its opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// `1 - score`: scores are probabilities.
    Complement,
    /// `-score`
    Opposite,
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
            // Of this one, onnxruntime computes an approximation with 32 bits.
            other => return node.bail(&format!("post_transform `{other}` is not supported")),
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
            Self::Softmax => softmax(scores, |_| true),
            // As in onnxruntime, scores near 0 are divided by the sum as well, which leaves them
            // near 0.
            Self::SoftmaxZero => softmax(scores, |score| score.abs() > 1e-7),
        }
    }

    fn of_one(self, score: f64, second: Second) -> Vec<f64> {
        match (self, second) {
            (_, Second::Absent) => vec![score],
            (Self::Logistic, _) => vec![logistic(-score), logistic(score)],
            (_, Second::Complement) => vec![1.0 - score, score],
            (_, Second::Opposite) => vec![-score, score],
        }
    }
}

pub(super) fn logistic(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
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
