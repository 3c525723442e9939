//! The behaviour of the trainer in each mode. A new behaviour is a function in the file of the
//! place where it takes effect, and a row of a table.

mod anywhere;
mod begin;
mod finish;
mod next_pass;
mod read;

use wafer::bindings::training::Trained;
use wafer::bindings::types::Field;

use self::Behaviour::{Begin, Finish, NextPass, Read};

/// The modes that take effect in one place.
const TABLE: &[(&str, Behaviour)] = &[
    ("no-columns", Begin(begin::no_columns)),
    ("unknown-column", Begin(begin::unknown_column)),
    ("other-type", Begin(begin::other_type)),
    ("endless-passes", NextPass(next_pass::endless_passes)),
    ("no-artifact", Finish(finish::no_artifact)),
    ("artifact-name", Finish(finish::artifact_name)),
    ("artifact-twice", Finish(finish::artifact_twice)),
    ("many-artifacts", Finish(finish::many_artifacts)),
    ("huge-artifact", Finish(finish::huge_artifact)),
    ("huge-artifacts", Finish(finish::huge_artifacts)),
    ("metric-name", Finish(finish::metric_name)),
    ("metric-twice", Finish(finish::metric_twice)),
    ("endless-metrics", Finish(finish::endless_metrics)),
    ("reads-nothing", Read(read::nothing)),
    ("reads-little", Read(read::little)),
    ("reads-much", Read(read::much)),
];

/// The modes that take effect in the place that their name ends with, such as `panic-in-begin`.
/// The places are `begin`, `feed`, `next-pass`, `finish` and `read`.
const ANYWHERE: &[(&str, Act)] = &[
    ("panic-in-", anywhere::panics),
    ("refuse-in-", anywhere::refuse),
    ("spin-in-", anywhere::spin),
    ("grow-in-", anywhere::grow),
];

/// An action at the start of a place.
pub(crate) type Act = fn() -> Result<(), String>;

/// A behaviour: where it takes effect, and what it does there.
#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    /// In the columns that it asks for.
    Begin(fn(&mut Vec<Field>)),
    /// In the request for another pass.
    NextPass(fn(&mut bool)),
    /// In the artifacts and metrics.
    Finish(fn(&mut Trained)),
    /// When an artifact is read from some byte on.
    Read(fn(u64) -> Vec<u8>),
}

/// Returns the behaviours of a mode; none if the mode is not in the table.
pub(crate) fn of(mode: &'static str) -> impl Iterator<Item = Behaviour> {
    let rows = TABLE.iter().filter(move |(name, _)| *name == mode);
    rows.map(|(_, behaviour)| *behaviour)
}

/// Returns what a mode does in a place, if it names the place.
pub(crate) fn in_place(mode: &str, place: &str) -> Option<Act> {
    let start = mode.strip_suffix(place)?;
    let mut rows = ANYWHERE.iter();
    rows.find(|(name, _)| *name == start).map(|(_, act)| *act)
}
