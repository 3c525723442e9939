//! Behaviours when an artifact is read.

use crate::MODEL;

pub(super) fn nothing(_: u64) -> Vec<u8> {
    Vec::new()
}

pub(super) fn little(offset: u64) -> Vec<u8> {
    MODEL[offset as usize..][..1].to_vec()
}

pub(super) fn much(_: u64) -> Vec<u8> {
    vec![b' '; 2 << 20]
}
