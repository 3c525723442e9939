//! Fits the steps that `preprocess` applies, on the rows of the part `train`. Parameters, each a
//! list of columns separated by commas:
//!
//! - `scale`: numbers, to be scaled by mean and standard deviation. A column that has the same
//!   number everywhere becomes 0, as in scikit-learn.
//! - `ordinal`, `one_hot`: texts, to be encoded by the values that occur (at most `most`, default
//!   1,000; the most frequent ones).
//! - `mean`: texts, to be replaced by the mean of the label over the rows with each value. That
//!   mean is drawn towards the mean of all rows, as if `smoothing` (default 20) further rows had
//!   that mean.
//!
//! The artifact is `fitted`. Outputs are named `COLUMN_scaled`, `COLUMN_code`, `COLUMN_is_VALUE`
//! and `COLUMN_mean`. Values whose names would be the same, because they differ only in characters
//! that names cannot have, are numbered: `COLUMN_is_VALUE_2`.

mod moments;

use std::collections::BTreeMap;

use stock_preprocess::{Fitted, Rule, Step};
use wafer::{Column, DataType, Field, Init, Labels, Level, Role, Table, Trained, Trainer};

use crate::moments::Moments;

/// Maximum number of output columns, and maximum length of their names in bytes.
const MAX_COLUMNS: usize = 1_024;
const MAX_NAME: usize = 128;
/// Number of characters of a value that become part of its column's name.
const WORD: usize = 20;

/// What has been gathered from the training set.
#[derive(Debug)]
pub struct Fit {
    /// The labels, if means of them are needed.
    label: Option<Labels>,
    scale: Vec<(String, Moments)>,
    texts: Vec<(String, BTreeMap<String, Moments>)>,
    ordinal: Vec<String>,
    one_hot: Vec<String>,
    mean: Vec<String>,
    most: usize,
    smoothing: f64,
    labels: Moments,
}

