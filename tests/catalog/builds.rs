//! Messages of `wafer build` about functions that cannot be built, or that use what is not in a
//! sandbox.

use crate::harness::run_in;

/// A crate's source, what is said of it, and whether it builds.
const SOURCES: [(&str, &[&str], bool); 4] = [
    (
        "use wafer::Row;
#[derive(Row)] pub struct In { x: i64 }
#[derive(Row)] pub struct Out { y: i64 }
#[wafer::function] pub fn one(row: In) -> Out { Out { y: row.x } }
#[wafer::function] pub fn two(row: In) -> Out { Out { y: row.x } }
",
        &["`one` is it already", "move `two` into a crate of its own"],
        false,
    ),
    (
        "use wafer::Row;
#[derive(Row)] pub struct In { x: i64 }
#[derive(Row)] pub struct Out { y: i64 }
pub fn one(row: In) -> Out { Out { y: row.x } }
",
        &["has no function: write `#[wafer::function]`"],
        false,
    ),
    ("use missing::Row;\n", &["does not compile"], false),
    (
        "use wafer::Row;
#[derive(Row)] pub struct In { x: i64 }
#[derive(Row)] pub struct Out { y: i64 }
#[wafer::function] pub fn one(row: In) -> Out {
    println!(\"{}\", row.x);
    let _ = std::time::SystemTime::now();
    Out { y: row.x }
}
",
        &[
            "hint: function `ride_features`, src/lib.rs:5: `println!`: nothing is printed from inside a function",
            "hint: function `ride_features`, src/lib.rs:6: `SystemTime::now`: a function has no clock",
        ],
        true,
    ),
];

#[test]
fn a_build_says_what_does_not_work_in_a_sandbox_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| run_in(folder.path(), arguments);
    let (made, said) = run(&["new", "sandboxed"]);
    assert!(made, "{said}");
    let source = folder.path().join("sandboxed/ride-features/src/lib.rs");
    for (text, wanted, builds) in SOURCES {
        std::fs::write(&source, text).unwrap();
        let (built, said) = run(&["-C", "sandboxed", "build"]);
        assert_eq!(built, builds, "{said}");
        for wanted in wanted {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
    }
}
