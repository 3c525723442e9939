//! Behaviours in a call, before its output is made.

use std::cell::Cell;
use std::hint::black_box;

use wafer::bindings::types::{CallError, Data};

use super::{DECEPTIVE, Rows, large, log_nothing_very_often, spin};

thread_local! {
    static CALLS: Cell<i64> = const { Cell::new(0) };
}

pub(super) fn spin_in_call(_: &mut Rows) -> Result<(), CallError> {
    spin()
}

pub(super) fn panics(rows: &mut Rows) -> Result<(), CallError> {
    panic!("cannot go on with {} rows", rows.texts.len())
}

pub(super) fn panics_on_seven(rows: &mut Rows) -> Result<(), CallError> {
    let Data::Int64(ids) = &rows.id.data else {
        unreachable!()
    };
    assert!(!ids.contains(&7), "seven is too much");
    Ok(())
}

pub(super) fn recurse_on_seven(rows: &mut Rows) -> Result<(), CallError> {
    let Data::Int64(ids) = &rows.id.data else {
        unreachable!()
    };
    match ids.contains(&7) {
        true => recurse_without_end(rows),
        false => Ok(()),
    }
}

pub(super) fn grow(_: &mut Rows) -> Result<(), CallError> {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![1u8; 1 << 20]));
    }
}

pub(super) fn recurse_without_end(rows: &mut Rows) -> Result<(), CallError> {
    rows.y[0] = recurse(0) as f64;
    Ok(())
}

fn recurse(depth: u64) -> u64 {
    if black_box(depth) == u64::MAX {
        0
    } else {
        recurse(depth + 1) + black_box(1)
    }
}

pub(super) fn refuse(_: &mut Rows) -> Result<(), CallError> {
    Err(CallError::Failed("not this batch".to_owned()))
}

/// Returns how often this instance was called, which must be once.
pub(super) fn count_calls(rows: &mut Rows) -> Result<(), CallError> {
    CALLS.set(CALLS.get() + 1);
    rows.y.fill(CALLS.get() as f64);
    Ok(())
}

/// Returns values that depend on the other rows.
pub(super) fn neighbours(rows: &mut Rows) -> Result<(), CallError> {
    rows.y.fill(rows.x.iter().sum());
    Ok(())
}

/// Returns a NaN that is not the canonical one.
pub(super) fn nan(rows: &mut Rows) -> Result<(), CallError> {
    rows.y.fill(f64::from_bits(0xfff8_dead_beef_0001));
    Ok(())
}

pub(super) fn bad_utf8(rows: &mut Rows) -> Result<(), CallError> {
    let last = rows.texts.len() - 1;
    rows.texts[last] = vec![0xff, 0xfe];
    Ok(())
}

pub(super) fn too_much_output(rows: &mut Rows) -> Result<(), CallError> {
    rows.texts.fill(vec![b'x'; 1 << 20]);
    Ok(())
}

/// Returns for each row a text of as many bytes as it asks for, up to 60 MiB.
pub(super) fn texts_as_asked(rows: &mut Rows) -> Result<(), CallError> {
    let bytes = rows.x.iter().map(|x| x.clamp(0.0, 62_914_560.0) as usize);
    rows.texts = bytes.map(|bytes| vec![b'x'; bytes]).collect();
    Ok(())
}

pub(super) fn log_flood(_: &mut Rows) -> Result<(), CallError> {
    for n in 0..100_000 {
        wafer::log(wafer::Level::Warn, &format!("line {n} of very many"));
    }
    Ok(())
}

pub(super) fn empty_log_flood(_: &mut Rows) -> Result<(), CallError> {
    log_nothing_very_often();
    Ok(())
}

pub(super) fn large_log_flood(_: &mut Rows) -> Result<(), CallError> {
    let large = large();
    for _ in 0..64 {
        wafer::log(wafer::Level::Warn, &large);
    }
    Ok(())
}

pub(super) fn large_refusal(_: &mut Rows) -> Result<(), CallError> {
    Err(CallError::Failed(large()))
}

pub(super) fn large_panic(_: &mut Rows) -> Result<(), CallError> {
    panic!("{}", large())
}

pub(super) fn deceptive_texts(rows: &mut Rows) -> Result<(), CallError> {
    wafer::log(wafer::Level::Warn, DECEPTIVE);
    rows.texts.fill(DECEPTIVE.as_bytes().to_vec());
    Ok(())
}

pub(super) fn deceptive_refusal(_: &mut Rows) -> Result<(), CallError> {
    Err(CallError::Failed(DECEPTIVE.to_owned()))
}
