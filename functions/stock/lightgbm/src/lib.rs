//! Predicts with a model file of LightGBM, as `booster.save_model("model.txt")` writes it, given as
//! the asset `model`.
//!
//! Parameters:
//!
//! - `features` names the columns in the order of the model's features. It is needed where the file
//!   has no names, or others.
//! - `raw = true` gives sums of leaves instead of probabilities.
//! - `categories` names the columns that were of pandas' type `category`, in the order of the data
//!   frame. It is needed where the file does not tell them: if categories were ordered, or the
//!   model used none of a column.
//!
//! Format: `GBDT::SaveModelToString` and `Tree::ToString` of LightGBM,
//! <https://github.com/microsoft/LightGBM>, version 4 of the format (`version=v4`) and before.

use std::collections::HashMap;
use std::str::FromStr;

use stock_trees::{Codes, Forest, Input, Link, Missing, Node, Test, Tree, Unknown, is_raw};
use wafer::{Init, Table};

/// Prediction of gradient-boosted trees, from a model file of LightGBM.
#[wafer::function(init = load)]
pub fn lightgbm(rows: Table, model: &Forest) -> Result<Table, String> {
    model.predict(rows)
}

/// Reads the model, when the function is registered.
///
/// # Errors
/// Returns a message that says what is wrong with the model.
pub fn load(init: &Init) -> Result<Forest, String> {
    init.only_parameters(&["features", "raw", "categories"])?;
    let mut forest = parse(init.text_asset("model")?, &init.list("categories"))
        .map_err(|e| format!("asset `model` is not a model file of LightGBM: {e}"))?;
    if is_raw(init)? {
        // Raw sums are not averaged, not even those of random forests: only predictions are means.
        (forest.link, forest.is_mean) = (Link::Identity, false);
    }
    forest.checked(init.list("features"))
}

/// A section of the file: its first line, and its lines `key=value`.
struct Part<'a> {
    name: &'a str,
    values: HashMap<&'a str, &'a str>,
}

impl<'a> Part<'a> {
    fn get(&self, key: &str) -> Result<&'a str, String> {
        self.find(key)
            .ok_or_else(|| format!("{} has no `{key}`", self.name))
    }

    fn find(&self, key: &str) -> Option<&'a str> {
        self.values.get(key).copied()
    }

    fn number<T: FromStr>(&self, key: &str) -> Result<T, String> {
        let text = self.get(key)?;
        text.trim()
            .parse()
            .map_err(|_| format!("{}: `{key}` is `{text}`", self.name))
    }

    /// Numbers separated by spaces, or none when the key is missing.
    fn numbers<T: FromStr>(&self, key: &str) -> Result<Vec<T>, String> {
        let texts = self.find(key).unwrap_or_default().split_whitespace();
        texts
            .map(|text| {
                text.parse()
                    .map_err(|_| format!("{}: `{text}` in `{key}`", self.name))
            })
            .collect()
    }
}

/// Reads a model file. `categorical` names the columns of pandas' type `category` if the file does
/// not tell them, and is empty otherwise.
fn parse(text: &str, categorical: &[String]) -> Result<Forest, String> {
    // Files from Windows have other line ends. The text is copied only then, because a copy would
    // stay in the memory that is snapshotted.
    let unix = text.contains('\r').then(|| text.replace("\r\n", "\n"));
    let text = unix.as_deref().unwrap_or(text);
    let mut sections = text.split("\n\n").filter(|part| !part.trim().is_empty());
    let header = part(sections.next().unwrap_or_default());
    if header.name != "tree" {
        return Err("it does not begin with `tree`".to_owned());
    }
    let classes: usize = header.number("num_tree_per_iteration")?;
    let names: Vec<String> = header
        .get("feature_names")?
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let mut trees = Vec::new();
    for section in sections {
        let section = part(section);
        if section.name.starts_with("Tree=") {
            trees.push(tree(&section)?);
        } else if section.name.starts_with("end of trees") {
            break;
        }
    }
    if trees.is_empty() {
        return Err("it has no trees, or was cut off".to_owned());
    }
    let sizes = header.find("tree_sizes").map(str::split_whitespace);
    if let Some(count) = sizes
        .map(Iterator::count)
        .filter(|count| *count != trees.len())
    {
        let found = trees.len();
        return Err(format!(
            "it has {found} trees where it says {count}: some are missing"
        ));
    }
    if !text.contains("end of trees") {
        return Err("it was cut off: there is no `end of trees`".to_owned());
    }
    let is_mean = text.lines().any(|line| line.trim() == "average_output");
    Ok(Forest {
        inputs: inputs(&header, text, &names, categorical)?,
        names,
        trees,
        start: vec![0.0; classes],
        link: link(header.find("objective").unwrap_or_default())?,
        is_mean,
        is_single: false,
    })
}

