//! Files of labels, which are read in batches and as often as needed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array as _, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Field as ArrowField, SchemaRef};
use wafer_catalog::{Format, ViewDef, nearest};
use wafer_core::{CoerceError, DataType, Field, coerce};
use wafer_files::{ReadColumn, Rows, file_format, unreadable};
use wafer_store::{Error, Kind, Result};

/// A file of labels that has the columns that a view needs.
#[derive(Clone, Debug)]
pub(crate) struct LabelFile {
    path: PathBuf,
    format: Format,
    /// The columns of the file, with the types that they are read as.
    schema: SchemaRef,
    /// The inputs of the view, in its order.
    inputs: Vec<Field>,
    /// Name of the column with the labels' times.
    time: String,
    /// The number of rows, if the format tells it without reading them.
    rows: Option<u64>,
}

/// The rows of a file, in batches.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

impl LabelFile {
    /// Opens a file and checks that it has the columns that the view needs. `format` is told by
    /// the file's extension if it is `None`.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when a column is missing or cannot be converted.
    pub(crate) fn open(
        path: &Path,
        format: Option<Format>,
        time: &str,
        view: &ViewDef,
    ) -> Result<Self> {
        let format = format.map_or_else(|| Format::of_output(path), Ok)?;
        let inputs = view.inputs.clone();
        let declared = |name: &str| {
            if name == time {
                return Some(DataType::Timestamp);
            }
            let input = inputs.iter().find(|input| input.name == name)?;
            Some(input.data_type.clone())
        };
        let schema = file_format(format).schema(path, &declared)?;
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        let rows = file_format(format).count_rows(file);
        let file = Self {
            path: path.to_owned(),
            format,
            schema,
            inputs,
            time: time.to_owned(),
            rows,
        };
        file.check_columns()?;
        Ok(file)
    }

    fn check_columns(&self) -> Result<()> {
        let time = Field::new(&self.time, DataType::Timestamp, false);
        for (field, what) in self
            .inputs
            .iter()
            .map(|field| (field, "which the view reads"))
            .chain([(
                &time,
                "the labels' time; another column is named with --time",
            )])
        {
            let Ok(index) = self.schema.index_of(&field.name) else {
                let names = self.schema.fields().iter().map(|f| f.name().as_str());
                let hint = match nearest(&field.name, names.clone()) {
                    Some(nearest) => format!("; is `{nearest}` meant?"),
                    None => format!("; it has {}", names.collect::<Vec<_>>().join(", ")),
                };
                return Err(Error::invalid(format!(
                    "{} has no column `{}` ({}), {what}{hint}",
                    self.path.display(),
                    field.name,
                    field.data_type
                )));
            };
            // Converting an empty column checks the type before any rows are read.
            let empty = arrow_array::new_empty_array(self.schema.field(index).data_type());
            coerce(&empty, &field.data_type).map_err(|e| self.conversion_error(field, 0, &e))?;
        }
        Ok(())
    }

