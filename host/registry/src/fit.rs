//! Whether the function of a model fits the view that the model reads.

use std::collections::BTreeMap;

use wafer_catalog::{Recipe, meant};
use wafer_core::{DataType, Field, Mapping, Signature, can_widen};
use wafer_store::{Error, Result};

/// Checks that a model's function reads only what its view has, maps rows one to one, and has
/// outputs that can be stored. The error names every difference.
pub(crate) fn check_fit(
    name: &str,
    view: &str,
    prediction: Option<&str>,
    signature: &Signature,
    recipe: &Recipe,
) -> Result<()> {
    let differences = differences(signature, prediction, &recipe.readable());
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "model `{name}` does not fit view `{view}`: {}",
        differences.join("; ")
    )))
}

/// Returns why a function cannot predict with the fields that its model can read; nothing if it
/// can.
fn differences(
    signature: &Signature,
    prediction: Option<&str>,
    readable: &BTreeMap<String, Field>,
) -> Vec<String> {
    let inputs = signature.inputs.fields().iter();
    let mut differences: Vec<String> = inputs
        .filter_map(|input| input_difference(input, readable))
        .collect();
    if signature.mapping != Mapping::OneToOne {
        differences.push("the function does not map rows one to one".to_owned());
    }
    let outputs = signature.outputs.fields().iter();
    let unstorable = outputs.filter(|output| !output.data_type.is_storable());
    differences.extend(unstorable.map(|output| {
        let Field {
            name, data_type, ..
        } = output;
        format!("output `{name}` cannot be {data_type}")
    }));
    differences.extend(prediction.and_then(|name| prediction_difference(name, signature)));
    differences
}

/// Returns why the function cannot read an input, or `None` if it can.
fn input_difference(input: &Field, readable: &BTreeMap<String, Field>) -> Option<String> {
    let Field {
        name, data_type, ..
    } = input;
    match readable.get(name) {
        Some(found) if can_widen(&found.data_type, data_type) => None,
        Some(found) => Some(format!(
            "`{name}` is {} in the view, and the model reads {data_type}",
            found.data_type
        )),
        None => {
            let hint = meant(name, readable.keys().map(String::as_str));
            Some(format!("the view has no `{name}` ({data_type}){hint}"))
        }
    }
}

/// Returns why an output cannot be the prediction, or `None` if it can.
fn prediction_difference(name: &str, signature: &Signature) -> Option<String> {
    match signature.outputs.field(name) {
        Some(field) if can_widen(&field.data_type, &DataType::Float64) => None,
        Some(field) => Some(format!(
            "output `{name}` is {}, and a prediction is a number",
            field.data_type
        )),
        None => Some(format!(
            "the function has no output `{name}`, which `prediction` names"
        )),
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::Schema;

    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let field =
            |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
        Schema::new(columns.iter().map(field).collect()).unwrap()
    }

    /// Returns the differences between a model and a view with `distance: int64` and
    /// `carrier: utf8`.
    fn check(
        inputs: &[(&str, DataType)],
        outputs: &[(&str, DataType)],
        mapping: Mapping,
        prediction: Option<&str>,
    ) -> Vec<String> {
        let view = schema(&[("distance", DataType::Int64), ("carrier", DataType::Utf8)]);
        let fields = view.fields().iter();
        let readable = fields.map(|field| (field.name.clone(), field.clone()));
        let signature = Signature {
            inputs: schema(inputs),
            outputs: schema(outputs),
            mapping,
            doc: String::new(),
        };
        differences(&signature, prediction, &readable.collect())
    }

    #[test]
    fn a_model_that_fits_its_view_has_no_differences() {
        let score = [("score", DataType::Float64)];
        for (input, prediction) in [
            (("distance", DataType::Int64), None),
            (("distance", DataType::Float64), Some("score")),
            (("carrier", DataType::Utf8), Some("score")),
        ] {
            let found = check(
                std::slice::from_ref(&input),
                &score,
                Mapping::OneToOne,
                prediction,
            );
            assert!(found.is_empty(), "{input:?}: {found:?}");
        }
    }

    #[test]
    fn every_difference_between_a_model_and_its_view_is_named() {
        let found = check(
            &[
                ("distanse", DataType::Int64),
                ("carrier", DataType::Float64),
            ],
            &[("label", DataType::Utf8)],
            Mapping::OneToMany,
            Some("label"),
        );
        assert_eq!(
            found,
            [
                "the view has no `distanse` (int64); is `distance` meant?",
                "`carrier` is utf8 in the view, and the model reads float64",
                "the function does not map rows one to one",
                "output `label` is utf8, and a prediction is a number",
            ]
        );
        let found = check(
            &[("distance", DataType::Int64)],
            &[("score", DataType::Float64)],
            Mapping::OneToOne,
            Some("rank"),
        );
        assert_eq!(
            found,
            ["the function has no output `rank`, which `prediction` names"]
        );
    }
}
