//! Components: which ones are accepted as functions, and their compiled code.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use wafer_core::Digest;

use crate::harness::misbehaving::{project, request};
use crate::harness::{Project, guest, repository, text};

/// Makes another file the component of the project's function.
fn replace_component(project: &Project, path: &str) {
    let toml = std::fs::read_to_string(project.path().join("wafer.toml")).unwrap();
    let mut lines = toml.lines();
    let line = lines.find(|line| line.starts_with("component")).unwrap();
    project.replace(line, &format!("component = \"{path}\""));
}

#[test]
fn a_component_that_is_not_a_function_is_refused() {
    let component = |wat: &str| {
        let project = project("", "");
        let path = project.write("other.wasm", wat::parse_str(wat).unwrap());
        replace_component(&project, &path.display().to_string());
        project.fails(&["apply"])
    };
    let empty = component("(component)");
    assert!(
        empty.contains("does not export `wafer:function/transform@0.1.0`"),
        "{empty}"
    );
    let clock = component(
        "(component (import \"wasi:clocks/monotonic-clock@0.3.0\" (instance (export \"now\" (func (result u64))))))",
    );
    assert!(
        clock.contains("it imports `wasi:clocks/monotonic-clock@0.3.0`")
            && clock.contains("no clock"),
        "{clock}"
    );
    let other = component(
        "(component (component $c) (instance $i (instantiate $c)) (export \"wafer:function/other@0.1.0\" (instance $i)))",
    );
    assert!(
        other.contains("it exports `wafer:function/other@0.1.0`"),
        "{other}"
    );
    let types = component(
        "(component (component $c) (instance $i (instantiate $c)) (export \"wafer:function/transform@0.1.0\" (instance $i)))",
    );
    assert!(
        types.contains("its types differ from the contract's"),
        "{types}"
    );
    let modules = |count: usize| {
        let module = "(core module $m) (core instance (instantiate $m))";
        let parts = (0..count).map(|number| module.replace("$m", &format!("$m{number}")));
        component(&format!("(component {})", parts.collect::<String>()))
    };
    let many = modules(64);
    assert!(
        many.contains("does not export `wafer:function/transform@0.1.0`"),
        "{many}"
    );
    let too_many = modules(65);
    assert!(
        too_many.contains("larger than a sandbox (64 core modules"),
        "{too_many}"
    );
    let large = component(&format!(
        "(component (core module $m {}) (core instance (instantiate $m)))",
        "(global (mut i64) (i64.const 0))".repeat(70_000)
    ));
    assert!(
        large.contains("1 MiB beside them") && !large.contains("breakdown"),
        "{large}"
    );
    let module = component("(module)");
    assert!(
        module.contains("it is a core module; make it with `wafer build`"),
        "{module}"
    );

    let project = project("", "");
    project.write("garbage.wasm", "this is not WebAssembly");
    replace_component(&project, "garbage.wasm");
    assert!(
        project
            .fails(&["apply"])
            .contains("function `bad` is not a component")
    );
    project.replace("garbage.wasm", "nowhere.wasm");
    assert!(
        project
            .fails(&["apply"])
            .contains("functions.bad.component: cannot read")
    );
}

#[test]
fn damaged_compiled_code_is_compiled_again() {
    let project = project("", "").applied();
    if !crate::harness::are_embedded() {
        return;
    }
    let expected = request(&project.serve(&[]), 2);
    assert_eq!(expected.0, 200);
    let compiled = project.path().join(".wafer/artifacts/compiled");
    let files = || -> Vec<_> {
        let engines = std::fs::read_dir(&compiled).unwrap().flatten();
        engines
            .flat_map(|e| {
                std::fs::read_dir(e.path())
                    .unwrap()
                    .flatten()
                    .map(|f| f.path())
            })
            .collect()
    };
    assert_eq!(files().len(), 1);
    std::fs::write(&files()[0], b"damaged").unwrap();
    assert_eq!(request(&project.serve(&[]), 2), expected);
    assert!(
        std::fs::metadata(&files()[0]).unwrap().len() > 1_000,
        "it was compiled again"
    );
    // A single bit, wherever it is: the code would be mapped and run.
    let code = std::fs::read(&files()[0]).unwrap();
    for place in (0..6).map(|part| part * (code.len() - 1) / 5) {
        let mut changed = code.clone();
        changed[place] ^= 1;
        std::fs::write(&files()[0], changed).unwrap();
        assert_eq!(request(&project.serve(&[]), 2), expected, "{place}");
    }
    std::fs::remove_dir_all(&compiled).unwrap();
    assert_eq!(request(&project.serve(&[]), 2), expected);
}

/// Applies a new project, with a folder for what is kept for all projects, and returns what the
/// command said.
fn applied_with(cache: &Path) -> String {
    let project = project("", "");
    let mut apply = project.command(&["apply"]);
    let output = apply.env("WAFER_CACHE", cache).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(request(&project.serve(&[]), 2).0, 200);
    text(&output)
}

/// Returns the files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let below = |path: PathBuf| match path.is_dir() {
        true => files_below(&path),
        false => vec![path],
    };
    entries.flat_map(|entry| below(entry.path())).collect()
}

#[test]
fn code_that_is_kept_for_all_projects_is_used_only_if_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("code");
    applied_with(folder.path());
    let files = files_below(&kept);
    let contents = || files.iter().map(|path| std::fs::read(path).unwrap());
    let whole: Vec<_> = contents().collect();
    assert!(whole.len() > 2, "{files:?}");
    applied_with(folder.path());
    assert_eq!(files_below(&kept), files, "nothing was compiled");

    // Code with its right digest that this engine cannot load, and code that is damaged.
    let other = b"not native code";
    let digest = Digest::of(other);
    let foreign = [&digest.as_bytes()[..], other].concat();
    for content in [foreign, b"damaged".to_vec()] {
        for path in &files {
            std::fs::write(path, &content).unwrap();
        }
        applied_with(folder.path());
        assert!(contents().all(|found| found != content), "it was replaced");
    }

    // Others may have put code of theirs there, so it is neither used nor closed.
    std::fs::set_permissions(&kept, Permissions::from_mode(0o777)).unwrap();
    let said = applied_with(folder.path());
    assert!(said.contains("others can write to it: remove it"), "{said}");
    let mode = kept.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
}

/// A component is named by a digest of its bytes, so that they must not depend on where it was
/// built.
#[test]
fn components_contain_no_paths_of_this_machine() {
    let here = repository().canonicalize().unwrap();
    let here = here.to_str().unwrap().as_bytes();
    for name in [
        "linear",
        "lightgbm",
        "onnx",
        "train_trees",
        "ledger",
        "facts",
    ] {
        let component = std::fs::read(guest(name)).unwrap();
        let mut pieces = component.windows(here.len());
        assert!(pieces.all(|piece| piece != here), "{name}");
    }
}
