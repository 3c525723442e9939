//! Which tiles and events the items of a feature group are made of.

use crate::aggregate::Aggregate;
use crate::aggregate::states::{StateKind, Statistic};
use crate::window::{Window, tile_end};
use crate::{DataType, Duration, Timestamp};

/// How the events of a series are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Span {
    Exact,
    Lifetime,
    Tiles(Duration),
}

/// A kind of state, and the column that it sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accumulator {
    pub(super) kind: StateKind,
    pub(super) column: Option<usize>,
}

/// Tiles of one size, or single events, which several windows share.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) span: Span,
    /// Width of the widest window, or `None` if events are kept for ever.
    pub(super) retention: Option<Duration>,
    /// The states of each tile.
    pub(super) accumulators: Vec<Accumulator>,
    /// The columns whose values are kept of each single event.
    pub(super) columns: Vec<usize>,
}

/// An aggregate, and where in an item its answer comes from.
#[derive(Clone, Debug)]
pub(super) struct ItemAggregate {
    pub(super) series: usize,
    /// Index of the state in a tile.
    pub(super) slot: usize,
    pub(super) column: Option<usize>,
    pub(super) window: Window,
    /// What is asked of the state.
    pub(super) statistic: Statistic,
}

/// The series that the items of a feature group are made of.
#[derive(Clone, Debug)]
pub struct ItemLayout {
    pub(super) series: Vec<Series>,
    pub(super) aggregates: Vec<ItemAggregate>,
}

impl ItemLayout {
    /// Creates the layout for some aggregates over columns of these types.
    pub fn new(aggregates: &[Aggregate], columns: &[DataType]) -> Self {
        let mut layout = Self {
            series: Vec::new(),
            aggregates: Vec::new(),
        };
        for aggregate in aggregates {
            layout.place(aggregate, aggregate.statistic(columns));
        }
        layout
    }

    /// Returns in how many places an item can hold a value of a column of each event.
    pub fn copies(&self, column: usize) -> u64 {
        let copies = |series: &Series| match series.span {
            Span::Exact => usize::from(series.columns.contains(&column)),
            Span::Lifetime | Span::Tiles(_) => {
                let states = series.accumulators.iter();
                states.filter(|state| state.column == Some(column)).count()
            }
        };
        self.series.iter().map(copies).sum::<usize>() as u64
    }

    fn place(&mut self, aggregate: &Aggregate, statistic: Statistic) {
        let Aggregate { column, window, .. } = *aggregate;
        let span = Span::of(window);
        let found = self.series.iter().position(|s| s.span == span);
        let index = found.unwrap_or_else(|| {
            self.series.push(Series::new(span, window.width));
            self.series.len() - 1
        });
        let series = &mut self.series[index];
        series.retention = series.retention.max(window.width);
        if span == Span::Exact {
            let new = column.filter(|column| !series.columns.contains(column));
            series.columns.extend(new);
        }
        let kind = statistic.kind();
        let slot = series.slot(Accumulator { kind, column });
        self.aggregates.push(ItemAggregate {
            series: index,
            slot,
            column,
            window,
            statistic,
        });
    }
}

impl Span {
    fn of(Window { width, hop }: Window) -> Self {
        match (width, hop) {
            (None, _) => Self::Lifetime,
            (Some(_), None) => Self::Exact,
            (Some(_), Some(hop)) => Self::Tiles(hop),
        }
    }

    /// The last place that no window covers at `newest` or later.
    pub(super) fn horizon(self, retention: Option<Duration>, newest: Timestamp) -> i64 {
        let hop = match self {
            Self::Tiles(hop) => Some(hop),
            Self::Exact | Self::Lifetime => None,
        };
        let window = Window {
            width: retention,
            hop,
        };
        let start = window.start(newest).as_micros();
        match self {
            Self::Lifetime => i64::MIN,
            Self::Exact => start,
            Self::Tiles(hop) => start.div_euclid(hop.as_micros()),
        }
    }
}

impl Series {
    fn new(span: Span, retention: Option<Duration>) -> Self {
        Self {
            span,
            retention,
            accumulators: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// The index of an accumulator, which is added if it is new.
    fn slot(&mut self, accumulator: Accumulator) -> usize {
        let found = self.accumulators.iter().position(|a| *a == accumulator);
        found.unwrap_or_else(|| {
            self.accumulators.push(accumulator);
            self.accumulators.len() - 1
        })
    }

    /// Whether a function over the series depends on the order of events.
    pub(super) fn is_of_order(&self) -> bool {
        let is_list = |a: &Accumulator| matches!(a.kind, StateKind::First(_) | StateKind::Last(_));
        self.accumulators.iter().any(is_list)
    }

    /// The place of an event in the series.
    pub(super) fn place(&self, event: Timestamp) -> i64 {
        match self.span {
            Span::Exact => event.as_micros(),
            Span::Lifetime => 0,
            Span::Tiles(hop) => tile_end(event, hop).as_micros() / hop.as_micros(),
        }
    }
}
