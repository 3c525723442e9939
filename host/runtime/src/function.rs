//! Loaded functions, and calling them.
//!
//! [`Function::invoke`] cuts rows into chunks. For each chunk it takes an instance from the pool,
//! whose memory is a copy-on-write image of the snapshot, or of an interpreter, with what the
//! function has different from it (`interpreter.rs`). It passes the columns (`lower.rs`), and calls
//! the function once. A call is bounded by a time limit (`deadline.rs`), by limits on
//! memories and output, and by a fixed call stack. Whatever comes back is checked before it becomes
//! Arrow columns (`lift.rs`). Then the instance is discarded.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use wafer_core::{Duration, Mapping, Signature};
use wasmtime::{Store, Trap, WasmBacktrace};

use crate::bindings::FunctionPre;
use crate::bindings::transform::Guest;
use crate::bindings::types as wit;
use crate::deadline::start_time;
use crate::engine::STACK_BYTES;
use crate::error::{InvokeError, LimitKind, advice, said};
use crate::interpreter::InitialMemory;
use crate::lift::{self, Lifted};
use crate::limits::Limits;
use crate::lower::with_batch;
use crate::state::State;
use crate::wasi::Refused;
use crate::{CHUNK_ROWS, Runtime};

/// Target size in bytes of the input columns of a chunk of wide rows.
const CHUNK_BYTES: usize = 1 << 20;

/// Selects the time limit of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// [`Limits::request_time`]
    Request,
    /// [`Limits::batch_time`]
    Batch,
}

/// A loaded function, which many threads can call at the same time. Clones share the same code.
#[derive(Clone)]
pub struct Function {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    signature: Signature,
    /// Arrow types of the inputs.
    input_types: Vec<DataType>,
    limits: Limits,
    pre: FunctionPre,
    /// What instances are given of a function in an interpreter, which has no snapshot.
    memory: Option<InitialMemory>,
    /// Keeps the epoch thread running, which enforces time limits.
    _runtime: Runtime,
}

/// The output of a call.
#[derive(Clone, Debug)]
pub struct Output {
    /// The columns of the signature's outputs, each with `rows` values.
    pub columns: Vec<ArrayRef>,
    /// Number of output rows.
    pub rows: usize,
    /// For each output row, the index of its input row. `None` when rows map one to one.
    pub source_rows: Option<Vec<u32>>,
    /// Input rows that failed, in ascending order, with the reason. A one-to-one output has a row
    /// for each of them, whose values are undefined.
    pub row_errors: Vec<(u32, String)>,
}

impl Output {
    /// Returns whether an input row failed.
    pub fn has_failed(&self, row: usize) -> bool {
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        let found = self.row_errors.binary_search_by_key(&row, |(row, _)| *row);
        found.is_ok()
    }

    fn empty(signature: &Signature) -> Self {
        let fields = signature.outputs.fields().iter();
        Self {
            columns: fields
                .map(|f| arrow_array::new_empty_array(&f.data_type.to_arrow()))
                .collect(),
            rows: 0,
            source_rows: (signature.mapping == Mapping::OneToMany).then(Vec::new),
            row_errors: Vec::new(),
        }
    }

    /// Concatenates the outputs of chunks, each with the index of its first input row.
    fn concat(parts: Vec<(usize, Lifted)>, signature: &Signature) -> Self {
        let mut all = Self::empty(signature);
        for (start, part) in &parts {
            let moved = |row: u32| row + *start as u32;
            all.rows += part.rows;
            all.row_errors.extend(
                part.row_errors
                    .iter()
                    .map(|(row, m)| (moved(*row), m.clone())),
            );
            if let (Some(all), Some(part)) = (&mut all.source_rows, &part.source_rows) {
                all.extend(part.iter().map(|row| moved(*row)));
            }
        }
        for (index, column) in all.columns.iter_mut().enumerate() {
            let pieces: Vec<&dyn Array> = parts
                .iter()
                .map(|(_, p)| p.columns[index].as_ref())
                .collect();
            *column = arrow_select::concat::concat(&pieces)
                .expect("the parts have the signature's types");
        }
        all
    }

    /// Returns the index of the input row of an output row.
    pub fn source_row(&self, row: usize) -> usize {
        self.source_rows
            .as_ref()
            .map_or(row, |sources| sources[row] as usize)
    }
}

