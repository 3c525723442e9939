//! Producers: a function, a model or a renaming of columns, which turns the rows of a source into
//! the rows of a group.
//!
//! For batch inference, a version of a model takes the place of a function: the rows of the
//! source are read twice. The first pass goes through [`Producer::look_up`], which joins them
//! with the features of the model's view as of the rows' times; the second pass hands each chunk
//! of rows, together with what was found for them, to [`Producer::produce`]. The versions of the
//! tables that features are looked up in are chosen once for the whole run, the same for all
//! partitions of a divided run, and are part of the run's inputs: a run is repeated when
//! features changed. The models themselves are implemented elsewhere, behind [`Predictors`].

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use arrow_array::ArrayRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use wafer_catalog::{Context, Definitions, GroupDef, MadeBy, PipelineDef, Progress, VersionName};
use wafer_core::{Digest, Schema};
use wafer_runtime::Output;
use wafer_store::Result;

use crate::transform::Transform;

/// Turns rows of a source into rows of a group.
///
/// A function is a producer. A version of a model is another; besides the rows it needs the
/// features of its view. The same rows, code and table versions always give the same output.
#[async_trait]
pub trait Producer: Debug + Send + Sync + 'static {
    /// The columns that the producer reads.
    fn inputs(&self) -> &Schema;

    /// The columns that the producer returns.
    fn outputs(&self) -> &Schema;

    /// The digest of everything that decides the output, except the rows and the table versions.
    fn code(&self) -> Digest;

    /// Returns the current versions of the tables that the producer looks features up in; the
    /// map is empty when it looks up nothing.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    async fn table_versions(&self, _freshness: Freshness) -> Result<BTreeMap<String, u64>> {
        Ok(BTreeMap::new())
    }

    /// Looks up, in the given versions of tables, what the producer needs beside the columns of
    /// the source, for all rows of a run. Returns `None` when it needs nothing.
    ///
    /// # Errors
    /// Returns the errors of the stores, and the errors that `rows` yields.
    async fn look_up(
        &self,
        _rows: BoxStream<'static, Result<Vec<ArrayRef>>>,
        _versions: &BTreeMap<String, u64>,
        _progress: &Arc<dyn Progress>,
    ) -> Result<Option<Box<dyn LookedUp>>> {
        Ok(None)
    }

    /// Turns a chunk of the source's rows, and what was looked up for them, into rows of the
    /// group. This calls guest code, so it must not run on a thread that does I/O.
    ///
    /// # Errors
    /// Returns [`Kind::Function`](wafer_store::Kind::Function) when guest code fails on the
    /// whole chunk.
    fn produce(&self, columns: &[ArrayRef], looked_up: &[Vec<ArrayRef>]) -> Result<Output>;
}

/// The features that were looked up for the rows of a run, in the order of the rows.
pub trait LookedUp: Send {
    /// Takes the features of the next `rows` rows: the columns of each lookup.
    ///
    /// # Errors
    /// Returns an error when fewer rows were looked up, or when the temporary file that holds
    /// them cannot be read.
    fn take(&mut self, rows: usize) -> Result<Vec<Vec<ArrayRef>>>;
}

/// Which rows of the tables of a project a run reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// All rows: those that are still in the outbox are flushed to the tables before.
    Flushed,
    /// The rows that the tables have. Nothing is flushed, because a dry run writes nothing.
    Stored,
}

/// Opens versions of models as producers.
#[async_trait]
pub trait Predictors: Debug + Send + Sync + 'static {
    /// Opens a version of a model for a pipeline that writes a group.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) when there is no such version,
    /// [`Kind::Invalid`](wafer_store::Kind::Invalid) when its view does not fit the group.
    async fn open(&self, model: &VersionName, group: &GroupDef) -> Result<Arc<dyn Producer>>;
}

impl Producer for Transform {
    fn inputs(&self) -> &Schema {
        self.inputs()
    }

    fn outputs(&self) -> &Schema {
        self.outputs()
    }

    fn code(&self) -> Digest {
        self.code()
    }

    fn produce(&self, columns: &[ArrayRef], _looked_up: &[Vec<ArrayRef>]) -> Result<Output> {
        Ok(self.invoke_rows(columns)?)
    }
}

/// Opens what produces the rows of a pipeline.
pub(crate) async fn open_producer(
    context: &Context,
    predictors: &dyn Predictors,
    definitions: &Definitions,
    pipeline: &PipelineDef,
    group: &GroupDef,
) -> Result<Arc<dyn Producer>> {
    let MadeBy::Model(model) = &pipeline.made_by else {
        let transform = Transform::of(context, definitions, &pipeline.made_by)?;
        let transform = transform.expect("everything but a model has a transform");
        return Ok(Arc::new(transform));
    };
    predictors.open(model, group).await
}