fn part(text: &str) -> Part<'_> {
    let mut lines = text.trim().lines();
    let name = lines.next().unwrap_or_default();
    Part {
        name,
        values: lines.filter_map(|line| line.split_once('=')).collect(),
    }
}

fn link(objective: &str) -> Result<Link, String> {
    let mut words = objective.split_whitespace();
    let name = words.next().unwrap_or("regression");
    let options: HashMap<&str, &str> = words.filter_map(|word| word.split_once(':')).collect();
    let slope = || match options.get("sigmoid") {
        None => Ok(1.0),
        Some(text) => text
            .parse()
            .map_err(|_| format!("objective: sigmoid `{text}`")),
    };
    Ok(match name {
        "binary" => Link::Logistic { slope: slope()? },
        "cross_entropy" | "xentropy" => Link::Logistic { slope: 1.0 },
        "multiclass" | "softmax" => Link::Softmax,
        "multiclassova" | "multiclass_ova" => Link::OneAgainstAll { slope: slope()? },
        "poisson" | "gamma" | "tweedie" => Link::Exponential,
        "regression" | "regression_l1" | "quantile" | "fair" | "mape"
            if objective.split_whitespace().any(|word| word == "sqrt") =>
        {
            Link::SignedSquare
        }
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" | "lambdarank"
        | "rank_xendcg" | "custom" | "none" => Link::Identity,
        other => return Err(format!("objective `{other}` is not known")),
    })
}

/// How columns are read. Those of pandas' type `category` become the codes of their values, as in
/// LightGBM's own predictions for data frames: another value is missing.
fn inputs(
    header: &Part<'_>,
    text: &str,
    names: &[String],
    named: &[String],
) -> Result<Vec<Input>, String> {
    let mut inputs = vec![Input::Number; names.len()];
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("pandas_categorical:"));
    let line = line.filter(|line| *line != "null").unwrap_or("[]");
    let categories: Vec<Vec<serde_json::Value>> =
        serde_json::from_str(line).map_err(|e| format!("pandas_categorical: {e}"))?;
    // Without pandas, categorical columns are integers, which are read as numbers.
    if categories.is_empty() && named.is_empty() {
        return Ok(inputs);
    }
    let categorical = match named {
        [] => categorical_features(header, names.len()),
        named => named
            .iter()
            .map(|name| {
                let found = names.iter().position(|known| known == name);
                found.ok_or_else(|| format!("parameter `categories`: it reads no `{name}`"))
            })
            .collect::<Result<_, _>>()?,
    };
    if categorical.len() != categories.len() {
        return Err(format!(
            "the data frame had {} columns of type `category`, and {}: name these columns in order in a \
             parameter `categories`, separated by commas",
            categories.len(),
            match named {
                [] => format!("{} features are categorical", categorical.len()),
                named => format!("`categories` names {}", named.len()),
            }
        ));
    }
    for (index, values) in categorical.into_iter().zip(categories) {
        let codes = codes(&values).ok_or_else(|| {
            format!(
                "feature `{}` has pandas' categories that are neither all texts, nor all numbers, nor all booleans",
                names[index]
            )
        })?;
        let unknown = Unknown::Missing;
        inputs[index] = Input::Category { codes, unknown };
    }
    Ok(inputs)
}

/// The codes of pandas' categories, which are their positions.
fn codes(values: &[serde_json::Value]) -> Option<Codes> {
    let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
    if let Some(texts) = texts.collect::<Option<Vec<String>>>() {
        return Some(Codes::of_texts(texts));
    }
    let integers = values.iter().map(serde_json::Value::as_i64);
    if let Some(integers) = integers.collect::<Option<Vec<i64>>>() {
        return Some(Codes::of_integers(integers));
    }
    let booleans = values.iter().map(|value| value.as_bool().map(i64::from));
    if let Some(booleans) = booleans.collect::<Option<Vec<i64>>>() {
        return Some(Codes::of_integers(booleans));
    }
    let numbers = values.iter().map(serde_json::Value::as_f64);
    numbers.collect::<Option<Vec<f64>>>().map(Codes::of_numbers)
}

