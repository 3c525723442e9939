//! What the memory of a function in an interpreter has different, before it is compressed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = wafer_runtime::fuzzing::delta(bytes);
});
