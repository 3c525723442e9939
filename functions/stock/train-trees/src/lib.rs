//! Trains gradient-boosted trees. The artifact `model` is a model file in LightGBM's text
//! format, for the function `lightgbm`, or for LightGBM itself.
//!
//! Reads the columns that `features` names, or else all columns of the view that are numbers,
//! booleans or texts, except its join keys and those that `exclude` names (names are separated by
//! commas). It prints which these are, or of more than eight how many, and why it leaves out
//! others. A text is a category: splits are between sets of texts. A text that is not there in the
//! training rows, or is one of the rarer ones beyond `most`, is a missing value.
//!
//! The model's `task` says what is predicted: for `binary`, a probability, from labels that are 0
//! or 1, or false or true; for `regression`, a number. Without it, labels that are booleans or
//! texts are those of `binary`.
//!
//! | parameter | default | meaning |
//! | --- | --- | --- |
//! | `objective` | the task | `binary` or `regression` |
//! | `trees` | 100 | maximum number of trees |
//! | `learning_rate` | 0.1 | step size of each tree |
//! | `max_depth` | 6 | maximum depth of a tree |
//! | `max_leaves` | unlimited | maximum number of leaves of a tree |
//! | `min_leaf_weight` | 1 | least sum of second derivatives in a leaf |
//! | `l1`, `l2`, `gamma` | 0, 1, 0 | L1 and L2 regularisation; least gain of a split |
//! | `subsample`, `colsample` | 1 | fraction of rows and of columns that each tree uses |
//! | `bins` | 256 | number of bins for the values of a column |
//! | `early_stopping` | 20 | number of trees without a gain on the part `validation` after which training ends; 0: never |
//! | `most` | 1,000 | number of texts of a column that are told apart, the most frequent ones |
//! | `seed` | 0 | seed of random choices |

mod categories;
mod model_file;

use std::str::FromStr;

use forust_ml::gradientbooster::GrowPolicy;
use forust_ml::metric::Metric;
use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};
use wafer::{Column, DataType, Field, Init, Labels, Level, Role, Table, Task, Trained, Trainer};

use categories::Categories;

/// The library seeds its random number generator itself. But the crate `getrandom` requires a
/// source of randomness for this target, so one is registered that always fails.
#[cfg(target_arch = "wasm32")]
mod no_randomness {
    fn none(_: &mut [u8]) -> Result<(), getrandom::Error> {
        Err(getrandom::Error::UNSUPPORTED)
    }

    getrandom::register_custom_getrandom!(none);
}

/// Rows, column by column.
#[derive(Debug, Default)]
struct Rows {
    columns: Vec<Vec<f64>>,
    labels: Vec<f64>,
}

/// A column to learn from.
#[derive(Debug)]
struct Feature {
    name: String,
    /// The texts of the training rows; `None` for a column of numbers.
    categories: Option<Categories>,
}

/// The training function: its settings and the rows it has been fed.
pub struct Trees {
    features: Vec<Feature>,
    labels: Labels,
    most: usize,
    booster: GradientBooster,
    train: Rows,
    validation: Rows,
}

impl std::fmt::Debug for Trees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trees")
            .field("features", &self.features)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// Names of all parameters.
const PARAMETERS: [&str; 17] = [
    "features",
    "exclude",
    "objective",
    "trees",
    "learning_rate",
    "max_depth",
    "max_leaves",
    "min_leaf_weight",
    "l1",
    "l2",
    "gamma",
    "subsample",
    "colsample",
    "bins",
    "early_stopping",
    "most",
    "seed",
];

/// The greatest number of texts of a column that are told apart.
const MOST: usize = 65_000;

/// Reads parameters that are numbers.
struct Parameters<'a>(&'a Init);

