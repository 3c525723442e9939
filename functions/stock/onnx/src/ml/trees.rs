//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor`: decision trees, forests and gradient
//! boosting.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::scores::{self, Second, Transform};
use super::{Fact, Kernel, List, list, numbers, only, rows, width};

/// The test of a split: what goes to its true child.
#[derive(Clone, Copy, Debug)]
enum Test {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
    Unequal,
}

impl Test {
    fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::AtMost => value <= threshold,
            Self::Below => value < threshold,
            Self::AtLeast => value >= threshold,
            Self::Above => value > threshold,
            Self::Equal => value == threshold,
            Self::Unequal => value != threshold,
        }
    }
}

#[derive(Clone, Debug)]
enum Node {
    Split {
        feature: usize,
        test: Test,
        threshold: f64,
        /// Whether NaN goes to the true child, whatever the test says.
        nan_is_true: bool,
        children: [usize; 2],
    },
    /// Weights by target or class.
    Leaf(Vec<(usize, f64)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Average,
    Least,
    Greatest,
}

/// Trees, and the weights of their leaves.
#[derive(Debug)]
struct Ensemble {
    nodes: Vec<Node>,
    roots: Vec<usize>,
    targets: usize,
    base: Vec<f64>,
    transform: Transform,
    /// One more than the greatest feature of a split.
    features: usize,
}

/// The lists of a node's attributes, one entry for each node of the trees.
struct Lists {
    trees: Vec<i64>,
    ids: Vec<i64>,
    features: Vec<i64>,
    modes: Vec<String>,
    thresholds: Vec<f64>,
    children: [Vec<i64>; 2],
    nan_is_true: Vec<i64>,
}

impl Lists {
    fn read(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let lists = Self {
            trees: list(node, "nodes_treeids")?,
            ids: list(node, "nodes_nodeids")?,
            features: list(node, "nodes_featureids")?,
            modes: list(node, "nodes_modes")?,
            thresholds: numbers(context, node, "nodes_values")?,
            children: [
                list(node, "nodes_falsenodeids")?,
                list(node, "nodes_truenodeids")?,
            ],
            nan_is_true: list(node, "nodes_missing_value_tracks_true")?,
        };
        let count = lists.trees.len();
        let lengths = [
            lists.ids.len(),
            lists.features.len(),
            lists.modes.len(),
            lists.thresholds.len(),
            lists.children[0].len(),
            lists.children[1].len(),
        ];
        if count == 0 || lengths != [count; 6] || ![0, count].contains(&lists.nan_is_true.len()) {
            return node.bail("its lists of nodes are empty or of different lengths");
        }
        Ok(lists)
    }

    /// The places of the nodes by tree and number.
    fn places(&self, node: &NodeProto) -> TractResult<BTreeMap<(i64, i64), usize>> {
        let ids = self.trees.iter().copied().zip(self.ids.iter().copied());
        let places: BTreeMap<_, _> = ids.zip(0..).collect();
        match places.len() == self.ids.len() {
            true => Ok(places),
            false => node.bail("a node is there twice"),
        }
    }

