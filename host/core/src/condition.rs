//! Conditions on rows, as people write them to look at some of a table: `delay >= 15`.

use std::cmp::Ordering;
use std::str::FromStr;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array as _, ArrayRef, BooleanArray};

use crate::float::compare;
use crate::{ColumnBuilder, DataType, Field, Quoting, Timestamp};

/// A condition on the value of one column.
///
/// It is written as `COLUMN = VALUE`, with one of `=`, `!=`, `<`, `<=`, `>` and `>=`, or as
/// `COLUMN is null` or `COLUMN is not null`. The value is everything after the operator, without
/// the spaces around it; quotes around it, single or double, are taken away. It is read as the type
/// of the column, as a field of a CSV file is. A null fulfils none but `is null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    column: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    IsNull,
    IsNotNull,
    Compares(Operator, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The operators as they are written. One that another begins with comes after it.
const OPERATORS: [(&str, Operator); 6] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl Operator {
    fn allows(self, found: Ordering) -> bool {
        match self {
            Self::Equal => found.is_eq(),
            Self::NotEqual => found.is_ne(),
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a condition; write COLUMN = VALUE (or !=, <, <=, >, >=), COLUMN is null, or \
                 COLUMN is not null"
            )
        };
        let (column, test) = null_test(text)
            .or_else(|| comparison(text))
            .ok_or_else(wrong)?;
        if column.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            column: column.to_owned(),
            test,
        })
    }
}

/// Parses `COLUMN is null` and `COLUMN is not null`.
fn null_test(text: &str) -> Option<(&str, Test)> {
    let lower = text.to_ascii_lowercase();
    let ends = [
        (" is null", Test::IsNull),
        (" is not null", Test::IsNotNull),
    ];
    let (end, test) = ends
        .into_iter()
        .find(|(end, _)| lower.trim_end().ends_with(end))?;
    let column = &text[..lower.trim_end().len() - end.len()];
    Some((column.trim(), test))
}

/// Parses a comparison. Its operator is the first one in the text.
fn comparison(text: &str) -> Option<(&str, Test)> {
    let start = text.find(['!', '=', '<', '>'])?;
    let (column, rest) = text.split_at(start);
    let mut operators = OPERATORS.into_iter();
    let (written, operator) = operators.find(|(written, _)| rest.starts_with(written))?;
    let value = unquoted(rest[written.len()..].trim());
    Some((column.trim(), Test::Compares(operator, value.to_owned())))
}

fn unquoted(value: &str) -> &str {
    let within = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    within('\'').or_else(|| within('"')).unwrap_or(value)
}

impl Condition {
    /// Returns the name of the column.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// Reads the value as the type of the column.
    ///
    /// # Errors
    /// Returns a message for the user when the column has a type without an order, or the value is
    /// not of the type.
    pub fn bind(&self, field: &Field) -> Result<BoundCondition, String> {
        let Test::Compares(operator, text) = &self.test else {
            return Ok(BoundCondition(Bound::Null(self.test == Test::IsNull)));
        };
        if !has_order(&field.data_type) {
            return Err(format!(
                "column `{}` is {}: only `is null` and `is not null` can be asked of it",
                self.column, field.data_type
            ));
        }
        // A condition is an argument, in which a date stands for its midnight in UTC.
        let time = match field.data_type {
            DataType::Timestamp => Timestamp::parse_argument(text).ok(),
            _ => None,
        };
        let text = time.map_or_else(|| text.clone(), |time| time.to_string());
        let mut value = ColumnBuilder::new(&field.data_type, 1);
        value
            .append_text(&text, Quoting::Quoted)
            .map_err(|message| format!("column `{}`: {message}", self.column))?;
        let value = value.finish();
        // An empty text would be a null, to which nothing compares.
        if value.is_null(0) {
            return Err(format!(
                "column `{}`: `` is not {}",
                self.column, field.data_type
            ));
        }
        Ok(BoundCondition(Bound::Compares(*operator, value)))
    }
}

fn has_order(data_type: &DataType) -> bool {
    data_type.is_key() || matches!(data_type, DataType::Float64 | DataType::Float32)
}

/// A condition on a column of a known type.
#[derive(Clone, Debug)]
pub struct BoundCondition(Bound);

#[derive(Clone, Debug)]
enum Bound {
    /// Whether the value is null.
    Null(bool),
    /// How the value compares with the only value of the column here.
    Compares(Operator, ArrayRef),
}

impl BoundCondition {
    /// Returns for each row of the column whether it fulfils the condition.
    ///
    /// # Panics
    /// Panics when the column has another type than the field that the condition was bound to.
    pub fn holds(&self, column: &ArrayRef) -> BooleanArray {
        let holds = |row: usize| match &self.0 {
            Bound::Null(wanted) => column.is_null(row) == *wanted,
            Bound::Compares(..) if column.is_null(row) => false,
            Bound::Compares(operator, value) => operator.allows(order(column, row, value)),
        };
        (0..column.len()).map(|row| Some(holds(row))).collect()
    }
}

