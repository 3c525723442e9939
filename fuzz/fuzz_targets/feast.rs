//! Bodies of Feast's protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = wafer_server::fuzzing::feast(bytes);
});