/// The indices of the features that are split by sets of categories.
fn categorical_features(header: &Part<'_>, features: usize) -> Vec<usize> {
    // A range such as [0:1] stands for numbers, a list such as 0:1:2 for categories.
    let infos = header.find("feature_infos").unwrap_or_default();
    let infos = infos.split_whitespace().take(features).enumerate();
    let sets = infos.filter(|(_, info)| !info.starts_with('[') && *info != "none");
    sets.map(|(index, _)| index).collect()
}

fn tree(part: &Part<'_>) -> Result<Tree, String> {
    let wrong = |message: &str| Err(format!("{}: {message}", part.name));
    if part
        .find("is_linear")
        .is_some_and(|value| value.trim() == "1")
    {
        return wrong("linear trees are not supported");
    }
    let leaves: Vec<f64> = part.numbers("leaf_value")?;
    let features: Vec<u32> = part.numbers("split_feature")?;
    let thresholds: Vec<f64> = part.numbers("threshold")?;
    let decisions: Vec<u8> = part.numbers("decision_type")?;
    let lefts: Vec<i32> = part.numbers("left_child")?;
    let rights: Vec<i32> = part.numbers("right_child")?;
    let boundaries: Vec<u32> = part.numbers("cat_boundaries")?;
    let sets: Vec<u32> = part.numbers("cat_threshold")?;
    let splits = features.len();
    if part.number::<usize>("num_leaves")? != leaves.len()
        || leaves.len() != splits + 1
        || [thresholds.len(), decisions.len(), lefts.len(), rights.len()] != [splits; 4]
    {
        return wrong("its lists are of other lengths than its number of leaves says");
    }
    let node = |index: usize| {
        let decision = decisions[index];
        // Bit 0: the split is by categories; bit 1: missing values go left; bits 2 and 3: which
        // values are missing.
        let is_category = decision & 1 == 1;
        let test = if is_category {
            let set = thresholds[index] as usize;
            let (Some(start), Some(end)) =
                (boundaries.get(set), boundaries.get(set.saturating_add(1)))
            else {
                return Err(format!(
                    "{}: there is no set {set} of categories",
                    part.name
                ));
            };
            Test::In {
                start: *start,
                words: end.saturating_sub(*start),
                inverted: false,
            }
        } else {
            Test::AtMost(thresholds[index])
        };
        let missing = match decision >> 2 & 3 {
            0 => Missing::None,
            1 => Missing::Zero,
            2 => Missing::Nan,
            other => return Err(format!("{}: missing values of kind {other}", part.name)),
        };
        Ok(Node {
            feature: features[index],
            test,
            missing: if is_category { Missing::Nan } else { missing },
            // A missing category is in no set.
            default_left: !is_category && decision & 2 == 2,
            left: lefts[index],
            right: rights[index],
        })
    };
    Ok(Tree {
        nodes: (0..splits).map(node).collect::<Result<_, _>>()?,
        leaves,
        sets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_lightgbm_files_are_rejected() {
        let start = "tree\nversion=v4\nnum_tree_per_iteration=1\nobjective=binary sigmoid:1\nfeature_names=a b\n\n";
        let tree = "Tree=0\nnum_leaves=2\nsplit_feature=0\nthreshold=0.5\ndecision_type=2\nleft_child=-1\nright_child=-2\nleaf_value=1 2\n\n";
        let end = "end of trees\n\npandas_categorical:null\n";
        let whole = [start, tree, end].concat();
        assert!(parse(&whole, &[]).unwrap().checked(Vec::new()).is_ok());
        for (text, wanted) in [
            (String::new(), "does not begin with `tree`"),
            ("{}".to_owned(), "does not begin with `tree`"),
            (start.to_owned(), "has no trees, or was cut off"),
            ([start, tree].concat(), "no `end of trees`"),
            (
                whole.replace(
                    "feature_names=a b\n",
                    "feature_names=a b\ntree_sizes=90 90\n",
                ),
                "it has 1 trees where it says 2",
            ),
            (
                whole.replace("binary", "wizardry"),
                "objective `wizardry` is not known",
            ),
            (
                whole.replace("leaf_value=1 2", "leaf_value=1 x"),
                "Tree=0: `x` in `leaf_value`",
            ),
            (
                whole.replace("leaf_value=1 2", "leaf_value=1"),
                "other lengths",
            ),
            (
                whole.replace("decision_type=2", "decision_type=1"),
                "no set 0 of categories",
            ),
            (
                whole.replace("num_tree_per_iteration=1\n", ""),
                "tree has no `num_tree_per_iteration`",
            ),
        ] {
            let message = parse(&text, &[]).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
        let wrong = whole.replace("split_feature=0", "split_feature=7");
        let message = parse(&wrong, &[]).unwrap().checked(Vec::new()).unwrap_err();
        assert!(
            message.contains("tree 0: split 0 is by feature 7 of 2"),
            "{message}"
        );
        let named = parse(&whole.replace("a b", "a b-c"), &[]).unwrap();
        let refused = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            named.clone().checked(names).unwrap_err()
        };
        assert!(refused(&[]).contains("parameter `features`"));
        assert!(refused(&["x"]).contains("names 1, and the model reads 2"));
        let names = vec!["x".to_owned(), "y".to_owned()];
        assert_eq!(named.clone().checked(names.clone()).unwrap().names, names);
    }

    #[test]
    fn pandas_categories_are_in_the_file_or_named() {
        let file = |infos: &str, categories: &str| {
            format!(
                "tree\nversion=v4\nnum_tree_per_iteration=1\nobjective=regression\nfeature_names=a b\n\
                 feature_infos={infos}\n\nTree=0\nnum_leaves=1\nleaf_value=1\n\nend of trees\n\n\
                 pandas_categorical:{categories}\n"
            )
        };
        let kinds = |text: &str, named: &[&str]| {
            let named: Vec<String> = named.iter().map(|n| (*n).to_owned()).collect();
            let inputs = parse(text, &named)?.inputs;
            Ok(inputs.iter().map(|i| *i != Input::Number).collect())
        };
        let texts = r#"[["x","y"]]"#;
        for (text, named, wanted) in [
            (file("[0:1] 0:1", texts), &[][..], Ok(vec![false, true])),
            // Integers that were declared as categories to LightGBM itself.
            (file("[0:1] -1:2:4", "[]"), &[], Ok(vec![false, false])),
            (file("[0:1] -1:2:4", "null"), &[], Ok(vec![false, false])),
            (
                file("[0:1] [0:1]", texts),
                &[],
                Err("1 columns of type `category`, and 0 features"),
            ),
            (
                file("[0:1] 0:1", r#"[["x"],["y"]]"#),
                &[],
                Err("name these columns in order"),
            ),
            (file("[0:1] [0:1]", texts), &["a"], Ok(vec![true, false])),
            (
                file("[0:1] [0:1]", texts),
                &["a", "b"],
                Err("`categories` names 2"),
            ),
            (file("[0:1] [0:1]", texts), &["c"], Err("it reads no `c`")),
            (file("[0:1] 0:1", "[[1,2]]"), &[], Ok(vec![false, true])),
            (file("[0:1] 0:1", "[[1.5,2]]"), &[], Ok(vec![false, true])),
            (
                file("[0:1] 0:1", "[[false,true]]"),
                &[],
                Ok(vec![false, true]),
            ),
            (
                file("[0:1] 0:1", "[[1152921504606846977]]"),
                &[],
                Ok(vec![false, true]),
            ),
            (
                file("[0:1] 0:1", r#"[["x",1]]"#),
                &[],
                Err("feature `b` has pandas' categories that are neither"),
            ),
            (
                file("[0:1] 0:1", "[[true,1]]"),
                &[],
                Err("neither all texts"),
            ),
            (
                file("[0:1] 0:1", texts).replace('\n', "\r\n"),
                &[],
                Ok(vec![false, true]),
            ),
        ] {
            let found: Result<Vec<bool>, String> = kinds(&text, named);
            match (found, wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{text}"),
                (Err(message), Err(wanted)) => assert!(message.contains(wanted), "{message}"),
                (found, wanted) => panic!("{found:?} instead of {wanted:?}: {text}"),
            }
        }
    }
}
