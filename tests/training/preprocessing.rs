//! Preprocessing that is fitted in training and applied as a function of a view.

use crate::harness::accounts::accounts;
use crate::harness::guest;

#[test]
fn fitted_preprocessing_is_the_same_in_training_and_serving() {
    let fit = guest("fit_preprocess");
    let preprocess = guest("preprocess");
    let functions = |assets: &str| {
        format!(
            r#"
[functions.fit]
component = "{fit}"
parameters = {{ scale = "last_small", mean = "last_label_text" }}

[functions.fitted]
component = "{preprocess}"

{assets}

[models.encoders]
view = "account"
label = "y"
trainer = "fit"
function = "fitted"
training = {{ labels = "labels.csv" }}
"#,
            fit = fit.display(),
            preprocess = preprocess.display()
        )
    };
    let project = accounts(&functions("# encode"));
    project.ok(&["train", "encoders"]);
    // The view uses the same component, with the artifacts of the training.
    let encode = |asset: &str| {
        format!(
            "[functions.encode]\ncomponent = \"{}\"\nassets = {{ fitted = \"{asset}\" }}\n\n[views.encoded]\n\
             lookups = [{{ group = \"last_entry\", as = \"last\" }}]\nfunctions = [\"encode\"]\n",
            preprocess.display()
        )
    };
    let mut before = "# encode".to_owned();
    for (asset, wanted) in [
        (
            "model:encoder@1",
            "functions.encode.assets.fitted: there is no model `encoder`; did you mean `encoders`?",
        ),
        (
            "model:encoders@@",
            "`encoders@@` names no version of a model",
        ),
        (
            "model:encoders@2",
            "functions.encode.assets.fitted: model `encoders` has no version 2; its newest is 1",
        ),
        (
            "model:encoders@1/fited",
            "functions.encode.assets.fitted: there is no artifact `fited`; did you mean `fitted`?",
        ),
    ] {
        let after = encode(asset);
        project.replace(&before, &after);
        let said = project.fails(&["apply"]);
        assert!(said.contains(wanted), "{said}");
        before = after;
    }
    project.replace(&before, &encode("model:encoders"));
    project.ok(&["check"]);
    project.ok(&["apply"]);
    let view = project.json(&[
        "get",
        "encoded",
        "key_a=k000",
        "key_b=1",
        "--clock",
        "2020-01-05T00:00:00Z,0",
    ]);
    let encoded = &view["features"];
    // The values are 0 to 299, so that the mean is 149.5 and the variance (300² - 1) / 12.
    let scaled = encoded["last_small_scaled"].as_f64().unwrap();
    let wanted = -149.5 / (89_999.0f64 / 12.0).sqrt();
    assert!((scaled - wanted).abs() < 1e-12, "{scaled}");
    let rate = encoded["last_label_text_mean"].as_f64().unwrap();
    assert!((rate - 159.0 / 300.0).abs() < 1e-9, "{rate}");
    // A training set has the same values, bit for bit.
    project.write(
        "two.csv",
        "key_a,key_b,event_timestamp\nk000,1,2020-01-05T00:00:00Z\n",
    );
    project.training_set("encoded", "two.csv", "out.parquet");
    let rows = crate::harness::rows_of(&project.path().join("out.parquet"));
    assert_eq!(rows[0]["last_small_scaled"], encoded["last_small_scaled"]);
    assert_eq!(
        rows[0]["last_label_text_mean"],
        encoded["last_label_text_mean"]
    );
}
