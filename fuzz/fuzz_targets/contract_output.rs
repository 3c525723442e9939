//! Output of a function, before it becomes columns.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = wafer_runtime::fuzzing::output(bytes);
});
