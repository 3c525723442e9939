//! Behaviours when an asset is loaded, and when the function is initialised.

use std::hint::black_box;

use super::spin;

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
