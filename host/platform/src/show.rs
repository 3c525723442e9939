//! Showing some rows of a source, a feature group, a feature view, an offline table or a file.
//!
//! [`Platform::show`] reads rows until it has as many as were asked for, and no further, in the
//! order in which they are stored. Nothing is written: rows that are still in the outbox are
//! counted, and not flushed. What is returned is bounded by [`MAX_SHOWN_ROWS`] and
//! [`MAX_SHOWN_BYTES`], and what is read for that by the [`ShowBounds`] of the request. The work
//! stops when its future is dropped.

mod rows;
mod shown;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{Field as ArrowField, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter;
use futures::TryStreamExt as _;
use wafer_catalog::{meant, nearest};
use wafer_core::{BoundCondition, Condition, Field, bytes_text};
use wafer_pipelines::{FileRows, ReadRows, ShowBounds};
use wafer_store::{Error, Kind, RemoteFiles, Result};

use rows::RowsToShow;
pub use shown::{HiddenColumn, HiddenReason, ShownRows};

use crate::Platform;

/// The greatest number of rows that can be shown in one go.
pub const MAX_SHOWN_ROWS: usize = 10_000;

/// The greatest size of the rows that can be shown in one go, in bytes of memory.
pub const MAX_SHOWN_BYTES: usize = 64 << 20;

/// The greatest number of rows that are read for the request of a client, however few of them
/// fulfil its conditions.
pub const MAX_SEARCHED_ROWS: u64 = 4_000_000;

/// The number of rows that could not be read that are kept as examples.
const KEPT_REJECTS: usize = 20;

/// Something whose rows can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShowTarget {
    /// The files of a source.
    Source(String),
    /// The offline table of the live version of a feature group.
    Group(String),
    /// The feature vectors of a view's entities, as of now; without what only a request knows.
    View(String),
    /// An offline table, by its own name.
    Table(String),
    /// A file, the files of a folder, or those that match a pattern.
    Files(PathBuf),
}

impl ShowTarget {
    /// Returns the name of the kind, which can be written before the name, as in `group:rides`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Group(_) => "group",
            Self::View(_) => "view",
            Self::Table(_) => "table",
            Self::Files(_) => "file",
        }
    }

    /// Returns the name.
    pub fn name(&self) -> String {
        match self {
            Self::Source(name) | Self::Group(name) | Self::View(name) | Self::Table(name) => {
                name.clone()
            }
            Self::Files(path) => path.display().to_string(),
        }
    }

    /// Parses `KIND:NAME`, or a path: a text with a slash, a dot or a star, which no name has.
    /// Returns `None` for a plain name.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((kind, name)) = text.split_once(':') {
            let name = name.to_owned();
            match kind {
                "source" => return Some(Self::Source(name)),
                "group" => return Some(Self::Group(name)),
                "view" => return Some(Self::View(name)),
                "table" => return Some(Self::Table(name)),
                "file" => return Some(Self::Files(name.into())),
                _ => {}
            }
        }
        text.contains(['/', '.', '*'])
            .then(|| Self::Files(text.into()))
    }
}

/// Which rows and columns to show.
#[derive(Clone, Debug)]
pub struct ShowRequest {
    /// The conditions that every row fulfils.
    pub conditions: Vec<Condition>,
    /// The columns; `None` means all.
    pub columns: Option<Vec<String>>,
    /// The greatest number of rows, at most [`MAX_SHOWN_ROWS`].
    pub limit: usize,
    /// The bounds of the work.
    pub bounds: ShowBounds,
}

impl Platform {
    /// Returns what a name stands for: a source, a group, a view or a table of the project, or a
    /// path of files. `KIND:NAME` says which one is meant.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when nothing has the name, and [`Kind::Invalid`] when several
    /// things have it.
    pub async fn what_is(&self, text: &str) -> Result<ShowTarget> {
        if let Some(found) = ShowTarget::parse(text) {
            return Ok(found);
        }
        let definitions = self.context.definitions();
        let mut known: Vec<ShowTarget> = Vec::new();
        known.extend(definitions.sources.keys().cloned().map(ShowTarget::Source));
        known.extend(definitions.groups.keys().cloned().map(ShowTarget::Group));
        known.extend(definitions.views.keys().cloned().map(ShowTarget::View));
        let tables = self.tables.known_names().await?;
        known.extend(tables.into_iter().map(ShowTarget::Table));
        let named: Vec<&ShowTarget> = known.iter().filter(|known| known.name() == text).collect();
        match &named[..] {
            [found] => Ok((*found).clone()),
            [] => Err(unknown(text, &known)),
            several => {
                let kinds: Vec<String> = several
                    .iter()
                    .map(|found| format!("`{}:{text}`", found.kind()))
                    .collect();
                let kinds = kinds.join(" or ");
                Err(Error::invalid(format!(
                    "several things are named `{text}`: write {kinds}"
                )))
            }
        }
    }

