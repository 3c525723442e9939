//! Predicts with a model file of XGBoost, as `booster.save_model("model.json")` or `"model.ubj"`
//! writes it, given as the asset `model`.
//!
//! Parameters:
//!
//! - `features` names the columns in the order of the model's features. It is needed where the file
//!   has no names, or others.
//! - `raw = true` gives margins instead of probabilities.
//! - `trees` is `best` or `all`. It is needed where training was stopped early and the file has
//!   trees from after the best round: XGBoost's scikit-learn classes predict with the best,
//!   `Booster.predict` with all.
//! - `categories = codes` reads the columns of a data frame's categories as their codes. Without
//!   it, they are read as the categories, if the file has them (since version 3.1 of XGBoost); a
//!   row with another value fails, as in XGBoost. A file whose categories have characters beyond
//!   ASCII is refused: XGBoost 3.1 and 3.2 count the characters of pandas' categories where they
//!   mean bytes, so that the texts in the file are cut and shifted.
//!
//! Format: <https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html>. Boosters of
//! trees (`gbtree`, `dart`) are supported. Numbers have 32 bits, as in XGBoost.

mod ubjson;

use serde::Deserialize;
use stock_trees::{Codes, Forest, Input, Link, Missing, Node, Test, Tree, Unknown, is_raw};
use wafer::{Init, Table};

/// Prediction of gradient-boosted trees, from a model file of XGBoost.
#[wafer::function(init = load)]
pub fn xgboost(rows: Table, model: &Forest) -> Result<Table, String> {
    model.predict(rows)
}

/// Reads the model, when the function is registered.
///
/// # Errors
/// Returns a message that says what is wrong with the model.
pub fn load(init: &Init) -> Result<Forest, String> {
    init.only_parameters(&["features", "raw", "trees", "categories"])?;
    let rounds = match init.parameter("trees") {
        None => None,
        Some("best") => Some(Rounds::Best),
        Some("all") => Some(Rounds::All),
        Some(other) => {
            return Err(format!(
                "parameter `trees`: `{other}` is neither best nor all"
            ));
        }
    };
    let mut forest = parse(init.asset("model")?, rounds)
        .map_err(|e| format!("asset `model` is not a model file of XGBoost: {e}"))?;
    if is_raw(init)? {
        forest.link = Link::Identity;
    }
    match init.parameter("categories") {
        None | Some("values") => {}
        Some("codes") => forest.inputs.fill(Input::Number),
        Some(other) => {
            return Err(format!(
                "parameter `categories`: `{other}` is neither values nor codes"
            ));
        }
    }
    forest.checked(init.list("features"))
}

/// Which rounds of training are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rounds {
    /// Rounds up to the best one.
    Best,
    /// All rounds.
    All,
}

#[derive(Deserialize)]
struct File {
    learner: Learner,
}

#[derive(Deserialize)]
struct Learner {
    #[serde(default)]
    feature_names: Vec<String>,
    #[serde(default)]
    attributes: Attributes,
    gradient_booster: Booster,
    learner_model_param: ModelParam,
    objective: Objective,
}

#[derive(Default, Deserialize)]
struct Attributes {
    /// The best round, from 0. Written when training was stopped early.
    best_iteration: Option<String>,
}

/// Numbers are strings in this part of the file.
#[derive(Deserialize)]
struct ModelParam {
    base_score: String,
    #[serde(default)]
    num_class: String,
    num_feature: String,
    #[serde(default)]
    num_target: String,
}

#[derive(Deserialize)]
struct Objective {
    name: String,
}

#[derive(Deserialize)]
struct Booster {
    name: String,
    model: Option<TreeModel>,
    /// The trees of `dart`.
    gbtree: Option<Box<Self>>,
    #[serde(default)]
    weight_drop: Vec<f32>,
}

#[derive(Deserialize)]
struct TreeModel {
    #[serde(default)]
    gbtree_model_param: TreeModelParam,
    #[serde(default)]
    trees: Vec<TreeParts>,
    #[serde(default)]
    tree_info: Vec<usize>,
    /// The categories of a data frame.
    #[serde(default)]
    cats: Categories,
}

