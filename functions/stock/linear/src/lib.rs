//! Predicts with a linear model, which the asset `model` describes in JSON:
//!
//! ```json
//! {"intercept": 0.5, "coefficients": {"distance_km": 0.01, "hour": -0.2}, "link": "logistic"}
//! ```
//!
//! `link` is `identity` (the default), `logistic` or `exponential`. A row in which a value is
//! missing or NaN has no prediction, unless `missing` names a value to take in its place:
//! `"missing": {"hour": 12.0}`.

use std::collections::BTreeMap;

use serde::Deserialize;
use wafer::{Column, DataType, Describe, Field, Init, Table};

/// A linear model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    intercept: f64,
    coefficients: BTreeMap<String, f64>,
    #[serde(default)]
    link: Link,
    #[serde(default)]
    missing: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Link {
    #[default]
    Identity,
    Logistic,
    Exponential,
}

/// Prediction of a linear or logistic model.
#[wafer::function(init = load)]
pub fn linear(mut rows: Table, model: &Linear) -> Result<Table, String> {
    let count = rows.len();
    let mut sums = vec![Some(model.intercept); count];
    for (name, coefficient) in &model.coefficients {
        let column: Column<Option<f64>> = rows.take(name)?;
        let default_value = model.missing.get(name);
        for (row, sum) in sums.iter_mut().enumerate() {
            let value = column.is_present(row).then(|| column.data()[row]);
            let value = value.filter(|v| !v.is_nan()).or(default_value.copied());
            *sum = sum.zip(value).map(|(sum, value)| sum + coefficient * value);
        }
    }
    let predictions: Column<Option<f64>> = sums
        .into_iter()
        .map(|sum| sum.map(|sum| model.link.apply(sum)))
        .collect();
    Ok(Table::new(count).with("prediction", predictions))
}

impl Link {
    fn apply(self, sum: f64) -> f64 {
        match self {
            Self::Identity => sum,
            Self::Logistic => 1.0 / (1.0 + (-sum).exp()),
            Self::Exponential => sum.exp(),
        }
    }
}

impl Describe for Linear {
    fn inputs(&self) -> Vec<Field> {
        let names = self.coefficients.keys();
        names
            .map(|name| Field::nullable(name, DataType::Float64))
            .collect()
    }

    fn outputs(&self) -> Vec<Field> {
        vec![Field::nullable("prediction", DataType::Float64).with_doc("The predicted number.")]
    }
}

/// Reads the model, when the function is registered.
///
/// # Errors
/// Returns a message that says what is wrong with the model.
pub fn load(init: &Init) -> Result<Linear, String> {
    init.only_parameters(&[])?;
    let model: Linear = serde_json::from_slice(init.asset("model")?)
        .map_err(|e| format!("asset `model` is not a linear model: {e}"))?;
    if model.coefficients.is_empty() {
        return Err("asset `model`: it has no coefficients".to_owned());
    }
    if let Some(name) = model
        .missing
        .keys()
        .find(|name| !model.coefficients.contains_key(*name))
    {
        return Err(format!(
            "asset `model`: `missing` names `{name}`, which has no coefficient"
        ));
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(json: &str) -> Result<Linear, String> {
        load(&Init::new().with_asset("model", json))
    }

    #[test]
    fn linear_models_predict_rows() {
        let model =
            model(r#"{"intercept": 1, "coefficients": {"a": 2, "b": -1}, "missing": {"b": 4}}"#)
                .unwrap();
        let column = |values: [Option<f64>; 3]| values.into_iter().collect::<Column<_>>();
        let rows = Table::new(3)
            .with("a", column([Some(1.0), None, Some(3.0)]))
            .with("b", column([Some(2.0), Some(2.0), None]));
        let mut out = linear(rows, &model).unwrap();
        let predictions: Column<Option<f64>> = out.take("prediction").unwrap();
        let read: Vec<_> = (0..3).map(|row| predictions.get(row).unwrap()).collect();
        assert_eq!(read, [Some(1.0), None, Some(3.0)]);
    }

    #[test]
    fn invalid_linear_models_are_rejected() {
        for (json, wanted) in [
            ("", "not a linear model"),
            ("{}", "missing field `intercept`"),
            (r#"{"intercept": 1, "coefficients": {}}"#, "no coefficients"),
            (
                r#"{"intercept": 1, "coefficients": {"a": 1}, "link": "magic"}"#,
                "unknown variant `magic`",
            ),
            (
                r#"{"intercept": 1, "coefficients": {"a": 1}, "missing": {"b": 1}}"#,
                "`b`, which has no coefficient",
            ),
        ] {
            let message = model(json).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
