//! Aggregates over time windows, with the same results offline and online.
//!
//! Offline, [`slide`] walks once through an entity's events and labels. Online, an [`Item`] holds
//! an entity's events as [tiles](crate::window), which [`read`] merges at request time. Both end in
//! the same states, which do not depend on the order of events, and so in the same bits.

mod cell;
mod item;
mod sketch;
mod slide;
mod state;

use serde::{Deserialize, Serialize};

pub use cell::{Answer, Cell, CellRef, Cells};
pub use item::{Item, Layout, is_item, item_identity, merge_items, newest_event, read};
pub use slide::{EntityEvents, identities, slide};
use state::Kind;

use crate::DataType;
use crate::window::Window;

/// What is computed over the events of a window. Null values are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// Number of values that are not null, or of events if there is no column.
    Count,
    /// Sum. Of int64 values an int64, null when it does not fit; of floats a float64 that is
    /// rounded once. Null when there are no values.
    Sum,
    /// Arithmetic mean, as float64.
    Mean,
    /// Least value. NaN counts as the greatest.
    Min,
    /// Greatest value. NaN counts as the greatest.
    Max,
    /// Value of the earliest event.
    First,
    /// Value of the latest event.
    Last,
    /// Square root of the sample variance.
    Stddev,
    /// Sample variance: the sum of squared deviations divided by n - 1. Null when there are fewer
    /// than two values.
    Variance,
    /// Values of the `k` earliest events, earliest first.
    FirstK(u32),
    /// Values of the `k` latest events, latest first.
    LastK(u32),
    /// Number of distinct values.
    CountDistinct,
    /// Approximate number of distinct values, with a standard error of 1.6 %.
    ApproxCountDistinct,
    /// Approximate quantile, within 1 % of its value. Holds its fraction in millionths.
    ApproxQuantile(u32),
    /// The `k` most frequent values, most frequent first. Of equally frequent ones the lesser comes
    /// first.
    TopK(u32),
}

/// The greatest `k` of an aggregate whose result is a list.
pub const MAX_K: u32 = 1_000;

/// The error for an aggregate that cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FunctionError {
    /// The name is not that of an aggregate function.
    #[error("`{0}` is not an aggregate function; use one of {names}", names = NAMES.join(", "))]
    Unknown(String),
    /// A parameter is missing, out of range or unknown.
    #[error("{0}")]
    Parameter(String),
    /// The function is not defined for the type of the column.
    #[error("{function} is not defined for {data_type}; it takes {wanted}")]
    Type {
        /// Name of the function.
        function: &'static str,
        /// Type of the column.
        data_type: DataType,
        /// The types that the function takes.
        wanted: &'static str,
    },
}

const NAMES: [&str; 15] = [
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "first",
    "last",
    "stddev",
    "variance",
    "first_k",
    "last_k",
    "count_distinct",
    "approx_count_distinct",
    "approx_quantile",
    "top_k",
];

impl Function {
    /// Parses a function from its name and the parameters that it needs: `k` from 1 to [`MAX_K`],
    /// `quantile` from 0 to 1.
    ///
    /// # Errors
    /// Returns [`FunctionError::Unknown`] or [`FunctionError::Parameter`].
    pub fn parse(name: &str, k: Option<u32>, quantile: Option<f64>) -> Result<Self, FunctionError> {
        let parameter = |message: String| Err(FunctionError::Parameter(message));
        let list = match (name, k) {
            ("first_k" | "last_k" | "top_k", Some(k @ 1..=MAX_K)) => k,
            ("first_k" | "last_k" | "top_k", _) => {
                return parameter(format!("{name} needs `k`, from 1 to {MAX_K}"));
            }
            (_, None) => 0,
            (_, Some(_)) => return parameter(format!("{name} has no `k`")),
        };
        let millionths = match (name, quantile) {
            ("approx_quantile", Some(q)) if (0.0..=1.0).contains(&q) => (q * 1e6).round() as u32,
            ("approx_quantile", _) => {
                return parameter("approx_quantile needs `quantile`, from 0 to 1".to_owned());
            }
            (_, None) => 0,
            (_, Some(_)) => return parameter(format!("{name} has no `quantile`")),
        };
        Ok(match name {
            "count" => Self::Count,
            "sum" => Self::Sum,
            "mean" => Self::Mean,
            "min" => Self::Min,
            "max" => Self::Max,
            "first" => Self::First,
            "last" => Self::Last,
            "stddev" => Self::Stddev,
            "variance" => Self::Variance,
            "first_k" => Self::FirstK(list),
            "last_k" => Self::LastK(list),
            "count_distinct" => Self::CountDistinct,
            "approx_count_distinct" => Self::ApproxCountDistinct,
            "approx_quantile" => Self::ApproxQuantile(millionths),
            "top_k" => Self::TopK(list),
            _ => return Err(FunctionError::Unknown(name.to_owned())),
        })
    }

