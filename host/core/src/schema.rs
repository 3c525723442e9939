//! Column types, fields, schemas and function signatures, as the host records them. They correspond
//! to those in `wit/types.wit`.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field as ArrowField, TimeUnit};
use serde::{Deserialize, Serialize};

/// Maximum length of a field's name, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 128;
/// Maximum number of fields in a schema.
pub(crate) const MAX_FIELDS: usize = 1_024;

/// The type of a column. It is written as `int64`, `vector(3)`, `list<utf8>` and so on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "DataTypeRepr", try_from = "DataTypeRepr")]
pub enum DataType {
    /// `true` or `false`.
    Boolean,
    /// A 64-bit signed integer.
    Int64,
    /// A 64-bit IEEE 754 number.
    Float64,
    /// A 32-bit IEEE 754 number.
    Float32,
    /// A UTF-8 string.
    Utf8,
    /// A byte string.
    Binary,
    /// Microseconds since the Unix epoch, 1970-01-01T00:00:00 UTC.
    Timestamp,
    /// Days since 1970-01-01.
    Date,
    /// A vector of float32 with this fixed number of dimensions.
    Vector(u32),
    /// A list of int64.
    ListInt64,
    /// A list of float64.
    ListFloat64,
    /// A list of utf8.
    ListUtf8,
    /// Any other Arrow type, passed through unchanged. A function may read it, but it cannot be
    /// stored as a feature.
    Arrow(Box<ArrowType>),
}

impl DataType {
    /// The Arrow type that columns of this type have throughout the host.
    pub fn to_arrow(&self) -> ArrowType {
        match self {
            Self::Boolean => ArrowType::Boolean,
            Self::Int64 => ArrowType::Int64,
            Self::Float64 => ArrowType::Float64,
            Self::Float32 => ArrowType::Float32,
            Self::Utf8 => ArrowType::Utf8,
            Self::Binary => ArrowType::Binary,
            Self::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Date => ArrowType::Date32,
            Self::Vector(n) => ArrowType::FixedSizeList(
                item(ArrowType::Float32, false),
                i32::try_from(*n).unwrap_or(i32::MAX),
            ),
            Self::ListInt64 => ArrowType::List(item(ArrowType::Int64, false)),
            Self::ListFloat64 => ArrowType::List(item(ArrowType::Float64, false)),
            Self::ListUtf8 => ArrowType::List(item(ArrowType::Utf8, false)),
            Self::Arrow(arrow) => (**arrow).clone(),
        }
    }

    /// Every type that [can be stored](Self::is_storable), with vectors of so many dimensions.
    /// Inputs of fuzz targets name the types by their places.
    pub fn storable(dimensions: u32) -> [Self; 12] {
        [
            Self::Boolean,
            Self::Int64,
            Self::Float64,
            Self::Float32,
            Self::Utf8,
            Self::Binary,
            Self::Timestamp,
            Self::Date,
            Self::Vector(dimensions),
            Self::ListInt64,
            Self::ListFloat64,
            Self::ListUtf8,
        ]
    }

    /// The type whose columns have an Arrow type throughout the host; [`DataType::Arrow`] for
    /// every other Arrow type.
    pub fn from_arrow(arrow: &ArrowType) -> Self {
        let dimensions = match arrow {
            ArrowType::FixedSizeList(_, dimensions) => u32::try_from(*dimensions).unwrap_or(0),
            _ => 0,
        };
        let mut known = Self::storable(dimensions).into_iter();
        let found = known.find(|known| known.to_arrow() == *arrow);
        found.unwrap_or_else(|| Self::Arrow(Box::new(arrow.clone())))
    }

    /// Whether columns of feature groups and requests may have this type.
    pub fn is_storable(&self) -> bool {
        !matches!(self, Self::Arrow(_))
    }

    /// Whether a join key may have this type. Only types whose values compare exactly qualify.
    pub fn is_key(&self) -> bool {
        matches!(
            self,
            Self::Boolean | Self::Int64 | Self::Utf8 | Self::Binary | Self::Timestamp | Self::Date
        )
    }
}

