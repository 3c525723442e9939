//! The catalog: what a project defines, which of it is applied, and what was done with it.
//!
//! [`Definitions`] holds what `wafer.toml` means once the project's functions have described
//! themselves. Applying writes them as a [`Generation`] and moves a [`Pointer`] to it, so that all
//! definitions of a project change at once. Records ([`RunRecord`], [`TrainingSet`],
//! [`ModelVersion`], [`Release`]) say what was done with the definitions. [`Context`] holds what
//! all services share: the stores, the sandbox, the clocks, the applied definitions and the loaded
//! functions. It is mostly read; each service keeps its own cache.
//!
//! Deliberately absent: rows of sources, HTTP, and the names of backends.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make temporary folders of their own"
    )
)]

mod applied;
mod check;
mod context;
mod definitions;
mod functions;
mod generations;
mod lease;
mod machine_clock;
mod names;
mod native_code;
mod objects;
mod on_demand;
mod partial;
mod plan;
mod progress;
mod recipe;
mod records;
mod stored;
mod task;
mod temporary;

pub use check::{CHECK_ROWS, CheckReport, check_function, check_predictions};
pub use context::{Components, Context, DEFINITIONS_AGE, LatelyApplied};
pub use definitions::{
    AggregateDef, ArtifactName, ComponentDef, Compression, Cuts, DECOMPRESSED_MIN,
    DECOMPRESSED_RATIO, Definitions, Dialect, Encoding, FIVE_MINUTES, FileOptions, Format,
    FoundColumn, FunctionDef, FunctionRole, GroupDef, HALF_OF_THE_ROWS, LATE, Location, LookupDef,
    MAX_FOUND_BYTES, MAX_ROW_BYTES, MODEL_VERSION, MadeBy, ModelDef, OnDemandDef, Overlap,
    PREDICTION, PassedColumn, PipelineDef, SEVEN_DAYS, SYSTEM_COLUMNS, ScheduleDef, SourceDef,
    SourceKind, Subject, TableDef, Ticks, TimeDef, TrainingDef, VersionName, VersionNameError,
    ViewDef, Which, definition, feature_name, fingerprint, is_alias, predicted,
};
pub use functions::{ProjectFunction, ProjectFunctions};
pub use generations::{Applied, Damaged, Generation, Pointer, UNKNOWN_SPAN};
pub use lease::{LEASE, RenewedLease};
pub use names::{get, is_name, meant, nearest};
pub use native_code::TARGETS;
pub use on_demand::{Readable, call, nulled, of_good_rows, readable};
pub use partial::{PartialFile, check_no_terminal, is_same_file};
pub use plan::{Change, ChangeKind, Plan};
pub use progress::{BackfillEstimate, Progress};
pub use recipe::{Recipe, UnknownFeature};
pub use records::{
    Artifact, ColumnStatistics, Lineage, MAX_DISTINCT, ModelNote, ModelVersion, Reject, Release,
    RunRecord, RunState, Split, SplitBy, TrainingSet, Upstream, prediction,
};
pub use stored::read;
pub use task::{blocking, ended};
pub use temporary::{
    BoundedFile, DiskRoom, TemporaryFolder, keep_temporary_files_in, remove_abandoned_folders,
    temporary_file, temporary_file_error, temporary_folder,
};
