//! Behaviours in the output of a call: its columns are `id`, `at`, `text` and `y`.

use wafer::bindings::types::{Data, Output, RowError, Varying};

use super::{DECEPTIVE, large};
use crate::plain;

const TEXT: usize = 2;
const Y: usize = 3;

pub(super) fn wrong_length(output: &mut Output) {
    let rows = output.batch.rows as usize;
    output.batch.columns[Y] = plain(Data::Float64(vec![0.0; rows + 1]));
}

pub(super) fn wrong_type(output: &mut Output) {
    let rows = output.batch.rows as usize;
    output.batch.columns[Y] = plain(Data::Int64(vec![0; rows]));
}

pub(super) fn wrong_columns(output: &mut Output) {
    drop(output.batch.columns.pop());
}

pub(super) fn wrong_rows(output: &mut Output) {
    output.batch.rows += 1;
}

pub(super) fn decreasing_offsets(output: &mut Output) {
    let rows = output.batch.rows as usize;
    let offsets = (0..=rows as i32).rev().collect();
    output.batch.columns[TEXT] = plain(Data::Utf8(Varying {
        offsets,
        bytes: vec![b'x'; rows],
    }));
}

pub(super) fn offsets_past_the_end(output: &mut Output) {
    let rows = output.batch.rows as usize;
    let offsets = (0..=rows as i32).map(|o| o * 1_000).collect();
    output.batch.columns[TEXT] = plain(Data::Utf8(Varying {
        offsets,
        bytes: vec![b'x'; rows],
    }));
}

pub(super) fn short_bitmap(output: &mut Output) {
    output.batch.columns[Y].validity = Some(Vec::new());
}

pub(super) fn null_in_required(output: &mut Output) {
    let rows = output.batch.rows as usize;
    output.batch.columns[Y].validity = Some(vec![0; rows.div_ceil(8)]);
}

pub(super) fn bad_sources(output: &mut Output) {
    output.source_rows = Some((0..output.batch.rows).rev().collect());
}

pub(super) fn error_out_of_range(output: &mut Output) {
    output.row_errors.push(RowError {
        row: output.batch.rows,
        message: "gone".to_owned(),
    });
}

pub(super) fn errors_unsorted(output: &mut Output) {
    output.row_errors = [1, 0]
        .map(|row| RowError {
            row,
            message: "bad".to_owned(),
        })
        .to_vec();
}

pub(super) fn one_bad_row(output: &mut Output) {
    output.row_errors.push(RowError {
        row: 0,
        message: "this one is bad".to_owned(),
    });
}

pub(super) fn large_row_errors(output: &mut Output) {
    output.row_errors.push(RowError {
        row: 0,
        message: large(),
    });
}

pub(super) fn deceptive_row_error(output: &mut Output) {
    output.row_errors.push(RowError {
        row: 0,
        message: DECEPTIVE.to_owned(),
    });
}
