//! Behaviours in a place that the mode names.

use std::hint::black_box;

pub(super) fn panics() -> Result<(), String> {
    panic!("as asked")
}

pub(super) fn refuse() -> Result<(), String> {
    Err("as asked".to_owned())
}

pub(super) fn spin() -> Result<(), String> {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns + 1);
    }
}

pub(super) fn grow() -> Result<(), String> {
    let mut all = Vec::new();
    loop {
        all.push(black_box(vec![1u8; 1 << 20]));
    }
}
