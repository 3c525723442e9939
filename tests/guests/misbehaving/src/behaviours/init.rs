//! Behaviours when an asset is loaded, and when the function is initialised.

use std::hint::black_box;

use super::{large, log_nothing_very_often, spin};

pub(super) fn spin_in_load() {
    spin();
}

pub(super) fn refuse() -> Result<(), String> {
    Err("I would rather not".to_owned())
}

pub(super) fn spin_in_init() -> Result<(), String> {
    spin()
}

pub(super) fn panics() -> Result<(), String> {
    panic!("no init today")
}

pub(super) fn grow() -> Result<(), String> {
    black_box(vec![1u8; 1 << 30]);
    Ok(())
}

pub(super) fn large_refusal() -> Result<(), String> {
    Err(large())
}

pub(super) fn empty_log_flood() -> Result<(), String> {
    log_nothing_very_often();
    Ok(())
}