#[derive(Default, Deserialize)]
struct Categories {
    /// The categories of each feature; empty if the model was trained with codes.
    #[serde(default)]
    enc: Vec<Encoding>,
}

/// The categories of a feature. A feature of another type has none.
#[derive(Deserialize)]
struct Encoding {
    /// Where texts begin and end. Without it, the categories are integers.
    #[serde(default)]
    offsets: Vec<usize>,
    /// Integers, or the bytes of texts.
    #[serde(default)]
    values: Vec<i64>,
}

#[derive(Default, Deserialize)]
struct TreeModelParam {
    #[serde(default)]
    num_parallel_tree: String,
}

#[derive(Deserialize)]
struct TreeParts {
    base_weights: Vec<f32>,
    #[serde(default)]
    categories: Vec<u32>,
    #[serde(default)]
    categories_nodes: Vec<u32>,
    #[serde(default)]
    categories_segments: Vec<usize>,
    #[serde(default)]
    categories_sizes: Vec<usize>,
    default_left: Vec<Flag>,
    left_children: Vec<i32>,
    right_children: Vec<i32>,
    split_conditions: Vec<f32>,
    split_indices: Vec<u32>,
    #[serde(default)]
    split_type: Vec<u8>,
    tree_param: TreeParam,
}

/// A flag, which is 0 or 1, or true or false, depending on the version of XGBoost.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(u8),
}

impl Flag {
    fn is_set(self) -> bool {
        match self {
            Self::Bool(flag) => flag,
            Self::Number(number) => number != 0,
        }
    }
}

#[derive(Deserialize)]
struct TreeParam {
    #[serde(default)]
    size_leaf_vector: String,
}

fn parse(bytes: &[u8], rounds: Option<Rounds>) -> Result<Forest, String> {
    // Both formats begin with a brace, JSON possibly with white space before it. In UBJSON the
    // length of a name follows, in JSON a quotation mark or a brace.
    let bytes = bytes.trim_ascii_start();
    let is_text = bytes.iter().skip(1).find(|b| !b.is_ascii_whitespace());
    let file: File = match is_text {
        Some(b'"' | b'}') => serde_json::from_slice(bytes).map_err(|e| e.to_string())?,
        _ => ubjson::from_slice(bytes).map_err(|e| e.to_string())?,
    };
    forest(file.learner, rounds)
}

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what} is `{text}`"))
}

fn forest(learner: Learner, rounds: Option<Rounds>) -> Result<Forest, String> {
    let param = &learner.learner_model_param;
    let features: usize = number(&param.num_feature, "num_feature")?;
    let classes = match param.num_class.as_str() {
        "" => 1,
        text => number::<usize>(text, "num_class")?.max(1),
    };
    if !matches!(param.num_target.as_str(), "" | "0" | "1") {
        return Err("models of several targets are not supported".to_owned());
    }
    let (link, to_margin) = objective(&learner.objective.name)?;
    let start = base_scores(&param.base_score, classes)?;
    let names = match learner.feature_names {
        // The parameter `features` may still rename these.
        names if names.is_empty() => (0..features).map(|n| format!("f{n}")).collect(),
        names if names.len() == features => names,
        names => return Err(format!("{} names for {features} features", names.len())),
    };
    let best = match &learner.attributes.best_iteration {
        None => None,
        Some(text) => Some(number::<usize>(text, "best_iteration")?),
    };
    let (model, weights) = trees_of(learner.gradient_booster)?;
    let tree_count = most_trees(&model, classes, best, rounds)?;
    let inputs = inputs(&model.cats.enc, features)?;
    let mut trees = by_class(model, weights, classes)?;
    trees.truncate(tree_count);
    Ok(Forest {
        inputs,
        names,
        trees,
        start: start.into_iter().map(|p| f64::from(to_margin(p))).collect(),
        link,
        is_mean: false,
        is_single: true,
    })
}

