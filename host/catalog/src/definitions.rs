//! The definitions of a project with everything resolved. All of them are stored together.
//!
//! The crate `wafer-config` makes them from `wafer.toml` and the signatures of the registered
//! functions. Their JSON is stored, so a field that is added later needs a default value. A field
//! that is stored and no longer known would be refused (`generations/artifact.rs`).

mod file_options;
mod format;
mod function;
mod group;
mod model;
mod pipeline;
mod references;
mod schedule;
mod source;
mod table;
mod view;
pub use file_options::{
    Compression, Cuts, DECOMPRESSED_MIN, DECOMPRESSED_RATIO, Dialect, Encoding, FileOptions,
    MAX_ROW_BYTES,
};
pub use format::Format;
pub(crate) use function::digests;
pub use function::{ComponentDef, FunctionDef, FunctionRole, definition};
pub use group::{AggregateDef, GroupDef, MAX_FOUND_BYTES, fingerprint};
pub use model::{
    ArtifactName, ModelDef, TrainingDef, VersionName, VersionNameError, Which, is_alias,
};
pub use pipeline::{
    HALF_OF_THE_ROWS, MODEL_VERSION, MadeBy, PREDICTION, PassedColumn, PipelineDef, predicted,
};
pub(crate) use references::check_view;
pub use schedule::{Overlap, ScheduleDef, Ticks};
pub use source::{FIVE_MINUTES, FoundColumn, Location, SEVEN_DAYS, SourceDef, SourceKind, TimeDef};
pub use table::{LATE, SYSTEM_COLUMNS, Subject, TableDef};
pub use view::{LookupDef, OnDemandDef, ViewDef, feature_name};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_core::Field;

/// Everything that a project defines. Kinds that stored definitions lack are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Definitions {
    /// The sources, by name.
    pub sources: BTreeMap<String, SourceDef>,
    /// The functions, by name.
    pub functions: BTreeMap<String, FunctionDef>,
    /// The feature groups, by name.
    pub groups: BTreeMap<String, GroupDef>,
    /// The pipelines, by name.
    pub pipelines: BTreeMap<String, PipelineDef>,
    /// The feature views, by name.
    pub views: BTreeMap<String, ViewDef>,
    /// The models, by name.
    pub models: BTreeMap<String, ModelDef>,
}

impl Definitions {
    /// Returns the columns that a pipeline reads, by the names that they have in its source. `None`
    /// if a model makes its rows: they depend on the model's version.
    pub fn source_fields(&self, made_by: &MadeBy) -> Option<Vec<Field>> {
        match made_by {
            MadeBy::Function(function) => {
                let function = self.functions.get(function)?;
                Some(function.registered.signature.inputs.fields().to_vec())
            }
            MadeBy::Columns(columns) => {
                Some(columns.iter().map(PassedColumn::source_field).collect())
            }
            MadeBy::Model(_) => None,
        }
    }
}
