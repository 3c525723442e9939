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
    /// Categories whose bits are set in some words of the tree's `sets`; or, if `inverted`, all
    /// values but these. Categories are integers, so what is behind the point does not count.
    In {
        /// Index of the first word.
        start: u32,
        /// Number of words of 32 bits.
        words: u32,
        /// Whether the values that are not in the set go left, as in XGBoost. There, a value below
        /// 0 is not a category. In LightGBM, -0.5 is category 0.
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
                let category = if inverted { category } else { category.trunc() };
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
    /// The column is a category. The feature is the code of the column's value.
    Category {
        /// The codes of the values.
        codes: Codes,
        /// What another value is.
        unknown: Unknown,
    },
}

/// The categories of a column, each with its code, sorted by category.
#[derive(Clone, Debug, PartialEq)]
pub enum Codes {
    /// Categories that are texts.
    Texts(Vec<(String, f64)>),
    /// Categories that are numbers, or booleans as 0 and 1.
    Numbers(Vec<(f64, f64)>),
    /// Categories that are integers, some of them too large for a `float64`.
    Integers(Vec<(i64, f64)>),
}

/// What becomes of a value that is not one of the categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// A missing value.
    Missing,
    /// An error of its row.
    Error,
}

/// The greatest integer up to which a `float64` holds all of them.
const EXACT: i64 = 1 << 53;

impl Codes {
    /// The codes of texts: their positions.
    pub fn of_texts(categories: Vec<String>) -> Self {
        let mut codes: Vec<(String, f64)> = numbered(categories);
        codes.sort_by(|a, b| a.0.cmp(&b.0));
        Self::Texts(codes)
    }

    /// The codes of numbers: their positions.
    pub fn of_numbers(categories: Vec<f64>) -> Self {
        // -0 is 0.
        let mut codes = numbered(categories.into_iter().map(|value| value + 0.0).collect());
        codes.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0));
        Self::Numbers(codes)
    }

    /// The codes of integers: their positions.
    pub fn of_integers(categories: Vec<i64>) -> Self {
        if categories.iter().all(|n| (-EXACT..=EXACT).contains(n)) {
            return Self::of_numbers(categories.into_iter().map(|n| n as f64).collect());
        }
        let mut codes = numbered(categories);
        codes.sort_by_key(|(category, _)| *category);
        Self::Integers(codes)
    }

    /// The type of the column.
    fn data_type(&self) -> DataType {
        match self {
            Self::Texts(_) => DataType::Utf8,
            Self::Numbers(_) => DataType::Float64,
            Self::Integers(_) => DataType::Int64,
        }
    }

    /// The code of each row's value: `None` where the value is missing, and the value itself as an
    /// error where it is not one of the categories.
    fn read(&self, rows: &mut Table, name: &str) -> Result<Vec<Option<Coded>>, String> {
        fn all<C: wafer::Cell>(
            rows: &mut Table,
            name: &str,
            code: impl Fn(C) -> Option<Coded>,
        ) -> Result<Vec<Option<Coded>>, String> {
            let column: Column<C> = rows.take(name)?;
            Ok((0..column.len())
                .map(|row| column.get(row).and_then(&code))
                .collect())
        }
        match self {
            Self::Texts(known) => all(rows, name, |value: Option<String>| {
                let value = value?;
                let place = known.binary_search_by(|(category, _)| category.as_str().cmp(&value));
                Some(
                    place
                        .map(|place| known[place].1)
                        .map_err(|_| format!("{value:?}")),
                )
            }),
            Self::Numbers(known) => all(rows, name, |value: Option<f64>| {
                // NaN is missing, and -0 is 0.
                let value = value.filter(|value| !value.is_nan())? + 0.0;
                let place = known.binary_search_by(|(category, _)| category.total_cmp(&value));
                Some(
                    place
                        .map(|place| known[place].1)
                        .map_err(|_| value.to_string()),
                )
            }),
            Self::Integers(known) => all(rows, name, |value: Option<i64>| {
                let value = value?;
                let place = known.binary_search_by_key(&value, |(category, _)| *category);
                Some(
                    place
                        .map(|place| known[place].1)
                        .map_err(|_| value.to_string()),
                )
            }),
        }
    }
}

/// The code of a value, or the value itself if it is not one of the categories.
type Coded = Result<f64, String>;

