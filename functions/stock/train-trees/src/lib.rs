//! Trains gradient-boosted trees. The artifact `model` is a model file in LightGBM's text
//! format, for the function `lightgbm`, or for LightGBM itself.
//!
//! Reads the columns that `features` names, or else all columns of the view that are numbers or
//! booleans, except those that `exclude` names (names are separated by commas). The label is a
//! number; a label of type `boolean` is predicted as a probability, unless `objective` says
//! otherwise.
//!
//! | parameter | default | meaning |
//! | --- | --- | --- |
//! | `objective` | by the label's type | `binary` or `regression` |
//! | `trees` | 100 | maximum number of trees |
//! | `learning_rate` | 0.1 | step size of each tree |
//! | `max_depth` | 6 | maximum depth of a tree |
//! | `max_leaves` | unlimited | maximum number of leaves of a tree |
//! | `min_leaf_weight` | 1 | least sum of second derivatives in a leaf |
//! | `l1`, `l2`, `gamma` | 0, 1, 0 | L1 and L2 regularisation; least gain of a split |
//! | `subsample`, `colsample` | 1 | fraction of rows and of columns that each tree uses |
//! | `bins` | 256 | number of bins for the values of a column |
//! | `early_stopping` | 20 | number of trees without a gain on the part `validation` after which training ends; 0: never |
//! | `seed` | 0 | seed of random choices |

mod model_file;

use std::str::FromStr;

use forust_ml::gradientbooster::GrowPolicy;
use forust_ml::metric::Metric;
use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};
use wafer::{Column, DataType, Field, Init, Role, Table, Trained, Trainer};

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

/// The training function: its settings and the rows it has been fed.
pub struct Trees {
    names: Vec<String>,
    label: String,
    is_binary: bool,
    booster: GradientBooster,
    train: Rows,
    validation: Rows,
}

impl std::fmt::Debug for Trees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trees")
            .field("names", &self.names)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// Names of all parameters.
const PARAMETERS: [&str; 16] = [
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
    "seed",
];

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

/// The names of the columns to learn from.
fn features(init: &Init, columns: &[Field], label: &str) -> Result<Vec<String>, String> {
    let (wanted, excluded) = (init.list("features"), init.list("exclude"));
    for (parameter, names) in [("features", &wanted), ("exclude", &excluded)] {
        for name in names {
            let Some(field) = columns.iter().find(|field| field.name == *name) else {
                return Err(format!(
                    "parameter `{parameter}`: there is no column `{name}`"
                ));
            };
            if parameter == "features" && !is_number(&field.data_type) {
                return Err(format!(
                    "parameter `features`: `{name}` is not a number: encode it before"
                ));
            }
            if name == label {
                return Err(format!(
                    "parameter `{parameter}`: `{name}` is what is to be predicted"
                ));
            }
        }
    }
    if !wanted.is_empty() {
        return Ok(wanted);
    }
    let numbers = columns.iter().filter(|field| {
        is_number(&field.data_type) && field.name != label && !excluded.contains(&field.name)
    });
    let names: Vec<String> = numbers.map(|field| field.name.clone()).collect();
    match names.is_empty() {
        true => Err("there is no column of numbers to learn from".to_owned()),
        false => Ok(names),
    }
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
        let labels = columns.iter().find(|field| field.name == label);
        let is_boolean = labels.is_some_and(|field| field.data_type == DataType::Boolean);
        let is_binary = match init.parameter("objective") {
            None => is_boolean,
            Some("binary") => true,
            Some("regression") => false,
            Some(other) => {
                return Err(format!(
                    "parameter `objective`: `{other}` is neither binary nor regression"
                ));
            }
        };
        let names = features(init, columns, label)?;
        let colsample: f64 = parameters.get("colsample", 1.0, 0.01..=1.0)?;
        if names.len() as f64 * colsample < 1.0 {
            return Err(format!(
                "parameter `colsample`: {colsample} of {} columns is none",
                names.len()
            ));
        }
        let rows = || Rows {
            columns: vec![Vec::new(); names.len()],
            labels: Vec::new(),
        };
        Ok(Self {
            train: rows(),
            validation: rows(),
            names,
            label: label.to_owned(),
            is_binary,
            booster: booster(&parameters, is_binary)?,
        })
    }

    fn columns(&self) -> Vec<Field> {
        let features = self
            .names
            .iter()
            .map(|name| Field::nullable(name, DataType::Float64));
        features
            .chain([Field::required(&self.label, DataType::Float64)])
            .collect()
    }

    fn feed(&mut self, role: Role, mut table: Table) -> Result<(), String> {
        let rows = match role {
            Role::Train => &mut self.train,
            Role::Validation => &mut self.validation,
        };
        for (name, column) in self.names.iter().zip(&mut rows.columns) {
            let values: Column<Option<f64>> = table.take(name)?;
            // The library's histograms cannot hold infinite values, so they become the greatest
            // finite ones.
            let finite = |value: f64| value.clamp(f64::MIN, f64::MAX);
            let value = |row| values.get(row).flatten().map_or(f64::NAN, finite);
            column.extend((0..values.len()).map(value));
        }
        let labels = table.take::<f64>(&self.label)?;
        let is_wrong =
            |label: &&f64| !label.is_finite() || self.is_binary && ![0.0, 1.0].contains(*label);
        if let Some(label) = labels.data().iter().find(is_wrong) {
            let wanted = if self.is_binary {
                "0 or 1"
            } else {
                "a finite number"
            };
            return Err(format!("label `{}`: {label} is not {wanted}", self.label));
        }
        rows.labels.extend(labels.data());
        Ok(())
    }

    fn finish(self) -> Result<Trained, String> {
        let Self {
            names,
            is_binary,
            mut booster,
            train,
            validation,
            ..
        } = self;
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
        let text = model_file::write(&booster, &names, is_binary);
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
            ("colsample", "0.3", "0.3 of 2 columns is none"),
            ("features", "c", "`c` is not a number: encode it"),
            ("features", "y", "`y` is what is to be predicted"),
            ("exclude", "a,b", "no column of numbers"),
        ] {
            let init = Init::new().with_parameter(name, value);
            let message = Trees::begin(&init, &columns(), "y").err().unwrap();
            assert!(message.contains(wanted), "{message}");
        }
        let trees = Trees::begin(&Init::new(), &columns(), "y").unwrap();
        assert_eq!(
            (trees.names, trees.is_binary),
            (vec!["a".to_owned(), "b".to_owned()], true)
        );
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
            assert!(message.starts_with("label `y`: inf is not"), "{message}");
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
