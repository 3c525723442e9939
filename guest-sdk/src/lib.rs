//! Write feature functions in ordinary Rust.
//!
//! A feature function maps a typed row to a typed row. It is written and
//! unit-tested natively; `wafer build` turns it into a WebAssembly component
//! that runs the same bytes in batch runs, on events and inside requests.
//!
//! ```
//! use wafer::Row;
//!
//! /// A request for a ride.
//! #[derive(Row)]
//! struct Ride {
//!     /// Straight-line distance, km.
//!     distance_km: f64,
//!     /// Expected duration, minutes; unknown for new roads.
//!     minutes: Option<f64>,
//! }
//!
//! #[derive(Row)]
//! struct RideFeatures {
//!     /// Expected speed, km/h.
//!     speed_kmh: Option<f64>,
//! }
//!
//! /// Features of a ride as known when it is requested.
//! #[wafer::function]
//! fn ride_features(ride: Ride) -> RideFeatures {
//!     RideFeatures { speed_kmh: ride.minutes.map(|m| ride.distance_km / m * 60.0) }
//! }
//!
//! let out = ride_features(Ride { distance_km: 5.0, minutes: Some(10.0) });
//! assert_eq!(out.speed_kmh, Some(30.0));
//! ```
//!
//! A crate has one function. Another one is another crate, with a `[functions.NAME]` of its own in
//! `wafer.toml`.
//!
//! # Forms of a function
//!
//! | return type | meaning |
//! | --- | --- |
//! | `Out` | one row out for each row in |
//! | `Option<Out>` | filter: `None` drops the row |
//! | `Vec<Out>` or `impl Iterator<Item = Out>` | any number of rows |
//! | `Result<T, E>` of any of these | `Err` fails this row alone, with a message |
//! | `Columns<Out>` from `&Columns<In>` | whole columns at once, one to one |
//! | `Result<Table, E>` from `Table` | one to one, with columns that are known only from an asset, such as a model: the state [describes](Describe) them |
//!
//! With `#[wafer::function(init = load)]`, a second argument `&State` receives
//! what `load` built from the function's [assets and parameters](Init) when it
//! was registered.
//!
//! A crate with `#[wafer::trainer]` on an implementation of [`Trainer`] is a training
//! function instead: it reads a training set and produces a model.
//!
//! # Types of a field
//!
//! `bool`, `i64`, `f64`, `f32`, `String`, `Vec<u8>` (binary), [`Timestamp`],
//! [`Date`], `[f32; N]`, `Vec<i64>`, `Vec<f64>`, `Vec<String>`, and `Option` of
//! each for a nullable column. A null for a field that is not an `Option` is a
//! row error that names the column; the function is not called for that row.
//!
//! # What a function must not do
//!
//! Each output row may depend only on its own input row, the assets and the
//! parameters. There is no clock, no randomness, no file and no network inside:
//! time enters as a column. `println!` prints nothing; [`log()`] does. `wafer build`
//! names the lines that use what is not there.

mod column;
mod function;
mod init;
mod labels;
mod log;
mod row;
mod table;
mod time;
mod training;
mod value;

#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod export;

pub use bindings::types::{DataType, Field};
pub use column::{Bitmap, Column};
pub use function::IntoRows;
pub use init::{Init, Task};
pub use labels::Labels;
pub use log::{Level, log};
pub use row::{Columns, Row};
pub use table::{Describe, Table, fields_of};
pub use time::{Date, Timestamp};
pub use training::{Role, Trained, Trainer};
pub use value::{Cell, Value, Varying};
pub use wafer_sdk_macros::{Row, function, trainer};