    /// Returns some rows. Nothing is written.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when what is to be shown does not exist, and [`Kind::Invalid`]
    /// for an unknown column, for a condition that its column cannot fulfil, for rows that are more
    /// than [`MAX_SHOWN_ROWS`] or larger than [`MAX_SHOWN_BYTES`], and when more rows would have to
    /// be read than the bounds allow.
    pub async fn show(&self, at: ShowTarget, request: &ShowRequest) -> Result<ShownRows> {
        check_limit(request)?;
        let rows = self.rows_to_show(&at, &request.bounds).await?;
        let waiting = match rows.table() {
            Some(table) => self.waiting_for(table).await?,
            None => 0,
        };
        let shown = take(at, &rows, request).await?;
        Ok(ShownRows { waiting, ..shown })
    }

    /// Returns the number of rows of a table that are still in the outbox, at most
    /// [`MAX_SHOWN_ROWS`].
    async fn waiting_for(&self, table: &str) -> Result<u64> {
        let outbox = &self.context.components().stores.outbox;
        if !outbox.has_rows().await? {
            return Ok(0);
        }
        Ok(outbox.read(table, MAX_SHOWN_ROWS).await?.len() as u64)
    }
}

/// Returns some rows of a file, of the files of a folder, or of those that match a pattern. No
/// project is needed for that.
///
/// # Errors
/// Returns the errors of [`Platform::show`].
pub async fn show_files(
    path: &Path,
    remote: Arc<dyn RemoteFiles>,
    request: &ShowRequest,
) -> Result<ShownRows> {
    check_limit(request)?;
    let rows = FileRows::of_path(path, remote, &request.bounds).await?;
    let at = ShowTarget::Files(path.to_owned());
    take(at, &RowsToShow::Files(rows), request).await
}

fn check_limit(request: &ShowRequest) -> Result<()> {
    if request.limit <= MAX_SHOWN_ROWS {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} rows are too many to show: at most {MAX_SHOWN_ROWS}; `wafer export` writes all rows of a table",
        request.limit
    )))
}

/// Reads rows until there are as many as were asked for.
async fn take(at: ShowTarget, rows: &RowsToShow, request: &ShowRequest) -> Result<ShownRows> {
    let wanted = BoundRequest::new(&at, rows, request)?;
    let mut taken = CollectedRows::default();
    let mut searched = Searched::within(&request.bounds);
    let mut pieces = rows.read(&wanted.read);
    while let Some(piece) = pieces.try_next().await? {
        searched.add(&piece, taken.rows)?;
        taken.add(&wanted, piece)?;
        if taken.rows > request.limit {
            break;
        }
    }
    taken.into_shown(at, wanted, rows.left_out())
}

/// The number of rows that were read in search of those that fulfil the conditions.
#[derive(Clone, Copy, Debug)]
struct Searched {
    rows: u64,
    most: u64,
}

impl Searched {
    fn within(bounds: &ShowBounds) -> Self {
        Self {
            rows: 0,
            most: bounds.rows.unwrap_or(u64::MAX),
        }
    }

    /// Counts the rows of a piece, unless there were enough before it, of which `found` count for
    /// something. A piece without rows was read all the same, and counts as one.
    fn add(&mut self, piece: &ReadRows, found: usize) -> Result<()> {
        if self.rows >= self.most {
            return Err(Error::invalid(format!(
                "{found} of the first {} rows are what is looked for, and no more rows are read for a \
                 request: ask for at most so many by `limit`, or look without a server, by `wafer show`",
                self.rows
            )));
        }
        self.rows += (piece.rows + piece.rejects.len()).max(1) as u64;
        Ok(())
    }
}

/// Creates the error for a name that nothing has.
fn unknown(text: &str, known: &[ShowTarget]) -> Error {
    let names: Vec<String> = known.iter().map(ShowTarget::name).collect();
    let hint = match nearest(text, names.iter().map(String::as_str)) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None if names.is_empty() => {
            "; nothing was applied yet: run `wafer apply`, or name a file by its path".to_owned()
        }
        None => format!("; the known ones are {}", names.join(", ")),
    };
    Error::new(
        Kind::NotFound,
        format!("there is no source, group, view or table `{text}`{hint}"),
    )
}