impl Parameters<'_> {
    fn get<T: FromStr + PartialOrd + std::fmt::Display>(
        &self,
        name: &str,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, String> {
        let Some(text) = self.0.parameter(name) else {
            return Ok(default);
        };
        let value = text.parse().ok().filter(|value| range.contains(value));
        value.ok_or_else(|| {
            format!(
                "parameter `{name}`: `{text}` is not a number from {} to {}",
                range.start(),
                range.end()
            )
        })
    }
}

fn is_number(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean | DataType::Int64 | DataType::Float64 | DataType::Float32
    )
}

/// The columns to learn from, and why each of the others is left out.
fn features(
    init: &Init,
    columns: &[Field],
    label: &str,
) -> Result<(Vec<Feature>, Vec<String>), String> {
    let (wanted, excluded) = (init.list("features"), init.list("exclude"));
    check_names("features", &wanted, columns, label)?;
    check_names("exclude", &excluded, columns, label)?;
    let keys = init.keys();
    let (mut used, mut left_out) = (Vec::new(), Vec::new());
    for field in columns.iter().filter(|field| field.name != label) {
        let name = &field.name;
        let is_named = wanted.contains(name);
        let can_be_learned = is_number(&field.data_type) || field.data_type == DataType::Utf8;
        let reason = if !can_be_learned {
            "it is neither a number nor a text"
        } else if is_named {
            ""
        } else if !wanted.is_empty() {
            "`features` does not name it"
        } else if excluded.contains(name) {
            "`exclude` names it"
        } else if keys.contains(name) {
            "it is a join key; name it in `features` to learn from it"
        } else {
            ""
        };
        match reason {
            "" => used.push(field),
            reason if is_named => return Err(format!("parameter `features`: `{name}`: {reason}")),
            reason => left_out.push(format!("`{name}`: {reason}")),
        }
    }
    // The order of `features` is that of the model.
    let place = |field: &&Field| wanted.iter().position(|name| *name == field.name);
    used.sort_by_key(place);
    if used.is_empty() {
        return Err(format!(
            "there is no column to learn from: {}",
            match left_out.is_empty() {
                true => "the view has none".to_owned(),
                false => left_out.join("; "),
            }
        ));
    }
    let feature = |field: &Field| Feature {
        name: field.name.clone(),
        categories: (field.data_type == DataType::Utf8).then(Categories::default),
    };
    Ok((used.into_iter().map(feature).collect(), left_out))
}

/// Checks that a parameter names columns that are there, each once, and not the label.
fn check_names(
    parameter: &str,
    names: &[String],
    columns: &[Field],
    label: &str,
) -> Result<(), String> {
    for (place, name) in names.iter().enumerate() {
        let wrong = if !columns.iter().any(|field| field.name == *name) {
            "there is no column"
        } else if name == label {
            "this is what is to be predicted:"
        } else if names[..place].contains(name) {
            "this is there twice:"
        } else {
            continue;
        };
        return Err(format!("parameter `{parameter}`: {wrong} `{name}`"));
    }
    Ok(())
}

/// Checks that each tree has a column to use.
fn check_colsample(colsample: f64, columns: usize) -> Result<(), String> {
    match columns as f64 * colsample < 1.0 {
        true => Err(format!(
            "parameter `colsample`: {colsample} of {columns} columns is less than one column"
        )),
        false => Ok(()),
    }
}

/// The most columns that are named in one message.
const NAMED: usize = 8;

/// Returns the columns to learn from in one line: their names, or how many there are of which kind.
fn summary(features: &[Feature]) -> String {
    if features.len() <= NAMED {
        return features.iter().map(shown).collect::<Vec<_>>().join(", ");
    }
    let is_text = |feature: &&Feature| feature.categories.is_some();
    let texts = features.iter().filter(is_text).count();
    let count = features.len();
    format!("{count} columns, {texts} of them texts (`wafer -v train` names them)")
}

/// Returns the name of a column, and that it is one of texts.
fn shown(feature: &Feature) -> String {
    match feature.categories {
        Some(_) => format!("`{}` (texts)", feature.name),
        None => format!("`{}`", feature.name),
    }
}

