//! Ensembles of decision trees: their layout and their predictions.
//!
//! One layout serves the formats of several libraries, whose trees differ in details that matter at
//! the last digit; see [`Node`].

use wafer::{Column, DataType, Describe, Field, Init, Table};

/// Which values count as missing at a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// None. NaN counts as 0.
    None,
    /// Zero, and NaN, which counts as 0.
    Zero,
    /// NaN.
    Nan,
}

/// A split. Children from 0 on are splits of the tree; a negative child is the leaf with the index
/// `!child`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// Index of the feature.
    pub feature: u32,
    /// Which values go left.
    pub test: Test,
    /// Which values are missing.
    pub missing: Missing,
    /// Whether missing values go left.
    pub default_left: bool,
    /// Left child.
    pub left: i32,
    /// Right child.
    pub right: i32,
}

/// Which values go left at a split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Test {
    /// Values up to this one, inclusive.
    AtMost(f64),
    /// Categories whose bits are set in some words of the tree's `sets`; or, if `inverted`,
    /// categories whose bits are not set.
    In {
        /// Index of the first word.
        start: u32,
        /// Number of words of 32 bits.
        words: u32,
        /// Whether the categories that are not in the set go left.
        inverted: bool,
    },
}

/// A decision tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// The splits. The first is the root; if there is none, the tree is its first leaf.
    pub nodes: Vec<Node>,
    /// Values of the leaves.
    pub leaves: Vec<f64>,
    /// Bit sets of categories.
    pub sets: Vec<u32>,
}

/// The greatest absolute value that counts as zero, as in LightGBM.
const ZERO: f64 = 1e-35;

impl Tree {
    /// Checks that every child, leaf, feature and set exists, and that no path runs in circles.
    ///
    /// # Errors
    /// Returns a message that says what is wrong.
    pub fn check(&self, features: usize) -> Result<(), String> {
        if self.leaves.is_empty() {
            return Err("a tree without a leaf".to_owned());
        }
        for (index, node) in self.nodes.iter().enumerate() {
            for child in [node.left, node.right] {
                let is_there = match usize::try_from(child) {
                    // Children come after their parents in every format.
                    Ok(split) => split > index && split < self.nodes.len(),
                    Err(_) => (!child as usize) < self.leaves.len(),
                };
                if !is_there {
                    return Err(format!("split {index} has no child {child}"));
                }
            }
            if node.feature as usize >= features {
                return Err(format!(
                    "split {index} is by feature {} of {features}",
                    node.feature
                ));
            }
            if let Test::In { start, words, .. } = node.test
                && start as usize + words as usize > self.sets.len()
            {
                return Err(format!("split {index} is by a set that is not there"));
            }
        }
        Ok(())
    }

    /// The value of the leaf that some features lead to.
    pub fn value(&self, features: &[f64]) -> f64 {
        let mut at = if self.nodes.is_empty() { !0 } else { 0 };
        while at >= 0 {
            let node = &self.nodes[at as usize];
            at = match self.goes_left(node, features[node.feature as usize]) {
                true => node.left,
                false => node.right,
            };
        }
        self.leaves[!at as usize]
    }

    fn goes_left(&self, node: &Node, value: f64) -> bool {
        match node.test {
            Test::AtMost(threshold) => {
                let value = match (value.is_nan(), node.missing) {
                    (true, Missing::Nan) => return node.default_left,
                    (true, _) => 0.0,
                    (false, _) => value,
                };
                if node.missing == Missing::Zero && value.abs() <= ZERO {
                    return node.default_left;
                }
                value <= threshold
            }
            Test::In {
                start,
                words,
                inverted,
            } => {
                let category = match (value.is_nan(), node.missing) {
                    (true, Missing::Nan) => return node.default_left,
                    (true, _) => 0.0,
                    (false, _) => value,
                };
                // A value that is not a category is in no set.
                let is_in = category >= 0.0 && category < f64::from(words * 32) && {
                    let category = category as u32;
                    let word = self.sets[(start + category / 32) as usize];
                    word >> (category % 32) & 1 == 1
                };
                is_in != inverted
            }
        }
    }
}

