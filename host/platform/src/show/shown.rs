//! Rows that are shown, as JSON and as files.

use std::fmt::{self, Display};
use std::fs::File;

use arrow_array::RecordBatch;
use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Serialize, Serializer};
use wafer_catalog::{Format, Reject};
use wafer_core::{Field, JsonCell};
use wafer_files::{OutputFile, cell_text};
use wafer_store::Result;

use crate::show::ShowTarget;

/// A column that is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenColumn {
    /// The name of the column.
    pub name: String,
    /// Why it is not shown.
    pub reason: HiddenReason,
}

/// Why a column is not shown. It reads as the end of a sentence that begins with the column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HiddenReason {
    /// The column of a file has this type, which Wafer does not know.
    Type(String),
    /// The input of a view is known in requests only.
    Request,
    /// The feature of a view needs these inputs, which are known in requests only.
    Needs(Vec<String>),
}

impl Display for HiddenReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(stored_as) => {
                write!(
                    f,
                    "is {stored_as}, which is read only if its source says how"
                )
            }
            Self::Request => f.write_str("is known in requests only"),
            Self::Needs(inputs) => {
                let inputs: Vec<String> = inputs.iter().map(|i| format!("`{i}`")).collect();
                write!(f, "needs {}, known in requests only", inputs.join(", "))
            }
        }
    }
}

/// Some rows that are shown.
///
/// It serialises as `{"kind": …, "name": …, "columns": […], "rows": [{…}], "more": …}`, with the
/// rows as objects. `rejected`, `rejects`, `left_out` and `waiting` are absent when there is
/// nothing to say.
#[derive(Debug)]
pub struct ShownRows {
    /// What the rows are of.
    pub at: ShowTarget,
    /// The columns.
    pub fields: Vec<Field>,
    /// The rows.
    pub rows: RecordBatch,
    /// Whether there are more rows that fulfil the conditions.
    pub has_more: bool,
    /// The number of rows that could not be read, among those that were read.
    pub rejected: u64,
    /// The first of these rows, and why.
    pub rejects: Vec<Reject>,
    /// The columns that are not shown.
    pub left_out: Vec<HiddenColumn>,
    /// The number of rows that are durable and not in the table yet, at most
    /// [`MAX_SHOWN_ROWS`](crate::MAX_SHOWN_ROWS).
    pub waiting: u64,
}

impl ShownRows {
    /// Returns the cells of each row as texts: a text as it is, any other value as JSON.
    pub fn texts(&self) -> Vec<Vec<String>> {
        let cells = |row: usize| {
            let columns = self.rows.columns().iter();
            columns.map(|column| cell_text(column, row)).collect()
        };
        (0..self.rows.num_rows()).map(cells).collect()
    }

    /// Writes the rows to an open file, in a format. Blocks the thread.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the format cannot hold a value,
    /// and [`Kind::Unavailable`](wafer_store::Kind::Unavailable) when the file cannot be written.
    pub fn write(&self, file: File, name: &str, format: Format) -> Result<()> {
        let mut output = OutputFile::opened(file, name.as_ref(), format, &self.rows.schema())?;
        output.write(&self.rows)?;
        output.close().map(drop)
    }
}

impl Serialize for ShownRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_struct("ShownRows", 9)?;
        all.serialize_field("kind", self.at.kind())?;
        all.serialize_field("name", &self.at.name())?;
        all.serialize_field("columns", &self.fields)?;
        all.serialize_field("rows", &Rows(self))?;
        all.serialize_field("more", &self.has_more)?;
        if self.rejected > 0 {
            all.serialize_field("rejected", &self.rejected)?;
            all.serialize_field("rejects", &self.rejects)?;
        }
        if !self.left_out.is_empty() {
            all.serialize_field("left_out", &Reasons(&self.left_out))?;
        }
        if self.waiting > 0 {
            all.serialize_field("waiting", &self.waiting)?;
        }
        all.end()
    }
}

/// The rows as objects, without a copy of them all.
struct Rows<'a>(&'a ShownRows);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = 0..self.0.rows.num_rows();
        serializer.collect_seq(rows.map(|row| Row(self.0, row)))
    }
}

/// One row as an object, with the columns in their order.
struct Row<'a>(&'a ShownRows, usize);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(shown, row) = self;
        let mut cells = serializer.serialize_map(Some(shown.fields.len()))?;
        for (field, column) in shown.fields.iter().zip(shown.rows.columns()) {
            cells.serialize_entry(&field.name, &JsonCell::new(column, *row))?;
        }
        cells.end()
    }
}

/// The columns that are left out, as an object of the reasons; of a file, of the types.
struct Reasons<'a>(&'a [HiddenColumn]);

impl Serialize for Reasons<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|HiddenColumn { name, reason }| {
            let text = match reason {
                HiddenReason::Type(stored_as) => stored_as.clone(),
                HiddenReason::Request | HiddenReason::Needs(_) => reason.to_string(),
            };
            (name, text)
        }))
    }
}