/// Prints what the model learns from, and what it does not and why.
fn print_features(features: &[Feature], left_out: &[String], labels: &Labels) {
    let task = match labels.task() {
        Task::Binary => "binary",
        Task::Regression => "regression",
    };
    let (label, used) = (labels.name(), summary(features));
    wafer::log(
        Level::Info,
        &format!("learns `{label}` ({task}) from {used}"),
    );
    for column in left_out {
        wafer::log(Level::Info, &format!("does not learn from {column}"));
    }
    if features.len() > NAMED {
        for feature in features {
            wafer::log(Level::Debug, &format!("learns from {}", shown(feature)));
        }
    }
}

/// The labels, of the task that `objective` or the model says.
fn labels(init: &Init, columns: &[Field], label: &str) -> Result<Labels, String> {
    let labels = Labels::new(init, columns, label)?;
    let objective = match init.parameter("objective") {
        None => return Ok(labels),
        Some("binary") => Task::Binary,
        Some("regression") => Task::Regression,
        Some(other) => {
            return Err(format!(
                "parameter `objective`: `{other}` is neither binary nor regression"
            ));
        }
    };
    if init.task().is_some_and(|task| task != objective) {
        return Err(
            "parameter `objective` contradicts the model's `task`: leave one of them out"
                .to_owned(),
        );
    }
    labels.with_task(objective)
}

fn booster(parameters: &Parameters<'_>, is_binary: bool) -> Result<GradientBooster, String> {
    let objective = match is_binary {
        true => ObjectiveType::LogLoss,
        false => ObjectiveType::SquaredLoss,
    };
    let subsample: f32 = parameters.get("subsample", 1.0, 0.01..=1.0)?;
    let max_leaves = parameters.get("max_leaves", usize::MAX, 2..=usize::MAX)?;
    let stopping: usize = parameters.get("early_stopping", 20, 0..=1_000_000)?;
    let metric = match is_binary {
        true => Metric::LogLoss,
        false => Metric::RootMeanSquaredError,
    };
    let mut booster = GradientBooster::default();
    if max_leaves < usize::MAX {
        booster.grow_policy = GrowPolicy::LossGuide;
    }
    Ok(booster
        .set_objective_type(objective)
        .set_iterations(parameters.get("trees", 100, 1..=100_000)?)
        .set_learning_rate(parameters.get("learning_rate", 0.1, 1e-6..=1.0)?)
        .set_max_depth(parameters.get("max_depth", 6, 1..=64)?)
        .set_max_leaves(max_leaves)
        .set_min_leaf_weight(parameters.get("min_leaf_weight", 1.0, 0.0..=1e9)?)
        .set_l1(parameters.get("l1", 0.0, 0.0..=1e9)?)
        .set_l2(parameters.get("l2", 1.0, 0.0..=1e9)?)
        .set_gamma(parameters.get("gamma", 0.0, 0.0..=1e9)?)
        .set_subsample(subsample)
        .set_sample_method(match subsample < 1.0 {
            true => SampleMethod::Random,
            false => SampleMethod::None,
        })
        .set_colsample_bytree(parameters.get("colsample", 1.0, 0.01..=1.0)?)
        .set_nbins(parameters.get("bins", 256, 2..=65_000)?)
        .set_seed(parameters.get("seed", 0, 0..=u64::MAX)?)
        .set_evaluation_metric(Some(metric))
        .set_early_stopping_rounds((stopping > 0).then_some(stopping))
        .set_initialize_base_score(true)
        .set_parallel(false))
}

