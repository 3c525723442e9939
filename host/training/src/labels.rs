//! Files of labels, which are read in batches and as often as needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array as _, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, SchemaRef};
use wafer_catalog::{Compression, Cuts, FileOptions, Format, ViewDef, nearest};
use wafer_core::{CoerceError, DataType, Field, Reading, Timestamp, Zone, bytes_text, coerce_rows};
use wafer_files::{
    ReadColumn, Rows, batch_bytes, check_no_table, columns_it_has, file_format, unreadable,
};
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
    /// The inputs that are never null in CSV.
    needed: BTreeSet<String>,
    /// Name of the column with the labels' times.
    time: String,
    /// How times are read.
    reading: Reading,
    /// How the file is written.
    options: FileOptions,
    /// The number of rows, if the format tells it without reading them.
    rows: Option<u64>,
    /// The most bytes that the rows may take once they are read.
    most_bytes: Option<u64>,
}

/// The types of columns, by name.
pub(crate) type ColumnTypes = BTreeMap<String, DataType>;

/// How a file of labels is read, as far as its content does not say it.
#[derive(Clone, Debug)]
pub(crate) struct LabelOptions {
    /// The types of columns of a text format that the view does not read, as far as they are not to
    /// be guessed.
    pub(crate) types: ColumnTypes,
    /// Whether an empty join key in CSV is the empty text, and not null.
    pub(crate) has_empty_keys: bool,
    /// The time zone of times that the view reads and that name none.
    pub(crate) zone: Option<Zone>,
    /// How a text file is compressed, if its path does not say it.
    pub(crate) compression: Option<Compression>,
    /// The most bytes that the rows may take once they are read. A small file can have very many
    /// rows, or very long texts.
    pub(crate) most_bytes: Option<u64>,
    /// Where the rows end that are read together.
    pub(crate) cuts: Cuts,
}

impl LabelOptions {
    /// The options of new labels with these types.
    pub(crate) fn new(types: ColumnTypes) -> Self {
        Self {
            types,
            has_empty_keys: true,
            zone: None,
            compression: None,
            most_bytes: None,
            cuts: Cuts::default(),
        }
    }
}

/// Returns the inputs of a view that sources and functions have no nulls of: join keys, and what a
/// function needs.
fn needed_inputs(view: &ViewDef) -> BTreeSet<String> {
    let keys = view.lookups.iter().flat_map(|lookup| lookup.keys.clone());
    let needed = view.inputs.iter().filter(|input| !input.nullable);
    keys.chain(needed.map(|input| input.name.clone())).collect()
}

/// The part of what all rows may take that a single one may take.
const ROW_SHARE: u64 = 8;

/// The rows of a file, in batches.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

impl LabelFile {
    /// Opens a file and checks that it has the columns that the view needs. `format` is told by
    /// the file's extension if it is `None`.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when a column is missing or cannot be converted, or when the file
    /// is one of a table's.
    pub(crate) fn open(
        path: &Path,
        format: Option<Format>,
        time: &str,
        view: &ViewDef,
        labels: &LabelOptions,
    ) -> Result<Self> {
        let format = format.map_or_else(|| Format::of_labels(path), Ok)?;
        check_no_table(path)?;
        let inputs = view.inputs.clone();
        let declared = |name: &str| {
            if name == time {
                return Some(DataType::Timestamp);
            }
            let input = inputs.iter().find(|input| input.name == name);
            let input = input.map(|input| input.data_type.clone());
            input.or_else(|| labels.types.get(name).cloned())
        };
        let options = FileOptions {
            compression: labels.compression,
            // A row is in memory several times while it is read, and beside others.
            row_bytes: labels.most_bytes.map(|most| most / ROW_SHARE),
            cuts: labels.cuts,
            ..FileOptions::default()
        };
        let open = || File::open(path).map_err(|e| unreadable(path, e));
        let schema = file_format(format).schema(path, open()?, &options, &declared)?;
        let file = open()?;
        let rows = file_format(format).count_rows(file);
        let file = Self {
            path: path.to_owned(),
            format,
            schema,
            inputs,
            needed: match labels.has_empty_keys {
                true => needed_inputs(view),
                false => BTreeSet::new(),
            },
            time: time.to_owned(),
            reading: Reading {
                zone: labels.zone,
                ..Reading::default()
            },
            options,
            rows,
            most_bytes: labels.most_bytes,
        };
        file.check_columns()?;
        Ok(file)
    }

    /// Checks that the types that were given are of columns whose type is not known otherwise.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] with a column of another kind.
    pub(crate) fn check_types(&self, types: &ColumnTypes) -> Result<()> {
        let path = self.path.display();
        if !types.is_empty() && self.format.has_types() {
            return Err(Error::invalid(format!(
                "{path}: types of columns are given for CSV and NDJSON only; this file has them \
                 itself"
            )));
        }
        for name in types.keys() {
            if *name == self.time || self.inputs.iter().any(|input| input.name == *name) {
                return Err(Error::invalid(format!(
                    "{path}: the type of column `{name}` follows from the view and cannot be given"
                )));
            }
            if self.column(name).is_none() {
                let names = self.schema.fields().iter().map(|f| f.name().as_str());
                let hint = match nearest(name, names) {
                    Some(nearest) => format!("; is `{nearest}` meant?"),
                    None => String::new(),
                };
                return Err(Error::invalid(format!(
                    "{path} has no column `{name}`, whose type is given{hint}"
                )));
            }
        }
        Ok(())
    }

