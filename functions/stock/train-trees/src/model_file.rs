//! Writes trees as a model file of LightGBM, whose reader requires all of these lines.
//!
//! Format: `GBDT::SaveModelToString` and `Tree::ToString` of LightGBM,
//! <https://github.com/microsoft/LightGBM>, version 4 of the format.

use std::fmt::{Display, Write as _};

use forust_ml::GradientBooster;
use forust_ml::tree::Tree;

/// Writes a model. `texts` are those of each feature that is a category, in the order of their
/// codes.
pub(crate) fn write(
    booster: &GradientBooster,
    names: &[String],
    texts: &[Option<Vec<String>>],
    is_binary: bool,
) -> Result<String, String> {
    let trees: Vec<String> = booster
        .trees
        .iter()
        .enumerate()
        .map(|(index, tree)| {
            // The base score is added to the leaves of the first tree, since the format has none.
            let start = if index == 0 { booster.base_score } else { 0.0 };
            write_tree(index, tree, start, texts)
        })
        .collect();
    let objective = if is_binary {
        "binary sigmoid:1"
    } else {
        "regression"
    };
    let info = |texts: &Option<Vec<String>>| match texts {
        None => "[-1e+308:1e+308]".to_owned(),
        Some(texts) => {
            let codes: Vec<String> = (0..texts.len()).map(|code| code.to_string()).collect();
            codes.join(":")
        }
    };
    let infos: Vec<String> = texts.iter().map(info).collect();
    let categories: Vec<&Vec<String>> = texts.iter().flatten().collect();
    let categories = match categories.is_empty() {
        true => "null".to_owned(),
        false => serde_json::to_string(&categories).map_err(|e| e.to_string())?,
    };
    let sizes: Vec<usize> = trees.iter().map(String::len).collect();
    let mut text =
        String::from("tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n");
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key}={value}");
    };
    line("max_feature_idx", (names.len() - 1).to_string());
    line("objective", objective.to_owned());
    line("feature_names", names.join(" "));
    line("feature_infos", infos.join(" "));
    line("tree_sizes", joined(&sizes));
    text.push('\n');
    for tree in trees {
        text.push_str(&tree);
    }
    text.push_str("end of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n\n");
    let _ = writeln!(text, "pandas_categorical:{categories}");
    Ok(text)
}

/// The splits and leaves of a tree, each numbered separately.
#[derive(Default)]
struct Parts {
    /// Ends of the sets of categories, and their bits.
    boundaries: Vec<usize>,
    sets: Vec<u32>,
    features: Vec<usize>,
    gains: Vec<f32>,
    thresholds: Vec<f64>,
    decisions: Vec<u8>,
    lefts: Vec<i64>,
    rights: Vec<i64>,
    weights: Vec<f32>,
    leaves: Vec<f64>,
    leaf_weights: Vec<f32>,
}

impl Parts {
    /// Adds a node and everything below it. Returns the node's number; that of leaf `n` is `-1 -
    /// n`.
    fn add(&mut self, tree: &Tree, index: usize, start: f64, texts: &[Option<Vec<String>>]) -> i64 {
        let node = &tree.nodes[index];
        if node.is_leaf {
            self.leaves.push(f64::from(node.weight_value) + start);
            self.leaf_weights.push(node.hessian_sum);
            return -(self.leaves.len() as i64);
        }
        let place = self.features.len();
        self.features.push(node.split_feature);
        self.gains.push(node.split_gain);
        self.weights.push(node.hessian_sum);
        self.lefts.push(0);
        self.rights.push(0);
        let missing_goes_left = node.missing_node == node.left_child;
        let (mut left, mut right) = (node.left_child, node.right_child);
        match &texts[node.split_feature] {
            None => {
                // In LightGBM values up to the threshold go left, in forust only those below it.
                self.thresholds.push(node.split_value.next_down());
                // Bits 2 and 3: NaN is missing; bit 1: missing values go left.
                self.decisions
                    .push(2 << 2 | u8::from(missing_goes_left) << 1);
            }
            Some(texts) => {
                // In LightGBM the categories of a set go left, and missing values always right.
                if missing_goes_left {
                    (left, right) = (right, left);
                }
                let codes = (0..texts.len() as u32)
                    .filter(|code| (f64::from(*code) < node.split_value) != missing_goes_left);
                self.thresholds.push(self.boundaries.len() as f64);
                self.add_set(codes, texts.len());
                // Bit 0: the split is by categories.
                self.decisions.push(2 << 2 | 1);
            }
        }
        self.lefts[place] = self.add(tree, left, start, texts);
        self.rights[place] = self.add(tree, right, start, texts);
        place as i64
    }