/// How columns are read: categories of a data frame become their codes.
fn inputs(encodings: &[Encoding], features: usize) -> Result<Vec<Input>, String> {
    if encodings.is_empty() {
        return Ok(vec![Input::Number; features]);
    }
    if encodings.len() != features {
        return Err(format!(
            "categories of {} features, of which there are {features}",
            encodings.len()
        ));
    }
    let input = |encoding: &Encoding| {
        let codes = match (encoding.offsets.is_empty(), encoding.values.is_empty()) {
            (true, true) => return Ok(Input::Number),
            (true, false) => Codes::of_integers(encoding.values.clone()),
            (false, _) => Codes::of_texts(texts(encoding)?),
        };
        let unknown = Unknown::Error;
        Ok(Input::Category { codes, unknown })
    };
    encodings.iter().map(input).collect()
}

/// The categories of a feature that are texts.
fn texts(encoding: &Encoding) -> Result<Vec<String>, String> {
    let text = |ends: &[usize]| {
        let bytes = encoding.values.get(ends[0]..ends[1])?;
        // Bytes are written with a sign.
        let bytes = bytes.iter().map(|byte| *byte as u8).collect();
        String::from_utf8(bytes).ok()
    };
    if encoding.values.iter().any(|byte| *byte as u8 > 127) {
        return Err(
            "categories with characters beyond ASCII, which XGBoost cuts in the file; rename them and \
             train again, or set `categories = codes` and give their codes"
                .to_owned(),
        );
    }
    let texts = encoding.offsets.windows(2).map(text);
    texts
        .collect::<Option<_>>()
        .ok_or_else(|| "categories that are not texts".to_owned())
}

/// Reads `5E-1`, or `[5E-1]` since version 3, which may hold several scores.
fn base_scores(text: &str, classes: usize) -> Result<Vec<f32>, String> {
    let inside = text.trim_start_matches('[').trim_end_matches(']');
    let scores = inside
        .split(',')
        .map(|score| number(score.trim(), "base_score"));
    let scores: Vec<f32> = scores.collect::<Result<_, _>>()?;
    match scores.len() {
        1 => Ok(vec![scores[0]; classes]),
        count if count == classes => Ok(scores),
        count => Err(format!("{count} base scores for {classes} classes")),
    }
}

/// Converts the base score in the file to the number from which sums start.
type ToMargin = fn(f32) -> f32;

/// How an objective turns sums into predictions, and the base score into the number from which sums
/// start.
fn objective(name: &str) -> Result<(Link, ToMargin), String> {
    let logit: ToMargin = |p| -((1.0 / p - 1.0).ln());
    let same: ToMargin = |x| x;
    Ok(match name {
        "binary:logistic" | "reg:logistic" => (Link::Logistic { slope: 1.0 }, logit),
        // Here the base score is a margin already.
        "binary:logitraw" => (Link::Identity, same),
        "binary:hinge" => (Link::Positive, same),
        "multi:softprob" => (Link::Softmax, same),
        "multi:softmax" => (Link::MostLikely, same),
        "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => {
            (Link::Exponential, f32::ln)
        }
        "reg:squarederror"
        | "reg:squaredlogerror"
        | "reg:pseudohubererror"
        | "reg:absoluteerror"
        | "reg:quantileerror"
        | "reg:linear"
        | "rank:pairwise"
        | "rank:ndcg"
        | "rank:map" => (Link::Identity, same),
        other => return Err(format!("objective `{other}` is not known")),
    })
}

fn trees_of(booster: Booster) -> Result<(TreeModel, Vec<f32>), String> {
    if !matches!(booster.name.as_str(), "gbtree" | "dart") {
        return Err(format!(
            "booster `{}` has no trees; only gbtree and dart do",
            booster.name
        ));
    }
    match booster {
        Booster {
            gbtree: Some(inner),
            weight_drop,
            ..
        } => {
            let model = inner.model.ok_or("booster `dart` has no trees")?;
            Ok((model, weight_drop))
        }
        Booster {
            model: Some(model), ..
        } => Ok((model, Vec::new())),
        _ => Err("booster `gbtree` has no trees".to_owned()),
    }
}

