//! `SVMClassifier` and `SVMRegressor`: support vector machines of LIBSVM, and linear ones of
//! LIBLINEAR, which have no support vectors.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::scores::{self, Second, Transform, logistic};
use super::{Fact, List, Matrix, list, only, rows};

#[derive(Clone, Copy, Debug)]
enum Function {
    Linear,
    Polynomial,
    Radial,
    Sigmoid,
}

/// A kernel function and the vectors that rows are compared with.
#[derive(Debug)]
struct Vectors {
    function: Function,
    gamma: f64,
    coefficient: f64,
    degree: f64,
    values: Vec<f32>,
    width: usize,
}

impl Vectors {
    fn read(node: &NodeProto, values: Vec<f32>, count: usize) -> TractResult<Self> {
        let parameters: Vec<f32> = list(node, "kernel_params")?;
        let parameter = |place: usize| parameters.get(place).copied().map_or(0.0, f64::from);
        let name: Option<&str> = node.get_attr_opt("kernel_type")?;
        let function = match name.unwrap_or("LINEAR") {
            "LINEAR" => Function::Linear,
            "POLY" => Function::Polynomial,
            "RBF" => Function::Radial,
            "SIGMOID" => Function::Sigmoid,
            other => return node.bail(&format!("there is no kernel `{other}`")),
        };
        if count == 0 || values.is_empty() || !values.len().is_multiple_of(count) {
            return node.bail(&format!("{} numbers in {count} vectors", values.len()));
        }
        Ok(Self {
            function,
            gamma: parameter(0),
            coefficient: parameter(1),
            degree: parameter(2),
            width: values.len() / count,
            values,
        })
    }

    /// How near a row is to each of the vectors.
    fn compare(&self, row: &[f32]) -> Vec<f64> {
        let vectors = self.values.chunks_exact(self.width);
        vectors.map(|vector| self.kernel(row, vector)).collect()
    }

    fn kernel(&self, row: &[f32], vector: &[f32]) -> f64 {
        let pairs = row.iter().zip(vector);
        let mut pairs = pairs.map(|(a, b)| (f64::from(*a), f64::from(*b)));
        if let Function::Radial = self.function {
            let distance: f64 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
            return (-self.gamma * distance).exp();
        }
        let product: f64 = pairs.by_ref().map(|(a, b)| a * b).sum();
        match self.function {
            Function::Polynomial => (self.gamma * product + self.coefficient).powf(self.degree),
            Function::Sigmoid => (self.gamma * product + self.coefficient).tanh(),
            Function::Linear | Function::Radial => product,
        }
    }
}

/// Classes by votes: of each two classes, one wins.
#[derive(Debug)]
pub(super) struct SvmClassifier {
    vectors: Vectors,
    /// Number of support vectors of each class; none for linear functions, one for each class.
    counts: Vec<usize>,
    coefficients: Vec<f32>,
    offsets: Vec<f32>,
    /// Slopes and intercepts of the probabilities of each two classes.
    sigmoids: Vec<(f64, f64)>,
    classes: List,
    transform: Transform,
}

