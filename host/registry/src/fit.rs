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
        None => Some(format!("there is no output `{name}` to be the prediction")),
    }
}
