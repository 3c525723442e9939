//! The rows of files with all their columns, for people who look at them, whether a function reads
//! them or not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::ArrayRef;
use futures::stream::{BoxStream, StreamExt as _};
use wafer_catalog::{Format, Location, Reject, SourceDef, blocking, get};
use wafer_core::{DataType, EpochUnit, Field};
use wafer_files::ReadColumn;
use wafer_store::{Error, RemoteFiles, Result};

use crate::service::Pipelines;
use crate::source::SourceReader;
use crate::source::files::{SourceFile, find_files, find_remote};

/// Files whose rows can be looked at.
#[derive(Clone, Debug)]
pub struct FileRows {
    files: Vec<SourceFile>,
    columns: Vec<ReadColumn>,
    left_out: Vec<(String, String)>,
    remote: Arc<dyn RemoteFiles>,
}

/// Some rows that were read to be looked at.
#[derive(Debug)]
pub struct ReadRows {
    /// The wanted columns, in the wanted order.
    pub columns: Vec<ArrayRef>,
    /// The number of rows.
    pub rows: usize,
    /// The rows that could not be read, and why.
    pub rejects: Vec<Reject>,
}

/// How the columns of files are read where the files alone do not say it.
#[derive(Clone, Debug, Default)]
struct Declared {
    types: BTreeMap<String, DataType>,
    units: BTreeMap<String, EpochUnit>,
}

impl Pipelines {
    /// Opens the files of a source, to look at them. Columns of text formats have the types that
    /// the functions over the source read, and other columns the first that fits their values.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) for an unknown source and for absent
    /// files, and [`Kind::Invalid`](wafer_store::Kind::Invalid) when the source has no files or the
    /// first of them cannot be read.
    pub async fn source_rows(&self, name: &str) -> Result<FileRows> {
        let definitions = self.context.definitions();
        let source: &SourceDef = get(&definitions.sources, name, "source")?;
        let files = source.files.clone().ok_or_else(|| {
            Error::invalid(format!(
                "source `{name}` has no files: look at a group that is made of it, or at the table of its \
                 events, `{name}_events`"
            ))
        })?;
        let mut declared = Declared::default();
        let pipelines = definitions.pipelines.values();
        for pipeline in pipelines.filter(|pipeline| pipeline.source == name) {
            let function = pipeline.made_by.function();
            let Some(function) = function.and_then(|name| definitions.functions.get(name)) else {
                continue;
            };
            for Field {
                name, data_type, ..
            } in function.registered.signature.inputs.fields()
            {
                declared.types.insert(name.clone(), data_type.clone());
                let unit = source.unit_of(name);
                declared.units.extend(unit.map(|unit| (name.clone(), unit)));
            }
        }
        let (format, remote) = (source.format, self.remote());
        blocking(move || FileRows::open(&files, format, &declared, remote)).await?
    }

    fn remote(&self) -> Arc<dyn RemoteFiles> {
        Arc::clone(&self.context.components().remote)
    }
}

impl FileRows {
    /// Opens a file, the files of a folder, or those that match a pattern, to look at them. The format
    /// follows from their names.
    ///
    /// # Errors
    /// Returns the errors of [`Pipelines::source_rows`].
    pub async fn of_path(path: &Path, remote: Arc<dyn RemoteFiles>) -> Result<Self> {
        let files = Location::of(Path::new(""), path);
        blocking(move || Self::open(&files, None, &Declared::default(), remote)).await?
    }

    /// Finds the files, and the columns of the first one. Blocks the thread.
    fn open(
        location: &Location,
        format: Option<Format>,
        declared: &Declared,
        remote: Arc<dyn RemoteFiles>,
    ) -> Result<Self> {
        let files: Vec<SourceFile> = match location {
            Location::Here(path) => find_files(path)?
                .into_iter()
                .map(|path| SourceFile::undigested(path, format))
                .collect::<Result<_>>()?,
            Location::Remote(url) => find_remote(url, &remote)?
                .into_iter()
                .map(|file| SourceFile::from_remote(file, format))
                .collect::<Result<_>>()?,
        };
        let Declared { types, units } = declared;
        let found = files[0].columns(&|name| types.get(name).cloned(), &remote)?;
        let (mut columns, mut left_out) = (Vec::new(), Vec::new());
        for column in found {
            let unit = units.get(&column.name).copied();
            // Integers of a declared unit are times, as the functions read them.
            let counted = types.get(&column.name).filter(|_| unit.is_some()).cloned();
            match counted.or(column.data_type) {
                Some(data_type) => columns.push(ReadColumn {
                    field: Field::new(&column.name, data_type, true),
                    unit,
                }),
                None => left_out.push((column.name, column.stored_as)),
            }
        }
        Ok(Self {
            files,
            columns,
            left_out,
            remote,
        })
    }

    /// Returns the columns of the files.
    pub fn fields(&self) -> Vec<Field> {
        let columns = self.columns.iter();
        columns.map(|column| column.field.clone()).collect()
    }

    /// Returns the columns that cannot be looked at, because Wafer does not know their types, and
    /// these types.
    pub fn left_out(&self) -> &[(String, String)] {
        &self.left_out
    }

    /// Reads some of the columns of all rows, file by file. Rows that cannot be read are reported
    /// beside the others.
    pub fn read(&self, names: &[String]) -> BoxStream<'static, Result<ReadRows>> {
        let column = |name: &String| self.columns.iter().find(|c| c.field.name == *name).cloned();
        let columns = names.iter().filter_map(column).collect();
        let reader = SourceReader::of_files(self.files.clone(), columns, Arc::clone(&self.remote));
        let rows = reader.chunks().stream().map(|chunk| {
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