/// How sums of leaves become predictions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Link {
    /// The sum itself.
    Identity,
    /// `1 / (1 + exp(-slope * x))`: a probability.
    Logistic {
        /// The slope.
        slope: f64,
    },
    /// `exp(x)`
    Exponential,
    /// `x * |x|`
    SignedSquare,
    /// 1 if the sum is above 0, otherwise 0.
    Positive,
    /// Probabilities of classes, which add up to 1.
    Softmax,
    /// The class with the greatest sum.
    MostLikely,
    /// Probabilities of classes, each independent of the others.
    OneAgainstAll {
        /// The slope.
        slope: f64,
    },
}

/// The outputs of a model for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The most likely class, and the probability of each class.
    Probabilities,
    /// The most likely class.
    Class,
    /// A number for each class.
    Numbers,
    /// A number.
    Number,
}

/// How a column becomes a feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The column is a number.
    Number,
    /// The column is text. The feature is the number beside the text in this list, which is sorted
    /// by text, and missing if the text is not in it.
    Category(Vec<(String, f64)>),
}

/// A model: trees, and how their sums become predictions.
#[derive(Clone, Debug)]
pub struct Forest {
    /// Names of the features.
    pub names: Vec<String>,
    /// How columns become features.
    pub inputs: Vec<Input>,
    /// The trees. With several classes, the trees of the classes take turns.
    pub trees: Vec<Tree>,
    /// The numbers that sums start from, one for each class.
    pub start: Vec<f64>,
    /// How sums become predictions.
    pub link: Link,
    /// Whether sums are divided by the number of trees of a class.
    pub is_mean: bool,
    /// Whether features and sums are rounded to 32 bits.
    pub is_single: bool,
}

impl Forest {
    /// Checks that the parts of the model fit together, and renames the features to `names` unless
    /// that is empty.
    ///
    /// # Errors
    /// Returns a message that says what is wrong and what to do.
    pub fn checked(mut self, names: Vec<String>) -> Result<Self, String> {
        if !names.is_empty() {
            if names.len() != self.names.len() {
                return Err(format!(
                    "parameter `features` names {}, and the model reads {}",
                    names.len(),
                    self.names.len()
                ));
            }
            self.names = names;
        }
        if let Some(name) = self.names.iter().find(|name| !is_column_name(name)) {
            return Err(format!(
                "`{name}` cannot be the name of a column: name the model's features in order in a parameter \
                 `features`, separated by commas"
            ));
        }
        for (index, tree) in self.trees.iter().enumerate() {
            tree.check(self.names.len())
                .map_err(|message| format!("tree {index}: {message}"))?;
        }
        if self.start.is_empty() || !self.trees.len().is_multiple_of(self.start.len()) {
            return Err(format!(
                "{} trees for {} classes",
                self.trees.len(),
                self.start.len()
            ));
        }
        Ok(self)
    }

    /// Computes the sums of leaves, one for each class.
    fn sums(&self, features: &[f64], sums: &mut [f64]) {
        sums.copy_from_slice(&self.start);
        let classes = sums.len();
        for trees in self.trees.chunks_exact(classes) {
            for (tree, sum) in trees.iter().zip(sums.iter_mut()) {
                *sum += tree.value(features);
                if self.is_single {
                    *sum = f64::from(*sum as f32);
                }
            }
        }
        if self.is_mean {
            let trees = (self.trees.len() / classes) as f64;
            sums.iter_mut().for_each(|sum| *sum /= trees);
        }
    }

    /// The outputs of the model for a row.
    fn answer(&self) -> Answer {
        match self.link {
            Link::Softmax | Link::OneAgainstAll { .. } => Answer::Probabilities,
            Link::MostLikely => Answer::Class,
            _ if self.start.len() > 1 => Answer::Numbers,
            _ => Answer::Number,
        }
    }

