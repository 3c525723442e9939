//! Tables whose columns are known only when a function is loaded or trained.

use std::collections::BTreeMap;

use crate::bindings::types::{self, Batch, Data, DataType, Field, RowError};
use crate::column::Column;
use crate::row::{Columns, Row};
use crate::value::{Cell, Value as _};

impl Field {
    /// Creates a field that may hold nulls.
    pub fn nullable(name: impl Into<String>, data_type: DataType) -> Self {
        Self {
            nullable: true,
            ..Self::required(name, data_type)
        }
    }

    /// Creates a field without nulls.
    pub fn required(name: impl Into<String>, data_type: DataType) -> Self {
        Self {
            name: name.into(),
            data_type,
            nullable: false,
            doc: String::new(),
        }
    }

    /// Adds a description for people.
    #[must_use]
    pub fn with_doc(mut self, doc: impl Into<String>) -> Self {
        self.doc = doc.into();
        self
    }
}

/// The columns of a row type as fields, for a [`Trainer`](crate::Trainer) that reads a fixed set of
/// columns.
pub fn fields_of<R: Row>() -> Vec<Field> {
    R::fields()
}

/// The input and output columns of a function that learns them from its assets, such as a model.
/// Implemented by the state of a function on [`Table`]s.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which columns a function on a `Table` reads and gives",
    note = "implement `wafer::Describe` for what `init` makes"
)]
pub trait Describe {
    /// The columns that the function reads.
    fn inputs(&self) -> Vec<Field>;
    /// The columns that the function returns, with one row for each input row.
    fn outputs(&self) -> Vec<Field>;
}

/// Rows, as named columns.
#[derive(Debug, Default)]
pub struct Table {
    rows: usize,
    columns: Vec<(Field, Option<types::Column>)>,
    errors: BTreeMap<u32, String>,
}

impl Table {
    /// Creates a table of `rows` rows, without columns.
    pub fn new(rows: usize) -> Self {
        Self {
            rows,
            ..Self::default()
        }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The columns that the table was created with, in order.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.columns.iter().map(|(field, _)| field)
    }

    /// Adds a column.
    ///
    /// # Panics
    /// Panics when the column does not have as many rows as the table.
    #[must_use]
    pub fn with<C: Cell>(mut self, name: &str, column: Column<C>) -> Self {
        assert_eq!(column.len(), self.rows, "rows of column `{name}`");
        let field = Column::<C>::field(name, "");
        self.columns.push((field, Some(column.into_wire())));
        self
    }

    /// Adds a column of vectors, whose numbers come row after row.
    ///
    /// # Panics
    /// Panics when there are not `dimension` numbers for each row of the table.
    #[must_use]
    pub fn with_vectors(mut self, name: &str, dimension: u32, values: Vec<f32>) -> Self {
        let wanted = self.rows * dimension as usize;
        assert_eq!(values.len(), wanted, "numbers of column `{name}`");
        let field = Field::required(name, DataType::Vector(dimension));
        let column = types::Column {
            data: Data::Vector(types::Vectors { dimension, values }),
            validity: None,
        };
        self.columns.push((field, Some(column)));
        self
    }

