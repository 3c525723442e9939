//! Resolves the `aggregates` of a group: the features over windows.

use wafer_catalog::AggregateDef;
use wafer_core::aggregate::{Aggregate, Function};
use wafer_core::window::Window;
use wafer_core::{Field, Schema};
use wafer_store::{Error, Result};

use crate::groups::{AggregateConfig, GroupConfig};

/// Resolves the aggregates of a group, one for each function and window.
pub(crate) fn aggregates(
    name: &str,
    group: &GroupConfig,
    columns: &[Field],
) -> Result<Vec<AggregateDef>> {
    let mut all: Vec<AggregateDef> = Vec::new();
    for (index, config) in group.aggregates.iter().enumerate() {
        let key = format!("groups.{name}.aggregates[{index}]");
        for aggregate in aggregates_of(&key, config, columns)? {
            let field = &aggregate.field.name;
            if all.iter().any(|other| other.field.name == *field) {
                let message = format!("{key}: `{field}` is there twice; give one a `name`");
                return Err(Error::invalid(message));
            }
            all.push(aggregate);
        }
    }
    let fields = all.iter().map(|a| a.field.clone()).collect::<Vec<_>>();
    if !fields.is_empty() {
        Schema::new(fields)
            .map_err(|e| Error::invalid(format!("groups.{name}.aggregates: {e}")))?;
    }
    Ok(all)
}

/// Resolves the aggregates of one table of the project file, whose place is `key`.
fn aggregates_of(
    key: &str,
    config: &AggregateConfig,
    columns: &[Field],
) -> Result<Vec<AggregateDef>> {
    let wrong = |part: &str, message: String| Error::invalid(format!("{key}{part}: {message}"));
    let column = config.column.as_ref().map(|column| {
        let place = columns.iter().position(|field| field.name == *column);
        place.expect("what aggregates read is stored")
    });
    if config.windows.is_empty() {
        let message = "is empty; write such as [\"1d\", \"7d\"]";
        return Err(wrong(".windows", message.to_owned()));
    }
    if config.functions.is_empty() {
        let message = "is empty; write such as \"mean\"";
        return Err(wrong(".function", message.to_owned()));
    }
    let mut all = Vec::new();
    for function in &config.functions {
        let function = Function::parse(function, config.k, config.quantile)
            .map_err(|e| wrong("", e.to_string()))?;
        let input = column.map(|column| &columns[column].data_type);
        let output = function.output(input).map_err(|e| {
            let of = config
                .column
                .as_ref()
                .map_or_else(String::new, |c| format!("column `{c}`: "));
            wrong("", format!("{of}{e}"))
        })?;
        for text in &config.windows {
            let window = match config.exact {
                true => Window::exact(text),
                false => Window::aligned(text),
            };
            let window = window.map_err(|e| wrong(".windows", e.to_string()))?;
            let field = Field {
                doc: aggregate_doc(function, config.column.as_deref(), window),
                ..Field::new(aggregate_name(function, config, text), output.clone(), true)
            };
            let aggregate = Aggregate {
                function,
                column,
                window,
            };
            all.push(AggregateDef { field, aggregate });
        }
    }
    Ok(all)
}

/// Returns the name of a feature over a window, which ends with the window.
fn aggregate_name(function: Function, config: &AggregateConfig, window: &str) -> String {
    let mut start = function.label();
    if let Some(of) = config.name.as_ref().or(config.column.as_ref()) {
        start = format!("{of}_{start}");
    }
    if config.exact {
        start += "_exact";
    }
    format!("{start}_{window}")
}

/// Returns the description of a feature over a window.
fn aggregate_doc(function: Function, column: Option<&str>, window: Window) -> String {
    let of = column.map_or_else(|| "events".to_owned(), |column| format!("`{column}`"));
    let label = function.label();
    match window.width {
        None => format!("{label} of {of} up to now."),
        Some(_) => format!("{label} of {of} over the last {window}."),
    }
}