#[wafer::trainer]
impl Trainer for Fit {
    fn begin(init: &Init, columns: &[Field], label: &str) -> Result<Self, String> {
        init.only_parameters(&["scale", "ordinal", "one_hot", "mean", "most", "smoothing"])?;
        let list = |name: &str| -> Result<Vec<String>, String> {
            let names = init.list(name);
            for (place, column) in names.iter().enumerate() {
                if names[..place].contains(column) {
                    return Err(format!("parameter `{name}`: `{column}` is there twice"));
                }
                if !columns.iter().any(|field| field.name == *column) {
                    return Err(format!(
                        "parameter `{name}`: the training set has no column `{column}`"
                    ));
                }
            }
            Ok(names)
        };
        let number = |name: &str, default: f64| match init.parameter(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(value) if (0.0..=f64::MAX).contains(&value) => Ok(value),
                _ => Err(format!(
                    "parameter `{name}`: `{text}` is not a number from 0 on"
                )),
            },
        };
        let (scale, ordinal, one_hot, mean) = (
            list("scale")?,
            list("ordinal")?,
            list("one_hot")?,
            list("mean")?,
        );
        let (most, smoothing) = (
            number("most", 1_000.0)? as usize,
            number("smoothing", 20.0)?,
        );
        let mut texts: Vec<String> = [&ordinal[..], &one_hot, &mean].concat();
        texts.sort();
        texts.dedup();
        if scale.is_empty() && texts.is_empty() {
            return Err(
                "nothing is to be fitted: set `scale`, `ordinal`, `one_hot` or `mean`".to_owned(),
            );
        }
        if let Some(both) = scale.iter().find(|name| texts.contains(name)) {
            return Err(format!("`{both}` cannot be both scaled and encoded"));
        }
        let label = match mean.is_empty() {
            true => None,
            false => Some(Labels::new(init, columns, label)?),
        };
        Ok(Self {
            label,
            scale: scale
                .into_iter()
                .map(|name| (name, Moments::default()))
                .collect(),
            texts: texts
                .into_iter()
                .map(|name| (name, BTreeMap::new()))
                .collect(),
            ordinal,
            one_hot,
            mean,
            most,
            smoothing,
            labels: Moments::default(),
        })
    }

    fn columns(&self) -> Vec<Field> {
        let numbers = self
            .scale
            .iter()
            .map(|(name, _)| Field::nullable(name, DataType::Float64));
        let texts = self
            .texts
            .iter()
            .map(|(name, _)| Field::nullable(name, DataType::Utf8));
        let label = self.label.iter().map(Labels::field);
        numbers.chain(texts).chain(label).collect()
    }

    fn feed(&mut self, role: Role, mut rows: Table) -> Result<(), String> {
        if role != Role::Train {
            return Ok(());
        }
        let count = rows.len();
        for (name, moments) in &mut self.scale {
            let column: Column<Option<f64>> = rows.take(name)?;
            let values = (0..count).filter_map(|row| column.get(row).flatten());
            values
                .filter(|v| v.is_finite())
                .for_each(|value| moments.add(value));
        }
        let labels = match &self.label {
            None => vec![0.0; count],
            Some(label) => label.take(&mut rows)?,
        };
        for label in &labels {
            self.labels.add(*label);
        }
        for (name, values) in &mut self.texts {
            let column: Column<Option<String>> = rows.take(name)?;
            for (row, label) in labels.iter().enumerate() {
                if let Some(text) = column.get(row).flatten() {
                    values.entry(text).or_default().add(*label);
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Trained, String> {
        let mut steps = Vec::new();
        for (name, moments) in &self.scale {
            steps.push(step(name, "scaled", scale(name, moments)?));
        }
        for name in &self.ordinal {
            steps.push(step(name, "code", Rule::Ordinal(self.values(name))));
        }
        for name in &self.one_hot {
            for value in self.values(name) {
                let word: String = value
                    .chars()
                    .map(|c| if c.is_alphanumeric() { c } else { '_' })
                    .take(WORD)
                    .collect();
                let mut suffix = format!("is_{word}");
                let mut number = 1;
                while steps
                    .iter()
                    .any(|known: &Step| known.output == format!("{name}_{suffix}"))
                {
                    number += 1;
                    suffix = format!("is_{word}_{number}");
                }
                steps.push(step(name, &suffix, Rule::Is(value)));
            }
        }
        for name in &self.mean {
            steps.push(step(name, "mean", self.means(name)));
        }
        check_steps(&steps)?;
        let fitted = Fitted { steps };
        let json = serde_json::to_vec_pretty(&fitted).map_err(|e| e.to_string())?;
        Ok(Trained::default().with_artifact("fitted", json))
    }
}

impl Fit {
    fn seen(&self, name: &str) -> &BTreeMap<String, Moments> {
        let found = self.texts.iter().find(|(text, _)| text == name);
        &found.expect("all texts are seen").1
    }

    /// The values of a column, sorted. If there are too many, those of most rows.
    fn values(&self, name: &str) -> Vec<String> {
        let mut values: Vec<_> = self.seen(name).iter().collect();
        values.sort_by_key(|(text, moments)| (std::cmp::Reverse(moments.count()), *text));
        values.truncate(self.most);
        let mut names: Vec<String> = values.into_iter().map(|(text, _)| text.clone()).collect();
        names.sort();
        names
    }

    fn means(&self, name: &str) -> Rule {
        let other = self.labels.mean();
        let values = self.seen(name).iter().map(|(text, moments)| {
            let (mean, rows) = (moments.mean(), moments.count() as f64);
            (text.clone(), weighted(mean, rows, other, self.smoothing))
        });
        Rule::Mean {
            values: values.collect(),
            other,
        }
    }
}

/// The mean of so many rows with one mean, and of so many others with another one.
fn weighted(mean: f64, rows: f64, other: f64, others: f64) -> f64 {
    let all = rows + others;
    let weighted = (mean * rows + other * others) / all;
    if weighted.is_finite() {
        return weighted;
    }
    // The sums are beyond the range of floats. The result is not, because it is between the means.
    let weighted = mean * (rows / all) + other * (others / all);
    weighted.clamp(mean.min(other), mean.max(other))
}

/// How a column is scaled. One that has the same number everywhere is only moved to 0.
fn scale(name: &str, moments: &Moments) -> Result<Rule, String> {
    if moments.count() == 0 {
        return Err(format!(
            "`{name}` has no finite number in the training rows: take it out of `scale`"
        ));
    }
    let (mean, stddev) = (moments.mean(), moments.stddev());
    // A deviation that is nearly the greatest float may have been rounded up.
    if !stddev.is_finite() {
        return Err(format!("`{name}` has values too large to be scaled"));
    }
    if stddev > 0.0 {
        return Ok(Rule::Scale { mean, stddev });
    }
    let message = format!("`{name}` is {mean} in all training rows: scaled, it is 0 there");
    wafer::log(Level::Warn, &message);
    Ok(Rule::Scale { mean, stddev: 1.0 })
}

/// Checks the number of output columns and their names.
fn check_steps(steps: &[Step]) -> Result<(), String> {
    if steps.len() > MAX_COLUMNS {
        return Err(format!(
            "{} columns would be made; there are at most {MAX_COLUMNS}: set `most` to take fewer values of each",
            steps.len()
        ));
    }
    for (place, step) in steps.iter().enumerate() {
        let (column, output) = (&step.column, &step.output);
        if output.len() > MAX_NAME {
            return Err(format!(
                "`{output}`, made of `{column}`, has more than {MAX_NAME} bytes: shorten the column's name"
            ));
        }
        if steps[..place].iter().any(|other| other.output == *output) {
            return Err(format!("two columns would be called `{output}`"));
        }
    }
    Ok(())
}

fn step(column: &str, suffix: &str, rule: Rule) -> Step {
    Step {
        column: column.to_owned(),
        output: format!("{column}_{suffix}"),
        rule,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Field> {
        vec![
            Field::nullable("x", DataType::Float64),
            Field::nullable("c", DataType::Utf8),
            Field::nullable("y", DataType::Float64),
        ]
    }

    #[test]
    fn preprocessing_is_fitted_on_training_rows_only() {
        let init = Init::new()
            .with_parameter("scale", "x")
            .with_parameter("ordinal", "c")
            .with_parameter("one_hot", "c")
            .with_parameter("mean", "c")
            .with_parameter("smoothing", "1");
        let mut fit = Fit::begin(&init, &columns(), "y").unwrap();
        let texts = |texts: [Option<&str>; 4]| {
            let texts = texts.into_iter().map(|t| t.map(str::to_owned));
            texts.collect::<Column<_>>()
        };
        let rows = || {
            Table::new(4)
                .with(
                    "x",
                    [Some(1.0), Some(3.0), None, Some(5.0)]
                        .into_iter()
                        .collect::<Column<_>>(),
                )
                .with("c", texts([Some("b b"), Some("a"), None, Some("a")]))
                .with("y", Column::from(vec![1.0, 0.0, 1.0, 0.0]))
        };
        fit.feed(Role::Train, rows()).unwrap();
        fit.feed(Role::Validation, rows()).unwrap();
        let trained = fit.finish().unwrap();
        let fitted: Fitted = serde_json::from_slice(trained.artifact("fitted").unwrap()).unwrap();
        let means = Rule::Mean {
            values: [("a".to_owned(), 0.5 / 3.0), ("b b".to_owned(), 0.75)].into(),
            other: 0.5,
        };
        let scale = Rule::Scale {
            mean: 3.0,
            stddev: (8.0f64 / 3.0).sqrt(),
        };
        let wanted = [
            step("x", "scaled", scale),
            step(
                "c",
                "code",
                Rule::Ordinal(vec!["a".to_owned(), "b b".to_owned()]),
            ),
            step("c", "is_a", Rule::Is("a".to_owned())),
            step("c", "is_b_b", Rule::Is("b b".to_owned())),
            step("c", "mean", means),
        ];
        assert_eq!(fitted.steps, wanted);
    }

    #[test]
    fn constant_columns_are_scaled_to_zero() {
        let fit = |values: Vec<Option<f64>>| {
            let init = Init::new().with_parameter("scale", "x");
            let mut fit = Fit::begin(&init, &columns(), "y").unwrap();
            let rows =
                Table::new(values.len()).with("x", values.into_iter().collect::<Column<_>>());
            fit.feed(Role::Train, rows).unwrap();
            let trained = fit.finish()?;
            let fitted = serde_json::from_slice(trained.artifact("fitted").unwrap());
            let fitted: Fitted = fitted.map_err(|e| e.to_string())?;
            Ok::<_, String>(fitted.steps[0].rule.clone())
        };
        for (values, wanted) in [
            (vec![Some(14.62); 5], Ok((14.62, 1.0))),
            (vec![Some(0.1); 1_000], Ok((0.1, 1.0))),
            (vec![Some(7.0), None], Ok((7.0, 1.0))),
            (vec![Some(0.0), Some(-0.0)], Ok((0.0, 1.0))),
            (vec![Some(1.0), Some(3.0)], Ok((2.0, 1.0))),
            (vec![None, None], Err("no finite number")),
            (vec![Some(f64::INFINITY)], Err("no finite number")),
            (vec![Some(f64::MAX), Some(f64::MIN)], Ok((0.0, f64::MAX))),
            (vec![Some(1e300); 3], Ok((1e300, 1.0))),
            (
                vec![Some(f64::MIN_POSITIVE), Some(3.0 * f64::MIN_POSITIVE)],
                Ok((2.0 * f64::MIN_POSITIVE, f64::MIN_POSITIVE)),
            ),
        ] {
            match (fit(values), wanted) {
                (Ok(found), Ok((mean, stddev))) => assert_eq!(found, Rule::Scale { mean, stddev }),
                (Err(message), Err(wanted)) => assert!(message.contains(wanted), "{message}"),
                (found, wanted) => panic!("{found:?} instead of {wanted:?}"),
            }
        }
    }

    #[test]
    fn means_are_drawn_towards_the_other_mean_whatever_their_size() {
        let max = f64::MAX;
        for (mean, rows, other, others, wanted) in [
            (1.0, 1.0, 0.5, 1.0, 0.75),
            (0.0, 2.0, 0.5, 1.0, 0.5 / 3.0),
            (0.3, 7.0, 0.5, 0.0, 0.3 * 7.0 / 7.0),
            (max, 3.0, max, 20.0, max),
            (max, 2.0, -max, 2.0, 0.0),
            (-max, 2.0, max / 2.0, 2.0, -max / 4.0),
            (1.0, 5.0, 10.0, max, 10.0),
        ] {
            let found = weighted(mean, rows, other, others);
            assert_eq!(found, wanted, "{mean} {rows} {other} {others}");
        }
    }

    #[test]
    fn one_hot_columns_of_similar_values_are_numbered() {
        let init = Init::new().with_parameter("one_hot", "c");
        let mut fit = Fit::begin(&init, &columns(), "y").unwrap();
        let texts = ["a b", "a_b", "a-b"].map(|text| Some(text.to_owned()));
        let rows = Table::new(3).with("c", texts.into_iter().collect::<Column<_>>());
        fit.feed(Role::Train, rows).unwrap();
        let trained = fit.finish().unwrap();
        let fitted: Fitted = serde_json::from_slice(trained.artifact("fitted").unwrap()).unwrap();
        let outputs: Vec<&str> = fitted.steps.iter().map(|s| s.output.as_str()).collect();
        assert_eq!(outputs, ["c_is_a_b", "c_is_a_b_2", "c_is_a_b_3"]);
    }

    #[test]
    fn invalid_fit_parameters_are_rejected() {
        for (parameter, value, wanted) in [
            ("scale", "", "nothing is to be fitted"),
            ("scale", "z", "no column `z`"),
            ("smoothing", "x", "`x` is not a number"),
            ("smoothing", "inf", "`inf` is not a number"),
            ("scales", "x", "there is no parameter `scales`"),
            ("ordinal", "c,c", "`c` is there twice"),
        ] {
            let init = Init::new().with_parameter(parameter, value);
            let message = Fit::begin(&init, &columns(), "y").err().unwrap();
            assert!(message.contains(wanted), "{message}");
        }
        let many: Vec<Step> = (0..1_025)
            .map(|n| step("c", &format!("is_{n}"), Rule::Is(n.to_string())))
            .collect();
        let long = [step(&"c".repeat(128), "is_a", Rule::Is("a".to_owned()))];
        let twice = [many[0].clone(), many[0].clone()];
        for (steps, wanted) in [
            (&many[..], "1025 columns would be made"),
            (&long, "has more than 128 bytes"),
            (&twice, "two columns would be called `c_is_0`"),
        ] {
            let message = check_steps(steps).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
        assert_eq!(check_steps(&many[1..]), Ok(()));
    }
}
