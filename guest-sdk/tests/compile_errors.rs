//! Wrong types are refused by the compiler, readably: each file of `ui/` beside
//! what the compiler says of it. `TRYBUILD=overwrite` writes them anew.

#[test]
fn wrong_types_are_refused_readably() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