#[wafer::trainer]
impl Trainer for Trees {
    fn begin(init: &Init, columns: &[Field], label: &str) -> Result<Self, String> {
        init.only_parameters(&PARAMETERS)?;
        let parameters = Parameters(init);
        let labels = labels(init, columns, label)?;
        let is_binary = labels.task() == Task::Binary;
        let (features, left_out) = features(init, columns, label)?;
        let colsample: f64 = parameters.get("colsample", 1.0, 0.01..=1.0)?;
        check_colsample(colsample, features.len())?;
        print_features(&features, &left_out, &labels);
        let rows = || Rows {
            columns: vec![Vec::new(); features.len()],
            labels: Vec::new(),
        };
        Ok(Self {
            train: rows(),
            validation: rows(),
            features,
            labels,
            most: parameters.get("most", 1_000, 1..=MOST)?,
            booster: booster(&parameters, is_binary)?,
        })
    }

    fn columns(&self) -> Vec<Field> {
        let field = |feature: &Feature| match feature.categories {
            Some(_) => Field::nullable(&feature.name, DataType::Utf8),
            None => Field::nullable(&feature.name, DataType::Float64),
        };
        let features = self.features.iter().map(field);
        features.chain([self.labels.field()]).collect()
    }

    fn feed(&mut self, role: Role, mut table: Table) -> Result<(), String> {
        let rows = match role {
            Role::Train => &mut self.train,
            Role::Validation => &mut self.validation,
        };
        let labels = self.labels.take(&mut table)?;
        for (feature, column) in self.features.iter_mut().zip(&mut rows.columns) {
            let name = &feature.name;
            let Some(categories) = &mut feature.categories else {
                column.extend(numbers(&mut table, name)?);
                continue;
            };
            let texts: Column<Option<String>> = table.take(name)?;
            for (row, label) in labels.iter().enumerate() {
                let text = texts.get(row).flatten();
                let label = (role == Role::Train).then_some(*label);
                let number = text.map(|text| categories.number(text, label)).transpose();
                let number = number.map_err(|message| format!("column `{name}`: {message}"))?;
                column.push(number.map_or(f64::NAN, f64::from));
            }
        }
        rows.labels.extend(labels);
        Ok(())
    }

    fn finish(self) -> Result<Trained, String> {
        let Self {
            features,
            labels,
            most,
            mut booster,
            mut train,
            mut validation,
        } = self;
        let is_binary = labels.task() == Task::Binary;
        let count = train.labels.len();
        if count == 0 {
            return Err("there is no row to learn from".to_owned());
        }
        if is_binary && train.labels.iter().all(|label| *label == train.labels[0]) {
            return Err(format!(
                "all labels are {}: there is nothing to tell apart",
                train.labels[0]
            ));
        }
        let mut names = Vec::new();
        let mut texts = Vec::new();
        let mut columns = train.columns.into_iter().zip(validation.columns);
        (train.columns, validation.columns) = (Vec::new(), Vec::new());
        for feature in features {
            let Some((mut train_column, mut validation_column)) = columns.next() else {
                return Err("a column was not fed".to_owned());
            };
            let ordered = feature
                .categories
                .map(|categories| categories.ordered(most));
            if let Some(ordered) = &ordered {
                if ordered.texts.is_empty() {
                    let message = format!("does not learn from `{}`: it has no text", feature.name);
                    wafer::log(Level::Info, &message);
                    continue;
                }
                ordered.apply(&mut train_column);
                ordered.apply(&mut validation_column);
            }
            names.push(feature.name);
            texts.push(ordered.map(|ordered| ordered.texts));
            train.columns.push(train_column);
            validation.columns.push(validation_column);
        }
        if names.is_empty() {
            return Err("no column has a text to learn from".to_owned());
        }
        check_colsample(booster.colsample_bytree, names.len())?;
        let data = concatenated(train.columns);
        let matrix = Matrix::new(&data, count, names.len());
        let weights = vec![1.0; count];
        let valid_count = validation.labels.len();
        let valid_data = concatenated(validation.columns);
        let valid_weights = vec![1.0; valid_count];
        let evaluation = (valid_count > 0).then(|| {
            let matrix = Matrix::new(&valid_data, valid_count, names.len());
            vec![(matrix, &validation.labels[..], &valid_weights[..])]
        });
        if evaluation.is_none() {
            booster = booster
                .set_early_stopping_rounds(None)
                .set_evaluation_metric(None);
        }
        booster
            .fit(&matrix, &train.labels, &weights, evaluation)
            .map_err(|e| e.to_string())?;
        // Trees after the best one only fitted noise.
        let tree_count = booster
            .best_iteration
            .map_or(booster.trees.len(), |best| best + 1);
        booster.trees.truncate(tree_count);
        let text = model_file::write(&booster, &names, &texts, is_binary)?;
        let mut trained = Trained::default()
            .with_artifact("model", text)
            .with_metric("trees", tree_count as f64);
        if let (Some(history), Some(best)) = (&booster.evaluation_history, booster.best_iteration) {
            let name = if is_binary {
                "validation_log_loss"
            } else {
                "validation_rmse"
            };
            trained = trained.with_metric(name, history.data[best * history.cols]);
        }
        Ok(trained)
    }
}

