//! Scales numbers and encodes categories as fitted on a training set. The asset `fitted`, which
//! `fit_preprocess` or any other tool makes, lists the steps in JSON:
//!
//! ```json
//! {"steps": [
//!   {"column": "distance_km", "output": "distance_scaled", "scale": {"mean": 1043.2, "stddev": 731.9}},
//!   {"column": "carrier", "output": "carrier_code", "ordinal": ["AA", "DL", "UA"]},
//!   {"column": "carrier", "output": "carrier_is_aa", "is": "AA"},
//!   {"column": "dest", "output": "dest_rate", "mean": {"values": {"ATL": 0.21}, "other": 0.24}}
//! ]}
//! ```
//!
//! - `scale`: `(x - mean) / stddev`.
//! - `ordinal`: the position of a text in the list, from 0; other texts become missing.
//! - `is`: 1 for this text, 0 for others.
//! - `mean`: the value that is listed for the text, and `other` for other texts.
//!
//! A missing value stays missing, except in `mean`, where it becomes `other`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer::{Column, DataType, Describe, Field, Init, Table};

/// The steps that were fitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// The steps, in order. Each makes one output column.
    pub steps: Vec<Step>,
}

/// A column that is computed from another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the column that is read.
    pub column: String,
    /// Name of the column that is made.
    pub output: String,
    /// How it is computed.
    #[serde(flatten)]
    pub rule: Rule,
}

/// How a column is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// `(x - mean) / stddev`
    Scale {
        /// Mean of the column in the training set.
        mean: f64,
        /// Standard deviation of the column in the training set; above 0.
        stddev: f64,
    },
    /// The position of a text in a list.
    Ordinal(Vec<String>),
    /// Whether the value is this text.
    Is(String),
    /// A mean that was computed for each text.
    Mean {
        /// Means by text.
        values: BTreeMap<String, f64>,
        /// Mean for all other texts.
        other: f64,
    },
}

impl Rule {
    fn reads(&self) -> DataType {
        match self {
            Self::Scale { .. } => DataType::Float64,
            Self::Ordinal(_) | Self::Is(_) | Self::Mean { .. } => DataType::Utf8,
        }
    }

    fn number(&self, value: f64) -> f64 {
        match self {
            Self::Scale { mean, stddev } => scaled(value, *mean, *stddev),
            Self::Ordinal(_) | Self::Is(_) | Self::Mean { .. } => value,
        }
    }

    fn text(&self, value: Option<&str>) -> Option<f64> {
        match self {
            Self::Ordinal(known) => {
                let place = known.iter().position(|known| Some(known.as_str()) == value);
                place.map(|place| place as f64)
            }
            Self::Is(wanted) => value.map(|value| f64::from(u8::from(value == wanted))),
            Self::Mean { values, other } => {
                let known = value.and_then(|value| values.get(value));
                Some(*known.unwrap_or(other))
            }
            Self::Scale { .. } => None,
        }
    }
}

/// `(value - mean) / stddev`. The difference of finite numbers may be beyond the range of floats;
/// halves of all three have the same quotient.
fn scaled(value: f64, mean: f64, stddev: f64) -> f64 {
    let difference = value - mean;
    match difference.is_infinite() && value.is_finite() {
        false => difference / stddev,
        true => (value / 2.0 - mean / 2.0) / (stddev / 2.0),
    }
}

/// Scales numbers and encodes categories as they were fitted on a training set.
#[wafer::function(init = load)]
pub fn preprocess(mut rows: Table, fitted: &Fitted) -> Result<Table, String> {
    let count = rows.len();
    let (mut numbers, mut texts) = (BTreeMap::new(), BTreeMap::new());
    for field in fitted.inputs() {
        match field.data_type {
            DataType::Utf8 => {
                let column: Column<Option<String>> = rows.take(&field.name)?;
                let values = (0..count).map(|row| column.get(row).flatten());
                texts.insert(field.name.clone(), values.collect::<Vec<_>>());
            }
            _ => {
                let column: Column<Option<f64>> = rows.take(&field.name)?;
                numbers.insert(field.name.clone(), column);
            }
        }
    }
    let mut out = Table::new(count);
    for step in &fitted.steps {
        let column: Column<Option<f64>> = match step.rule.reads() {
            DataType::Utf8 => {
                let values = texts[&step.column].iter();
                values
                    .map(|value| step.rule.text(value.as_deref()))
                    .collect()
            }
            _ => {
                let values = &numbers[&step.column];
                let value = |row| values.get(row).flatten().map(|v| step.rule.number(v));
                (0..count).map(value).collect()
            }
        };
        out = out.with(&step.output, column);
    }
    Ok(out)
}

