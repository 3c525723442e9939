//! The behaviour of the component in each mode. A new behaviour is a function in the file of the
//! place where it takes effect, and a row of the table.

mod call;
mod describe;
mod init;
mod output;

use std::hint::black_box;

use wafer::bindings::types::{CallError, Column, Output, Signature};

use self::Behaviour::{Call, Describe, Init, Load, Return};

/// The modes. A mode that takes effect in two places has two rows.
const TABLE: &[(&str, Behaviour)] = &[
    ("spin-in-load", Load(init::spin_in_load)),
    ("refuse-init", Init(init::refuse)),
    ("spin-in-init", Init(init::spin_in_init)),
    ("panic-in-init", Init(init::panics)),
    ("grow-in-init", Init(init::grow)),
    ("large-refusal-in-init", Init(init::large_refusal)),
    ("empty-log-flood-in-init", Init(init::empty_log_flood)),
    ("spin-in-describe", Describe(describe::spin_in_describe)),
    ("panic-in-describe", Describe(describe::panics)),
    ("same-name-twice", Describe(describe::same_name_twice)),
    ("bad-name", Describe(describe::bad_name)),
    ("bad-vector", Describe(describe::bad_vector)),
    ("bad-sources", Describe(describe::one_to_many)),
    ("large-doc", Describe(describe::large_doc)),
    ("deceptive-text", Describe(describe::deceptive_docs)),
    ("spin-in-call", Call(call::spin_in_call)),
    ("panic-in-call", Call(call::panics)),
    ("panic-on-seven", Call(call::panics_on_seven)),
    ("grow-in-call", Call(call::grow)),
    ("recurse-in-call", Call(call::recurse_without_end)),
    ("recurse-on-seven", Call(call::recurse_on_seven)),
    ("refuse-call", Call(call::refuse)),
    ("count-calls", Call(call::count_calls)),
    ("neighbours", Call(call::neighbours)),
    ("nan", Call(call::nan)),
    ("bad-utf8", Call(call::bad_utf8)),
    ("too-much-output", Call(call::too_much_output)),
    ("texts-as-asked", Call(call::texts_as_asked)),
    ("log-flood", Call(call::log_flood)),
    ("empty-log-flood", Call(call::empty_log_flood)),
    ("large-log-flood", Call(call::large_log_flood)),
    ("large-refusal", Call(call::large_refusal)),
    ("large-panic", Call(call::large_panic)),
    ("deceptive-text", Call(call::deceptive_texts)),
    ("deceptive-refusal", Call(call::deceptive_refusal)),
    ("wrong-length", Return(output::wrong_length)),
    ("wrong-type", Return(output::wrong_type)),
    ("wrong-columns", Return(output::wrong_columns)),
    ("wrong-rows", Return(output::wrong_rows)),
    ("decreasing-offsets", Return(output::decreasing_offsets)),
    ("offsets-past-the-end", Return(output::offsets_past_the_end)),
    ("short-bitmap", Return(output::short_bitmap)),
    ("null-in-required", Return(output::null_in_required)),
    ("bad-sources", Return(output::bad_sources)),
    ("error-out-of-range", Return(output::error_out_of_range)),
    ("errors-unsorted", Return(output::errors_unsorted)),
    ("one-bad-row", Return(output::one_bad_row)),
    ("large-row-errors", Return(output::large_row_errors)),
    ("deceptive-row-error", Return(output::deceptive_row_error)),
];

/// A behaviour: where it takes effect, and what it does there.
#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    /// When an asset is loaded.
    Load(fn()),
    /// When the function is initialised.
    Init(fn() -> Result<(), String>),
    /// In the description of the function.
    Describe(fn(&mut Signature)),
    /// In a call, before its output is made.
    Call(fn(&mut Rows) -> Result<(), CallError>),
    /// In the output of a call.
    Return(fn(&mut Output)),
}

/// The rows of a call, and what is to be returned of them.
pub(crate) struct Rows {
    pub(crate) id: Column,
    pub(crate) x: Vec<f64>,
    pub(crate) y: Vec<f64>,
    pub(crate) texts: Vec<Vec<u8>>,
}

/// Returns the behaviours of a mode; none if the mode is not in the table.
pub(crate) fn of(mode: &'static str) -> impl Iterator<Item = Behaviour> {
    let rows = TABLE.iter().filter(move |(name, _)| *name == mode);
    rows.map(|(_, behaviour)| *behaviour)
}

/// A text that would clear a terminal, turn the direction of text, and look like a line of its own.
const DECEPTIVE: &str = "a\u{1b}[2J\u{9b}2J\u{202e}b\nerror: forged";

/// Returns a text that is much longer than any that the host keeps.
fn large() -> String {
    "x".repeat(16 << 20)
}

/// Writes very many empty messages to the log.
fn log_nothing_very_often() {
    for _ in 0..1_000_000 {
        wafer::log(wafer::Level::Warn, "");
    }
}

/// Loops for ever.
fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns + 1);
    }
}