impl SvmClassifier {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let classes = List::classes(node, "classlabels_ints", "classlabels_strings")?;
        let coefficients: Vec<f32> = list(node, "coefficients")?;
        let offsets: Vec<f32> = list(node, "rho")?;
        let counts: Vec<i64> = list(node, "vectors_per_class")?;
        let counts: Result<Vec<usize>, _> = counts.into_iter().map(usize::try_from).collect();
        let counts = counts.context("vectors_per_class has a negative number")?;
        let vector_count = counts.iter().fold(0usize, |sum, n| sum.saturating_add(*n));
        let (slopes, intercepts): (Vec<f32>, Vec<f32>) =
            (list(node, "prob_a")?, list(node, "prob_b")?);
        let count = classes.len();
        let pairs = count * count.saturating_sub(1) / 2;
        let wanted = match vector_count {
            0 => 1,
            _ => pairs,
        };
        let has_room = match vector_count {
            0 => coefficients.len().is_multiple_of(count),
            _ => {
                counts.len() == count
                    && coefficients.len() >= vector_count.saturating_mul(count - 1)
                    && count > 1
            }
        };
        let sigmoid_count = slopes.len();
        if !has_room
            || offsets.len() < wanted
            || sigmoid_count != intercepts.len()
            || (sigmoid_count != 0 && sigmoid_count < wanted)
        {
            return node.bail("its lists are of other lengths than its numbers of classes say");
        }
        let vectors = match vector_count {
            0 => Vectors {
                function: Function::Linear,
                ..Vectors::read(node, coefficients.clone(), count)?
            },
            _ => Vectors::read(node, list(node, "support_vectors")?, vector_count)?,
        };
        let sigmoids = slopes.into_iter().zip(intercepts);
        Ok(Self {
            vectors,
            counts: if vector_count == 0 {
                Vec::new()
            } else {
                counts
            },
            coefficients,
            offsets,
            sigmoids: sigmoids.map(|(a, b)| (a.into(), b.into())).collect(),
            classes,
            transform: Transform::read(node)?,
        })
    }

    fn is_linear(&self) -> bool {
        self.counts.is_empty()
    }

    /// The number of scores of a row: one for each class, or for each two classes where there are
    /// neither probabilities nor linear functions.
    fn width(&self) -> usize {
        let count = self.classes.len();
        match self.is_linear() || !self.sigmoids.is_empty() || count == 2 {
            true => count,
            false => count * (count - 1) / 2,
        }
    }

    /// The decision between each two classes: above 0, the first wins.
    fn decisions(&self, row: &[f32]) -> Vec<f64> {
        let near = self.vectors.compare(row);
        let (count, total) = (self.classes.len(), near.len());
        let starts = self.counts.iter().scan(0, |start, count| {
            *start += count;
            Some(*start - count)
        });
        let starts: Vec<usize> = starts.collect();
        let part = |class: usize, row: usize| -> f64 {
            let range = starts[class]..starts[class] + self.counts[class];
            let products = range.map(|v| f64::from(self.coefficients[row * total + v]) * near[v]);
            products.sum()
        };
        let mut decisions = Vec::new();
        for first in 0..count {
            for second in first + 1..count {
                let offset = f64::from(self.offsets[decisions.len()]);
                let sum = part(first, second - 1) + part(second, first) + offset;
                decisions.push(f64::from(sum as f32));
            }
        }
        decisions
    }

    /// The class of a row, and its scores.
    fn classify(&self, row: &[f32]) -> (usize, Vec<f64>) {
        if self.is_linear() {
            return self.classify_linear(row);
        }
        let decisions = self.decisions(row);
        let mut votes = vec![0.0; self.classes.len()];
        for ((first, second), decision) in pairs(votes.len()).zip(&decisions) {
            votes[if *decision > 0.0 { first } else { second }] += 1.0;
        }
        let class = scores::greatest(&votes);
        if self.sigmoids.is_empty() {
            let mut scores = decisions;
            let second = match self.transform {
                Transform::None => Second::Opposite,
                _ => Second::Complement,
            };
            self.transform.apply(&mut scores, second);
            return (class, scores);
        }
        let mut scores = self.probabilities(&decisions);
        self.transform.apply(&mut scores, Second::Absent);
        (class, scores)
    }

    fn classify_linear(&self, row: &[f32]) -> (usize, Vec<f64>) {
        let offset = f64::from(self.offsets[0]);
        let near = self.vectors.compare(row).into_iter();
        let mut scores: Vec<f64> = near.map(|sum| f64::from((sum + offset) as f32)).collect();
        let class = scores::greatest(&scores);
        let has_negative = self.coefficients.iter().any(|weight| *weight < 0.0);
        // As onnxruntime decides between two classes by one score.
        let is_second = scores.len() == 2
            && self.sigmoids.is_empty()
            && match has_negative {
                true => scores[class] > 0.0,
                false => scores[class] >= 0.5,
            };
        self.transform.apply(&mut scores, Second::Absent);
        (if is_second { 1 } else { class }, scores)
    }

    /// The probability of each class, of the probabilities of each two.
    fn probabilities(&self, decisions: &[f64]) -> Vec<f64> {
        let count = self.classes.len();
        let mut between = vec![0.0; count * count];
        let known = pairs(count).zip(decisions).zip(&self.sigmoids);
        for (((first, second), decision), (slope, intercept)) in known {
            let probability = 1.0 - logistic(decision * slope + intercept);
            let probability = probability.clamp(1e-7, 1.0 - 1e-7);
            between[first * count + second] = probability;
            between[second * count + first] = 1.0 - probability;
        }
        coupled(count, &between)
    }
}

/// Each two of some classes.
fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |first| (first + 1..count).map(move |second| (first, second)))
}

