//! Values of fields that are arguments of a command: `NAME=VALUE`.
//!
//! Texts and byte strings are what is written. Values of other types are read as JSON, like those
//! of a request over HTTP, and are refused as there: a number that would become another one, or a
//! name that is given twice.

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use wafer_core::{DataType, check_json_text};

/// Reads the values of fields. `form` is how the command calls the form of an argument, and
/// `type_of` returns the type of a field, if it is known.
///
/// # Errors
/// Returns an error for an argument of another form, a field that is given twice, and a number that
/// is not kept exactly.
pub(crate) fn named_values<'a>(
    arguments: &[String],
    form: &str,
    type_of: impl Fn(&str) -> Option<&'a DataType>,
) -> Result<Map<String, Json>> {
    let mut values = Map::new();
    for argument in arguments {
        let (name, text) = argument
            .split_once('=')
            .with_context(|| format!("`{argument}` is not {form}"))?;
        let value = value(name, text, type_of(name))?;
        let earlier = values.insert(name.to_owned(), value);
        ensure!(
            earlier.is_none(),
            "`{name}` is given twice, and only one value could be used"
        );
    }
    Ok(values)
}

/// Reads one value. What is not JSON, such as a time, is a text.
fn value(name: &str, text: &str, data_type: Option<&DataType>) -> Result<Json> {
    let is_text = matches!(data_type, None | Some(DataType::Utf8 | DataType::Binary));
    let is_json = || serde_json::from_str::<&RawValue>(text).is_ok();
    if is_text || !is_json() {
        return Ok(Json::String(text.to_owned()));
    }
    check_json_text(text.as_bytes()).map_err(|reason| anyhow!("`{name}` {reason}"))?;
    serde_json::from_str(text).with_context(|| format!("`{name}` cannot be read"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(arguments: &[&str]) -> Result<Map<String, Json>> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        named_values(&arguments, "KEY=VALUE", |name| match name {
            "n" => Some(&DataType::Int64),
            "x" => Some(&DataType::Float64),
            "at" => Some(&DataType::Timestamp),
            "text" => Some(&DataType::Utf8),
            "bytes" => Some(&DataType::Binary),
            "list" => Some(&DataType::ListInt64),
            _ => None,
        })
    }

    #[test]
    fn values_are_read_as_the_types_of_their_fields() {
        for (argument, wanted) in [
            ("n=7", json!({"n": 7})),
            ("n=7.0", json!({"n": 7.0})),
            (
                "n=9007199254740993",
                json!({"n": 9_007_199_254_740_993_i64}),
            ),
            ("n=x", json!({"n": "x"})),
            ("n=", json!({"n": ""})),
            ("x=0.1", json!({"x": 0.1})),
            ("x=NaN", json!({"x": "NaN"})),
            (
                "at=2024-01-01T00:00:00Z",
                json!({"at": "2024-01-01T00:00:00Z"}),
            ),
            ("text=1e400", json!({"text": "1e400"})),
            ("text=a=b", json!({"text": "a=b"})),
            ("bytes=00", json!({"bytes": "00"})),
            ("list=[1,2]", json!({"list": [1, 2]})),
            ("other=7", json!({"other": "7"})),
        ] {
            assert_eq!(
                Json::Object(read(&[argument]).unwrap()),
                wanted,
                "{argument}"
            );
        }
    }

    #[test]
    fn values_of_which_something_would_be_lost_are_refused() {
        for (arguments, wanted) in [
            (
                &["n=1.0000000000000000001"][..],
                "`n` has the number 1.0000000000000000001, which is not kept exactly",
            ),
            (
                &["n=0.99999999999999999999"],
                "`n` has the number 0.99999999999999999999, which is not kept exactly",
            ),
            (
                &["x=9007199254740993.0"],
                "`x` has the number 9007199254740993.0, which is not kept exactly",
            ),
            (&["x=1e-400"], "`x` has the number 1e-400, which"),
            (&["x=1e400"], "`x` has the number 1e400, which"),
            (
                &["list=[1,12345678901234567890123]"],
                "`list` has the number 12345678901234567890123, which",
            ),
            (&["n=1", "x=2", "n=1"], "`n` is given twice"),
            (&["n"], "`n` is not KEY=VALUE"),
        ] {
            let said = read(arguments).unwrap_err().to_string();
            assert!(said.starts_with(wanted), "{arguments:?}: {said}");
        }
    }
}
