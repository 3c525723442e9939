//! The rows of files with all their columns, to be shown to people, whether a function reads them
//! or not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{DataType as ArrowType, Schema as ArrowSchema};
use futures::stream::{BoxStream, StreamExt as _};
use wafer_catalog::{Location, Reject, SourceDef, SourceKind, blocking, get};
use wafer_core::{DataType, Field, Reading};
use wafer_files::file_format;
use wafer_store::{Error, RemoteFiles, Result};

use crate::input::delta::DeltaTable;
use crate::source::files::SourceFile;
use crate::source::inspect::{is_readable, readable_as};
use crate::source::{SourceReader, Sources, files_at, read_columns};

/// Files whose rows can be shown.
#[derive(Clone, Debug)]
pub struct FileRows {
    location: RowLocation,
    /// What is declared of the files and their columns.
    source: SourceDef,
    fields: Vec<Field>,
    left_out: Vec<(String, String)>,
}

/// Where the rows are.
#[derive(Clone, Debug)]
enum RowLocation {
    /// In files, which are read one by one.
    Files(Vec<SourceFile>, Arc<dyn RemoteFiles>),
    /// In a Delta table, whose log says which files are read.
    Delta(DeltaTable),
}

/// Some rows that were read to be shown.
#[derive(Debug)]
pub struct ReadRows {
    /// The wanted columns, in the wanted order.
    pub columns: Vec<ArrayRef>,
    /// The number of rows.
    pub rows: usize,
    /// The rows that could not be read, and why.
    pub rejects: Vec<Reject>,
}

/// The types that the pipelines over a source read its columns as.
type Types = BTreeMap<String, DataType>;

impl Sources {
    /// Opens the files of a source, to show them. Columns have the types that the pipelines over
    /// the source read, and other columns those of the files, or the first that fits their values.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) for an unknown source and for absent
    /// files, and [`Kind::Invalid`](wafer_store::Kind::Invalid) when the source has no files or the
    /// first of them cannot be read.
    pub async fn source_rows(&self, name: &str) -> Result<FileRows> {
        let definitions = self.context.definitions();
        let source = get(&definitions.sources, name, "source")?.clone();
        let pipelines = definitions.pipelines.values();
        let pipelines = pipelines.filter(|pipeline| pipeline.source == name);
        let fields = pipelines.filter_map(|pipeline| definitions.source_fields(&pipeline.made_by));
        let types: Types = fields
            .flatten()
            .map(|field| (field.name, field.data_type))
            .collect();
        match source.kind {
            SourceKind::Delta { version } => {
                let table = DeltaTable::open(&source, version).await?;
                return Ok(FileRows::of_delta(table, source, &types));
            }
            SourceKind::Files | SourceKind::Table { .. } | SourceKind::Stream { .. } => {}
        }
        let location = source.files.clone().ok_or_else(|| {
            Error::invalid(format!(
                "source `{name}` has no files: look at a group that is made of it, or at the table of its \
                 events, `{name}_events`"
            ))
        })?;
        let remote = Arc::clone(&self.context.components().remote);
        blocking(move || FileRows::open(&location, source, &types, remote)).await?
    }
}

impl FileRows {
    /// Opens a file, the files of a folder, or those that match a pattern, to show them. The
    /// format follows from their names.
    ///
    /// # Errors
    /// Returns the errors of [`Sources::source_rows`].
    pub async fn of_path(path: &Path, remote: Arc<dyn RemoteFiles>) -> Result<Self> {
        let location = Location::of(Path::new(""), path);
        let source = SourceDef::of_files(location.clone());
        blocking(move || Self::open(&location, source, &Types::new(), remote)).await?
    }

    /// Finds the files, and the columns of the first one. Blocks the thread.
    fn open(
        location: &Location,
        source: SourceDef,
        types: &Types,
        remote: Arc<dyn RemoteFiles>,
    ) -> Result<Self> {
        let files = files_at(location, source.format, &remote, SourceFile::undigested)?;
        let first = &files[0];
        let format = file_format(first.format);
        let declared = |name: &str| types.get(name).cloned();
        let opened = first.open(&remote)?;
        let schema = format.schema(&first.path, opened, &source.options, &declared)?;
        let (mut fields, left_out) = columns(&source, types, &schema);
        for partition in &first.partitions {
            if schema.field_with_name(&partition.column).is_err() {
                let data_type = declared(&partition.column).unwrap_or(DataType::Utf8);
                fields.push(Field::new(&partition.column, data_type, true));
            }
        }
        Ok(Self {
            location: RowLocation::Files(files, remote),
            source,
            fields,
            left_out,
        })
    }

    fn of_delta(table: DeltaTable, source: SourceDef, types: &Types) -> Self {
        let (fields, left_out) = columns(&source, types, table.schema());
        Self {
            location: RowLocation::Delta(table),
            source,
            fields,
            left_out,
        }
    }

    /// Returns the columns of the files.
    pub fn fields(&self) -> Vec<Field> {
        self.fields.clone()
    }

    /// Returns the columns that cannot be looked at, because Wafer does not know their types, and
    /// these types.
    pub fn left_out(&self) -> &[(String, String)] {
        &self.left_out
    }

    /// Reads some of the columns of all rows, file by file. Rows that cannot be read are reported
    /// beside the others.
    pub fn read(&self, names: &[String]) -> BoxStream<'static, Result<ReadRows>> {
        let field = |name: &String| self.fields.iter().find(|f| f.name == *name).cloned();
        let fields: Vec<Field> = names.iter().filter_map(field).collect();
        let chunks = match &self.location {
            RowLocation::Files(files, remote) => {
                let (files, remote) = (files.clone(), Arc::clone(remote));
                SourceReader::of_files(files, &self.source, &fields, remote)
                    .chunks()
                    .stream()
            }
            RowLocation::Delta(table) => table.rows(&read_columns(&self.source, &fields)),
        };
        let rows = chunks.map(|chunk| {
            let chunk = chunk?;
            Ok(ReadRows {
                rows: chunk.rows(),
                columns: chunk.columns,
                rejects: chunk.rejects,
            })
        });
        rows.boxed()
    }
}

/// Returns the columns of files as they are read, and those that cannot be read, with their types.
fn columns(
    source: &SourceDef,
    types: &Types,
    schema: &ArrowSchema,
) -> (Vec<Field>, Vec<(String, String)>) {
    let (mut fields, mut left_out) = (Vec::new(), Vec::new());
    for field in schema.fields() {
        let (name, found) = (field.name(), field.data_type());
        let reading = source.reading_of(name);
        let wanted = types.get(name).cloned();
        let wanted = wanted.filter(|wanted| is_readable(found, wanted, &reading));
        match wanted.or_else(|| type_of(name, found, &reading)) {
            Some(data_type) => fields.push(Field::new(name, data_type, true)),
            None => left_out.push((name.clone(), found.to_string())),
        }
    }
    (fields, left_out)
}

/// Returns the type that a column is read as if no pipeline reads it. One of nothing but nulls has
/// any type.
fn type_of(name: &str, found: &ArrowType, reading: &Reading) -> Option<DataType> {
    match found {
        ArrowType::Null => Some(DataType::Utf8),
        _ => readable_as(name, found, reading).ok(),
    }
}
