//! Requests of the Open Inference Protocol, with tensors in JSON and in bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = wafer_server::fuzzing::tensors(bytes);
});