/// The numbers of a column. A missing one is NaN.
fn numbers(table: &mut Table, name: &str) -> Result<Vec<f64>, String> {
    let values: Column<Option<f64>> = table.take(name)?;
    // The library's histograms cannot hold infinite values, so they become the greatest finite
    // ones.
    let finite = |value: f64| value.clamp(f64::MIN, f64::MAX);
    let value = |row| values.get(row).flatten().map_or(f64::NAN, finite);
    Ok((0..values.len()).map(value).collect())
}

/// Concatenates columns. Each is freed as soon as it is copied, to save memory.
fn concatenated(columns: Vec<Vec<f64>>) -> Vec<f64> {
    let length = columns.iter().map(Vec::len).sum();
    let mut data = Vec::with_capacity(length);
    for column in columns {
        data.extend(column);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Field> {
        vec![
            Field::nullable("a", DataType::Float64),
            Field::nullable("b", DataType::Int64),
            Field::nullable("c", DataType::Utf8),
            Field::nullable("t", DataType::Timestamp),
            Field::nullable("y", DataType::Boolean),
        ]
    }

    #[test]
    fn train_trees_parameters_are_checked() {
        for (name, value, wanted) in [
            ("trees", "0", "`0` is not a number from 1 to 100000"),
            ("learning_rate", "x", "`x` is not a number"),
            ("objective", "magic", "neither binary nor regression"),
            ("features", "z", "no column `z`"),
            (
                "colsample",
                "0.3",
                "0.3 of 3 columns is less than one column",
            ),
            ("features", "t", "`t`: it is neither a number nor a text"),
            ("features", "a,a", "there twice: `a`"),
            ("features", "y", "what is to be predicted: `y`"),
            (
                "exclude",
                "a,b,c",
                "no column to learn from: `a`: `exclude` names it;",
            ),
            ("most", "0", "`0` is not a number from 1"),
        ] {
            let init = Init::new().with_parameter(name, value);
            let message = Trees::begin(&init, &columns(), "y").err().unwrap();
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn join_keys_are_no_features_unless_they_are_named() {
        let names = |init: &Init| {
            let (used, left_out) = features(init, &columns(), "y").unwrap();
            let used: Vec<String> = used.into_iter().map(|feature| feature.name).collect();
            (used.join(","), left_out.join("; "))
        };
        let keys = || Init::new().with_keys(&["b"]);
        let timestamp = "`t`: it is neither a number nor a text";
        let (used, left_out) = names(&Init::new());
        assert_eq!((used.as_str(), left_out.as_str()), ("a,b,c", timestamp));
        let (used, left_out) = names(&keys());
        let key = "`b`: it is a join key; name it in `features` to learn from it";
        assert_eq!(
            (used, left_out),
            ("a,c".to_owned(), format!("{key}; {timestamp}"))
        );
        let (used, left_out) = names(&keys().with_parameter("features", "c,b"));
        let not_named = "`a`: `features` does not name it";
        assert_eq!(
            (used, left_out),
            ("c,b".to_owned(), format!("{not_named}; {timestamp}"))
        );
    }

    #[test]
    fn few_columns_are_named_and_many_are_counted() {
        let summary = |count: usize| {
            let feature = |number: usize| Feature {
                name: format!("c{number}"),
                categories: (number == 1).then(Categories::default),
            };
            super::summary(&(0..count).map(feature).collect::<Vec<_>>())
        };
        assert_eq!(summary(3), "`c0`, `c1` (texts), `c2`");
        assert!(summary(NAMED).ends_with(", `c7`"), "{}", summary(NAMED));
        assert_eq!(
            summary(60),
            "60 columns, 1 of them texts (`wafer -v train` names them)"
        );
    }

    #[test]
    fn tasks_decide_what_is_learned() {
        let begin = |init: Init, data_type: DataType| {
            let columns = [
                Field::nullable("a", DataType::Float64),
                Field::nullable("y", data_type),
            ];
            Trees::begin(&init, &columns, "y").map(|trees| trees.labels.task())
        };
        let objective = |name: &str| Init::new().with_parameter("objective", name);
        for (init, data_type, wanted) in [
            (Init::new(), DataType::Boolean, Ok(Task::Binary)),
            (Init::new(), DataType::Int64, Ok(Task::Regression)),
            (
                Init::new().with_task(Task::Binary),
                DataType::Int64,
                Ok(Task::Binary),
            ),
            (
                Init::new().with_task(Task::Binary),
                DataType::Utf8,
                Ok(Task::Binary),
            ),
            (objective("binary"), DataType::Int64, Ok(Task::Binary)),
            (
                objective("binary").with_task(Task::Binary),
                DataType::Int64,
                Ok(Task::Binary),
            ),
            (
                objective("regression").with_task(Task::Binary),
                DataType::Int64,
                Err("contradicts"),
            ),
            (
                objective("regression"),
                DataType::Utf8,
                Err("label `y` is text"),
            ),
            (
                Init::new().with_task(Task::Regression),
                DataType::Utf8,
                Err("label `y` is text"),
            ),
        ] {
            match (begin(init, data_type), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
                (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{found}"),
                (found, wanted) => panic!("{found:?} instead of {wanted:?}"),
            }
        }
    }

    #[test]
    fn integer_labels_of_a_binary_task_train_a_probability() {
        let columns = [
            Field::nullable("a", DataType::Float64),
            Field::nullable("y", DataType::Int64),
        ];
        let init = Init::new().with_task(Task::Binary);
        let begin = || Trees::begin(&init, &columns, "y").unwrap();
        let rows = |labels: Vec<f64>| {
            let a: Column<Option<f64>> = (0..labels.len()).map(|n| Some(n as f64)).collect();
            Table::new(labels.len())
                .with("a", a)
                .with("y", Column::from(labels))
        };
        let mut trees = begin();
        trees
            .feed(Role::Train, rows(vec![0.0, 0.0, 1.0, 1.0]))
            .unwrap();
        let text = trees.finish().unwrap().artifact("model").unwrap().to_vec();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("objective=binary sigmoid:1"), "{text}");
        let message = begin()
            .feed(Role::Train, rows(vec![0.0, 1.0, 2.0]))
            .unwrap_err();
        assert!(
            message.starts_with("label `y`: 2 is not a label of the task `binary`"),
            "{message}"
        );
    }

    #[test]
    fn texts_are_learned_as_categories() {
        let columns = [
            Field::nullable("c", DataType::Utf8),
            Field::nullable("y", DataType::Boolean),
        ];
        // Neither the order of the texts nor that of their appearance is that of the labels.
        let texts = ["b", "d", "a", "ü \"1\"", ""];
        let text = |n: usize| (n % 6 < 5).then(|| texts[n % 6].to_owned());
        let label = |n: usize| f64::from(u8::from([0, 3, 5].contains(&(n % 6))));
        let rows = |texts: Vec<Option<String>>| {
            let count = texts.len();
            Table::new(count).with("c", texts.into_iter().collect::<Column<_>>())
        };
        let mut trees = Trees::begin(&Init::new(), &columns, "y").unwrap();
        let train = rows((0..600).map(text).collect());
        let train = train.with("y", Column::from((0..600).map(label).collect::<Vec<_>>()));
        trees.feed(Role::Train, train).unwrap();
        let trained = trees.finish().unwrap();
        let init = Init::new().with_asset("model", trained.artifact("model").unwrap());
        let model = stock_lightgbm::load(&init).unwrap();
        let asked = (0..6)
            .map(text)
            .chain([Some("unseen".to_owned())])
            .collect();
        let mut out = stock_lightgbm::lightgbm(rows(asked), &model).unwrap();
        let found: Column<f64> = out.take("prediction").unwrap();
        let found: Vec<bool> = found.data().iter().map(|p| *p > 0.5).collect();
        // A text that was not there is a missing one, whose label is 1.
        assert_eq!(found, [true, false, false, true, false, true, true]);
    }

    fn fed(objective: &str, label: impl Fn(f64) -> f64) -> Trained {
        let init = Init::new()
            .with_parameter("objective", objective)
            .with_parameter("trees", "30")
            .with_parameter("features", "a");
        let mut trees = Trees::begin(&init, &columns(), "y").unwrap();
        for role in [Role::Train, Role::Validation] {
            let values: Vec<f64> = (0..500).map(|n| f64::from(n % 50)).collect();
            let labels: Vec<f64> = values.iter().map(|v| label(*v)).collect();
            let a: Column<Option<f64>> = values.into_iter().map(Some).collect();
            let table = Table::new(500).with("a", a).with("y", Column::from(labels));
            trees.feed(role, table).unwrap();
        }
        trees.finish().unwrap()
    }

    #[test]
    fn trained_trees_separate_labels() {
        let trained = fed("binary", |value| f64::from(u8::from(value > 20.0)));
        assert!(trained.metric("validation_log_loss").unwrap() < 0.2);
        let text = String::from_utf8(trained.artifact("model").unwrap().to_vec()).unwrap();
        assert!(
            text.starts_with("tree\n") && text.contains("objective=binary sigmoid:1"),
            "{text}"
        );
        let trained = fed("regression", |value| 2.0 * value);
        assert!(trained.metric("validation_rmse").unwrap() < 10.0);
    }

    #[test]
    fn training_without_rows_or_with_infinite_labels_fails() {
        for objective in ["binary", "regression"] {
            let init = Init::new().with_parameter("objective", objective);
            let trees = Trees::begin(&init, &columns(), "y").unwrap();
            assert!(trees.finish().unwrap_err().contains("no row to learn from"));
            let init = init.with_parameter("features", "a");
            let mut trees = Trees::begin(&init, &columns(), "y").unwrap();
            let a: Column<Option<f64>> = [Some(f64::INFINITY)].into_iter().collect();
            let table = Table::new(1)
                .with("a", a)
                .with("y", Column::from(vec![f64::INFINITY]));
            let message = trees.feed(Role::Train, table).unwrap_err();
            assert!(
                message.starts_with("label `y`: inf is not a label"),
                "{message}"
            );
        }
    }

    #[test]
    fn training_with_equal_labels_fails() {
        let init = Init::new().with_parameter("features", "a");
        let mut trees = Trees::begin(&init, &columns(), "y").unwrap();
        let a: Column<Option<f64>> = [Some(1.0), None].into_iter().collect();
        let table = Table::new(2)
            .with("a", a)
            .with("y", Column::from(vec![1.0, 1.0]));
        trees.feed(Role::Train, table).unwrap();
        assert!(trees.finish().unwrap_err().contains("all labels are 1"));
    }
}