/// Compares a value of a column with the only value of another column of its type.
fn order(column: &ArrayRef, row: usize, value: &ArrayRef) -> Ordering {
    match DataType::from_arrow(column.data_type()) {
        DataType::Boolean => {
            let (a, b) = (column.as_boolean(), value.as_boolean());
            a.value(row).cmp(&b.value(0))
        }
        DataType::Int64 => {
            let a = column.as_primitive::<Int64Type>();
            let b = value.as_primitive::<Int64Type>();
            a.value(row).cmp(&b.value(0))
        }
        DataType::Float64 => {
            let a = column.as_primitive::<Float64Type>();
            let b = value.as_primitive::<Float64Type>();
            compare(a.value(row), b.value(0))
        }
        DataType::Float32 => {
            let a = column.as_primitive::<Float32Type>();
            let b = value.as_primitive::<Float32Type>();
            compare(a.value(row).into(), b.value(0).into())
        }
        DataType::Utf8 => {
            let (a, b) = (column.as_string::<i32>(), value.as_string::<i32>());
            a.value(row).cmp(b.value(0))
        }
        DataType::Binary => {
            let (a, b) = (column.as_binary::<i32>(), value.as_binary::<i32>());
            a.value(row).cmp(b.value(0))
        }
        DataType::Timestamp => {
            let a = column.as_primitive::<TimestampMicrosecondType>();
            let b = value.as_primitive::<TimestampMicrosecondType>();
            a.value(row).cmp(&b.value(0))
        }
        DataType::Date => {
            let a = column.as_primitive::<Date32Type>();
            let b = value.as_primitive::<Date32Type>();
            a.value(row).cmp(&b.value(0))
        }
        other => unreachable!("{other} was refused when the condition was bound"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn holds(condition: &str, data_type: &str, values: &Json) -> Result<Vec<bool>, String> {
        let field = Field::new("v", data_type.parse().unwrap(), true);
        let mut column = ColumnBuilder::new(&field.data_type, 0);
        for value in values.as_array().unwrap() {
            column.append_json(value).unwrap();
        }
        let bound = condition.parse::<Condition>()?.bind(&field)?;
        let holds = bound.holds(&column.finish());
        Ok(holds.iter().map(Option::unwrap_or_default).collect())
    }

    #[test]
    fn conditions_hold_for_the_values_that_they_describe() {
        let floats = json!([1.5, -0.0, "NaN", "Infinity", null]);
        let texts = json!(["a", "", "a b", "it's", null]);
        let times = json!(["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", null]);
        for (condition, data_type, values, wanted) in [
            ("v = 2", "int64", json!([1, 2, 3, null]), "0100"),
            ("v != 2", "int64", json!([1, 2, 3, null]), "1010"),
            ("v<2", "int64", json!([1, 2, 3, null]), "1000"),
            ("v<= 2", "int64", json!([1, 2, 3, null]), "1100"),
            (" v >2", "int64", json!([1, 2, 3, null]), "0010"),
            ("v>=2", "int64", json!([1, 2, 3, null]), "0110"),
            (
                "v = -9007199254740993",
                "int64",
                json!([-9_007_199_254_740_993_i64]),
                "1",
            ),
            ("v is null", "int64", json!([1, null]), "01"),
            ("v IS NOT NULL", "int64", json!([1, null]), "10"),
            // Floats are equal and ordered as everywhere else.
            ("v = 0", "float64", floats.clone(), "01000"),
            ("v = NaN", "float64", floats.clone(), "00100"),
            ("v > 1.5", "float64", floats.clone(), "00110"),
            ("v < 1.5", "float32", floats, "01000"),
            ("v = a", "utf8", texts.clone(), "10000"),
            ("v =", "utf8", texts.clone(), "01000"),
            ("v = ''", "utf8", texts.clone(), "01000"),
            ("v = 'a b'", "utf8", texts.clone(), "00100"),
            ("v = it's", "utf8", texts.clone(), "00010"),
            ("v > a", "utf8", texts, "00110"),
            (
                "v >= 2024-01-02T00:00:00Z",
                "timestamp",
                times.clone(),
                "010",
            ),
            ("v >= 2024-01-02", "timestamp", times, "010"),
            ("v = 2024-01-02", "date", json!(["2024-01-02", null]), "10"),
            ("v = true", "boolean", json!([true, false, null]), "100"),
            ("v = 00ff", "binary", json!(["00ff", "", null]), "100"),
            ("v is not null", "list<int64>", json!([[1], null]), "10"),
        ] {
            let found = holds(condition, data_type, &values).unwrap();
            let found: String = found
                .iter()
                .map(|held| if *held { '1' } else { '0' })
                .collect();
            assert_eq!(found, wanted, "{condition} of {data_type}");
        }
    }

    #[test]
    fn conditions_that_cannot_be_parsed_are_refused_with_the_reason() {
        for (condition, data_type, wanted) in [
            ("", "int64", "is not a condition"),
            ("v", "int64", "is not a condition"),
            ("= 1", "int64", "is not a condition"),
            ("is null", "int64", "is not a condition"),
            ("v ! 1", "int64", "is not a condition"),
            ("v = x", "int64", "column `v`: `x` is not int64"),
            ("v =", "int64", "column `v`: `` is not int64"),
            ("v = [1]", "list<int64>", "only `is null` and `is not null`"),
        ] {
            let message = holds(condition, data_type, &json!([])).expect_err(condition);
            assert!(message.contains(wanted), "{condition}: {message}");
        }
    }
}
