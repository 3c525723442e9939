//! Summaries of events from which aggregates are answered.
//!
//! A state, or two that mirror each other, is a file in this folder and a row in the table at the
//! end of this one. Its file holds the state, how it slides with a window, and the statistics that
//! functions ask of it.

mod count;
mod ends;
mod extremes;
mod hll;
mod moments;
mod quantiles;
mod sum;
mod values;

use std::fmt::Debug;

pub(super) use count::{Count, Number};
pub(super) use ends::{EndStatistic, First, Last};
pub(super) use extremes::{Extreme, Max, Min};
pub(super) use hll::{Estimate, Hll};
pub(super) use moments::{MomentStatistic, Moments};
pub(super) use quantiles::{Quantile, Quantiles};
pub(super) use sum::{Sum, SumStatistic};
pub(super) use values::{ValueStatistic, Values};

use crate::Timestamp;
use crate::aggregate::cell::{AggregateValue, Cell, CellRef};
use crate::aggregate::events::{Covered, EventValues};
use crate::bytes::{DamagedError, Reader, put_varint};
use crate::rules::Arrival;

/// A summary of events that does not depend on their order.
///
/// The state is a function of the set of events: merging is associative and commutative, and equal
/// states have equal bytes.
pub(super) trait State: Clone + Debug + Sized {
    /// What is known of a state before it has events, and is stored once for all states of a
    /// series: the length of a list, or nothing.
    type Shape: Shape;
    /// What functions ask of the state.
    type Statistic: Copy + Debug;
    /// What is kept while a window slides over events. For a [`Reversible`] state this is
    /// [`Reversing`].
    type Sliding: Sliding<State = Self>;

    /// The shape of a state that has the answer to a statistic.
    fn shape(statistic: Self::Statistic) -> Self::Shape;

    /// Creates a state without events.
    fn new(shape: Self::Shape) -> Self;

