//! Models of data frames with categories of all types: the predictions must be the library's, also
//! for values that are not categories. The models in `models` were made by
//! `tests/models/categories.py` of the repository.

#[path = "../../tests/cases.rs"]
mod cases;

use std::path::Path;

#[test]
fn categories_are_read_as_by_the_library() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    cases::check(
        &folder,
        ".model",
        stock_xgboost::load,
        stock_xgboost::xgboost,
    );
}