impl Describe for Fitted {
    fn inputs(&self) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::new();
        for step in &self.steps {
            if !fields.iter().any(|field| field.name == step.column) {
                fields.push(Field::nullable(&step.column, step.rule.reads()));
            }
        }
        fields
    }

    fn outputs(&self) -> Vec<Field> {
        let field = |step: &Step| {
            let column = &step.column;
            let doc = match &step.rule {
                Rule::Scale { .. } => format!("`{column}`, scaled as fitted."),
                Rule::Ordinal(_) => format!("`{column}` as a number."),
                Rule::Is(text) => format!("Whether `{column}` is {text}."),
                Rule::Mean { .. } => {
                    format!("What was known of the training set's rows by `{column}`.")
                }
            };
            Field::nullable(&step.output, DataType::Float64).with_doc(doc)
        };
        self.steps.iter().map(field).collect()
    }
}

/// Reads the fitted steps, when the function is registered.
///
/// # Errors
/// Returns a message that says what is wrong with the asset.
pub fn load(init: &Init) -> Result<Fitted, String> {
    init.only_parameters(&[])?;
    let fitted: Fitted = serde_json::from_slice(init.asset("fitted")?)
        .map_err(|e| format!("asset `fitted` cannot be read: {e}"))?;
    let wrong = |message: String| Err(format!("asset `fitted`: {message}"));
    if fitted.steps.is_empty() {
        return wrong("it has no steps".to_owned());
    }
    let mut types: BTreeMap<&str, DataType> = BTreeMap::new();
    for step in &fitted.steps {
        let reads = step.rule.reads();
        if *types.entry(&step.column).or_insert_with(|| reads.clone()) != reads {
            return wrong(format!(
                "`{}` is read as a number and as a text",
                step.column
            ));
        }
        if let Rule::Scale { stddev, .. } = step.rule
            && (stddev <= 0.0 || stddev.is_nan())
        {
            return wrong(format!(
                "`{}`: the standard deviation is {stddev}",
                step.output
            ));
        }
    }
    Ok(fitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(steps: &str) -> Result<Fitted, String> {
        load(&Init::new().with_asset("fitted", format!("{{\"steps\": [{steps}]}}")))
    }

    #[test]
    fn preprocess_applies_fitted_steps() {
        let fitted = fitted(
            r#"{"column": "x", "output": "x_scaled", "scale": {"mean": 1, "stddev": 2}},
               {"column": "c", "output": "c_code", "ordinal": ["a", "b"]},
               {"column": "c", "output": "c_is_b", "is": "b"},
               {"column": "c", "output": "c_rate", "mean": {"values": {"a": 0.5}, "other": 0.25}}"#,
        )
        .unwrap();
        let names: Vec<_> = fitted.inputs().into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["x", "c"]);
        let text = |text: &str| Some(text.to_owned());
        let rows = Table::new(3)
            .with(
                "x",
                [Some(3.0), None, Some(1.0)]
                    .into_iter()
                    .collect::<Column<_>>(),
            )
            .with(
                "c",
                [text("a"), text("z"), None]
                    .into_iter()
                    .collect::<Column<_>>(),
            );
        let mut out = preprocess(rows, &fitted).unwrap();
        for (name, wanted) in [
            ("x_scaled", [Some(1.0), None, Some(0.0)]),
            ("c_code", [Some(0.0), None, None]),
            ("c_is_b", [Some(0.0), Some(0.0), None]),
            ("c_rate", [Some(0.5), Some(0.25), Some(0.25)]),
        ] {
            let column: Column<Option<f64>> = out.take(name).unwrap();
            let read: Vec<_> = (0..3).map(|row| column.get(row).unwrap()).collect();
            assert_eq!(read, wanted, "{name}");
        }
    }

    #[test]
    fn numbers_are_scaled_whatever_their_size() {
        let (max, inf) = (f64::MAX, f64::INFINITY);
        for (value, mean, stddev, wanted) in [
            (3.0, 1.0, 2.0, 1.0),
            (0.3, 0.1, 0.7, (0.3 - 0.1) / 0.7),
            (max, -max, max, 2.0),
            (-max, max / 2.0, max / 2.0, -3.0),
            (max, 0.0, 0.5, inf),
            (inf, 0.0, 1.0, inf),
            (-inf, max, max, -inf),
        ] {
            let found = scaled(value, mean, stddev);
            assert_eq!(found, wanted, "{value} {mean} {stddev}");
        }
    }

    #[test]
    fn invalid_fitted_steps_are_rejected() {
        for (steps, wanted) in [
            ("", "no steps"),
            (r#"{"column": "x", "output": "y"}"#, "cannot be read"),
            (
                r#"{"column": "x", "output": "y", "scale": {"mean": 1, "stddev": 0}}"#,
                "deviation is 0",
            ),
            (
                r#"{"column": "x", "output": "y", "is": "a"}, {"column": "x", "output": "z", "scale": {"mean": 0, "stddev": 1}}"#,
                "as a number and as a text",
            ),
        ] {
            let message = fitted(steps).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
