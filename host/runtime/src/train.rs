//! Training: runs a trainer in the sandbox, and feeds it a training set in as many passes as it
//! asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use arrow_array::{Array as _, ArrayRef};
use wafer_core::{Field, Schema, bytes_text};
use wafer_store::ArtifactStore;
use wasmtime::Store;

use crate::asset::Asset;
use crate::bindings::TrainerPre;
use crate::bindings::training as wit;
use crate::deadline::start_time;
use crate::error::{InvokeError, LimitKind, said};
use crate::function::{chunk_rows, failure};
use crate::limits::Limits;
use crate::lower::{self, with_batch};
use crate::register::{FunctionSpec, RegisterError, limited};
use crate::state::State;
use crate::{Runtime, lift};

/// What rows are used for in a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Rows to learn from.
    Train,
    /// Rows to decide, for example, when to stop.
    Validation,
}

/// Maximum size of an artifact in bytes. The function that uses it has at most 4 GiB of memory for
/// the artifact and for everything that it derives from it.
pub const MAX_ARTIFACT_BYTES: u64 = 2 << 30;
/// Maximum number of artifacts of a training.
const MAX_ARTIFACTS: usize = 64;
/// Maximum number of metrics of a training.
const MAX_METRICS: usize = 1_000;
/// Maximum number of passes over a training set.
const MAX_PASSES: u64 = 10_000;
/// Number of bytes of an artifact that one call of `read` returns.
const PIECE: u64 = 1 << 20;

/// What a training produced.
#[derive(Clone, Debug, Default)]
pub struct Trained {
    /// The artifacts, as files, by name; at least one.
    pub artifacts: BTreeMap<String, Asset>,
    /// The metrics by name. All values are finite.
    pub metrics: BTreeMap<String, f64>,
}

/// A running training. All calls use the same instance of the trainer, which keeps its memory.
pub struct TrainingSession {
    name: String,
    limits: Limits,
    columns: Schema,
    store: Store<State>,
    guest: wit::Guest,
    passes: u64,
    /// Keeps the epoch thread running, which enforces time limits.
    _runtime: Runtime,
}

impl Runtime {
    /// Checks that a component exports the world of a trainer, and compiles it unless its native
    /// code is in `artifacts`. Runs no guest code.
    ///
    /// # Errors
    /// Returns [`RegisterError`].
    pub fn check_trainer(
        &self,
        spec: &FunctionSpec,
        artifacts: &dyn ArtifactStore,
    ) -> Result<(), RegisterError> {
        let checked: Result<TrainerPre, _> = self.linked(spec, artifacts);
        checked.map(drop)
    }

    /// Starts a training: loads the trainer's assets, and offers it the columns of a training set,
    /// one of which is the column `label`, to choose from; see [`TrainingSession::columns`].
    ///
    /// Runs guest code; call it on a thread that may block.
    ///
    /// # Errors
    /// Returns [`RegisterError::Init`] when the trainer refuses the training set or its parameters,
    /// and other [`RegisterError`]s when it cannot be started.
    pub fn begin_training(
        &self,
        spec: &FunctionSpec,
        offered: &Schema,
        label: &str,
        artifacts: &dyn ArtifactStore,
    ) -> Result<TrainingSession, RegisterError> {
        let pre: TrainerPre = self.linked(spec, artifacts)?;
        let mut store = limited(&pre, spec);
        let result = begin(spec, &pre, &mut store, offered, label);
        store.data_mut().emit_of_trainer(&spec.name);
        let (columns, guest) = result?;
        Ok(TrainingSession {
            name: spec.name.clone(),
            limits: spec.limits.clone(),
            columns,
            store,
            guest,
            passes: 0,
            _runtime: self.clone(),
        })
    }
}