fn numbered<T>(categories: Vec<T>) -> Vec<(T, f64)> {
    let codes = (0..).map(|code: u32| f64::from(code));
    categories.into_iter().zip(codes).collect()
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
        let mut table = Table::new(rows.len());
        let columns: Vec<Vec<f64>> = self
            .names
            .iter()
            .zip(&self.inputs)
            .map(|(name, input)| input.read(&mut rows, name, self.is_single, &mut table))
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
                Input::Category { codes, .. } => Field::nullable(name, codes.data_type()),
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
    /// The feature of each row. Rows with a value that is not one of the categories fail in `out`
    /// if such values are refused.
    fn read(
        &self,
        rows: &mut Table,
        name: &str,
        is_single: bool,
        out: &mut Table,
    ) -> Result<Vec<f64>, String> {
        let Self::Category { codes, unknown } = self else {
            return read_numbers(rows, name, is_single);
        };
        let mut features = Vec::with_capacity(rows.len());
        for (row, code) in codes.read(rows, name)?.into_iter().enumerate() {
            features.push(match code {
                Some(Ok(code)) => code,
                Some(Err(value)) if *unknown == Unknown::Error => {
                    let message = format!(
                        "column `{name}` is {value}, which is not one of the categories that the model was trained with"
                    );
                    out.fail(row, message);
                    f64::NAN
                }
                Some(Err(_)) | None => f64::NAN,
            });
        }
        Ok(features)
    }
}

fn read_numbers(rows: &mut Table, name: &str, is_single: bool) -> Result<Vec<f64>, String> {
    let column: Column<Option<f64>> = rows.take(name)?;
    let value = |row| match column.is_present(row) {
        true if is_single => f64::from(column.data()[row] as f32),
        true => column.data()[row],
        false => f64::NAN,
    };
    Ok((0..column.len()).map(value).collect())
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
        // Whether LightGBM and XGBoost go left, by their own predictions.
        for (value, lightgbm, xgboost) in [
            (0.0, true, false),
            (-0.0, true, false),
            (-0.5, true, true),
            (1.0, false, true),
            (2.0, true, false),
            (2.9, true, false),
            (32.0, false, true),
            (-1.0, false, true),
            (1e300, false, true),
            (f64::INFINITY, false, true),
            (f64::NEG_INFINITY, false, true),
        ] {
            let goes = |inverted| split(set(inverted), Missing::Nan, false).value(&[value]) == 1.0;
            assert_eq!((goes(false), goes(true)), (lightgbm, xgboost), "{value}");
        }
    }

    /// The features that a column becomes, and the errors of its rows.
    fn read<C: wafer::Cell>(
        codes: Codes,
        unknown: Unknown,
        values: Vec<C>,
    ) -> (Vec<Option<f64>>, Vec<(usize, String)>) {
        let count = values.len();
        let mut rows = Table::new(count).with("c", values.into_iter().collect());
        let mut out = Table::new(count);
        let input = Input::Category { codes, unknown };
        let features = input.read(&mut rows, "c", false, &mut out).unwrap();
        let features = features.into_iter().map(|f| (!f.is_nan()).then_some(f));
        let errors = out.errors().map(|(row, text)| (row, text.to_owned()));
        (features.collect(), errors.collect())
    }

    #[test]
    fn categories_are_codes_whatever_their_type() {
        let texts = || Codes::of_texts(vec!["b".to_owned(), "a".to_owned()]);
        let text = |text: &str| Some(text.to_owned());
        let values = || vec![text("a"), text("b"), text("z"), None];
        let wanted = vec![Some(1.0), Some(0.0), None, None];
        assert_eq!(
            read(texts(), Unknown::Missing, values()),
            (wanted.clone(), vec![])
        );
        let (features, errors) = read(texts(), Unknown::Error, values());
        assert_eq!((features, errors.len(), errors[0].0), (wanted, 1, 2));
        assert!(
            errors[0].1.contains("`c` is \"z\", which is not one"),
            "{}",
            errors[0].1
        );
        let numbers = Codes::of_integers(vec![10, 0, -3]);
        let values = vec![
            Some(10.0),
            Some(-0.0),
            Some(-3.0),
            Some(0.5),
            Some(f64::NAN),
            None,
        ];
        let wanted = vec![Some(0.0), Some(1.0), Some(2.0), None, None, None];
        assert_eq!(read(numbers, Unknown::Missing, values), (wanted, vec![]));
        let great = (1 << 60) + 1;
        let integers = Codes::of_integers(vec![great, 5]);
        let values = vec![Some(great), Some(great + 1), Some(5), None];
        let wanted = vec![Some(0.0), None, Some(1.0), None];
        assert_eq!(read(integers, Unknown::Missing, values), (wanted, vec![]));
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