    fn node(&self, place: usize, places: &BTreeMap<(i64, i64), usize>) -> TractResult<Node> {
        let test = match self.modes[place].as_str() {
            "LEAF" => return Ok(Node::Leaf(Vec::new())),
            "BRANCH_LEQ" => Test::AtMost,
            "BRANCH_LT" => Test::Below,
            "BRANCH_GTE" => Test::AtLeast,
            "BRANCH_GT" => Test::Above,
            "BRANCH_EQ" => Test::Equal,
            "BRANCH_NEQ" => Test::Unequal,
            other => bail!("there is no split of mode `{other}`"),
        };
        let child = |ids: &Vec<i64>| {
            let id = (self.trees[place], ids[place]);
            let child = places.get(&id).copied();
            child.with_context(|| format!("tree {} has no node {}", id.0, id.1))
        };
        Ok(Node::Split {
            feature: usize::try_from(self.features[place]).context("a feature is negative")?,
            test,
            threshold: self.thresholds[place],
            nan_is_true: self.nan_is_true.get(place).is_some_and(|flag| *flag != 0),
            children: [child(&self.children[0])?, child(&self.children[1])?],
        })
    }
}

impl Ensemble {
    /// Reads the trees. Weights are in attributes whose names begin with `prefix`: `class` or
    /// `target`.
    fn read(
        context: &ParsingContext<'_>,
        node: &NodeProto,
        prefix: &str,
        targets: usize,
    ) -> TractResult<Self> {
        let lists = Lists::read(context, node)?;
        let places = lists.places(node)?;
        let nodes = (0..lists.ids.len()).map(|place| lists.node(place, &places));
        let mut nodes: Vec<Node> = nodes.collect::<TractResult<_>>()?;
        let ids: Vec<i64> = list(node, &format!("{prefix}_ids"))?;
        let trees: Vec<i64> = list(node, &format!("{prefix}_treeids"))?;
        let numbered: Vec<i64> = list(node, &format!("{prefix}_nodeids"))?;
        let weights = numbers(context, node, &format!("{prefix}_weights"))?;
        if [trees.len(), numbered.len(), weights.len()] != [ids.len(); 3] || targets == 0 {
            return node.bail("its lists of weights are of different lengths");
        }
        for (place, weight) in weights.into_iter().enumerate() {
            let target = usize::try_from(ids[place]).ok().filter(|t| *t < targets);
            let leaf = places.get(&(trees[place], numbered[place]));
            let leaf = leaf.and_then(|leaf| nodes.get_mut(*leaf));
            match (target, leaf) {
                (Some(target), Some(Node::Leaf(weights))) => weights.push((target, weight)),
                // Splits may have weights as well, which are never asked for.
                (Some(_), Some(Node::Split { .. })) => {}
                _ => return node.bail("a weight is for a leaf or a target that is not there"),
            }
        }
        let changes = (0..lists.trees.len())
            .filter(|place| *place == 0 || lists.trees[*place] != lists.trees[place - 1]);
        let ensemble = Self {
            roots: changes.collect(),
            targets,
            base: numbers(context, node, "base_values")?,
            transform: Transform::read(node)?,
            features: nodes.iter().map(Node::features).max().unwrap_or(0),
            nodes,
        };
        ensemble.check()?;
        Ok(ensemble)
    }

    /// Checks that no path runs in circles.
    fn check(&self) -> TractResult<()> {
        let mut seen = BTreeSet::new();
        let mut open = self.roots.clone();
        while let Some(place) = open.pop() {
            ensure!(seen.insert(place), "a node of its trees has two parents");
            if let Node::Split { children, .. } = &self.nodes[place] {
                open.extend(children);
            }
        }
        Ok(())
    }

    fn leaf(&self, root: usize, row: &[f64]) -> &[(usize, f64)] {
        let mut at = root;
        loop {
            match &self.nodes[at] {
                Node::Leaf(weights) => return weights,
                Node::Split {
                    feature,
                    test,
                    threshold,
                    nan_is_true,
                    children,
                } => {
                    let value = row[*feature];
                    let is_true = test.holds(value, *threshold) || (*nan_is_true && value.is_nan());
                    at = children[usize::from(is_true)];
                }
            }
        }
    }