/// Couples probabilities between each two classes to probabilities of all: the second method of
/// T.-F. Wu, C.-J. Lin and R. C. Weng, "Probability estimates for multi-class classification by
/// pairwise coupling", JMLR 5 (2004), as in LIBSVM. `between[i * count + j]` is the probability of
/// class i if it is i or j.
fn coupled(count: usize, between: &[f64]) -> Vec<f64> {
    let at = |i: usize, j: usize| between[i * count + j];
    let q = |i: usize, j: usize| match i == j {
        true => (0..count)
            .filter(|k| *k != i)
            .map(|k| at(k, i) * at(k, i))
            .sum(),
        false => -at(j, i) * at(i, j),
    };
    let q: Vec<Vec<f64>> = (0..count)
        .map(|i| (0..count).map(|j| q(i, j)).collect())
        .collect();
    let mut p = vec![1.0 / count as f64; count];
    for _ in 0..100 {
        let product = |i: usize, p: &[f64]| -> f64 { (0..count).map(|j| q[i][j] * p[j]).sum() };
        let mut qp: Vec<f64> = (0..count).map(|i| product(i, &p)).collect();
        let mut pqp: f64 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        let error = qp.iter().map(|qp| (qp - pqp).abs()).fold(0.0, f64::max);
        if error < 0.005 / count as f64 {
            break;
        }
        for i in 0..count {
            let step = (pqp - qp[i]) / q[i][i];
            p[i] += step;
            pqp = (pqp + step * (step * q[i][i] + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
            for j in 0..count {
                qp[j] = (qp[j] + step * q[i][j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}

impl super::Kernel for SvmClassifier {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = rows(only(inputs)?)?;
        Ok(vec![
            (self.classes.datum_type(), tvec!(rows.clone())),
            (DatumType::F32, tvec!(rows, self.width().to_dim())),
        ])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let matrix = Matrix::read(only(inputs)?)?;
        matrix.expect_width(self.vectors.width)?;
        let (places, all): (Vec<usize>, Vec<_>) =
            matrix.rows().map(|row| self.classify(row)).unzip();
        let labels = self.classes.pick(&places, &[places.len()])?;
        Ok(vec![labels, scores::tensor(all, self.width())?])
    }
}

/// A number by support vectors.
#[derive(Debug)]
pub(super) struct SvmRegressor {
    vectors: Vectors,
    /// Factors of the support vectors; empty for a linear function.
    coefficients: Vec<f32>,
    offset: f64,
    /// Whether it tells outliers, -1, from others, 1.
    is_one_class: bool,
}

impl SvmRegressor {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let coefficients: Vec<f32> = list(node, "coefficients")?;
        let count = node.get_attr_opt::<i64>("n_supports")?.unwrap_or(0);
        let count = usize::try_from(count).context("n_supports is negative")?;
        let offsets: Vec<f32> = list(node, "rho")?;
        let offset = offsets.first().context("it has no rho")?;
        let (vectors, coefficients) = match count {
            0 => {
                let linear = Vectors::read(node, coefficients, 1)?;
                let function = Function::Linear;
                (Vectors { function, ..linear }, Vec::new())
            }
            _ if coefficients.len() == count => {
                let values = list(node, "support_vectors")?;
                (Vectors::read(node, values, count)?, coefficients)
            }
            _ => return node.bail("it has not a coefficient for each support vector"),
        };
        Ok(Self {
            vectors,
            coefficients,
            offset: f64::from(*offset),
            is_one_class: node.get_attr_opt::<i64>("one_class")?.unwrap_or(0) != 0,
        })
    }

    fn predict(&self, row: &[f32]) -> f32 {
        let near = self.vectors.compare(row);
        let sum: f64 = match self.coefficients.is_empty() {
            true => near.iter().sum(),
            false => {
                let products = near.iter().zip(&self.coefficients);
                products
                    .map(|(near, factor)| near * f64::from(*factor))
                    .sum()
            }
        };
        let predicted = (sum + self.offset) as f32;
        match self.is_one_class {
            true if predicted > 0.0 => 1.0,
            true => -1.0,
            false => predicted,
        }
    }
}

impl super::Kernel for SvmRegressor {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        Ok(vec![(
            DatumType::F32,
            tvec!(rows(only(inputs)?)?, 1.to_dim()),
        )])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let matrix = Matrix::read(only(inputs)?)?;
        matrix.expect_width(self.vectors.width)?;
        let predicted: Vec<f32> = matrix.rows().map(|row| self.predict(row)).collect();
        Ok(vec![Tensor::from_shape(&[predicted.len(), 1], &predicted)?])
    }
}