/// A request whose columns and conditions are bound to the columns of what is shown.
#[derive(Debug)]
struct BoundRequest {
    /// The names of the columns that are read: those that are shown, and then those that only
    /// conditions need.
    read: Vec<String>,
    /// The columns that are shown.
    shown: Vec<Field>,
    /// The conditions, each with the position of its column.
    conditions: Vec<(usize, BoundCondition)>,
    limit: usize,
}

impl BoundRequest {
    fn new(at: &ShowTarget, rows: &RowsToShow, request: &ShowRequest) -> Result<Self> {
        let fields = rows.fields();
        let field = |name: &str| -> Result<Field> {
            let found = fields.iter().find(|field| field.name == *name).cloned();
            found.ok_or_else(|| unknown_column(at, rows, &fields, name))
        };
        if fields.is_empty() {
            let (kind, name) = (at.kind(), at.name());
            return Err(Error::invalid(format!("{kind} `{name}` has no columns")));
        }
        let shown: Vec<Field> = match &request.columns {
            None => fields.clone(),
            Some(names) => names
                .iter()
                .map(|name| field(name))
                .collect::<Result<_>>()?,
        };
        let mut read: Vec<String> = shown.iter().map(|field| field.name.clone()).collect();
        if let Some(name) = duplicate(&read) {
            return Err(Error::invalid(match &request.columns {
                Some(_) => format!("column `{name}` is asked for twice"),
                None => format!(
                    "{} `{}` has several columns named `{name}`, of which only the first can be read: choose the \
                     columns",
                    at.kind(),
                    at.name()
                ),
            }));
        }
        let mut conditions = Vec::new();
        for condition in &request.conditions {
            let bound = condition
                .bind(&field(condition.column())?)
                .map_err(Error::invalid)?;
            let place = read.iter().position(|name| name == condition.column());
            let place = place.unwrap_or_else(|| {
                read.push(condition.column().to_owned());
                read.len() - 1
            });
            conditions.push((place, bound));
        }
        Ok(Self {
            read,
            shown,
            conditions,
            limit: request.limit,
        })
    }
}

fn duplicate(names: &[String]) -> Option<&String> {
    let mut names = names.iter().enumerate();
    let all = names.clone();
    names.find_map(|(index, name)| {
        let mut later = all.clone().skip(index + 1);
        later.any(|(_, other)| other == name).then_some(name)
    })
}

fn unknown_column(at: &ShowTarget, rows: &RowsToShow, fields: &[Field], name: &str) -> Error {
    let (kind, of) = (at.kind(), at.name());
    let mut left_out = rows.left_out().into_iter();
    if let Some(HiddenColumn { reason, .. }) = left_out.find(|left_out| left_out.name == name) {
        return Error::invalid(format!("column `{name}` of {kind} `{of}` {reason}"));
    }
    let hint = meant(name, fields.iter().map(|field| field.name.as_str()));
    Error::invalid(format!("{kind} `{of}` has no column `{name}`{hint}"))
}

/// The rows that were collected so far.
#[derive(Debug, Default)]
struct CollectedRows {
    pieces: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    rejected: u64,
    rejects: Vec<wafer_catalog::Reject>,
}

impl CollectedRows {
    /// Takes the rows of a piece that fulfil all conditions, until there is one more than wanted.
    fn add(&mut self, wanted: &BoundRequest, piece: ReadRows) -> Result<()> {
        self.rejected += piece.rejects.len() as u64;
        let kept = KEPT_REJECTS.saturating_sub(self.rejects.len());
        self.rejects.extend(piece.rejects.into_iter().take(kept));
        let missing = wanted.limit + 1 - self.rows;
        let mask = taken_rows(&wanted.conditions, &piece.columns, piece.rows, missing);
        let shown = &piece.columns[..wanted.shown.len()];
        let columns = shown.iter().map(|column| filter(column, &mask));
        let columns: std::result::Result<Vec<ArrayRef>, _> = columns.collect();
        let schema = shown_schema(&wanted.shown);
        let batch = columns.and_then(|columns| RecordBatch::try_new(schema, columns));
        let batch =
            batch.map_err(|e| Error::caused(Kind::Internal, "cannot assemble rows to show", e))?;
        self.rows += batch.num_rows();
        self.bytes += batch.get_array_memory_size();
        if self.bytes > MAX_SHOWN_BYTES {
            return Err(Error::invalid(format!(
                "the first {} rows take more than {}: ask for fewer rows or columns",
                self.rows,
                bytes_text(MAX_SHOWN_BYTES as u64)
            )));
        }
        if batch.num_rows() > 0 {
            self.pieces.push(batch);
        }
        Ok(())
    }

