//! Parsers for values of settings: durations, sizes, lists, parameters and typed fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use wafer_core::{DataType, Duration, Field, parse_bytes};

use crate::error::BrokenRule;

/// Converts parameters to text: strings as they are, other values as TOML writes them.
pub(crate) fn parameter_texts(
    parameters: &BTreeMap<String, toml::Value>,
) -> BTreeMap<String, String> {
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    parameters
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// Checks that parameters are strings, numbers or booleans.
pub(crate) fn check_parameters(
    parameters: &BTreeMap<String, toml::Value>,
    key: &str,
) -> Result<(), BrokenRule> {
    for (parameter, value) in parameters {
        if matches!(
            value,
            toml::Value::Array(_) | toml::Value::Table(_) | toml::Value::Datetime(_)
        ) {
            let key = format!("{key}.parameters.{parameter}");
            return Err(BrokenRule::new(key, "is a text, a number or a boolean"));
        }
    }
    Ok(())
}

/// Parses a table of column types, `{ name = "type" }`.
pub(crate) fn typed_fields(
    table: &toml::Table,
    key: &str,
) -> Result<Vec<(String, DataType)>, BrokenRule> {
    table
        .iter()
        .map(|(name, value)| {
            let wrong = |message: String| BrokenRule::new(format!("{key}.{name}"), message);
            let text = value
                .as_str()
                .ok_or_else(|| wrong("is the name of a type".to_owned()))?;
            let data_type = text
                .parse()
                .map_err(|e: wafer_core::ParseDataTypeError| wrong(e.to_string()))?;
            Ok((name.clone(), data_type))
        })
        .collect()
}

/// Parses a table of column types, `{ name = "type", other = "type?" }`, in which `?` allows nulls.
pub(crate) fn nullable_fields(table: &toml::Table, key: &str) -> Result<Vec<Field>, BrokenRule> {
    let field = |(name, value): (&String, &toml::Value)| {
        let wrong = |message: String| BrokenRule::new(format!("{key}.{name}"), message);
        let text = value.as_str();
        let text = text.ok_or_else(|| wrong("is the name of a type".to_owned()))?;
        nullable_field(name, text).map_err(wrong)
    };
    table.iter().map(field).collect()
}

/// Parses the type of a column, such as `float64`, or `float64?` if it may be null.
pub(crate) fn nullable_field(name: &str, text: &str) -> Result<Field, String> {
    let (data_type, nullable) = match text.strip_suffix('?') {
        Some(data_type) => (data_type, true),
        None => (text, false),
    };
    let data_type: DataType = data_type
        .parse()
        .map_err(|e: wafer_core::ParseDataTypeError| e.to_string())?;
    Ok(Field::new(name, data_type, nullable))
}

/// Deserializes a string, or a list of strings.
pub(crate) fn one_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(text) => vec![text],
        OneOrMore::More(texts) => texts,
    })
}

/// Deserializes a duration such as `5m`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// Deserializes a size such as `64 MiB` to bytes.
pub(crate) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_bytes(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}