    /// Predicts all rows of a table.
    ///
    /// # Errors
    /// Returns an error when the table does not have the model's columns.
    pub fn predict(&self, mut rows: Table) -> Result<Table, String> {
        let columns: Vec<Vec<f64>> = self
            .names
            .iter()
            .zip(&self.inputs)
            .map(|(name, input)| input.read(&mut rows, name, self.is_single))
            .collect::<Result<_, _>>()?;
        let mut features = vec![0.0; columns.len()];
        let mut sums = vec![0.0; self.start.len()];
        let mut sums_of = |row: usize| {
            for (feature, column) in features.iter_mut().zip(&columns) {
                *feature = column[row];
            }
            self.sums(&features, &mut sums);
            sums.clone()
        };
        let count = rows.len();
        let table = Table::new(count);
        Ok(match self.answer() {
            Answer::Probabilities => {
                let all: Vec<Vec<f64>> = (0..count)
                    .map(|row| self.class_probabilities(sums_of(row)))
                    .collect();
                let most_likely: Vec<i64> = all.iter().map(|sums| greatest(sums) as i64).collect();
                let probabilities: Column<Vec<f64>> = all.into_iter().collect();
                table
                    .with("prediction", Column::from(most_likely))
                    .with("probabilities", probabilities)
            }
            Answer::Class => {
                let most_likely = (0..count).map(|row| greatest(&sums_of(row)) as i64);
                table.with("prediction", Column::from(most_likely.collect::<Vec<_>>()))
            }
            Answer::Numbers => {
                let numbers = |row| {
                    sums_of(row)
                        .into_iter()
                        .map(|sum| self.apply_link(sum))
                        .collect()
                };
                let all: Column<Vec<f64>> = (0..count).map(numbers).collect();
                table.with("predictions", all)
            }
            Answer::Number => {
                let values = (0..count).map(|row| self.apply_link(sums_of(row)[0]));
                table.with("prediction", Column::from(values.collect::<Vec<_>>()))
            }
        })
    }

    fn apply_link(&self, sum: f64) -> f64 {
        match self.link {
            Link::Logistic { slope } => logistic(slope * sum),
            Link::Exponential => sum.exp(),
            Link::SignedSquare => sum * sum.abs(),
            Link::Positive => f64::from(u8::from(sum > 0.0)),
            _ => sum,
        }
    }

    fn class_probabilities(&self, mut sums: Vec<f64>) -> Vec<f64> {
        if let Link::OneAgainstAll { slope } = self.link {
            sums.iter_mut()
                .for_each(|sum| *sum = logistic(slope * *sum));
            return sums;
        }
        let greatest_sum = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        sums.iter_mut()
            .for_each(|sum| *sum = (*sum - greatest_sum).exp());
        let total: f64 = sums.iter().sum();
        sums.iter_mut().for_each(|sum| *sum /= total);
        sums
    }
}

impl Describe for Forest {
    fn inputs(&self) -> Vec<Field> {
        let fields = self.names.iter().zip(&self.inputs);
        fields
            .map(|(name, input)| match input {
                Input::Number => Field::nullable(name, DataType::Float64),
                Input::Category(_) => Field::nullable(name, DataType::Utf8),
            })
            .collect()
    }

    fn outputs(&self) -> Vec<Field> {
        let prediction =
            |data_type, doc: &str| Field::required("prediction", data_type).with_doc(doc);
        let list = |name, doc: &str| Field::required(name, DataType::ListFloat64).with_doc(doc);
        let most_likely = || prediction(DataType::Int64, "The most likely class, from 0.");
        match (self.answer(), self.link) {
            (Answer::Probabilities, _) => vec![
                most_likely(),
                list("probabilities", "Probability of each class."),
            ],
            (Answer::Class, _) => vec![most_likely()],
            (Answer::Numbers, _) => vec![list("predictions", "A number for each class.")],
            (Answer::Number, Link::Logistic { .. }) => {
                vec![prediction(DataType::Float64, "Probability that it is so.")]
            }
            (Answer::Number, _) => vec![prediction(DataType::Float64, "The predicted number.")],
        }
    }
}

