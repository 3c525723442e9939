//! Decoding of Arrow and Parquet files, whose bytes may be made to do harm.
//!
//! The libraries of these formats trust lengths and offsets that they find in a file: a damaged or
//! hostile file can make them panic, allocate any amount of memory, overflow the stack or never
//! end. So this folder is the only one that gives such files to them. The lengths of an Arrow file
//! are compared with its size before anything is allocated for them, panics become errors, and
//! the programs of Wafer do all of it in a child process with limits (`decode/worker.rs`), whose
//! end cannot harm them. See docs/decisions/0018-child-process-decodes.md.

mod arrow;
mod parquet;
mod worker;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use wafer_catalog::Format;
use wafer_core::{Field, cut_to};
use wafer_store::{Error, Kind, Result};

use crate::{missing_column, unreadable};

pub use worker::{decode_in_child, decode_worker, this_program};

/// What is to be read from a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) format: Format,
    /// The path of the file, for errors. The file itself is open already.
    pub(crate) path: String,
    /// The columns to read, or `None` to read nothing but the metadata of the file.
    pub(crate) columns: Option<Vec<Field>>,
}

/// A file whose metadata were read.
pub(crate) struct Decoded {
    /// All columns of the file, or those that were asked for in their order.
    pub(crate) schema: SchemaRef,
    /// The number of rows, if the file records it. A damaged file may record any number.
    pub(crate) rows: Option<u64>,
    /// The rows with the columns that were asked for, in batches of any size.
    pub(crate) batches: Batches,
}

/// The rows of a file. An error is the last item.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

impl Request {
    fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// Opens the file and reads its metadata: in a child process, if the program has said how to
    /// start one.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the file cannot be read or lacks one of the columns.
    pub(crate) fn open(self, file: File) -> Result<Decoded> {
        match worker::program() {
            Some(program) => worker::open(program, &self, &file),
            None => self.open_here(file),
        }
    }

    /// Opens the file in this process. Panics of the libraries become errors.
    fn open_here(self, file: File) -> Result<Decoded> {
        let decoded = guarded(&self, || match self.format {
            Format::Parquet => parquet::open(&self, file),
            _ => arrow::open(&self, file),
        })?;
        let mut batches = decoded.batches;
        let mut is_done = false;
        let batches = std::iter::from_fn(move || {
            if is_done {
                return None;
            }
            let next = guarded(&self, || batches.next().transpose()).transpose();
            is_done = !matches!(next, Some(Ok(_)));
            next
        });
        Ok(Decoded {
            batches: Box::new(batches),
            ..decoded
        })
    }
}

/// Calls a library, and turns a panic into an error. What panicked must not be used again.
fn guarded<T>(request: &Request, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = catch_unwind(AssertUnwindSafe(work));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = cut_to(text.unwrap_or("no message"), 256);
        Err(damaged(request, &format!("its reader stopped at: {text}")))
    })
}

/// Creates the error of a file that its reader does not survive.
fn damaged(request: &Request, what: &str) -> Error {
    let path = &request.path;
    let message = format!("{path} cannot be read: it is damaged ({what}); write it again");
    Error::new(Kind::Invalid, message)
}

/// Chooses columns of the batches of a file.
struct Projection {
    schema: SchemaRef,
    positions: Vec<usize>,
}

impl Projection {
    /// Finds the columns in the schema of a file.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the file lacks a column or has several of its name.
    fn new(request: &Request, file: &Schema, columns: &[Field]) -> Result<Self> {
        let names: Vec<&str> = file.fields().iter().map(|f| f.name().as_str()).collect();
        let position = |field: &Field| {
            let mut places = (0..names.len()).filter(|place| names[*place] == field.name);
            let found = places.next();
            if places.next().is_some() {
                return Err(Error::invalid(format!(
                    "{} has several columns of the name `{}`; give each a name of its own",
                    request.path, field.name
                )));
            }
            found.ok_or_else(|| missing_column(request.path(), field, &names))
        };
        let positions = columns.iter().map(position).collect::<Result<Vec<_>>>()?;
        // Whether a column may have nulls is judged by those who read it.
        let fields = positions.iter().map(|place| {
            let field = file.field(*place).clone();
            field.with_nullable(true)
        });
        Ok(Self {
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            positions,
        })
    }

    /// Returns the chosen columns of a batch.
    fn apply(&self, request: &Request, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.positions.iter();
        let columns = columns.map(|place| Arc::clone(batch.column(*place)));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = Arc::clone(&self.schema);
        RecordBatch::try_new_with_options(schema, columns.collect(), &options)
            .map_err(|e| unreadable(request.path(), e))
    }
}

/// Returns a file of which only the metadata were asked for.
fn metadata_only(schema: SchemaRef, rows: Option<u64>) -> Decoded {
    Decoded {
        schema,
        rows,
        batches: Box::new(std::iter::empty()),
    }
}
