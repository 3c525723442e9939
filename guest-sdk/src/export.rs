//! Functions for the code that the attributes generate. They are not part of the public interface.

use std::cell::RefCell;

pub use crate::bindings::training;
pub use crate::bindings::transform::Guest;
pub use crate::bindings::types::{Batch, CallError, Field, Output, Parameter, Signature};
pub use crate::function::{
    ColumnsOf, call_columns, call_rows, call_table, columns_signature, rows_signature,
    table_signature,
};
pub use crate::row::null_message;
use crate::{Init, Level, Table, Trained, Trainer, init, log};

thread_local! {
    static INIT: RefCell<Init> = RefCell::default();
}

/// Keeps a chunk of an asset until `init`.
pub fn load(asset: String, mut chunk: Vec<u8>) {
    INIT.with_borrow_mut(|init| init.push_chunk(asset, &chunk));
    init::wipe(&mut chunk);
}

/// Runs the author's initialisation on the assets and parameters, then frees them.
pub fn init<E: ToString>(
    parameters: Vec<Parameter>,
    build: impl FnOnce(&Init) -> Result<(), E>,
) -> Result<(), String> {
    std::panic::set_hook(Box::new(|info| log(Level::Error, &info.to_string())));
    INIT.with_borrow_mut(|init| {
        init.set_parameters(parameters.into_iter().map(|p| (p.name, p.value)));
        let result = build(init).map_err(|e| e.to_string());
        init.wipe();
        *init = Init::default();
        result
    })
}

/// The state of a training.
#[derive(Debug, Default)]
pub enum Training<T> {
    /// The training has not begun, or it failed.
    #[default]
    None,
    /// The trainer, and the columns that it asked for.
    Begun(T, Vec<Field>),
    /// What the training produced.
    Ended(Trained),
}

/// Maximum number of bytes that one call of `read` returns.
const READ_BYTES: usize = 1 << 20;

impl<T: Trainer> Training<T> {
    /// Creates the trainer, and returns the columns that it asks for.
    pub fn begin(
        &mut self,
        parameters: Vec<Parameter>,
        columns: &[Field],
        label: &str,
    ) -> Result<Vec<Field>, String> {
        let mut begun = None;
        init(parameters, |init| {
            begun = Some(T::begin(init, columns, label)?);
            Ok::<_, String>(())
        })?;
        let trainer = begun.expect("it was built without an error");
        let wanted = trainer.columns();
        *self = Self::Begun(trainer, wanted.clone());
        Ok(wanted)
    }

    /// Feeds rows to the trainer.
    pub fn feed(&mut self, role: training::Role, rows: Batch) -> Result<(), String> {
        let (trainer, columns) = self.begun()?;
        let table = Table::from_wire(rows, columns.clone());
        trainer.feed(role.into(), table)
    }

    /// Ends a pass, and returns whether there is to be another.
    pub fn next_pass(&mut self) -> Result<bool, String> {
        self.begun()?.0.next_pass()
    }

    /// Ends the training, and lists what it produced.
    pub fn finish(&mut self) -> Result<training::Trained, String> {
        let Self::Begun(trainer, _) = std::mem::take(self) else {
            return Err(NOT_BEGUN.to_owned());
        };
        let trained = trainer.finish()?;
        let wire = trained.to_wire();
        *self = Self::Ended(trained);
        Ok(wire)
    }

    /// Up to 1 MiB of an artifact, from an offset on.
    pub fn read(&self, artifact: &str, offset: u64) -> Vec<u8> {
        let Self::Ended(trained) = self else {
            return Vec::new();
        };
        let bytes = trained.artifact(artifact).unwrap_or_default();
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let end = start.saturating_add(READ_BYTES).min(bytes.len());
        bytes[start..end].to_vec()
    }

    fn begun(&mut self) -> Result<(&mut T, &Vec<Field>), String> {
        match self {
            Self::Begun(trainer, columns) => Ok((trainer, columns)),
            Self::None | Self::Ended(_) => Err(NOT_BEGUN.to_owned()),
        }
    }
}

const NOT_BEGUN: &str = "the training has not begun, or is over";