    fn into_shown(
        self,
        at: ShowTarget,
        wanted: BoundRequest,
        left_out: Vec<HiddenColumn>,
    ) -> Result<ShownRows> {
        let schema = shown_schema(&wanted.shown);
        let rows = concat_batches(&schema, &self.pieces)
            .map_err(|e| Error::caused(Kind::Internal, "cannot assemble rows to show", e))?;
        let has_more = rows.num_rows() > wanted.limit;
        Ok(ShownRows {
            at,
            rows: rows.slice(0, rows.num_rows().min(wanted.limit)),
            fields: wanted.shown,
            has_more,
            rejected: self.rejected,
            rejects: self.rejects,
            left_out,
            waiting: 0,
        })
    }
}

/// Returns the schema of what is shown. Nothing is required of it: a feature of an entity that is
/// not known is null, whatever its function declares.
fn shown_schema(shown: &[Field]) -> SchemaRef {
    let field = |field: &Field| field.to_arrow().with_nullable(true);
    let fields: Vec<ArrowField> = shown.iter().map(field).collect();
    Arc::new(Schema::new(fields))
}

/// Returns which rows fulfil all conditions, at most the first `most` of them.
fn taken_rows(
    conditions: &[(usize, BoundCondition)],
    columns: &[ArrayRef],
    rows: usize,
    most: usize,
) -> BooleanArray {
    let held: Vec<BooleanArray> = conditions
        .iter()
        .map(|(place, condition)| condition.holds(&columns[*place]))
        .collect();
    let mut taken = 0;
    let is_taken = |row: usize| {
        let is_taken = taken < most && held.iter().all(|held| held.value(row));
        taken += usize::from(is_taken);
        Some(is_taken)
    };
    (0..rows).map(is_taken).collect()
}

#[cfg(test)]
mod tests {
    use wafer_catalog::Reject;

    use super::*;

    #[test]
    fn no_more_rows_are_read_than_the_bounds_allow() {
        let piece = |rows: usize, rejects: usize| ReadRows {
            columns: Vec::new(),
            rows,
            rejects: vec![Reject::new("a.csv:2".to_owned(), String::new()); rejects],
        };
        let mut all = Searched::within(&ShowBounds::default());
        let mut few = Searched::within(&ShowBounds {
            rows: Some(10),
            copies: None,
        });
        for rows in [5, 3] {
            few.add(&piece(rows, 1), 0).unwrap();
            all.add(&piece(rows, 1), 0).unwrap();
        }
        let error = few.add(&piece(1, 0), 2).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let wanted = "2 of the first 10 rows are what is looked for";
        assert!(error.to_string().starts_with(wanted), "{error}");
        all.add(&piece(1, 0), 2).unwrap();

        // So it is with files that have none.
        let mut few = Searched { rows: 0, most: 2 };
        few.add(&piece(0, 0), 0).unwrap();
        few.add(&piece(0, 0), 0).unwrap();
        assert!(few.add(&piece(0, 0), 0).is_err());
    }

    #[test]
    fn texts_with_a_kind_or_a_path_say_what_is_meant() {
        let file = |path: &str| Some(ShowTarget::Files(path.into()));
        for (text, wanted) in [
            ("rides", None),
            ("rides_v1", None),
            ("source:rides", Some(ShowTarget::Source("rides".to_owned()))),
            ("group:rides", Some(ShowTarget::Group("rides".to_owned()))),
            ("view:rides", Some(ShowTarget::View("rides".to_owned()))),
            (
                "table:rides_v1",
                Some(ShowTarget::Table("rides_v1".to_owned())),
            ),
            ("file:rides", file("rides")),
            ("rides.csv", file("rides.csv")),
            ("data/", file("data/")),
            ("*.csv", file("*.csv")),
            ("s3://bucket/rides", file("s3://bucket/rides")),
            ("place:rides", None),
        ] {
            assert_eq!(ShowTarget::parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_column_that_is_asked_for_twice_is_found() {
        for (names, wanted) in [
            (&[][..], None),
            (&["a", "b"], None),
            (&["a", "b", "a"], Some("a")),
            (&["a", "b", "b"], Some("b")),
        ] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(duplicate(&names).map(String::as_str), wanted);
        }
    }
}
