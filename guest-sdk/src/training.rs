//! Training functions.

use std::collections::BTreeMap;

use crate::Init;
use crate::bindings::training;
use crate::bindings::types::Field;
use crate::table::Table;

/// What rows are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Rows to learn from.
    Train,
    /// Rows to decide, for example, when to stop. There may be none.
    Validation,
}

/// Trains a model. `#[wafer::trainer]` on an implementation makes a crate's component a
/// training function.
///
/// `wafer train` streams a training set through it: [`begin`](Self::begin), then
/// [`feed`](Self::feed) for each chunk of rows and [`next_pass`](Self::next_pass) after
/// all of them, as long as that returns `true`, and finally [`finish`](Self::finish). Rows whose
/// label is null are left out.
///
/// ```
/// use wafer::{Field, Init, Row, Role, Table, Trained, Trainer};
///
/// #[derive(Row)]
/// struct Example {
///     distance_km: f64,
///     minutes: f64,
/// }
///
/// /// The mean speed: a model of one number.
/// #[derive(Default)]
/// struct MeanSpeed {
///     km: f64,
///     minutes: f64,
/// }
///
/// #[wafer::trainer]
/// impl Trainer for MeanSpeed {
///     fn begin(_: &Init, _: &[Field], _: &str) -> Result<Self, String> {
///         Ok(Self::default())
///     }
///
///     fn columns(&self) -> Vec<Field> {
///         wafer::fields_of::<Example>()
///     }
///
///     fn feed(&mut self, role: Role, rows: Table) -> Result<(), String> {
///         if role == Role::Train {
///             for row in rows.into_rows::<Example>()? {
///                 self.km += row.distance_km;
///                 self.minutes += row.minutes;
///             }
///         }
///         Ok(())
///     }
///
///     fn finish(self) -> Result<Trained, String> {
///         let km_per_minute = self.km / self.minutes;
///         Ok(Trained::default().with_artifact("model", km_per_minute.to_string()))
///     }
/// }
/// ```
pub trait Trainer: Sized {
    /// Starts a training on a training set with these columns, one of which is the label.
    /// [`Labels`](crate::Labels) reads labels of any type, and [`Init::keys`] says which of the
    /// columns are join keys, which are seldom features.
    ///
    /// # Errors
    /// An error refuses the parameters or the columns.
    fn begin(init: &Init, columns: &[Field], label: &str) -> Result<Self, String>;

    /// The columns that rows must have. Booleans and numbers may be asked for as `float64`,
    /// whatever they are in the training set.
    fn columns(&self) -> Vec<Field>;

    /// Receives a chunk of rows.
    ///
    /// # Errors
    /// An error ends the training.
    fn feed(&mut self, role: Role, rows: Table) -> Result<(), String>;

    /// Called when all rows have been fed. Returns whether to feed them once more; by default they
    /// are fed once.
    ///
    /// # Errors
    /// An error ends the training.
    fn next_pass(&mut self) -> Result<bool, String> {
        Ok(false)
    }

    /// Ends the training and returns the model.
    ///
    /// # Errors
    /// An error says why there is no model.
    fn finish(self) -> Result<Trained, String>;
}

/// What a training produced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trained {
    artifacts: BTreeMap<String, Vec<u8>>,
    metrics: BTreeMap<String, f64>,
}

impl Trained {
    /// Adds an artifact. The function that serves the model receives it as an asset of this name.
    #[must_use]
    pub fn with_artifact(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.artifacts.insert(name.to_owned(), bytes.into());
        self
    }

    /// Adds a metric.
    #[must_use]
    pub fn with_metric(mut self, name: &str, value: f64) -> Self {
        self.metrics.insert(name.to_owned(), value);
        self
    }

    /// The bytes of an artifact.
    pub fn artifact(&self, name: &str) -> Option<&[u8]> {
        self.artifacts.get(name).map(Vec::as_slice)
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.get(name).copied()
    }

    pub(crate) fn to_wire(&self) -> training::Trained {
        let artifacts = self.artifacts.iter();
        let metrics = self.metrics.iter();
        training::Trained {
            artifacts: artifacts
                .map(|(name, bytes)| training::Artifact {
                    name: name.clone(),
                    size: bytes.len() as u64,
                })
                .collect(),
            metrics: metrics
                .map(|(name, value)| training::Metric {
                    name: name.clone(),
                    value: *value,
                })
                .collect(),
        }
    }
}

impl From<training::Role> for Role {
    fn from(role: training::Role) -> Self {
        match role {
            training::Role::Train => Self::Train,
            training::Role::Validation => Self::Validation,
        }
    }
}
