//! Files of labels: their columns, with the types that are inferred.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wafer_fuzz::read_labels(bytes));