fn item(data_type: ArrowType, nullable: bool) -> Arc<ArrowField> {
    // "element" is the name that Parquet and Delta give the items of a list.
    Arc::new(ArrowField::new("element", data_type, nullable))
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Int64 => f.write_str("int64"),
            Self::Float64 => f.write_str("float64"),
            Self::Float32 => f.write_str("float32"),
            Self::Utf8 => f.write_str("utf8"),
            Self::Binary => f.write_str("binary"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Date => f.write_str("date"),
            Self::Vector(n) => write!(f, "vector({n})"),
            Self::ListInt64 => f.write_str("list<int64>"),
            Self::ListFloat64 => f.write_str("list<float64>"),
            Self::ListUtf8 => f.write_str("list<utf8>"),
            Self::Arrow(arrow) => write!(f, "arrow({arrow})"),
        }
    }
}

/// The error for text that is not the name of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a type; use boolean, int64, float64, float32, utf8, binary, timestamp, date, \
     vector(N), list<int64>, list<float64> or list<utf8>"
)]
pub struct ParseDataTypeError(String);

impl FromStr for DataType {
    type Err = ParseDataTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseDataTypeError(text.to_owned());
        Ok(match text {
            "boolean" => Self::Boolean,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "float32" => Self::Float32,
            "utf8" => Self::Utf8,
            "binary" => Self::Binary,
            "timestamp" => Self::Timestamp,
            "date" => Self::Date,
            "list<int64>" => Self::ListInt64,
            "list<float64>" => Self::ListFloat64,
            "list<utf8>" => Self::ListUtf8,
            _ => {
                let dimension = text
                    .strip_prefix("vector(")
                    .and_then(|t| t.strip_suffix(')'));
                match dimension.and_then(|d| d.parse().ok()) {
                    Some(n @ 1..=0x7fff_ffff) => Self::Vector(n),
                    _ => return Err(error()),
                }
            }
        })
    }
}

/// The JSON form of a [`DataType`]: its name, or the Arrow type in full.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum DataTypeRepr {
    Name(String),
    Arrow { arrow: Box<ArrowType> },
}

impl From<DataType> for DataTypeRepr {
    fn from(data_type: DataType) -> Self {
        match data_type {
            DataType::Arrow(arrow) => Self::Arrow { arrow },
            other => Self::Name(other.to_string()),
        }
    }
}

impl TryFrom<DataTypeRepr> for DataType {
    type Error = ParseDataTypeError;
    fn try_from(repr: DataTypeRepr) -> Result<Self, Self::Error> {
        match repr {
            DataTypeRepr::Name(name) => name.parse(),
            DataTypeRepr::Arrow { arrow } => Ok(Self::Arrow(arrow)),
        }
    }
}

/// A named, typed column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Name of the column, unique within its schema.
    pub name: String,
    /// Type of the column.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Whether the column may hold nulls.
    #[serde(default)]
    pub nullable: bool,
    /// Description for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
}

impl Field {
    /// Creates a field without a description.
    pub fn new(name: impl Into<String>, data_type: DataType, nullable: bool) -> Self {
        Self {
            name: name.into(),
            data_type,
            nullable,
            doc: String::new(),
        }
    }

    /// The Arrow field of the same name, type and nullability.
    pub fn to_arrow(&self) -> ArrowField {
        ArrowField::new(&self.name, self.data_type.to_arrow(), self.nullable)
    }
}

/// An ordered list of named, typed columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema {
    fields: Vec<Field>,
}

/// The error for a list of fields that is not a valid schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// There are no fields, or more than 1,024.
    #[error("{0} fields; a schema has 1 to {MAX_FIELDS}")]
    Count(usize),
    /// A name is not a valid column name.
    #[error(
        "`{0}` is not a column name; use letters, digits and underscores, \
         not starting with a digit, at most {MAX_NAME_BYTES} bytes"
    )]
    Name(String),
    /// Two fields have the same name.
    #[error("column `{0}` is there twice")]
    Duplicate(String),
}

