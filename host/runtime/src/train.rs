//! Training: a learner in the sandbox, fed a training set as often as it asks for.

use std::collections::BTreeMap;

use arrow_array::{Array as _, ArrayRef};
use bytes::{Bytes, BytesMut};
use wafer_core::{Field, Schema};
use wafer_store::ArtifactStore;
use wasmtime::Store;

use crate::bindings::TrainerPre;
use crate::bindings::training as wit;
use crate::engine::ticks;
use crate::error::{InvokeError, LimitKind};
use crate::function::{chunk_rows, failure};
use crate::limits::Limits;
use crate::lower::{self, with_batch};
use crate::register::{FunctionSpec, RegisterError};
use crate::state::State;
use crate::{Runtime, lift};

/// What rows are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To learn from.
    Train,
    /// To decide when to stop, and the like.
    Validation,
}

/// What a trainer made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trained {
    /// Bytes by name; at least one.
    pub artifacts: BTreeMap<String, Bytes>,
    /// What it measured.
    pub metrics: BTreeMap<String, f64>,
}

/// A training that is under way: one instance, which keeps its memory.
pub struct Training {
    name: String,
    limits: Limits,
    columns: Schema,
    store: Store<State>,
    guest: wit::Guest,
    /// Ticks the engine's epoch meanwhile.
    _runtime: Runtime,
}

impl Runtime {
    /// Checks that a component is a trainer, and compiles it unless that was done.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn check_trainer(
        &self,
        spec: &FunctionSpec,
        artifacts: &dyn ArtifactStore,
    ) -> Result<(), RegisterError> {
        let checked: Result<TrainerPre, _> = self.linked(spec, artifacts);
        checked.map(drop)
    }

    /// Starts a training: loads the trainer's assets, and lets it choose among the
    /// columns of a training set, of which one is the `label`. Runs guest code; call it on
    /// a thread that may block.
    ///
    /// # Errors
    /// [`RegisterError::Init`] when it refuses the training set or its parameters.
    pub fn begin_training(
        &self,
        spec: &FunctionSpec,
        offered: &Schema,
        label: &str,
        artifacts: &dyn ArtifactStore,
    ) -> Result<Training, RegisterError> {
        let pre: TrainerPre = self.linked(spec, artifacts)?;
        let mut store = Store::new(pre.instance.engine(), State::new(spec.limits.memory));
        store.limiter(|state| state);
        store.set_epoch_deadline(ticks(spec.limits.init_time));
        let result = begin(spec, &pre, &mut store, offered, label);
        store.data_mut().log.emit(&spec.name);
        let (columns, guest) = result?;
        Ok(Training {
            name: spec.name.clone(),
            limits: spec.limits.clone(),
            columns,
            store,
            guest,
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
    let wanted = begun.map_err(|message| RegisterError::Init {
        function: spec.name.clone(),
        message,
    })?;
    let wanted = lift::schema(wanted, "columns").map_err(|message| RegisterError::Signature {
        function: spec.name.clone(),
        message,
    })?;
    Ok((wanted, guest))
}

impl Training {
    /// The columns that rows are to have, as the trainer asked for them. It may have asked
    /// for what there is not.
    pub fn columns(&self) -> &[Field] {
        self.columns.fields()
    }

    /// Feeds rows.
    ///
    /// # Errors
    /// [`InvokeError`]; the training is over then.
    ///
    /// # Panics
    /// When the columns are not what the trainer asked for.
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

    /// Ends a pass over all rows; says whether the trainer wants another one.
    ///
    /// # Errors
    /// [`InvokeError`]; the training is over then.
    pub fn next_pass(&mut self) -> Result<bool, InvokeError> {
        self.call(|guest, _, store| guest.call_next_pass(store))
    }

    /// Ends the training, and takes what was made.
    ///
    /// # Errors
    /// [`InvokeError`]
    pub fn finish(mut self) -> Result<Trained, InvokeError> {
        let made = self.call(|guest, _, store| guest.call_finish(store))?;
        let mut trained = Trained::default();
        for metric in made.metrics {
            let is_new = is_word(&metric.name, "_");
            if !is_new
                || trained
                    .metrics
                    .insert(metric.name.clone(), metric.value)
                    .is_some()
            {
                return Err(self.invalid(format!("`{}` as the name of a metric", metric.name)));
            }
        }
        if made.artifacts.is_empty() {
            return Err(self.invalid("no artifact".to_owned()));
        }
        for wit::Artifact { name, size } in made.artifacts {
            if !is_word(&name, "_-.")
                || name.starts_with('.')
                || trained.artifacts.contains_key(&name)
            {
                return Err(self.invalid(format!("`{name}` as the name of an artifact")));
            }
            let bytes = self.read(&name, size)?;
            trained.artifacts.insert(name, bytes);
        }
        Ok(trained)
    }

    fn read(&mut self, name: &str, size: u64) -> Result<Bytes, InvokeError> {
        // What is read was in its memory: no more than that is believed.
        if size > self.limits.memory {
            return Err(self.invalid(format!("artifact `{name}` of {size} bytes")));
        }
        let mut bytes = BytesMut::new();
        while (bytes.len() as u64) < size {
            let offset = bytes.len() as u64;
            let piece = self.call(|guest, _, store| {
                let piece = guest.call_read(store, name, offset)?;
                Ok(Ok::<_, String>(piece))
            })?;
            if piece.is_empty() || offset + piece.len() as u64 > size {
                let found = offset + piece.len() as u64;
                return Err(self.invalid(format!(
                    "artifact `{name}`: {found} bytes instead of {size}"
                )));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// One call into the trainer, under its limits.
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
        self.store.set_epoch_deadline(ticks(self.limits.train_time));
        let result = call(&self.guest, self.columns.fields(), &mut self.store);
        let result = result.map_err(|error| {
            let time = LimitKind::TrainTime(self.limits.train_time);
            failure(&self.name, &error, self.store.data(), &self.limits, time)
        });
        self.store.data_mut().log.emit(&self.name);
        result?.map_err(|message| InvokeError::Refused {
            function: self.name.clone(),
            message,
        })
    }

    fn invalid(&self, message: String) -> InvokeError {
        InvokeError::Output {
            function: self.name.clone(),
            message,
        }
    }
}

impl std::fmt::Debug for Training {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Training")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Whether a text is of ASCII letters, digits and some others, 1 to 64 of them.
fn is_word(text: &str, others: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(is_allowed)
}