fn begin(
    spec: &FunctionSpec,
    pre: &TrainerPre,
    store: &mut Store<State>,
    offered: &Schema,
    label: &str,
) -> Result<(Schema, wit::Guest), RegisterError> {
    let time = LimitKind::InitTime(spec.limits.init_time);
    let failed = |error: wasmtime::Error, store: &Store<State>| {
        let (name, limits) = (&spec.name, &spec.limits);
        RegisterError::Invoke(failure(name, &error, store.data(), limits, time))
    };
    let (_, guest) = pre.instantiate(&mut *store).map_err(|e| failed(e, store))?;
    spec.load_assets(|name, chunk, last| {
        guest
            .call_load(&mut *store, name, chunk, last)
            .map_err(|e| failed(e, store))
    })?;
    let columns: Vec<_> = offered.fields().iter().map(lower::field).collect();
    let begun = guest
        .call_begin(&mut *store, &spec.wit_parameters(), &columns, label)
        .map_err(|e| failed(e, store))?;
    let wanted = begun.map_err(|message| RegisterError::init(&spec.name, message))?;
    let wanted =
        lift::columns(wanted).map_err(|message| RegisterError::signature(&spec.name, message))?;
    Ok((wanted, guest))
}

impl TrainingSession {
    /// Returns the columns that the trainer asked for, which the rows of [`feed`](Self::feed) must
    /// have. They are not checked: the trainer may have asked for columns that were not offered.
    pub fn columns(&self) -> &[Field] {
        self.columns.fields()
    }

    /// Feeds rows, in chunks.
    ///
    /// # Errors
    /// Returns [`InvokeError`]. The training cannot be continued then.
    ///
    /// # Panics
    /// Panics when the columns are not those of [`columns`](Self::columns).
    pub fn feed(&mut self, role: Role, columns: &[ArrayRef]) -> Result<(), InvokeError> {
        let rows = columns[0].len();
        if rows == 0 {
            return Ok(());
        }
        let role = match role {
            Role::Train => wit::Role::Train,
            Role::Validation => wit::Role::Validation,
        };
        let chunk = chunk_rows(columns, rows);
        for start in (0..rows).step_by(chunk) {
            let length = chunk.min(rows - start);
            let slices: Vec<_> = columns.iter().map(|c| c.slice(start, length)).collect();
            self.call(|guest, fields, store| {
                with_batch(&slices, fields, length, |batch| {
                    guest.call_feed(store, role, batch)
                })
            })?;
        }
        Ok(())
    }

    /// Ends a pass over all rows, and returns whether the trainer asks for another one.
    ///
    /// # Errors
    /// Returns [`InvokeError`], also when the trainer asks for more than 10,000 passes. The
    /// training cannot be continued then.
    pub fn next_pass(&mut self) -> Result<bool, InvokeError> {
        let is_wanted = self.call(|guest, _, store| guest.call_next_pass(store))?;
        self.passes += 1;
        if is_wanted && self.passes >= MAX_PASSES {
            let message = format!("wish for another pass after {MAX_PASSES}, which is the most");
            return Err(self.invalid(message));
        }
        Ok(is_wanted)
    }

    /// Ends the training, and writes its artifacts to files in `folder`. Metrics that are not
    /// finite numbers are left out, with a warning in the log.
    ///
    /// # Errors
    /// Returns [`InvokeError`].
    pub fn finish(mut self, folder: &Path) -> Result<Trained, InvokeError> {
        let made = self.call(|guest, _, store| guest.call_finish(store))?;
        self.check(&made)?;
        let mut trained = Trained::default();
        for wit::Metric { name, value } in made.metrics {
            if value.is_finite() {
                trained.metrics.insert(name, value);
            } else {
                tracing::warn!("metric `{name}` of `{}` is {value}: left out", self.name);
            }
        }
        for (number, wit::Artifact { name, size }) in made.artifacts.into_iter().enumerate() {
            let path = folder.join(format!("artifact-{number}"));
            let asset = self.read(&name, size, &path)?;
            trained.artifacts.insert(name, asset);
        }
        Ok(trained)
    }

