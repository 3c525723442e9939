//! ZIP archives, as the wheels of packages are: paths stay inside, and what was read is written and
//! read again as the same.
#![no_main]

// What the module is compiled with: it is a part of `wafer-build`, whose other dependencies are
// large and not wanted here.
use flate2 as _;

#[path = "../../host/build/src/interpreter/archive.rs"]
mod archive;

use archive::{Archive, Files};

/// The most bytes of a file.
const MOST: u64 = 1 << 16;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(found) = Archive::open(bytes) else {
        return;
    };
    let mut files = Files::new();
    for entry in &found.entries {
        assert!(!entry.path.starts_with('/') && !entry.path.split('/').any(|part| part == ".."));
        if let Ok(content) = found.read(entry, MOST) {
            assert_eq!(content.len() as u64, entry.size);
            files.insert(entry.path.clone(), content);
        }
    }
    let written = archive::write(&files).expect("the paths were checked");
    let again = Archive::open(&written).expect("it was written here");
    assert_eq!(again.entries.len(), files.len());
    for entry in &again.entries {
        let content = again.read(entry, MOST).expect("it was written here");
        assert_eq!(content, files[&entry.path]);
    }
});
