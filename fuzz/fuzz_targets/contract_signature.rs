//! Signatures that a function returns when it describes itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(signature) = wafer_runtime::fuzzing::signature(bytes) else {
        return;
    };
    // It is kept as JSON with the definitions.
    let json = serde_json::to_vec(&signature).expect("a signature is plain data");
    let read: wafer_core::Signature = serde_json::from_slice(&json).expect("it was written so");
    assert_eq!(read, signature);
    let _ = (signature.inputs.to_arrow(), signature.outputs.to_arrow());
});