    /// Marks a row as failed, with the reason. What its columns hold is then ignored. A row that
    /// failed already keeps its first reason.
    ///
    /// # Panics
    /// Panics when there is no such row.
    pub fn fail(&mut self, row: usize, message: impl Into<String>) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        self.errors
            .entry(row as u32)
            .or_insert_with(|| message.into());
    }

    /// The rows that failed, with the reasons.
    pub fn errors(&self) -> impl Iterator<Item = (usize, &str)> {
        let errors = self.errors.iter();
        errors.map(|(row, message)| (*row as usize, message.as_str()))
    }

    /// Takes a column out of the table, without copying it.
    ///
    /// # Errors
    /// Returns an error when there is no such column, it was taken before, or it has another type.
    pub fn take<C: Cell>(&mut self, name: &str) -> Result<Column<C>, String> {
        let rows = self.rows;
        let (field, column) = self.find(name)?;
        if field.data_type != C::Value::data_type() {
            let (found, wanted) = (&field.data_type, C::Value::data_type());
            return Err(format!("column `{name}` is {found:?}, not {wanted:?}"));
        }
        Column::from_wire(column.take(), rows, name)
    }

    /// Takes a column of vectors out of the table. Returns their dimension, and their numbers row
    /// after row. A null is `dimension` times NaN.
    ///
    /// # Errors
    /// Returns an error when there is no such column, it was taken before, or it has another type.
    pub fn take_vectors(&mut self, name: &str) -> Result<(u32, Vec<f32>), String> {
        let (field, column) = self.find(name)?;
        let column = column
            .take()
            .ok_or_else(|| format!("column `{name}` was taken before"))?;
        let Data::Vector(types::Vectors {
            dimension,
            mut values,
        }) = column.data
        else {
            let found = &field.data_type;
            return Err(format!("column `{name}` is {found:?}, not a vector"));
        };
        if let Some(bits) = column.validity {
            for (row, vector) in values.chunks_exact_mut(dimension as usize).enumerate() {
                if bits[row / 8] >> (row % 8) & 1 == 0 {
                    vector.fill(f32::NAN);
                }
            }
        }
        Ok((dimension, values))
    }

    fn find(&mut self, name: &str) -> Result<(&Field, &mut Option<types::Column>), String> {
        let found = self.columns.iter_mut().find(|(f, _)| f.name == name);
        let (field, column) = found.ok_or_else(|| format!("there is no column `{name}`"))?;
        Ok((field, column))
    }

    /// The columns of a row type. The table must have them in this order, as it does when a trainer
    /// asked for them with [`fields_of`].
    ///
    /// # Errors
    /// Returns an error when the table has other columns.
    pub fn into_columns<R: Row>(self) -> Result<Columns<R>, String> {
        R::from_wire(self.into_wire())
    }

    /// The rows of a row type; see [`into_columns`](Self::into_columns).
    ///
    /// # Errors
    /// Returns an error when the table has other columns, or a null where the type has no `Option`.
    pub fn into_rows<R: Row>(self) -> Result<Vec<R>, String> {
        let rows = self.rows;
        let columns = self.into_columns::<R>()?;
        (0..rows).map(|row| R::get(&columns, row)).collect()
    }

    pub(crate) fn from_wire(batch: Batch, fields: Vec<Field>) -> Self {
        let columns = batch.columns.into_iter().map(Some);
        Self {
            rows: batch.rows as usize,
            columns: fields.into_iter().zip(columns).collect(),
            errors: BTreeMap::new(),
        }
    }

    /// Removes and returns the errors of the rows that failed.
    pub(crate) fn take_errors(&mut self) -> Vec<RowError> {
        let errors = std::mem::take(&mut self.errors).into_iter();
        errors
            .map(|(row, message)| RowError { row, message })
            .collect()
    }

    /// The columns in the order of some fields, all of which the table must have, and no others.
    pub(crate) fn into_wire_as(mut self, fields: &[Field]) -> Result<Batch, String> {
        self.columns.retain(|(_, column)| column.is_some());
        let place = |(field, _): &(Field, _)| fields.iter().position(|f| f.name == field.name);
        if let Some((field, _)) = self.columns.iter().find(|column| place(column).is_none()) {
            return Err(format!(
                "there is a column `{}`, which `outputs` does not have",
                field.name
            ));
        }
        self.columns.sort_by_key(place);
        let names = self.columns.iter().map(|(field, _)| field.name.as_str());
        if names
            .clone()
            .ne(fields.iter().map(|field| field.name.as_str()))
        {
            let is_once =
                |field: &&Field| names.clone().filter(|name| *name == field.name).count() == 1;
            let wrong = fields.iter().find(|field| !is_once(field));
            let wrong = wrong.map_or("", |field| field.name.as_str());
            return Err(format!("column `{wrong}` has to be returned exactly once"));
        }
        Ok(self.into_wire())
    }

    pub(crate) fn into_wire(self) -> Batch {
        let columns = self.columns.into_iter().filter_map(|(_, column)| column);
        Batch {
            rows: self.rows as u32,
            columns: columns.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(2)
            .with("a", Column::from(vec![1i64, 2]))
            .with("b", [Some(0.5), None].into_iter().collect::<Column<_>>())
            .with_vectors("v", 2, vec![1.0, 2.0, 3.0, 4.0])
    }

    #[test]
    fn table_columns_are_returned_in_order() {
        let fields = |names: &[&str]| -> Vec<Field> {
            let field = |name: &&str| Field::required(*name, DataType::Int64);
            names.iter().map(field).collect()
        };
        let batch = table().into_wire_as(&fields(&["b", "v", "a"])).unwrap();
        assert!(matches!(batch.columns[0].data, Data::Float64(_)));
        assert!(matches!(batch.columns[2].data, Data::Int64(_)));
        for (names, wanted) in [
            (&["a", "b"][..], "there is a column `v`, which `outputs`"),
            (
                &["a", "b", "v", "w"],
                "column `w` has to be returned exactly once",
            ),
        ] {
            let message = table().into_wire_as(&fields(names)).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
        let twice = table().with("a", Column::from(vec![1i64, 2]));
        let message = twice.into_wire_as(&fields(&["a", "b", "v"]));
        assert_eq!(
            message.unwrap_err(),
            "column `a` has to be returned exactly once"
        );
        let mut taken = table();
        taken.take::<i64>("a").unwrap();
        assert!(taken.into_wire_as(&fields(&["v", "b"])).is_ok());
    }

    #[test]
    fn table_columns_are_taken_by_name_and_type() {
        let mut table = table();
        let names: Vec<_> = table.fields().map(|f| f.name.clone()).collect();
        assert_eq!(names, ["a", "b", "v"]);
        for (result, wanted) in [
            (
                table.take::<f64>("a").map(drop),
                "column `a` is DataType::Int64, not DataType::Float64",
            ),
            (table.take::<i64>("c").map(drop), "there is no column `c`"),
            (
                table.take_vectors("a").map(drop),
                "column `a` is DataType::Int64, not a vector",
            ),
        ] {
            assert_eq!(result.unwrap_err(), wanted);
        }
        let b = table.take::<Option<f64>>("b").unwrap();
        assert_eq!((b.get(0), b.get(1)), (Some(Some(0.5)), Some(None)));
        assert_eq!(table.take_vectors("v"), Ok((2, vec![1.0, 2.0, 3.0, 4.0])));
        assert!(table.take::<Option<f64>>("b").is_err(), "it was taken");
    }
}
