//! Types and arithmetic of features: schemas and signatures, entity keys, timestamps, packed rows,
//! aggregates, and the rules that online, offline, batch and stream share.
//!
//! Values come in and go out as Arrow arrays. There is no I/O, no async code and no WebAssembly
//! here, so a call can fail only because of its arguments.

pub mod aggregate;
mod bytes;
mod coerce;
mod column;
mod condition;
mod decimal;
mod digest;
mod duration;
mod entity_index;
mod epoch;
mod event;
mod exact;
pub mod expect;
mod float;
mod identity;
pub mod join;
mod json;
mod json_text;
mod key;
mod packed;
mod page;
mod plain;
mod reading;
mod repeated;
pub mod rules;
mod schema;
mod score;
mod text;
mod time;
mod units;
pub mod window;

pub use bytes::DamagedError;
pub use coerce::{
    CoerceError, Coerced, can_widen, coerce, coerce_rows, nearest_type, oversized_decimals,
    readable_as, widen,
};
pub use column::{ColumnBuilder, Quoting, value_bytes, widest_value};
pub use condition::{BoundCondition, Condition};
pub use digest::{Digest, DigestError, Hasher};
pub use duration::Duration;
pub use entity_index::EntityIndex;
pub use epoch::{EpochUnit, is_storable_date};
pub use event::{FailedBatch, FailedEvent, IncomingEvent};
pub use float::with_canonical_floats;
pub use identity::{MAX_IDENTITY_BYTES, joined_identity, number_identity, text_identity};
pub use json::{JsonCell, cell_to_json};
pub use json_text::{check_json_text, without_mark};
pub use key::{EntityKey, KeyError, MAX_KEY_BYTES, entity_key};
pub use packed::{decode_leading, decode_row, encode_row, encode_texts, packed_columns};
pub use page::page_text;
pub use plain::{PlainError, plain_column, plain_type};
pub use reading::{DecimalReading, Reading, TimeFormat, Zone};
pub use schema::{DataType, Field, Mapping, ParseDataTypeError, Schema, SchemaError, Signature};
pub use score::{Scores, Task};
pub use text::{
    MAX_ERROR_BYTES, cut, cut_to, escaped, escaped_json, escaped_lines, shell_word,
    without_userinfo,
};
pub use time::{Clock, ParseTimestampError, SettableClock, SystemClock, Timestamp};
pub use units::{ParseUnitError, bytes_text, parse_bytes};