impl Input {
    fn read(&self, rows: &mut Table, name: &str, is_single: bool) -> Result<Vec<f64>, String> {
        let count = rows.len();
        match self {
            Self::Number => {
                let column: Column<Option<f64>> = rows.take(name)?;
                let value = |row| match column.is_present(row) {
                    true if is_single => f64::from(column.data()[row] as f32),
                    true => column.data()[row],
                    false => f64::NAN,
                };
                Ok((0..count).map(value).collect())
            }
            Self::Category(known) => {
                let column: Column<Option<String>> = rows.take(name)?;
                let value = |row| {
                    let text = column.is_present(row).then(|| column.data().get(row))?;
                    let found = known
                        .binary_search_by(|(k, _)| k.as_bytes().cmp(text))
                        .ok()?;
                    Some(known[found].1)
                };
                Ok((0..count)
                    .map(|row| value(row).unwrap_or(f64::NAN))
                    .collect())
            }
        }
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The index of the greatest value, and of the first if there are several.
fn greatest(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// Reads the parameter `raw`, false by default: whether the sums of leaves are the predictions.
///
/// # Errors
/// Returns an error when it is neither true nor false.
pub fn is_raw(init: &Init) -> Result<bool, String> {
    match init.parameter("raw") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!(
            "parameter `raw`: `{other}` is neither true nor false"
        )),
    }
}

/// Whether a text is a valid column name.
pub fn is_column_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(test: Test, missing: Missing, default_left: bool) -> Tree {
        let node = Node {
            feature: 0,
            test,
            missing,
            default_left,
            left: !0,
            right: !1,
        };
        Tree {
            nodes: vec![node],
            leaves: vec![1.0, 2.0],
            sets: vec![0b101],
        }
    }

    #[test]
    fn missing_values_take_the_default_direction() {
        let at_most = Test::AtMost(-1.0);
        for (test, missing, default_left, value, wanted) in [
            (at_most, Missing::None, true, f64::NAN, 2.0),
            (at_most, Missing::Nan, true, f64::NAN, 1.0),
            (at_most, Missing::Nan, false, f64::NAN, 2.0),
            (at_most, Missing::Zero, true, 0.0, 1.0),
            (at_most, Missing::Zero, true, f64::NAN, 1.0),
            (at_most, Missing::Zero, true, 1e-30, 2.0),
            (at_most, Missing::Nan, true, -1.0, 1.0),
            (at_most, Missing::Nan, true, -0.5, 2.0),
        ] {
            let tree = split(test, missing, default_left);
            assert_eq!(tree.value(&[value]), wanted, "{missing:?} {value}");
        }
    }

    #[test]
    fn categorical_splits_test_sets() {
        let set = |inverted| Test::In {
            start: 0,
            words: 1,
            inverted,
        };
        for (value, is_in) in [
            (0.0, true),
            (1.0, false),
            (2.0, true),
            (2.9, true),
            (32.0, false),
            (-1.0, false),
        ] {
            let goes = |inverted| split(set(inverted), Missing::Nan, false).value(&[value]) == 1.0;
            assert_eq!((goes(false), goes(true)), (is_in, !is_in), "{value}");
        }
    }

    #[test]
    fn invalid_trees_are_rejected() {
        let good = split(Test::AtMost(0.0), Missing::Nan, true);
        assert_eq!(good.check(1), Ok(()));
        let broken = |change: fn(&mut Tree)| {
            let mut tree = good.clone();
            change(&mut tree);
            tree.check(1).unwrap_err()
        };
        for (message, wanted) in [
            (broken(|t| t.nodes[0].left = 0), "no child 0"),
            (broken(|t| t.nodes[0].right = 7), "no child 7"),
            (broken(|t| t.nodes[0].right = !2), "no child -3"),
            (broken(|t| t.nodes[0].feature = 1), "by feature 1 of 1"),
            (broken(|t| t.leaves.clear()), "without a leaf"),
        ] {
            assert!(message.contains(wanted), "{message}");
        }
    }
}
