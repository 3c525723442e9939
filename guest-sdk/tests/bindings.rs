//! The bindings in `src/bindings/` are what wit-bindgen generates from `wit/`.

use std::path::PathBuf;

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::{Opts, WithOption};

/// Returns a path in this crate. It is found at run time, because checkouts can share a target
/// folder.
fn path(relative: &str) -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo test`");
    PathBuf::from(here).join(relative)
}

/// Returns what wit-bindgen generates for a world.
fn generate(world: &str, options: Opts) -> String {
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_dir(path("../wit"))
        .expect("the contract is valid");
    let world = resolve
        .select_world(&[package], Some(world))
        .expect("it is a world");
    let mut files = Files::default();
    let mut generator = options.build();
    generator
        .generate(&mut resolve, world, &mut files)
        .expect("bindings are generated");
    let (_, text) = files.iter().next().expect("there is one file");
    String::from_utf8(text.to_vec()).expect("it is text")
}

/// Returns the options of both worlds. `module` is the path of the module with their bindings.
fn options(module: &str) -> Opts {
    Opts {
        format: true,
        pub_export_macro: true,
        default_bindings_module: Some(module.to_owned()),
        ..Opts::default()
    }
}

#[test]
fn checked_in_bindings_are_those_of_the_contract() {
    let function = generate(
        "function",
        Opts {
            additional_derive_attributes: vec!["PartialEq".to_owned()],
            ..options("wafer::bindings::function")
        },
    );
    let shared = ["log", "types"].map(|interface| {
        let path = format!("crate::bindings::function::wafer::function::{interface}");
        (
            format!("wafer:function/{interface}@0.1.0"),
            WithOption::Path(path),
        )
    });
    let trainer = generate(
        "trainer",
        Opts {
            with: shared.into(),
            ..options("wafer::bindings::trainer")
        },
    );
    for (name, wanted) in [("function", function), ("trainer", trainer)] {
        let path = path(&format!("src/bindings/{name}.rs"));
        if std::env::var_os("WAFER_UPDATE").is_some() {
            std::fs::write(&path, &wanted).expect("it can be written");
        }
        let found = std::fs::read_to_string(&path).expect("it is there");
        let hint = "run `WAFER_UPDATE=1 cargo test -p wafer-sdk --test bindings`";
        assert!(
            found == wanted,
            "src/bindings/{name}.rs is not that of wit/: {hint}"
        );
    }
}