    /// Returns the types of the columns of a text format, given or guessed, that do not follow
    /// from the view.
    pub(crate) fn types(&self) -> ColumnTypes {
        if self.format.has_types() {
            return ColumnTypes::new();
        }
        let follows = |name: &String| {
            *name == self.time || self.inputs.iter().any(|input| input.name == *name)
        };
        let fields = self.schema.fields().iter();
        let fields = fields.filter(|field| !follows(field.name()));
        fields
            .map(|field| {
                (
                    field.name().clone(),
                    DataType::from_arrow(field.data_type()),
                )
            })
            .collect()
    }

    fn check_columns(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        let mut fields = self.schema.fields().iter();
        if let Some(field) = fields.find(|field| !names.insert(field.name().as_str())) {
            return Err(Error::invalid(format!(
                "{} has two columns `{}`: rename or remove one",
                self.path.display(),
                field.name()
            )));
        }
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
                let names: Vec<&str> = names.collect();
                let hint = match nearest(&field.name, names.iter().copied()) {
                    Some(nearest) => format!("; is `{nearest}` meant?"),
                    None => columns_it_has(&names),
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
            self.converted(&empty, field, 0)?;
        }
        Ok(())
    }

    /// Converts a column to the type that the view needs.
    fn converted(&self, column: &ArrayRef, field: &Field, first: u64) -> Result<ArrayRef> {
        let read = coerce_rows(column, &field.data_type, &self.reading);
        let read = read.and_then(|read| match read.faults.into_iter().next() {
            None => Ok(read.column),
            Some((row, message)) => Err(CoerceError::Value { row, message }),
        });
        read.map_err(|e| self.conversion_error(field, first, &e))
    }

    fn conversion_error(&self, field: &Field, first: u64, error: &CoerceError) -> Error {
        let path = self.path.display();
        Error::invalid(match error {
            CoerceError::Type {
                wanted: wanted @ DataType::Timestamp,
                found:
                    found @ (ArrowType::Timestamp(_, None) | ArrowType::Date32 | ArrowType::Date64),
            } => format!(
                "{path}: column `{}` is {found}, and the view needs {wanted}: its times name no \
                 time zone, so say which one they are in (option --zone, or `zone` of the model's \
                 training), such as UTC or Europe/Berlin",
                field.name
            ),
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

    /// Returns where the rows end that are read together, and written together with their features.
    pub(crate) fn cuts(&self) -> Cuts {
        self.options.cuts
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
            let nullable = self.can_be_null(field.name());
            ReadColumn {
                field: Field::new(field.name(), data_type, nullable),
                reading: self.reading.clone(),
            }
        });
        let fields: Vec<ReadColumn> = fields.collect();
        let file = File::open(&self.path).map_err(|e| unreadable(&self.path, e))?;
        let mut reader = file_format(self.format).read(&self.path, file, &self.options, &fields)?;
        let path = self.path.clone();
        let mut size = ReadSize {
            most: self.most_bytes,
            rows: 0,
            bytes: 0,
        };
        Ok(Box::new(std::iter::from_fn(move || {
            let rows = reader.next().transpose()?;
            let batch = rows.and_then(|rows| batch(&path, &schema, rows));
            Some(batch.and_then(|batch| size.add(&path, batch)))
        })))
    }

    /// Returns whether a column is read as one that can be null. Where an empty text and a null are
    /// written alike, such as a field of CSV without quotes, it is the empty text where sources
    /// read no nulls either: in join keys, and in fields that functions need.
    fn can_be_null(&self, name: &str) -> bool {
        !self.format.has_bare_values() || !self.needed.contains(name)
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
        let column = self.converted(found, field, first)?;
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
    ) -> Result<(Vec<ArrayRef>, Vec<Timestamp>)> {
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

    /// Returns the labels' times.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when a time is null.
    pub(crate) fn times(&self, batch: &RecordBatch, first: u64) -> Result<Vec<Timestamp>> {
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
        let times = times.values().iter();
        Ok(times.map(|time| Timestamp::from_micros(*time)).collect())
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

/// What a label takes at least: its time and its place among the others. Rows of nulls alone, and
/// values that a file has once for many rows, may take no memory of their own.
const LEAST_LABEL_BYTES: u64 = 16;

/// What the rows of a file have taken so far.
struct ReadSize {
    most: Option<u64>,
    rows: u64,
    bytes: u64,
}

impl ReadSize {
    /// Counts a batch, and returns it.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the rows take too much.
    fn add(&mut self, path: &Path, batch: RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows() as u64;
        self.rows += rows;
        self.bytes += batch_bytes(&batch).max(rows * LEAST_LABEL_BYTES);
        match self.most {
            Some(most) if self.bytes > most => Err(Error::invalid(format!(
                "{}: the labels take more than {} once they are read, which is the most for a file \
                 of this size ({} rows were read); send fewer rows at once",
                path.display(),
                bytes_text(most),
                self.rows
            ))),
            _ => Ok(batch),
        }
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
