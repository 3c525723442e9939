//! The table of aggregate functions: everything that distinguishes one from another is in its row.

use serde::{Deserialize, Serialize};

use super::parameter::Parameter;
use super::states::{
    EndStatistic, Estimate, Extreme, MomentStatistic, Number, Quantile, Statistic, SumStatistic,
    ValueStatistic,
};
use super::types::{self, Types};
use crate::DataType;

/// What there is to know of a function without its input.
struct Row {
    /// How users write the function.
    name: &'static str,
    parameter: Parameter,
    /// The types that it takes, and those that it returns.
    types: Types,
    /// Whether the result depends on the order of events that have the same time.
    is_of_order: bool,
}

/// Makes the table into the enum of functions. `statistic` is what is asked of a state, given the
/// type of the column, or `None` for the events themselves.
macro_rules! functions {
    ($(
        $(#[$doc:meta])*
        $function:ident $(($value:ident: $type:ty))? {
            name: $name:literal,
            parameter: $parameter:expr,
            types: $types:expr,
            is_of_order: $is_of_order:literal,
            statistic: |$column:pat_param| $statistic:expr,
        }
    )*) => {
        /// What is computed over the events of a window. Null values are skipped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Function {
            $($(#[$doc])* $function $(($type))?,)*
        }

        /// Makes each function from the value of its parameter.
        const FUNCTIONS: &[fn(u32) -> Function] = &[$(
            |_value| {
                $(let $value = _value;)?
                Function::$function $(($value))?
            },
        )*];

        impl Function {
            fn row(self) -> Row {
                match self {
                    $(Self::$function $(($value))? => Row {
                        name: $name,
                        parameter: $parameter,
                        types: $types,
                        is_of_order: $is_of_order,
                    },)*
                }
            }

            /// The state that is kept of the events, and what is asked of it, over a column of this
            /// type or over the events themselves.
            pub(super) fn statistic(self, column: Option<&DataType>) -> Statistic {
                match self {
                    $(Self::$function $(($value))? => {
                        let $column = column;
                        $statistic
                    })*
                }
            }
        }
    };
}

// Definitions store a function by the name of its variant in snake case, which never changes.
functions! {
    /// Number of values that are not null, or of events if there is no column.
    Count {
        name: "count",
        parameter: Parameter::None,
        types: types::ANY_TO_COUNT,
        is_of_order: false,
        statistic: |_| Statistic::Count(Number),
    }
    /// Sum. Of int64 values an int64, null when it does not fit; of floats a float64 that is
    /// rounded once. Null when there are no values.
    Sum {
        name: "sum",
        parameter: Parameter::None,
        types: types::NUMBER_TO_SUM,
        is_of_order: false,
        statistic: |column| Statistic::Sum(SumStatistic::total(column)),
    }
    /// Arithmetic mean, as float64.
    Mean {
        name: "mean",
        parameter: Parameter::None,
        types: types::NUMBER_TO_FLOAT,
        is_of_order: false,
        statistic: |_| Statistic::Sum(SumStatistic::Mean),
    }
    /// Least value. NaN counts as the greatest.
    Min {
        name: "min",
        parameter: Parameter::None,
        types: types::ORDERED_TO_SAME,
        is_of_order: false,
        statistic: |_| Statistic::Min(Extreme),
    }
    /// Greatest value. NaN counts as the greatest.
    Max {
        name: "max",
        parameter: Parameter::None,
        types: types::ORDERED_TO_SAME,
        is_of_order: false,
        statistic: |_| Statistic::Max(Extreme),
    }
    /// Value of the earliest event.
    First {
        name: "first",
        parameter: Parameter::None,
        types: types::SINGLE_TO_SAME,
        is_of_order: true,
        statistic: |_| Statistic::First(EndStatistic::Value),
    }
    /// Value of the latest event.
    Last {
        name: "last",
        parameter: Parameter::None,
        types: types::SINGLE_TO_SAME,
        is_of_order: true,
        statistic: |_| Statistic::Last(EndStatistic::Value),
    }
    /// Square root of the sample variance.
    Stddev {
        name: "stddev",
        parameter: Parameter::None,
        types: types::NUMBER_TO_FLOAT,
        is_of_order: false,
        statistic: |_| Statistic::Moments(MomentStatistic::Stddev),
    }
    /// Sample variance: the sum of squared deviations divided by n - 1. Null when there are fewer
    /// than two values.
    Variance {
        name: "variance",
        parameter: Parameter::None,
        types: types::NUMBER_TO_FLOAT,
        is_of_order: false,
        statistic: |_| Statistic::Moments(MomentStatistic::Variance),
    }
    /// Values of the `k` earliest events, earliest first.
    FirstK(k: u32) {
        name: "first_k",
        parameter: Parameter::K(k),
        types: types::LISTABLE_TO_LIST,
        is_of_order: true,
        statistic: |_| Statistic::First(EndStatistic::List(k)),
    }
    /// Values of the `k` latest events, latest first.
    LastK(k: u32) {
        name: "last_k",
        parameter: Parameter::K(k),
        types: types::LISTABLE_TO_LIST,
        is_of_order: true,
        statistic: |_| Statistic::Last(EndStatistic::List(k)),
    }
    /// Number of distinct values.
    CountDistinct {
        name: "count_distinct",
        parameter: Parameter::None,
        types: types::SINGLE_TO_COUNT,
        is_of_order: false,
        statistic: |_| Statistic::Values(ValueStatistic::Distinct),
    }
    /// Approximate number of distinct values, with a standard error of 1.6 %.
    ApproxCountDistinct {
        name: "approx_count_distinct",
        parameter: Parameter::None,
        types: types::SINGLE_TO_COUNT,
        is_of_order: false,
        statistic: |_| Statistic::Hll(Estimate),
    }
    /// Approximate quantile, within 1 % of its value. Holds its fraction in millionths.
    ApproxQuantile(millionths: u32) {
        name: "approx_quantile",
        parameter: Parameter::Quantile(millionths),
        types: types::NUMBER_TO_FLOAT,
        is_of_order: false,
        statistic: |_| Statistic::Quantiles(Quantile(millionths)),
    }
    /// The `k` most frequent values, most frequent first. Of equally frequent ones the lesser comes
    /// first.
    TopK(k: u32) {
        name: "top_k",
        parameter: Parameter::K(k),
        types: types::LISTABLE_TO_LIST,
        is_of_order: false,
        statistic: |_| Statistic::Values(ValueStatistic::MostFrequent(k)),
    }
}

/// The error for an aggregate that cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FunctionError {
    /// The name is not that of an aggregate function.
    #[error("`{0}` is not an aggregate function; use one of {names}", names = names())]
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

/// Every function, with zero as its parameter.
pub(super) fn all() -> impl Iterator<Item = Function> {
    FUNCTIONS.iter().map(|with| with(0))
}

fn names() -> String {
    all().map(Function::name).collect::<Vec<_>>().join(", ")
}

impl Function {
    /// Parses a function from its name and the parameters that it needs: `k` from 1 to
    /// [`MAX_K`](super::MAX_K),
    /// `quantile` from 0 to 1.
    ///
    /// # Errors
    /// Returns [`FunctionError::Unknown`] or [`FunctionError::Parameter`].
    pub fn parse(name: &str, k: Option<u32>, quantile: Option<f64>) -> Result<Self, FunctionError> {
        let known = FUNCTIONS.iter().find(|with| with(0).name() == name);
        // An unknown function has no parameters, and those are looked at first.
        let parameter = known.map_or(Parameter::None, |with| with(0).row().parameter);
        let value = parameter
            .value_of(name, k, quantile)
            .map_err(FunctionError::Parameter)?;
        let with = known.ok_or_else(|| FunctionError::Unknown(name.to_owned()))?;
        Ok(with(value))
    }

    /// The name of the function, as [`parse`](Self::parse) takes it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The part of a feature's name that stands for the function and its parameter: `mean`,
    /// `last_5`, `p99`.
    pub fn label(self) -> String {
        let row = self.row();
        row.parameter.label(row.name)
    }

    /// The type of the function's result over a column of type `input`, or over events if that is
    /// `None`.
    ///
    /// # Errors
    /// Returns [`FunctionError::Type`] when the function is not defined for the type, and
    /// [`FunctionError::Parameter`] when it needs a column.
    pub fn output(self, input: Option<&DataType>) -> Result<DataType, FunctionError> {
        let Row { name, types, .. } = self.row();
        let Some(input) = input else {
            let needed = || FunctionError::Parameter(format!("{name} needs a `column`"));
            return types.of_events.ok_or_else(needed);
        };
        (types.of_column)(input).ok_or_else(|| FunctionError::Type {
            function: name,
            data_type: input.clone(),
            wanted: types.wanted,
        })
    }

    /// Whether the result depends on the order of events that have the same time.
    pub fn is_of_order(self) -> bool {
        self.row().is_of_order
    }
}