    fn add_set(&mut self, codes: impl Iterator<Item = u32>, count: usize) {
        let first = self.sets.len();
        self.sets.resize(first + count.div_ceil(32), 0);
        for code in codes {
            self.sets[first + code as usize / 32] |= 1 << (code % 32);
        }
        self.boundaries.push(self.sets.len());
    }
}

fn write_tree(index: usize, tree: &Tree, start: f64, texts: &[Option<Vec<String>>]) -> String {
    let mut parts = Parts::default();
    parts.add(tree, 0, start, texts);
    let splits = parts.features.len();
    let zeros = |count: usize| joined(&vec![0; count]);
    let mut text = format!("Tree={index}\n");
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key}={value}");
    };
    line("num_leaves", parts.leaves.len().to_string());
    line("num_cat", parts.boundaries.len().to_string());
    line("split_feature", joined(&parts.features));
    line("split_gain", joined(&parts.gains));
    line("threshold", joined(&parts.thresholds));
    line("decision_type", joined(&parts.decisions));
    line("left_child", joined(&parts.lefts));
    line("right_child", joined(&parts.rights));
    line("leaf_value", joined(&parts.leaves));
    line("leaf_weight", joined(&parts.leaf_weights));
    line("leaf_count", zeros(parts.leaves.len()));
    line("internal_value", zeros(splits));
    line("internal_weight", joined(&parts.weights));
    line("internal_count", zeros(splits));
    if !parts.boundaries.is_empty() {
        line("cat_boundaries", format!("0 {}", joined(&parts.boundaries)));
        line("cat_threshold", joined(&parts.sets));
    }
    line("is_linear", "0".to_owned());
    line("shrinkage", "1".to_owned());
    text.push_str("\n\n");
    text
}

/// Numbers separated by spaces, in a form that reads back exactly.
fn joined(numbers: &[impl Display]) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use forust_ml::Matrix;
    use wafer::{Column, Init, Table};

    use super::*;

    /// Two features with missing values, and with values at every possible threshold.
    fn rows() -> (Vec<f64>, Vec<f64>) {
        let gap = |n: u32, value: u32| match n % 11 {
            0 => f64::NAN,
            _ => f64::from(value) / 3.0,
        };
        let a: Vec<f64> = (0..600).map(|n| gap(n, n % 40)).collect();
        let b: Vec<f64> = (0..600).map(|n| gap(n + 5, n * 7 % 23)).collect();
        let label = |(a, b): (&f64, &f64)| {
            let sum = (if a.is_nan() { 9.0 } else { *a }) - (if b.is_nan() { -2.0 } else { *b });
            f64::from(u8::from(sum > 4.0))
        };
        let labels = a.iter().zip(&b).map(label).collect();
        ([a, b].concat(), labels)
    }

    #[test]
    fn model_file_predicts_as_the_booster() {
        let (data, labels) = rows();
        let count = labels.len();
        let matrix = Matrix::new(&data, count, 2);
        let mut booster = GradientBooster::default()
            .set_iterations(20)
            .set_parallel(false);
        booster.fit_unweighted(&matrix, &labels, None).unwrap();
        let names = ["a".to_owned(), "b".to_owned()];
        let text = write(&booster, &names, &[None, None], true).unwrap();
        let init = Init::new()
            .with_asset("model", text)
            .with_parameter("raw", "true");
        let model = stock_lightgbm::load(&init).unwrap();
        let column = |place: usize| {
            let values = data[place * count..][..count].iter();
            let values = values.map(|value| (!value.is_nan()).then_some(*value));
            values.collect::<Column<_>>()
        };
        let table = Table::new(count).with("a", column(0)).with("b", column(1));
        let mut out = stock_lightgbm::lightgbm(table, &model).unwrap();
        let found: Column<f64> = out.take("prediction").unwrap();
        let wanted = booster.predict(&matrix, false);
        assert!(wanted.iter().any(|value| *value != wanted[0]));
        for (row, (found, wanted)) in found.data().iter().zip(&wanted).enumerate() {
            assert!((found - wanted).abs() < 1e-6, "row {row}: {found} {wanted}");
        }
    }
}
