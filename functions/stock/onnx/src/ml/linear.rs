//! `LinearClassifier` and `LinearRegressor`.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::scores::{self, Second, Transform};
use super::{Fact, Kernel, List, Matrix, list, only, rows};

/// A score for each target: products of a row with the target's coefficients.
#[derive(Debug)]
struct Weights {
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
    width: usize,
}

impl Weights {
    fn new(node: &NodeProto, coefficients: Vec<f32>, intercepts: Vec<f32>) -> TractResult<Self> {
        let targets = intercepts.len();
        if targets == 0 || coefficients.is_empty() || !coefficients.len().is_multiple_of(targets) {
            return node.bail(&format!(
                "{} coefficients for {targets} intercepts",
                coefficients.len()
            ));
        }
        Ok(Self {
            width: coefficients.len() / targets,
            coefficients,
            intercepts,
        })
    }

    fn scores(&self, row: &[f32]) -> Vec<f64> {
        let targets = self.coefficients.chunks_exact(self.width);
        let targets = targets.zip(&self.intercepts);
        let score = |(weights, intercept): (&[f32], &f32)| {
            let products = row.iter().zip(weights);
            let products = products.map(|(value, weight)| f64::from(*value) * f64::from(*weight));
            // Scores have 32 bits: what is compared with 0 is what is answered.
            f64::from((f64::from(*intercept) + products.sum::<f64>()) as f32)
        };
        targets.map(score).collect()
    }
}

/// Classes by the greatest of some linear functions.
#[derive(Debug)]
pub(super) struct LinearClassifier {
    weights: Weights,
    classes: List,
    transform: Transform,
}

impl LinearClassifier {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let weights = Weights::new(node, list(node, "coefficients")?, list(node, "intercepts")?)?;
        let mut classes = List::classes(node, "classlabels_ints", "classlabels_strings")?;
        let targets = weights.intercepts.len();
        if targets == 1 && classes.len() != 2 {
            // What the standard calls them where there are no two names.
            classes = match classes {
                List::Texts(_) => List::Texts(vec!["0".to_owned(), "1".to_owned()]),
                _ => List::Integers(vec![0, 1]),
            };
        } else if targets > 1 && classes.len() < targets {
            return node.bail(&format!("{targets} scores for {} classes", classes.len()));
        }
        Ok(Self {
            weights,
            classes,
            transform: Transform::read(node)?,
        })
    }

    fn width(&self) -> usize {
        match self.weights.intercepts.len() {
            1 => 2,
            targets => targets,
        }
    }
}

impl Kernel for LinearClassifier {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = rows(only(inputs)?)?;
        Ok(vec![
            (self.classes.datum_type(), tvec!(rows.clone())),
            (DatumType::F32, tvec!(rows, self.width().to_dim())),
        ])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let matrix = Matrix::read(only(inputs)?)?;
        matrix.expect_width(self.weights.width)?;
        let (mut places, mut all) = (Vec::new(), Vec::new());
        for row in matrix.rows() {
            let mut scores = self.weights.scores(row);
            places.push(match scores[..] {
                [score] => usize::from(score > 0.0),
                _ => scores::greatest(&scores),
            });
            self.transform.apply(&mut scores, Second::Complement);
            all.push(scores);
        }
        let labels = self.classes.pick(&places, &[places.len()])?;
        Ok(vec![labels, scores::tensor(all, self.width())?])
    }
}

/// Linear functions.
#[derive(Debug)]
pub(super) struct LinearRegressor {
    weights: Weights,
    transform: Transform,
}

impl LinearRegressor {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let targets = node.get_attr_opt::<i64>("targets")?.unwrap_or(1);
        let mut intercepts: Vec<f32> = list(node, "intercepts")?;
        if intercepts.is_empty() {
            intercepts = vec![0.0; usize::try_from(targets).unwrap_or(0).min(1 << 20)];
        }
        if intercepts.len() as i64 != targets {
            return node.bail(&format!(
                "{} intercepts for {targets} targets",
                intercepts.len()
            ));
        }
        Ok(Self {
            weights: Weights::new(node, list(node, "coefficients")?, intercepts)?,
            transform: Transform::read(node)?,
        })
    }
}

impl Kernel for LinearRegressor {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let targets = self.weights.intercepts.len().to_dim();
        Ok(vec![(DatumType::F32, tvec!(rows(only(inputs)?)?, targets))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let matrix = Matrix::read(only(inputs)?)?;
        matrix.expect_width(self.weights.width)?;
        let predicted = matrix.rows().map(|row| {
            let mut scores = self.weights.scores(row);
            self.transform.apply(&mut scores, Second::Absent);
            scores
        });
        let predicted = predicted.collect();
        Ok(vec![scores::tensor(
            predicted,
            self.weights.intercepts.len(),
        )?])
    }
}
