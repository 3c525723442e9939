//! Producers: what makes rows of a group out of the rows of a source.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use arrow_array::ArrayRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use wafer_catalog::{Definitions, GroupDef, MadeBy, PipelineDef, Progress, VersionName};
use wafer_core::{Digest, Schema};
use wafer_runtime::{Deadline, Function, Output};
use wafer_store::Result;

use crate::service::Pipelines;

/// Makes rows of a group out of the rows of a source.
///
/// A function is one; a version of a model, which needs the features of its view besides, is
/// another. The same rows, code and table versions always give the same output.
#[async_trait]
pub trait Producer: Debug + Send + Sync + 'static {
    /// The columns that it reads.
    fn inputs(&self) -> &Schema;

    /// The columns that it makes.
    fn outputs(&self) -> &Schema;

    /// The digest of everything but the rows and the table versions that decides what it makes.
    fn code(&self) -> Digest;

    /// The versions that the tables it looks features up in have now; empty when it looks up
    /// nothing.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    async fn table_versions(&self) -> Result<BTreeMap<String, u64>> {
        Ok(BTreeMap::new())
    }

    /// Looks up, in some versions of tables, what it needs beside the columns of the source for
    /// all rows of a run; `None` when it needs nothing.
    ///
    /// # Errors
    /// Returns the errors of the stores, and those of `rows`.
    async fn look_up(
        &self,
        _rows: BoxStream<'static, Result<Vec<ArrayRef>>>,
        _versions: &BTreeMap<String, u64>,
        _progress: &Arc<dyn Progress>,
    ) -> Result<Option<Box<dyn LookedUp>>> {
        Ok(None)
    }

    /// Makes rows of a chunk of the source's rows, and of what was looked up for them. Calls
    /// guest code, so it must not run on a thread that does I/O.
    ///
    /// # Errors
    /// Returns [`Kind::Function`](wafer_store::Kind::Function) when guest code fails on the
    /// whole chunk.
    fn produce(&self, columns: &[ArrayRef], looked_up: &[Vec<ArrayRef>]) -> Result<Output>;
}

/// What was looked up for the rows of a run, in their order.
pub trait LookedUp: Send {
    /// Takes what was looked up for the next rows: for each lookup its columns.
    ///
    /// # Errors
    /// Returns an error when fewer rows were looked up, or the file that they wait in cannot be
    /// read.
    fn take(&mut self, rows: usize) -> Result<Vec<Vec<ArrayRef>>>;
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

/// A function as a producer.
#[derive(Debug)]
struct FunctionProducer {
    function: Function,
    code: Digest,
}

impl Producer for FunctionProducer {
    fn inputs(&self) -> &Schema {
        &self.function.signature().inputs
    }

    fn outputs(&self) -> &Schema {
        &self.function.signature().outputs
    }

    fn code(&self) -> Digest {
        self.code
    }

    fn produce(&self, columns: &[ArrayRef], _looked_up: &[Vec<ArrayRef>]) -> Result<Output> {
        Ok(self.function.invoke(columns, Deadline::Batch)?)
    }
}

impl Pipelines {
    /// Opens what makes the rows of a pipeline.
    pub(crate) async fn producer(
        &self,
        definitions: &Definitions,
        pipeline: &PipelineDef,
        group: &GroupDef,
    ) -> Result<Arc<dyn Producer>> {
        match &pipeline.made_by {
            MadeBy::Function(name) => Ok(Arc::new(FunctionProducer {
                function: self.context.function_of(definitions, name)?,
                code: definitions.functions[name].registered.digest,
            })),
            MadeBy::Model(model) => self.predictors.open(model, group).await,
        }
    }
}
