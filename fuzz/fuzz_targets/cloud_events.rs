//! Bodies of events: NDJSON, and CloudEvents of each binding.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = wafer_server::fuzzing::events(bytes);
});
