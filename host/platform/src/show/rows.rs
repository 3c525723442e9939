//! Opens a source, a view, a table or files to show them: the columns, and the rows in the order in
//! which they are stored.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use wafer_catalog::{SourceKind, TableDef, get};
use wafer_core::Field;
use wafer_core::rules::Interval;
use wafer_pipelines::{FileRows, ReadRows, ShowBounds};
use wafer_store::{AsOf, Error, Kind, RemoteFiles, Result, TableSnapshot};
use wafer_tables::stored_column;

use crate::Platform;
use crate::show::ShowTarget;
use crate::show::shown::{HiddenColumn, HiddenReason};
use crate::show::view::ViewRows;

/// Rows that can be shown.
pub(super) enum RowsToShow {
    Files(FileRows),
    Table(TableRows),
    View(ViewRows),
}

/// The rows of an offline table.
pub(super) struct TableRows {
    pub(super) definition: TableDef,
    pub(super) snapshot: TableSnapshot,
}

impl Platform {
    pub(super) async fn rows_to_show(
        &self,
        at: &ShowTarget,
        bounds: &ShowBounds,
    ) -> Result<RowsToShow> {
        Ok(match at {
            ShowTarget::Files(path) => {
                RowsToShow::Files(FileRows::of_path(path, self.remote(), bounds).await?)
            }
            ShowTarget::Source(name) => {
                let definitions = self.context.definitions();
                let source = get(&definitions.sources, name, "source")?;
                match &source.kind {
                    SourceKind::Table { group } => {
                        let group = get(&definitions.groups, group, "feature group")?;
                        RowsToShow::Table(self.table_rows(&group.table()).await?)
                    }
                    SourceKind::Stream { archive: true, .. } if source.files.is_none() => {
                        let archive = TableDef::archive(name).name;
                        RowsToShow::Table(self.table_rows(&archive).await?)
                    }
                    SourceKind::Files | SourceKind::Delta { .. } | SourceKind::Stream { .. } => {
                        let sources = self.pipelines.sources();
                        RowsToShow::Files(sources.source_rows(name, bounds).await?)
                    }
                }
            }
            ShowTarget::Group(name) => {
                let definitions = self.context.definitions();
                let group = get(&definitions.groups, name, "feature group")?;
                RowsToShow::Table(self.table_rows(&group.table()).await?)
            }
            ShowTarget::Table(name) => RowsToShow::Table(self.table_rows(name).await?),
            ShowTarget::View(name) => RowsToShow::View(self.view_rows(name, bounds).await?),
        })
    }

    fn remote(&self) -> Arc<dyn RemoteFiles> {
        Arc::clone(&self.context.components().remote)
    }

    /// Opens the newest version of an offline table.
    pub(super) async fn table_rows(&self, name: &str) -> Result<TableRows> {
        let definition = self.tables.table_definition(name).await?;
        let offline = &self.context.components().stores.offline;
        let snapshot = offline.snapshot(name, AsOf::Latest).await;
        let snapshot = snapshot.map_err(|e| match e.kind() {
            Kind::NotFound => {
                let message =
                    format!("table `{name}` has no rows yet: it is made with its first ones");
                Error::caused(Kind::NotFound, message, e)
            }
            _ => e,
        })?;
        Ok(TableRows {
            definition,
            snapshot,
        })
    }
}

impl RowsToShow {
    /// Returns the name of the offline table that the rows are in, if they are in one.
    pub(super) fn table(&self) -> Option<&str> {
        match self {
            Self::Table(table) => Some(&table.definition.name),
            Self::Files(_) | Self::View(_) => None,
        }
    }

    pub(super) fn fields(&self) -> Vec<Field> {
        match self {
            Self::Files(files) => files.fields(),
            Self::Table(table) => table.definition.schema().fields().to_vec(),
            Self::View(view) => view.fields(),
        }
    }

    /// Returns the columns that are not shown.
    pub(super) fn left_out(&self) -> Vec<HiddenColumn> {
        let of_file = |(name, stored_as): &(String, String)| HiddenColumn {
            name: name.clone(),
            reason: HiddenReason::Type(stored_as.clone()),
        };
        match self {
            Self::Files(files) => files.left_out().iter().map(of_file).collect(),
            Self::Table(_) => Vec::new(),
            Self::View(view) => view.left_out().to_vec(),
        }
    }

    /// Reads some of the columns of all rows.
    pub(super) fn read(&self, names: &[String]) -> BoxStream<'static, Result<ReadRows>> {
        match self {
            Self::Files(files) => files.read(names),
            Self::Table(table) => table.read(names),
            Self::View(view) => view.read(names),
        }
    }
}

impl TableRows {
    /// Reads some of the columns of all rows. The files are read in the order of their first rows,
    /// and the rows of a file as they are in it: sorted by their keys once it was merged.
    pub(super) fn read(&self, names: &[String]) -> BoxStream<'static, Result<ReadRows>> {
        let schema = self.definition.schema();
        let fields: Vec<Field> = names
            .iter()
            .filter_map(|name| schema.field(name).cloned())
            .collect();
        let (snapshot, names) = (self.snapshot.clone(), names.to_vec());
        let opened = async move {
            let files = snapshot.files().to_vec();
            let files = snapshot.in_order_of_creation(files).await?;
            Ok::<_, Error>(snapshot.read_all(files, names, Interval::ALL))
        };
        let batches = stream::once(opened).try_flatten();
        let definition = self.definition.clone();
        let rows = batches.map(move |batch| read_rows(&definition, &fields, &batch?));
        rows.boxed()
    }
}

fn read_rows(table: &TableDef, fields: &[Field], batch: &RecordBatch) -> Result<ReadRows> {
    let columns = fields.iter();
    let columns = columns.map(|field| stored_column(table, batch, field));
    Ok(ReadRows {
        columns: columns.collect::<Result<_>>()?,
        rows: batch.num_rows(),
        rejects: Vec::new(),
    })
}
