//! Writes trees as a model file of LightGBM, whose reader requires all of these lines.
//!
//! Format: `GBDT::SaveModelToString` and `Tree::ToString` of LightGBM,
//! <https://github.com/microsoft/LightGBM>, version 4 of the format.

use std::fmt::{Display, Write as _};

use forust_ml::GradientBooster;
use forust_ml::tree::Tree;

pub(crate) fn write(booster: &GradientBooster, names: &[String], is_binary: bool) -> String {
    let trees: Vec<String> = booster
        .trees
        .iter()
        .enumerate()
        .map(|(index, tree)| {
            // The base score is added to the leaves of the first tree, since the format has none.
            let start = if index == 0 { booster.base_score } else { 0.0 };
            write_tree(index, tree, start)
        })
        .collect();
    let objective = if is_binary {
        "binary sigmoid:1"
    } else {
        "regression"
    };
    let infos = vec!["[-1e+308:1e+308]"; names.len()];
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
    text.push_str("end of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n\npandas_categorical:null\n");
    text
}

/// The splits and leaves of a tree, each numbered separately.
#[derive(Default)]
struct Parts {
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
    fn add(&mut self, tree: &Tree, index: usize, start: f64) -> i64 {
        let node = &tree.nodes[index];
        if node.is_leaf {
            self.leaves.push(f64::from(node.weight_value) + start);
            self.leaf_weights.push(node.hessian_sum);
            return -(self.leaves.len() as i64);
        }
        let place = self.features.len();
        self.features.push(node.split_feature);
        self.gains.push(node.split_gain);
        // In LightGBM values up to the threshold go left, in forust only those below it.
        self.thresholds.push(node.split_value.next_down());
        // Bits 2 and 3: NaN is missing; bit 1: missing values go left.
        let goes_left = node.missing_node == node.left_child;
        self.decisions.push(2 << 2 | u8::from(goes_left) << 1);
        self.weights.push(node.hessian_sum);
        self.lefts.push(0);
        self.rights.push(0);
        self.lefts[place] = self.add(tree, node.left_child, start);
        self.rights[place] = self.add(tree, node.right_child, start);
        place as i64
    }
}

fn write_tree(index: usize, tree: &Tree, start: f64) -> String {
    let mut parts = Parts::default();
    parts.add(tree, 0, start);
    let splits = parts.features.len();
    let zeros = |count: usize| joined(&vec![0; count]);
    let mut text = format!("Tree={index}\n");
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key}={value}");
    };
    line("num_leaves", parts.leaves.len().to_string());
    line("num_cat", "0".to_owned());
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
        let text = write(&booster, &names, true);
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