/// The number of trees that are used, in the order of rounds.
fn most_trees(
    model: &TreeModel,
    classes: usize,
    best: Option<usize>,
    rounds: Option<Rounds>,
) -> Result<usize, String> {
    let all = model.trees.len();
    let parallel = match model.gbtree_model_param.num_parallel_tree.as_str() {
        "" | "0" => 1,
        text => number::<usize>(text, "num_parallel_tree")?,
    };
    let Some(best) = best else {
        return Ok(all);
    };
    let up_to_best = (best.saturating_add(1))
        .saturating_mul(parallel)
        .saturating_mul(classes);
    match rounds {
        Some(Rounds::All) => Ok(all),
        Some(Rounds::Best) => Ok(up_to_best),
        None if up_to_best >= all => Ok(all),
        None => Err(format!(
            "training was stopped early, and there are trees from after the best round, {best}: set parameter `trees` \
             to `best`, by which XGBoost's scikit-learn classes predict, or to `all`, by which `Booster.predict` does"
        )),
    }
}

/// The trees of each round, one for each class in order, round after round. Where a round has
/// several trees for a class, each counts as a round.
fn by_class(model: TreeModel, weights: Vec<f32>, classes: usize) -> Result<Vec<Tree>, String> {
    let TreeModel {
        trees, tree_info, ..
    } = model;
    if tree_info.len() != trees.len() || !(weights.is_empty() || weights.len() == trees.len()) {
        return Err("its lists of trees are of different lengths".to_owned());
    }
    let mut class_trees: Vec<Vec<Tree>> = vec![Vec::new(); classes];
    for (index, parts) in trees.into_iter().enumerate() {
        let weight = weights.get(index).copied().unwrap_or(1.0);
        let tree = tree(parts, weight).map_err(|e| format!("tree {index}: {e}"))?;
        let class = class_trees.get_mut(tree_info[index]);
        class
            .ok_or_else(|| format!("tree {index} is of class {}", tree_info[index]))?
            .push(tree);
    }
    let rounds = class_trees[0].len();
    if class_trees.iter().any(|trees| trees.len() != rounds) {
        return Err("classes have different numbers of trees".to_owned());
    }
    let mut iterators: Vec<_> = class_trees.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    for _ in 0..rounds {
        all.extend(iterators.iter_mut().filter_map(Iterator::next));
    }
    Ok(all)
}

fn tree(parts: TreeParts, weight: f32) -> Result<Tree, String> {
    if !matches!(parts.tree_param.size_leaf_vector.as_str(), "" | "0" | "1") {
        return Err("leaves of several numbers are not supported".to_owned());
    }
    let count = parts.left_children.len();
    let lengths = [
        parts.right_children.len(),
        parts.split_conditions.len(),
        parts.split_indices.len(),
        parts.default_left.len(),
        parts.base_weights.len(),
    ];
    if lengths != [count; 5] || count == 0 {
        return Err("its lists are of different lengths".to_owned());
    }
    // XGBoost numbers splits and leaves together; here they are numbered separately.
    let is_leaf = |node: usize| parts.left_children[node] == -1;
    let mut numbers = Vec::with_capacity(count);
    let (mut splits, mut leaves) = (0, 0);
    for node in 0..count {
        if is_leaf(node) {
            numbers.push(!leaves);
            leaves += 1;
        } else {
            numbers.push(splits);
            splits += 1;
        }
    }
    let child = |child: i32| {
        let number = usize::try_from(child)
            .ok()
            .and_then(|child| numbers.get(child));
        number
            .copied()
            .ok_or_else(|| format!("there is no node {child}"))
    };
    let mut tree = Tree::default();
    for node in 0..count {
        if is_leaf(node) {
            tree.leaves
                .push(f64::from(parts.split_conditions[node] * weight));
            continue;
        }
        let is_category = parts.split_type.get(node) == Some(&1);
        let test = match is_category {
            true => category_test(&parts, node, &mut tree.sets)?,
            // Values below the threshold go left, in 32-bit numbers; `AtMost` also includes its own
            // value.
            false => Test::AtMost(f64::from(parts.split_conditions[node].next_down())),
        };
        tree.nodes.push(Node {
            feature: parts.split_indices[node],
            test,
            missing: Missing::Nan,
            default_left: parts.default_left[node].is_set(),
            left: child(parts.left_children[node])?,
            right: child(parts.right_children[node])?,
        });
    }
    Ok(tree)
}