    fn conversion_error(&self, field: &Field, first: u64, error: &CoerceError) -> Error {
        let path = self.path.display();
        Error::invalid(match error {
            CoerceError::Type { wanted, found } => format!(
                "{path}: column `{}` is {found}, and the view needs {wanted}: convert it before, \
                 so that nothing is guessed",
                field.name
            ),
            CoerceError::Value { row, message } => {
                format!(
                    "{path}: column `{}`, row {}: {message}",
                    field.name,
                    first + *row as u64
                )
            }
        })
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Returns the number of rows, if the format tells it without reading them.
    pub(crate) fn total_rows(&self) -> Option<u64> {
        self.rows
    }

    /// Returns the columns of the file, as the training set has them.
    pub(crate) fn fields(&self) -> Vec<ArrowField> {
        let fields = self.schema.fields().iter();
        fields.map(|field| field.as_ref().clone()).collect()
    }

    /// Reads all rows with all columns.
    pub(crate) fn batches(&self) -> Result<Batches> {
        self.read(Arc::clone(&self.schema))
    }

    /// Reads all rows with some of the columns, in the order of the file. Names that are not
    /// columns of the file are ignored.
    pub(crate) fn projected(&self, columns: &[String]) -> Result<Batches> {
        let mut places: Vec<usize> = columns.iter().filter_map(|c| self.column(c)).collect();
        places.sort_unstable();
        places.dedup();
        let schema = self.schema.project(&places);
        let schema = schema.map_err(|e| unreadable(&self.path, e))?;
        self.read(Arc::new(schema))
    }

    fn read(&self, schema: SchemaRef) -> Result<Batches> {
        let fields = schema.fields().iter().map(|field| {
            let data_type = DataType::from_arrow(field.data_type());
            ReadColumn::from(Field::new(field.name(), data_type, true))
        });
        let fields: Vec<ReadColumn> = fields.collect();
        let file = File::open(&self.path).map_err(|e| unreadable(&self.path, e))?;
        let mut reader = file_format(self.format).read(&self.path, file, &fields)?;
        let path = self.path.clone();
        Ok(Box::new(std::iter::from_fn(move || {
            let rows = reader.next().transpose()?;
            Some(rows.and_then(|rows| batch(&path, &schema, rows)))
        })))
    }

    /// Returns the inputs of the view, in its order. `first` is the number of the batch's first
    /// row in the file, which errors name.
    pub(crate) fn inputs(&self, batch: &RecordBatch, first: u64) -> Result<Vec<ArrayRef>> {
        let inputs = self.inputs.iter();
        inputs
            .map(|field| self.input(batch, field, first))
            .collect()
    }

    /// Returns a column of the labels, converted to the type that the view needs.
    fn input(&self, batch: &RecordBatch, field: &Field, first: u64) -> Result<ArrayRef> {
        let found = batch.column_by_name(&field.name).ok_or_else(|| {
            let message = format!("column `{}` was not read", field.name);
            Error::new(Kind::Internal, message)
        })?;
        let column =
            coerce(found, &field.data_type).map_err(|e| self.conversion_error(field, first, &e))?;
        if !field.nullable
            && let Some(row) = (0..column.len()).find(|row| column.is_null(*row))
        {
            return Err(Error::invalid(format!(
                "{}: column `{}`, row {}: is null, and a function needs it",
                self.path.display(),
                field.name,
                first + row as u64
            )));
        }
        Ok(column)
    }

    /// Returns the columns of the inputs `names`, and the labels' times in microseconds since the
    /// Unix epoch.
    pub(crate) fn keys_and_times(
        &self,
        batch: &RecordBatch,
        names: &[String],
        first: u64,
    ) -> Result<(Vec<ArrayRef>, Vec<i64>)> {
        let field = |name: &String| {
            let found = self.inputs.iter().find(|input| input.name == *name);
            // A null key matches no entity. This is not an error, even if functions need the
            // column.
            Field {
                nullable: true,
                ..found.expect("keys are inputs of the view").clone()
            }
        };
        let keys = names
            .iter()
            .map(|name| self.input(batch, &field(name), first));
        let keys = keys.collect::<Result<_>>()?;
        Ok((keys, self.times(batch, first)?))
    }

    /// Returns the labels' times, in microseconds since the Unix epoch.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when a time is null.
    pub(crate) fn times(&self, batch: &RecordBatch, first: u64) -> Result<Vec<i64>> {
        let field = Field::new(&self.time, DataType::Timestamp, true);
        let times = self.input(batch, &field, first)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        if let Some(row) = (0..times.len()).find(|row| times.is_null(*row)) {
            return Err(Error::invalid(format!(
                "{}: column `{}`, row {}: is null; every label has a time",
                self.path.display(),
                self.time,
                first + row as u64
            )));
        }
        Ok(times.values().to_vec())
    }

    /// Returns `names` and the name of the time column.
    pub(crate) fn with_time(&self, names: &[String]) -> Vec<String> {
        names.iter().chain([&self.time]).cloned().collect()
    }

    /// Returns the names of the view's inputs.
    pub(crate) fn input_names(&self) -> Vec<String> {
        self.inputs.iter().map(|input| input.name.clone()).collect()
    }

    /// Returns the position of a column in the file.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.schema.index_of(name).ok()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a batch of rows of a file.
///
/// # Errors
/// Returns [`Kind::Invalid`] when a row could not be read.
fn batch(path: &Path, schema: &SchemaRef, rows: Rows) -> Result<RecordBatch> {
    if let Some((line, message)) = rows.rejects.first() {
        let message = format!("{}:{line}: {message}", path.display());
        return Err(Error::invalid(message));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.numbers.len()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(schema), rows.columns, &options);
    batch.map_err(|e| unreadable(path, e))
}