impl Schema {
    /// Creates a schema, checking the number of fields and their names.
    ///
    /// # Errors
    /// Returns a [`SchemaError`] that names the field that breaks a rule.
    pub fn new(fields: Vec<Field>) -> Result<Self, SchemaError> {
        if fields.is_empty() || fields.len() > MAX_FIELDS {
            return Err(SchemaError::Count(fields.len()));
        }
        let mut seen = HashSet::new();
        for field in &fields {
            if !is_column_name(&field.name) {
                return Err(SchemaError::Name(field.name.clone()));
            }
            if !seen.insert(field.name.as_str()) {
                return Err(SchemaError::Duplicate(field.name.clone()));
            }
        }
        Ok(Self { fields })
    }

    /// The fields, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The position of a field.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// A field by its name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// The Arrow schema with the same columns.
    pub fn to_arrow(&self) -> Arc<arrow_schema::Schema> {
        let fields: Vec<_> = self.fields.iter().map(Field::to_arrow).collect();
        Arc::new(arrow_schema::Schema::new(fields))
    }
}

/// Whether a text is a valid column name.
fn is_column_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// How output rows relate to input rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    /// Exactly one output row for each input row, in the same order.
    OneToOne,
    /// Any number of output rows, including none, for each input row.
    OneToMany,
}

/// The input and output columns of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Columns of the batch that a call receives.
    pub inputs: Schema,
    /// Columns of the batch that a call returns.
    pub outputs: Schema,
    /// How output rows relate to input rows.
    pub mapping: Mapping,
    /// Description for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_types_round_trip_through_text_and_json() {
        for text in [
            "boolean",
            "int64",
            "float64",
            "float32",
            "utf8",
            "binary",
            "timestamp",
            "date",
            "vector(768)",
            "list<int64>",
            "list<float64>",
            "list<utf8>",
        ] {
            let parsed: DataType = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
            let json = serde_json::to_string(&parsed).unwrap();
            assert_eq!(serde_json::from_str::<DataType>(&json).unwrap(), parsed);
        }
        let decimal = DataType::Arrow(Box::new(ArrowType::Decimal128(10, 2)));
        let json = serde_json::to_string(&decimal).unwrap();
        assert_eq!(serde_json::from_str::<DataType>(&json).unwrap(), decimal);
    }

    #[test]
    fn storable_types_are_known_by_their_arrow_types() {
        for data_type in DataType::storable(3) {
            assert!(data_type.is_storable(), "{data_type}");
            assert_eq!(DataType::from_arrow(&data_type.to_arrow()), data_type);
        }
        for dimensions in [-1, i32::MAX] {
            let floats = item(ArrowType::Float32, true);
            let other = ArrowType::FixedSizeList(floats, dimensions);
            let known = DataType::from_arrow(&other);
            assert_eq!(known, DataType::Arrow(Box::new(other)));
        }
    }

    #[test]
    fn unknown_type_names_are_rejected() {
        for text in [
            "",
            "int32",
            "string",
            "vector",
            "vector(0)",
            "vector(-1)",
            "vector(x)",
            "list<bool>",
        ] {
            let error = text.parse::<DataType>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn schemas_reject_invalid_names() {
        let schema = |names: &[&str]| {
            Schema::new(
                names
                    .iter()
                    .map(|n| Field::new(*n, DataType::Int64, false))
                    .collect(),
            )
        };
        assert!(schema(&["a", "_b", "größe", "c1"]).is_ok());
        assert_eq!(schema(&[]), Err(SchemaError::Count(0)));
        assert_eq!(schema(&["a", "a"]), Err(SchemaError::Duplicate("a".into())));
        for name in ["", "1a", "a b", "a-b", "a.b", &"x".repeat(129)] {
            assert_eq!(schema(&[name]), Err(SchemaError::Name(name.to_owned())));
        }
    }
}