impl Function {
    pub(crate) fn new(
        name: &str,
        signature: Signature,
        limits: Limits,
        pre: FunctionPre,
        memory: Option<InitialMemory>,
        runtime: Runtime,
    ) -> Self {
        let input_types = signature
            .inputs
            .fields()
            .iter()
            .map(|f| f.data_type.to_arrow())
            .collect();
        let inner = Inner {
            name: name.to_owned(),
            signature,
            input_types,
            limits,
            pre,
            memory,
            _runtime: runtime,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The name that the function was loaded under, for error messages and logs.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Input and output columns of the function.
    pub fn signature(&self) -> &Signature {
        &self.inner.signature
    }

    /// Calls the function on some rows. This is the only way to run a function.
    ///
    /// `columns` must be the signature's inputs, in the same order and of the same types. Rows are
    /// split into chunks of at most [`CHUNK_ROWS`] rows; each chunk is one call in a new instance,
    /// under the limits.
    ///
    /// Blocks: guest code runs on the calling thread.
    ///
    /// # Errors
    /// Returns [`InvokeError`], whose [`blame`](InvokeError::blame) says whose fault it is. Single
    /// rows that fail are not an error of the call; see [`Output::row_errors`].
    pub fn invoke(&self, columns: &[ArrayRef], deadline: Deadline) -> Result<Output, InvokeError> {
        self.invoke_counted(columns, deadline, |_| Ok(()))
    }

    /// Calls the function on some rows like [`invoke`](Self::invoke). `count` is told how many
    /// bytes of memory the output takes, after each call and while the outputs of several calls are
    /// put together. The calls end with the first error of it.
    ///
    /// In a request, [`Limits::output`] is a limit of all calls together.
    ///
    /// # Errors
    /// Returns [`InvokeError`], and the errors of `count`.
    pub fn invoke_counted<E: From<InvokeError>>(
        &self,
        columns: &[ArrayRef],
        deadline: Deadline,
        mut count: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<Output, E> {
        let rows = self.check_input(columns)?;
        let signature = &self.inner.signature;
        if rows == 0 {
            return Ok(Output::empty(signature));
        }
        let chunk = chunk_rows(columns, rows);
        if rows <= chunk {
            let lifted = self.call_fresh(columns, rows, deadline)?;
            count(lifted.bytes())?;
            let Lifted {
                columns,
                rows,
                source_rows,
                row_errors,
            } = lifted;
            return Ok(Output {
                columns,
                rows,
                source_rows,
                row_errors,
            });
        }
        let mut parts = Vec::with_capacity(rows.div_ceil(chunk));
        let mut bytes = 0;
        for start in (0..rows).step_by(chunk) {
            let length = chunk.min(rows - start);
            let slices: Vec<_> = columns.iter().map(|c| c.slice(start, length)).collect();
            let part = self.call_fresh(&slices, length, deadline)?;
            bytes += part.bytes();
            self.check_output(bytes, deadline)?;
            count(bytes)?;
            parts.push((start, part));
        }
        // All values are there twice until they have been put together.
        count(2 * bytes)?;
        let output = Output::concat(parts, signature);
        count(bytes)?;
        Ok(output)
    }

    /// Checks what several calls have returned together. In a batch, whose memory is that of
    /// whoever runs it, the limit is that of each call.
    fn check_output(&self, bytes: u64, deadline: Deadline) -> Result<(), InvokeError> {
        let Inner { name, limits, .. } = &*self.inner;
        match deadline == Deadline::Request && bytes > limits.output {
            true => Err(InvokeError::OverLimit {
                function: name.clone(),
                limit: LimitKind::Output(limits.output),
            }),
            false => Ok(()),
        }
    }

    /// Creates one instance for many calls. A call can see state that earlier calls left in it, so
    /// this is only for measuring the cost of new instances.
    ///
    /// # Errors
    /// Returns [`InvokeError`].
    pub fn warm(&self) -> Result<Warm, InvokeError> {
        let mut store = self.store(Deadline::Batch);
        let instance = self.instantiate(&mut store, Deadline::Batch)?;
        Ok(Warm {
            function: self.clone(),
            store,
            instance,
        })
    }

    /// Checks the input columns against the signature, and returns the number of rows.
    fn check_input(&self, columns: &[ArrayRef]) -> Result<usize, InvokeError> {
        let fields = self.inner.signature.inputs.fields();
        let refuse = |message| {
            Err(InvokeError::Input {
                function: self.inner.name.clone(),
                message,
            })
        };
        if columns.len() != fields.len() {
            return refuse(format!(
                "it was given {} columns, and takes {}",
                columns.len(),
                fields.len()
            ));
        }
        let rows = columns[0].len();
        for ((column, field), wanted) in columns.iter().zip(fields).zip(&self.inner.input_types) {
            if column.data_type() != wanted {
                let found = column.data_type();
                return refuse(format!(
                    "column `{}` is {found}, and has to be {wanted}",
                    field.name
                ));
            }
            if column.len() != rows {
                return refuse(format!(
                    "column `{}` has {} rows, and the first one has {rows}",
                    field.name,
                    column.len()
                ));
            }
        }
        Ok(rows)
    }

    fn store(&self, deadline: Deadline) -> Store<State> {
        let limits = &self.inner.limits;
        let mut store = self.inner.pre.store(limits.memory);
        store.set_hostcall_fuel(usize::try_from(limits.output).unwrap_or(usize::MAX));
        start_time(&mut store, self.time(deadline));
        store
    }

    fn time(&self, deadline: Deadline) -> Duration {
        match deadline {
            Deadline::Request => self.inner.limits.request_time,
            Deadline::Batch => self.inner.limits.batch_time,
        }
    }

    fn instantiate(
        &self,
        store: &mut Store<State>,
        deadline: Deadline,
    ) -> Result<Guest, InvokeError> {
        let instantiated = self.inner.pre.instantiate(&mut *store);
        let (instance, guest) = instantiated.map_err(|error| {
            let is_its_fault = error.is::<Trap>() || error.is::<Refused>();
            if is_its_fault || store.data().out_of_memory {
                return self.logged_failure(&error, store, deadline);
            }
            // The pool has no room for another instance, which is not the function's fault.
            let function = self.inner.name.clone();
            InvokeError::Host {
                function,
                message: format!("{error:#}"),
            }
        })?;
        if let Some(memory) = &self.inner.memory {
            let restored = memory.restore(&mut *store, &instance);
            restored.map_err(|error| self.logged_failure(&error, store, deadline))?;
        }
        Ok(guest)
    }

    fn call_fresh(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        deadline: Deadline,
    ) -> Result<Lifted, InvokeError> {
        let mut store = self.store(deadline);
        let instance = self.instantiate(&mut store, deadline)?;
        self.call(&mut store, &instance, columns, rows, deadline)
    }

    /// Calls the function on one chunk of rows, in batches, without logging what it says.
    pub(crate) fn call_quietly(
        &self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Lifted, InvokeError> {
        let mut store = self.store(Deadline::Batch);
        store.data_mut().log.is_quiet = true;
        let instance = self.instantiate(&mut store, Deadline::Batch)?;
        self.call(&mut store, &instance, columns, rows, Deadline::Batch)
    }

    fn call(
        &self,
        store: &mut Store<State>,
        instance: &Guest,
        columns: &[ArrayRef],
        rows: usize,
        deadline: Deadline,
    ) -> Result<Lifted, InvokeError> {
        let Inner {
            name, signature, ..
        } = &*self.inner;
        let fields = signature.inputs.fields();
        let result = with_batch(columns, fields, rows, |batch| {
            instance.call_call(&mut *store, batch)
        });
        let output = match result {
            Ok(Ok(output)) => output,
            Ok(Err(refusal)) => {
                store.data_mut().emit(name);
                return Err(self.refusal(refusal));
            }
            Err(error) => return Err(self.logged_failure(&error, store, deadline)),
        };
        store.data_mut().emit(name);
        lift::output(output, signature, rows).map_err(|message| InvokeError::Output {
            function: name.clone(),
            message,
        })
    }

    fn refusal(&self, error: wit::CallError) -> InvokeError {
        let function = self.inner.name.clone();
        match error {
            wit::CallError::InvalidInput(message) => InvokeError::Input {
                function,
                message: said(message),
            },
            wit::CallError::Failed(message) | wit::CallError::Other(message) => {
                InvokeError::Refused {
                    function,
                    message: said(message),
                }
            }
        }
    }

    /// Returns the error of a call that failed, and logs what the guest said before.
    fn logged_failure(
        &self,
        error: &wasmtime::Error,
        store: &mut Store<State>,
        deadline: Deadline,
    ) -> InvokeError {
        let failure = self.failure(error, store, deadline);
        store.data_mut().emit(&self.inner.name);
        failure
    }

    fn failure(
        &self,
        error: &wasmtime::Error,
        store: &Store<State>,
        deadline: Deadline,
    ) -> InvokeError {
        let time = self.time(deadline);
        let time = match deadline {
            Deadline::Request => LimitKind::RequestTime(time),
            Deadline::Batch => LimitKind::BatchTime(time),
        };
        failure(
            &self.inner.name,
            error,
            store.data(),
            &self.inner.limits,
            time,
        )
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

/// An instance that is kept between calls; see [`Function::warm`].
pub struct Warm {
    function: Function,
    store: Store<State>,
    instance: Guest,
}

impl Warm {
    /// Calls the function on one chunk of rows in this instance, with the limit
    /// [`Deadline::Batch`].
    ///
    /// # Errors
    /// Returns [`InvokeError`]. The instance cannot be used again after a trap.
    pub fn call(&mut self, columns: &[ArrayRef]) -> Result<Output, InvokeError> {
        let rows = self.function.check_input(columns)?;
        start_time(&mut self.store, self.function.time(Deadline::Batch));
        let function = self.function.clone();
        let Lifted {
            columns,
            rows,
            source_rows,
            row_errors,
        } = function.call(
            &mut self.store,
            &self.instance,
            columns,
            rows,
            Deadline::Batch,
        )?;
        Ok(Output {
            columns,
            rows,
            source_rows,
            row_errors,
        })
    }
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warm")
            .field("function", &self.function)
            .finish_non_exhaustive()
    }
}

/// Returns the number of rows in one call: [`CHUNK_ROWS`], or fewer if rows are wide.
pub(crate) fn chunk_rows(columns: &[ArrayRef], rows: usize) -> usize {
    let bytes: usize = columns.iter().map(|c| c.get_array_memory_size()).sum();
    // The memory size of a slice is that of the whole array, which only makes chunks smaller.
    let row_bytes = (bytes / rows).max(1);
    (CHUNK_BYTES / row_bytes).clamp(64, CHUNK_ROWS)
}

/// Converts the failure of a call. `time` is the time limit of the call.
pub(crate) fn failure(
    function: &str,
    error: &wasmtime::Error,
    state: &State,
    limits: &Limits,
    time: LimitKind,
) -> InvokeError {
    let function = function.to_owned();
    let over = |limit| InvokeError::OverLimit {
        function: function.clone(),
        limit,
    };
    let trap = error.downcast_ref::<Trap>();
    if state.out_of_memory {
        return over(LimitKind::Memory(limits.memory));
    }
    match trap {
        Some(Trap::Interrupt) if state.time.is_some_and(|time| time.is_starved) => {
            return InvokeError::Starved { function };
        }
        Some(Trap::Interrupt) => return over(time),
        Some(Trap::StackOverflow) => return over(LimitKind::Stack(STACK_BYTES as u64)),
        _ => {}
    }
    let root = said(error.root_cause());
    // wasmtime has no error type for this limit.
    if root.contains("fuel allocated for hostcalls has been exhausted") {
        return over(LimitKind::Output(limits.output));
    }
    // The names of the guest's functions are as long as the component says.
    let backtrace = error
        .downcast_ref::<WasmBacktrace>()
        .map(said)
        .unwrap_or_default();
    let message = match (state.last_error(), trap) {
        (Some(last), _) if error.is::<Refused>() => said(format!("{root}; it said: {last}")),
        (Some(panic), _) => match advice(&panic) {
            Some(advice) => format!("{}; {advice}", said(panic)),
            None => said(panic),
        },
        (None, Some(Trap::MemoryOutOfBounds)) => {
            format!(
                "{root}; if it recurses deeply or has large local arrays, build it with a larger `stack`"
            )
        }
        (None, Some(_)) => root,
        // The guest did not trap, but returned values that the canonical ABI refuses, or the host
        // failed.
        (None, None) if backtrace.is_empty() && !error.is::<Refused>() => {
            return InvokeError::Output {
                function,
                message: root,
            };
        }
        (None, None) => root,
    };
    InvokeError::Trapped {
        function,
        message,
        backtrace,
    }
}