    /// The weights of the leaves that a row leads to, by target; `None` where there is none.
    fn weights(&self, row: &[f64], aggregate: Aggregate, is_single: bool) -> Vec<Option<f64>> {
        let mut sums = vec![None; self.targets];
        for root in &self.roots {
            for (target, weight) in self.leaf(*root, row) {
                let before: Option<f64> = sums[*target];
                let sum = match (before, aggregate) {
                    (None, _) => *weight,
                    (Some(sum), Aggregate::Least) => sum.min(*weight),
                    (Some(sum), Aggregate::Greatest) => sum.max(*weight),
                    (Some(sum), Aggregate::Sum | Aggregate::Average) => sum + weight,
                };
                sums[*target] = Some(rounded(sum, is_single));
            }
        }
        if aggregate == Aggregate::Average {
            let trees = self.roots.len() as f64;
            let sums = sums.iter_mut().flatten();
            sums.for_each(|sum| *sum = rounded(*sum / trees, is_single));
        }
        sums
    }
}

impl Node {
    fn features(&self) -> usize {
        match self {
            Self::Split { feature, .. } => feature.saturating_add(1),
            Self::Leaf(_) => 0,
        }
    }
}

fn rounded(value: f64, is_single: bool) -> f64 {
    match is_single {
        true => f64::from(value as f32),
        false => value,
    }
}

/// Rows as splits compare them: with 64 bits where the input has them, otherwise with 32.
fn compared(tensor: &Tensor, features: usize) -> TractResult<(usize, Vec<f64>, bool)> {
    let width = width(tensor.shape())?;
    ensure!(
        features <= width,
        "its trees read feature {}, and it gets {width} numbers in a row",
        features.saturating_sub(1)
    );
    let is_single = tensor.datum_type() != DatumType::F64;
    let narrow = match is_single {
        true => tensor.cast_to::<f32>()?,
        false => std::borrow::Cow::Borrowed(tensor),
    };
    let wide = narrow.cast_to::<f64>()?;
    let values = wide.try_as_plain_ram()?.as_slice::<f64>()?.to_vec();
    Ok((width, values, is_single))
}

/// Classes by sums of weights.
#[derive(Debug)]
pub(super) struct TreeClassifier {
    ensemble: Ensemble,
    classes: List,
    /// Whether all weights are of one of two classes.
    is_of_one: bool,
    has_negative: bool,
}

impl TreeClassifier {
    pub(super) fn read(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let classes = List::classes(node, "classlabels_int64s", "classlabels_strings")?;
        let ensemble = Ensemble::read(context, node, "class", classes.len())?;
        let leaves = ensemble.nodes.iter().filter_map(|node| match node {
            Node::Leaf(weights) => Some(weights),
            Node::Split { .. } => None,
        });
        let weights: Vec<(usize, f64)> = leaves.flatten().copied().collect();
        let targets: BTreeSet<usize> = weights.iter().map(|(target, _)| *target).collect();
        if classes.len() < 2 {
            return node.bail("it has a single class: there is nothing to tell apart");
        }
        Ok(Self {
            is_of_one: classes.len() == 2 && targets.len() == 1,
            has_negative: weights.iter().any(|(_, weight)| *weight < 0.0),
            classes,
            ensemble,
        })
    }

    /// The class of a row, and its scores.
    fn classify(&self, row: &[f64], is_single: bool) -> (usize, Vec<f64>) {
        let sums = self.ensemble.weights(row, Aggregate::Sum, is_single);
        match self.classes.len() {
            2 => self.classify_two(sums, is_single),
            _ => self.classify_many(sums, is_single),
        }
    }

    fn classify_many(&self, sums: Vec<Option<f64>>, is_single: bool) -> (usize, Vec<f64>) {
        let base = self.ensemble.base.iter().map(|base| Some(*base));
        let base = base.chain(std::iter::repeat(None));
        let sums = sums.into_iter().zip(base);
        let sums: Vec<Option<f64>> = sums
            .map(|(sum, base)| match (sum, base) {
                (Some(sum), Some(base)) => Some(rounded(sum + base, is_single)),
                (sum, base) => sum.or(base),
            })
            .collect();
        let scored = sums.iter().map(|sum| sum.unwrap_or(f64::NEG_INFINITY));
        let class = scores::greatest(&scored.collect::<Vec<_>>());
        let mut scores: Vec<f64> = sums.into_iter().map(|sum| sum.unwrap_or(0.0)).collect();
        self.ensemble.transform.apply(&mut scores, Second::Absent);
        (class, scores)
    }