    /// Validates names, numbers and sizes of artifacts and metrics, before artifacts are read.
    fn check(&self, made: &wit::Trained) -> Result<(), InvokeError> {
        let (metrics, artifacts) = (made.metrics.len(), made.artifacts.len());
        if artifacts == 0 {
            return Err(self.invalid("no artifact".to_owned()));
        }
        if artifacts > MAX_ARTIFACTS || metrics > MAX_METRICS {
            return Err(self.invalid(format!(
                "{artifacts} artifacts and {metrics} metrics; there are at most {MAX_ARTIFACTS} and {MAX_METRICS}"
            )));
        }
        let mut names = BTreeSet::new();
        for wit::Metric { name, .. } in &made.metrics {
            if !is_word(name, "_") || !names.insert(name) {
                let name = shortened(name);
                return Err(self.invalid(format!("`{name}` as the name of a metric")));
            }
        }
        names.clear();
        let mut total = 0u64;
        for wit::Artifact { name, size } in &made.artifacts {
            if !is_word(name, "_-.") || name.starts_with('.') || !names.insert(name) {
                let name = shortened(name);
                return Err(self.invalid(format!("`{name}` as the name of an artifact")));
            }
            if *size > MAX_ARTIFACT_BYTES {
                return Err(self.invalid(format!(
                    "artifact `{name}` of {}; each has at most {}",
                    bytes_text(*size),
                    bytes_text(MAX_ARTIFACT_BYTES)
                )));
            }
            total += size;
        }
        // The trainer cannot hold more than its memory, so larger sizes must be wrong.
        if total > self.limits.memory {
            return Err(self.invalid(format!(
                "artifacts of {}, and it has {} of memory",
                bytes_text(total),
                bytes_text(self.limits.memory)
            )));
        }
        Ok(())
    }

    /// Reads an artifact from the trainer into a file.
    fn read(&mut self, name: &str, size: u64, path: &Path) -> Result<Asset, InvokeError> {
        let function = self.name.clone();
        let write_failed = |e: io::Error| InvokeError::Host {
            function: function.clone(),
            message: format!("{} cannot be written: {e}", path.display()),
        };
        let mut file = BufWriter::new(File::create(path).map_err(write_failed)?);
        let mut offset = 0;
        while offset < size {
            let piece = self.call(|guest, _, store| {
                let piece = guest.call_read(store, name, offset)?;
                Ok(Ok::<_, String>(piece))
            })?;
            let (found, wanted) = (piece.len() as u64, PIECE.min(size - offset));
            if found != wanted {
                return Err(self.invalid(format!(
                    "{found} bytes of artifact `{name}` from byte {offset} on instead of {wanted}"
                )));
            }
            file.write_all(&piece).map_err(write_failed)?;
            offset += found;
        }
        file.flush().map_err(write_failed)?;
        Asset::file(path).map_err(write_failed)
    }

    /// Makes one call into the trainer, under its limits.
    fn call<T>(
        &mut self,
        call: impl FnOnce(
            &wit::Guest,
            &[Field],
            &mut Store<State>,
        ) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, InvokeError> {
        let fuel = usize::try_from(self.limits.output).unwrap_or(usize::MAX);
        self.store.set_hostcall_fuel(fuel);
        // An earlier call may have survived a refused allocation.
        self.store.data_mut().out_of_memory = false;
        start_time(&mut self.store, self.limits.train_time);
        let result = call(&self.guest, self.columns.fields(), &mut self.store);
        let result = result.map_err(|error| {
            let time = LimitKind::TrainTime(self.limits.train_time);
            failure(&self.name, &error, self.store.data(), &self.limits, time)
        });
        self.store.data_mut().emit_of_trainer(&self.name);
        result?.map_err(|message| InvokeError::Training {
            function: self.name.clone(),
            message: said(message),
        })
    }

    fn invalid(&self, message: String) -> InvokeError {
        InvokeError::Output {
            function: self.name.clone(),
            message,
        }
    }
}

impl std::fmt::Debug for TrainingSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainingSession")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Shortens a name for an error message.
fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Returns whether a text has 1 to 64 characters, all of them ASCII letters, digits or `others`.
fn is_word(text: &str, others: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(is_allowed)
}
