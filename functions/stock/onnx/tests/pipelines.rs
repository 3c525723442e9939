//! Models that scikit-learn's pipelines were exported to, and operators by themselves: every output
//! must be onnxruntime's.
//!
//! Without more, all models in `models` are tested, with the rows and answers that are stored with
//! them. They were made by `tests/models/onnx_pipelines.py` of the repository, and no Python is
//! needed. Models that are not stored (those of other versions of the exporter, or of a report with
//! its rows) are tested beside them when `ONNX_MODELS` names their folder. At the root of the
//! repository, with the Python that `cargo xtask test` installs, and `MODEL.onnx ROWS.parquet …`
//! behind the folder for models that exist:
//!
//! ```sh
//! target/oracle/bin/python tests/models/onnx_pipelines.py /tmp/models
//! cd functions/stock
//! ONNX_MODELS=/tmp/models cargo test --release -p stock-onnx --test pipelines
//! ```

#[path = "../../tests/cases.rs"]
mod cases;

use std::path::{Path, PathBuf};

// `cases` reads the rows of the models by it.
use serde_json as _;
use wafer::{Column, DataType, Describe as _, Init, Table};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models")
}

#[test]
fn exported_pipelines_and_operators_answer_as_onnxruntime() {
    cases::check(&folder(), ".onnx", stock_onnx::load, stock_onnx::onnx);
}

#[test]
fn models_of_a_folder_that_is_named_answer_as_onnxruntime() {
    let Some(folder) = std::env::var_os("ONNX_MODELS").map(PathBuf::from) else {
        println!("skipped: ONNX_MODELS names no folder of models beside those that are stored");
        return;
    };
    let count = cases::check(&folder, ".onnx", stock_onnx::load, stock_onnx::onnx);
    println!("{count} models in {} were tested", folder.display());
}

#[test]
fn maps_of_probabilities_are_lists_whose_classes_are_described() {
    let bytes = std::fs::read(folder().join("logistic_map_texts.onnx")).unwrap();
    let init = Init::new().with_asset("model", bytes);
    let model = stock_onnx::load(&init.with_parameter("class", "1")).unwrap();
    let outputs = model.outputs();
    let names: Vec<&str> = outputs.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["prediction", "output_label", "output_probability"]);
    assert_eq!(outputs[1].data_type, DataType::Utf8);
    assert_eq!(outputs[2].doc, "Probabilities of the classes no, yes.");
}

#[test]
fn missing_and_unknown_texts_fail_alone() {
    let bytes = std::fs::read(folder().join("text.onnx")).unwrap();
    let model = stock_onnx::load(&Init::new().with_asset("model", bytes)).unwrap();
    let cities = [Some("Oslo"), None].map(|text| text.map(str::to_owned));
    let rows = Table::new(2)
        .with("city", cities.into_iter().collect::<Column<_>>())
        .with(
            "x0",
            [Some(0.5), Some(0.5)].into_iter().collect::<Column<_>>(),
        );
    let out = stock_onnx::onnx(rows, &model).unwrap();
    let errors: Vec<_> = out.errors().collect();
    let message = "column `city` is missing, and the model takes texts there";
    assert_eq!(errors, [(1, message)]);
}