    /// Two classes. The standard leaves open what a model of one score means; this is what
    /// onnxruntime makes of it. It ignores the base value of a class without a weight.
    fn classify_two(&self, sums: Vec<Option<f64>>, is_single: bool) -> (usize, Vec<f64>) {
        let add = |sum: f64, base: f64| rounded(sum + base, is_single);
        let (first, second) = (sums[0], sums[1]);
        let mut scores = match (second, &self.ensemble.base[..]) {
            (Some(_), [_, base]) => {
                let second = add(first.unwrap_or(0.0), *base);
                vec![first.map_or(0.0, |_| -second), second]
            }
            (None, [base, _]) => vec![first.map_or(0.0, |first| add(first, *base)), 0.0],
            (Some(second), [base]) => vec![first.map_or(0.0, |first| add(first, *base)), second],
            (Some(second), _) => vec![first.unwrap_or(0.0), second],
            (None, [base]) => vec![add(first.unwrap_or(0.0), *base)],
            (None, _) => vec![first.unwrap_or(0.0)],
        };
        let decisive = match second {
            Some(_) => scores[1],
            None => scores[0],
        };
        let (class, other) = self.decide(decisive);
        self.ensemble.transform.apply(&mut scores, other);
        (class, scores)
    }

    fn decide(&self, score: f64) -> (usize, Second) {
        match self.is_of_one && !self.has_negative {
            true => (usize::from(score > 0.5), Second::Complement),
            false => (usize::from(score > 0.0), Second::Opposite),
        }
    }
}

impl Kernel for TreeClassifier {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = rows(only(inputs)?)?;
        Ok(vec![
            (self.classes.datum_type(), tvec!(rows.clone())),
            (DatumType::F32, tvec!(rows, self.classes.len().to_dim())),
        ])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (width, values, is_single) = compared(only(inputs)?, self.ensemble.features)?;
        let rows = values.chunks_exact(width.max(1));
        let (places, all): (Vec<usize>, Vec<_>) =
            rows.map(|row| self.classify(row, is_single)).unzip();
        let labels = self.classes.pick(&places, &[places.len()])?;
        Ok(vec![labels, scores::tensor(all, self.classes.len())?])
    }
}

/// Numbers by sums of weights.
#[derive(Debug)]
pub(super) struct TreeRegressor {
    ensemble: Ensemble,
    aggregate: Aggregate,
}

impl TreeRegressor {
    pub(super) fn read(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let targets = node.get_attr_opt::<i64>("n_targets")?.unwrap_or(1);
        let targets = usize::try_from(targets).ok().filter(|t| *t <= 1 << 20);
        let name: Option<&str> = node.get_attr_opt("aggregate_function")?;
        let aggregate = match name.unwrap_or("SUM") {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Least,
            "MAX" => Aggregate::Greatest,
            other => return node.bail(&format!("there is no aggregate_function `{other}`")),
        };
        let targets = targets.context("n_targets is out of range")?;
        let ensemble = Ensemble::read(context, node, "target", targets)?;
        if ![0, 1, targets].contains(&ensemble.base.len()) {
            return node.bail(&format!(
                "{} base values for {targets} targets",
                ensemble.base.len()
            ));
        }
        Ok(Self {
            ensemble,
            aggregate,
        })
    }

    fn predict(&self, row: &[f64], is_single: bool) -> Vec<f64> {
        let sums = self.ensemble.weights(row, self.aggregate, is_single);
        let (base, targets) = (&self.ensemble.base, self.ensemble.targets);
        // As in onnxruntime, the base value of one of several targets counts only beside a weight.
        let based = sums.into_iter().enumerate().map(|(target, sum)| match sum {
            None if targets > 1 => 0.0,
            sum if base.len() == targets => rounded(sum.unwrap_or(0.0) + base[target], is_single),
            sum => sum.unwrap_or(0.0),
        });
        let mut predicted: Vec<f64> = based.collect();
        self.ensemble
            .transform
            .apply(&mut predicted, Second::Absent);
        predicted
    }
}

impl Kernel for TreeRegressor {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let targets = self.ensemble.targets.to_dim();
        Ok(vec![(DatumType::F32, tvec!(rows(only(inputs)?)?, targets))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (width, values, is_single) = compared(only(inputs)?, self.ensemble.features)?;
        let rows = values.chunks_exact(width.max(1));
        let all = rows.map(|row| self.predict(row, is_single)).collect();
        Ok(vec![scores::tensor(all, self.ensemble.targets)?])
    }
}