/// The test of a categorical split. The categories that the file lists go right.
fn category_test(parts: &TreeParts, node: usize, sets: &mut Vec<u32>) -> Result<Test, String> {
    let missing = || format!("split {node} has no categories");
    let place = parts
        .categories_nodes
        .iter()
        .position(|n| *n as usize == node);
    let place = place.ok_or_else(missing)?;
    let start = parts.categories_segments.get(place).ok_or_else(missing)?;
    let size = parts.categories_sizes.get(place).ok_or_else(missing)?;
    let end = start.saturating_add(*size);
    let categories = parts.categories.get(*start..end).ok_or_else(missing)?;
    let greatest = categories.iter().max().copied().unwrap_or(0);
    if greatest >= 1 << 20 {
        return Err(format!("split {node} has a category {greatest}"));
    }
    let first = sets.len();
    sets.resize(first + (greatest as usize / 32) + 1, 0);
    for category in categories {
        sets[first + (*category as usize / 32)] |= 1 << (category % 32);
    }
    Ok(Test::In {
        start: first as u32,
        words: (sets.len() - first) as u32,
        inverted: true,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn file() -> Json {
        let tree = json!({
            "base_weights": [0.0, 0.5, -0.5], "default_left": [1, 0, 0],
            "left_children": [1, -1, -1], "right_children": [2, -1, -1],
            "split_conditions": [0.25, 0.5, -0.5], "split_indices": [1, 0, 0], "split_type": [0, 0, 0],
            "tree_param": {"size_leaf_vector": "1"}});
        json!({"learner": {
            "feature_names": ["a", "b"],
            "gradient_booster": {"name": "gbtree", "model": {"trees": [tree], "tree_info": [0]}},
            "learner_model_param": {"base_score": "[5E-1]", "num_class": "0", "num_feature": "2", "num_target": "1"},
            "objective": {"name": "binary:logistic"}}})
    }

    #[test]
    fn xgboost_splits_are_below_the_threshold() {
        let forest = parse(file().to_string().as_bytes(), None).unwrap();
        let tree = &forest.trees[0];
        for (value, wanted) in [
            (0.25, -0.5),
            (0.25f32.next_down() as f64, 0.5),
            (f64::NAN, 0.5),
            (1.0, -0.5),
        ] {
            assert_eq!(tree.value(&[0.0, value]), wanted, "{value}");
        }
        assert_eq!(forest.start, [0.0]);
    }

    #[test]
    fn categories_of_data_frames_are_read_as_they_are() {
        let mut file = file();
        let model = &mut file["learner"]["gradient_booster"]["model"];
        // The texts are "a" and "bc".
        let texts = json!({"offsets": [0, 1, 3], "values": [97, 98, 99]});
        let integers = json!({"type": 15, "values": [20, 10]});
        model["cats"] = json!({"enc": [texts, integers], "feature_segments": [0, 2, 4]});
        let inputs = |file: &Json, parameters: &[(&str, &str)]| {
            let init = Init::new().with_asset("model", file.to_string());
            let parameters = parameters.iter();
            let init = parameters.fold(init, |init, (k, v)| init.with_parameter(k, v));
            load(&init).map(|forest| forest.inputs)
        };
        let category = |codes| Input::Category {
            codes,
            unknown: Unknown::Error,
        };
        let wanted = [
            category(Codes::of_texts(vec!["a".to_owned(), "bc".to_owned()])),
            category(Codes::of_integers(vec![20, 10])),
        ];
        assert_eq!(inputs(&file, &[]).unwrap(), wanted);
        let codes = inputs(&file, &[("categories", "codes")]).unwrap();
        assert_eq!(codes, [Input::Number, Input::Number]);
        let message = inputs(&file, &[("categories", "names")]).unwrap_err();
        assert!(
            message.contains("`names` is neither values nor codes"),
            "{message}"
        );
        for (pointer, value, wanted) in [
            ("enc", json!([]), Ok(2)),
            ("enc", json!([{}, {"offsets": [], "values": []}]), Ok(2)),
            ("enc", json!([{}]), Err("categories of 1 features")),
            (
                "enc",
                json!([{}, {"offsets": [3, 1], "values": [97]}]),
                Err("that are not texts"),
            ),
            (
                "enc",
                // Pandas' categories "a" and "øl", as XGBoost writes them.
                json!([{}, {"offsets": [0, 1, 3], "values": [97, -61, -72]}]),
                Err("beyond ASCII"),
            ),
        ] {
            file["learner"]["gradient_booster"]["model"]["cats"][pointer] = value;
            match (inputs(&file, &[]), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, vec![Input::Number; wanted]),
                (Err(message), Err(wanted)) => assert!(message.contains(wanted), "{message}"),
                (found, wanted) => panic!("{found:?} instead of {wanted:?}"),
            }
        }
    }

    #[test]
    fn trees_after_the_best_round_need_a_parameter() {
        let mut file = file();
        let tree = file["learner"]["gradient_booster"]["model"]["trees"][0].clone();
        let model = &mut file["learner"]["gradient_booster"]["model"];
        model["trees"] = json!([tree, tree, tree, tree, tree, tree]);
        model["tree_info"] = json!([0, 0, 0, 0, 0, 0]);
        model["gbtree_model_param"] = json!({"num_parallel_tree": "2"});
        let trees = |file: &Json, rounds| {
            let forest = parse(file.to_string().as_bytes(), rounds)?;
            Ok::<_, String>(forest.trees.len())
        };
        assert_eq!(trees(&file, None), Ok(6));
        file["learner"]["attributes"] = json!({"best_iteration": "2", "best_score": "0.5"});
        assert_eq!(trees(&file, None), Ok(6));
        file["learner"]["attributes"] = json!({"best_iteration": "1"});
        assert!(trees(&file, None).unwrap_err().contains("best round, 1"));
        assert_eq!(trees(&file, Some(Rounds::All)), Ok(6));
        assert_eq!(trees(&file, Some(Rounds::Best)), Ok(4));
    }

    #[test]
    fn invalid_xgboost_files_are_rejected() {
        let changed = |pointer: &str, value: Json| {
            let mut file = file();
            *file.pointer_mut(pointer).unwrap() = value;
            parse(file.to_string().as_bytes(), None)
                .and_then(|f| f.checked(Vec::new()))
                .unwrap_err()
        };
        let tree = "/learner/gradient_booster/model/trees/0";
        for (message, wanted) in [
            (parse(b"", None).unwrap_err(), "ends too early"),
            (
                parse(b"tree\nversion=v4", None).unwrap_err(),
                "unknown marker",
            ),
            (
                parse(b"{\"learner\": {}}", None).unwrap_err(),
                "missing field",
            ),
            (
                parse(&file().to_string().as_bytes()[..200], None).unwrap_err(),
                "EOF",
            ),
            (
                changed("/learner/objective/name", json!("wizardry")),
                "objective `wizardry`",
            ),
            (
                changed(
                    "/learner/gradient_booster",
                    json!({"name": "gblinear", "model": {"weights": [0.5, 1.0]}}),
                ),
                "booster `gblinear` has no trees; only gbtree and dart",
            ),
            (
                changed("/learner/gradient_booster/model", json!(null)),
                "booster `gbtree` has no trees",
            ),
            (
                changed("/learner/learner_model_param/num_target", json!("2")),
                "several targets",
            ),
            (
                changed("/learner/feature_names", json!(["a"])),
                "1 names for 2 features",
            ),
            (
                changed("/learner/feature_names", json!(["a", "b c"])),
                "parameter `features`",
            ),
            (
                changed(&format!("{tree}/left_children"), json!([1, -1])),
                "different lengths",
            ),
            (
                changed(&format!("{tree}/left_children"), json!([9, -1, -1])),
                "no node 9",
            ),
            (
                changed(&format!("{tree}/left_children"), json!([0, -1, -1])),
                "no child 0",
            ),
            (
                changed(&format!("{tree}/split_indices"), json!([5, 0, 0])),
                "by feature 5 of 2",
            ),
            (
                changed(&format!("{tree}/split_type"), json!([1, 0, 0])),
                "split 0 has no categories",
            ),
        ] {
            assert!(message.contains(wanted), "{message}");
        }
    }
}