    /// The name of the function, as [`parse`](Self::parse) takes it.
    pub fn name(self) -> &'static str {
        NAMES[match self {
            Self::Count => 0,
            Self::Sum => 1,
            Self::Mean => 2,
            Self::Min => 3,
            Self::Max => 4,
            Self::First => 5,
            Self::Last => 6,
            Self::Stddev => 7,
            Self::Variance => 8,
            Self::FirstK(_) => 9,
            Self::LastK(_) => 10,
            Self::CountDistinct => 11,
            Self::ApproxCountDistinct => 12,
            Self::ApproxQuantile(_) => 13,
            Self::TopK(_) => 14,
        }]
    }

    /// The type of the function's result over a column of type `input`, or over events if that is
    /// `None`.
    ///
    /// # Errors
    /// Returns [`FunctionError::Type`] when the function is not defined for the type, and
    /// [`FunctionError::Parameter`] when it needs a column.
    pub fn output(self, input: Option<&DataType>) -> Result<DataType, FunctionError> {
        let Some(input) = input else {
            return match self {
                Self::Count => Ok(DataType::Int64),
                _ => Err(FunctionError::Parameter(format!(
                    "{} needs a `column`",
                    self.name()
                ))),
            };
        };
        let number = matches!(
            input,
            DataType::Int64 | DataType::Float64 | DataType::Float32
        );
        let ordered = number || matches!(input, DataType::Timestamp | DataType::Date);
        let single =
            ordered || matches!(input, DataType::Boolean | DataType::Utf8 | DataType::Binary);
        let wrong = |wanted| {
            Err(FunctionError::Type {
                function: self.name(),
                data_type: input.clone(),
                wanted,
            })
        };
        const NUMBERS: &str = "int64, float64 or float32";
        const LISTABLE: &str = "int64, float64, float32 or utf8";
        const SINGLE: &str = "single values, not lists or vectors";
        match self {
            Self::Count => Ok(DataType::Int64),
            Self::Sum if *input == DataType::Int64 => Ok(DataType::Int64),
            Self::Sum | Self::Mean | Self::Stddev | Self::Variance | Self::ApproxQuantile(_) => {
                if number {
                    Ok(DataType::Float64)
                } else {
                    wrong(NUMBERS)
                }
            }
            Self::Min | Self::Max if ordered => Ok(input.clone()),
            Self::Min | Self::Max => wrong("numbers, timestamp or date"),
            Self::First | Self::Last if single => Ok(input.clone()),
            Self::CountDistinct | Self::ApproxCountDistinct if single => Ok(DataType::Int64),
            Self::First | Self::Last | Self::CountDistinct | Self::ApproxCountDistinct => {
                wrong(SINGLE)
            }
            Self::FirstK(_) | Self::LastK(_) | Self::TopK(_) => match input {
                DataType::Int64 => Ok(DataType::ListInt64),
                DataType::Float64 | DataType::Float32 => Ok(DataType::ListFloat64),
                DataType::Utf8 => Ok(DataType::ListUtf8),
                _ => wrong(LISTABLE),
            },
        }
    }

    /// Whether the result depends on the order of events that have the same time.
    pub fn is_of_order(self) -> bool {
        matches!(
            self,
            Self::First | Self::Last | Self::FirstK(_) | Self::LastK(_)
        )
    }

    /// The state that is kept of the events.
    fn kind(self) -> Kind {
        match self {
            Self::Count => Kind::Count,
            Self::Sum | Self::Mean => Kind::Sum,
            Self::Stddev | Self::Variance => Kind::Moments,
            Self::Min => Kind::Min,
            Self::Max => Kind::Max,
            Self::First => Kind::First(1),
            Self::Last => Kind::Last(1),
            Self::FirstK(k) => Kind::First(k),
            Self::LastK(k) => Kind::Last(k),
            Self::CountDistinct | Self::TopK(_) => Kind::Values,
            Self::ApproxCountDistinct => Kind::Hll,
            Self::ApproxQuantile(_) => Kind::Quantiles,
        }
    }
}

/// A function over a column of the events in a window.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Aggregate {
    /// The function.
    pub function: Function,
    /// Position of the column, or `None` for the events themselves.
    pub column: Option<usize>,
    /// The time window whose events count.
    pub window: Window,
}

#[cfg(test)]
mod tests;