    /// Adds an event: its time, its arrival and its value.
    fn add(&mut self, event: Timestamp, arrival: Arrival, cell: CellRef<'_>);

    /// Adds all events of another state of the same shape.
    fn merge(&mut self, other: Self);

    /// The answer to a statistic over the events.
    fn answer(&self, statistic: Self::Statistic) -> AggregateValue;

    /// Encodes the events. The encoding never changes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Decodes what [`encode`](Self::encode) wrote.
    fn decode(shape: Self::Shape, reader: &mut Reader<'_>) -> Result<Self, DamagedError>;
}

/// A state that can take events back.
pub(super) trait Reversible: State {
    /// Removes a value that was added. The state is then as if it had never been added.
    fn remove(&mut self, cell: CellRef<'_>);
}

/// What is kept of a column while a window slides over it.
pub(super) trait Sliding {
    /// The state that would have the same answers.
    type State: State;

    /// Begins with a window without events.
    fn new(shape: <Self::State as State>::Shape) -> Self;

    /// Lets an event into the window. `cell` is its value.
    fn enter(&mut self, values: EventValues<'_>, index: usize, cell: CellRef<'_>);

    /// Lets an event out of the window that entered it.
    fn leave(&mut self, index: usize, cell: CellRef<'_>);

    /// The answer to a statistic over the events that the window covers.
    fn answer(
        &self,
        statistic: <Self::State as State>::Statistic,
        values: EventValues<'_>,
        covered: Covered,
    ) -> AggregateValue;
}

/// How a reversible state slides: events are added and removed.
#[derive(Debug)]
pub(super) struct Reversing<S>(S);

impl<S: Reversible> Sliding for Reversing<S> {
    type State = S;

    fn new(shape: S::Shape) -> Self {
        Self(S::new(shape))
    }

    fn enter(&mut self, values: EventValues<'_>, index: usize, cell: CellRef<'_>) {
        let (event, arrival) = values.place(index);
        self.0.add(event, arrival, cell);
    }

    fn leave(&mut self, _: usize, cell: CellRef<'_>) {
        self.0.remove(cell);
    }

    fn answer(&self, statistic: S::Statistic, _: EventValues<'_>, _: Covered) -> AggregateValue {
        self.0.answer(statistic)
    }
}

/// What the header of a series says of a state besides its tag.
pub(super) trait Shape: Copy + Debug + Eq {
    fn encode(self, out: &mut Vec<u8>);
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DamagedError>;
}

impl Shape for () {
    fn encode(self, _: &mut Vec<u8>) {}

    fn decode(_: &mut Reader<'_>) -> Result<Self, DamagedError> {
        Ok(())
    }
}

/// The maximum length of a list.
impl Shape for u32 {
    fn encode(self, out: &mut Vec<u8>) {
        put_varint(out, self.into());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        let length = reader.varint()?;
        Self::try_from(length).map_err(|_| reader.damaged())
    }
}

impl CellRef<'_> {
    /// The value as a float; NaN for bytes.
    fn number(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
            Self::Bytes(_) => f64::NAN,
        }
    }
}

impl AggregateValue {
    fn float(value: f64) -> Self {
        Self::One(Cell::Float(value))
    }

    fn count(value: u64) -> Self {
        Self::One(Cell::Int(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn cell(cell: Option<&Cell>) -> Self {
        cell.cloned().map_or(Self::Null, Self::One)
    }
}

/// Makes the table of states into enums over all of them, so that a tile holds its states without
/// indirection and each call is dispatched once.
macro_rules! states {
    ($($tag:literal => $name:ident,)*) => {
        /// The kind of a state, which tells states of one column apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum StateKind {
            $($name(<$name as State>::Shape),)*
        }

        impl StateKind {
            pub(super) fn encode(self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(shape) => {
                        out.push($tag);
                        shape.encode(out);
                    })*
                }
            }

            pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
                match reader.byte()? {
                    $($tag => Ok(Self::$name(Shape::decode(reader)?)),)*
                    _ => Err(reader.damaged()),
                }
            }
        }

        /// A statistic of any state.
        #[derive(Clone, Copy, Debug)]
        pub(super) enum Statistic {
            $($name(<$name as State>::Statistic),)*
        }

        impl Statistic {
            /// The kind of the state that has the answer.
            pub(super) fn kind(self) -> StateKind {
                match self {
                    $(Self::$name(statistic) => StateKind::$name($name::shape(statistic)),)*
                }
            }
        }

        /// A state of any kind.
        #[derive(Clone, Debug)]
        pub(super) enum AnyState {
            $($name($name),)*
        }

        impl AnyState {
            pub(super) fn new(kind: StateKind) -> Self {
                match kind {
                    $(StateKind::$name(shape) => Self::$name(State::new(shape)),)*
                }
            }

            pub(super) fn add(&mut self, event: Timestamp, arrival: Arrival, cell: CellRef<'_>) {
                match self {
                    $(Self::$name(state) => state.add(event, arrival, cell),)*
                }
            }

            /// Adds all events of an encoded state of the same kind.
            pub(super) fn merge_encoded(
                &mut self,
                kind: StateKind,
                reader: &mut Reader<'_>,
            ) -> Result<(), DamagedError> {
                match (self, kind) {
                    $((Self::$name(state), StateKind::$name(shape)) => {
                        state.merge(State::decode(shape, reader)?);
                        Ok(())
                    })*
                    _ => Err(reader.damaged()),
                }
            }

            /// The answer to a statistic of this kind of state.
            pub(super) fn answer(&self, statistic: Statistic) -> AggregateValue {
                match (self, statistic) {
                    $((Self::$name(state), Statistic::$name(statistic)) => {
                        state.answer(statistic)
                    })*
                    _ => unreachable!("the kind of the state is that of its statistics"),
                }
            }

            pub(super) fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(state) => state.encode(out),)*
                }
            }

            pub(super) fn decode(
                kind: StateKind,
                reader: &mut Reader<'_>,
            ) -> Result<Self, DamagedError> {
                match kind {
                    $(StateKind::$name(shape) => Ok(Self::$name(State::decode(shape, reader)?)),)*
                }
            }
        }

        /// What is kept for any kind of state while a window slides.
        #[derive(Debug)]
        pub(super) enum AnySliding {
            $($name(<$name as State>::Sliding),)*
        }

        impl AnySliding {
            pub(super) fn new(kind: StateKind) -> Self {
                match kind {
                    $(StateKind::$name(shape) => Self::$name(Sliding::new(shape)),)*
                }
            }

            pub(super) fn enter(
                &mut self,
                values: EventValues<'_>,
                index: usize,
                cell: CellRef<'_>,
            ) {
                match self {
                    $(Self::$name(sliding) => sliding.enter(values, index, cell),)*
                }
            }

            pub(super) fn leave(&mut self, index: usize, cell: CellRef<'_>) {
                match self {
                    $(Self::$name(sliding) => sliding.leave(index, cell),)*
                }
            }

            pub(super) fn answer(
                &self,
                statistic: Statistic,
                values: EventValues<'_>,
                covered: Covered,
            ) -> AggregateValue {
                match (self, statistic) {
                    $((Self::$name(sliding), Statistic::$name(statistic)) => {
                        sliding.answer(statistic, values, covered)
                    })*
                    _ => unreachable!("the kind of the state is that of its statistics"),
                }
            }
        }
    };
}

// Each state with its tag in the header of a series. Tags are never changed or given again.
states! {
    0 => Count,
    1 => Sum,
    2 => Moments,
    3 => Min,
    4 => Max,
    5 => First,
    6 => Last,
    7 => Values,
    8 => Hll,
    9 => Quantiles,
}
