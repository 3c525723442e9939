//! Interpreters: components whose compiled code all of their functions share.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use serde_json::json;
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wafer_core::{Digest, Duration};
use wafer_runtime::{
    Compiler, Deadline, Function, FunctionSpec, Limits, Output, Registered, Runtime, RuntimeConfig,
    Target,
};
use wafer_store::{ArtifactFolder, blob_name};

use crate::harness::interpreter::{component, module};
use crate::harness::{Project, are_embedded};

/// A sandbox with artifacts of its own.
struct Sandbox {
    runtime: Runtime,
    artifacts: ArtifactFolder,
    folder: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            runtime: Runtime::new(RuntimeConfig::default()).unwrap(),
            artifacts: ArtifactFolder::open(folder.path()).unwrap(),
            folder,
        }
    }

    /// Registers a function with one asset.
    fn register(&self, component: &[u8], asset: Vec<u8>) -> Registered {
        let spec = FunctionSpec {
            name: "f".to_owned(),
            component: component.to_vec().into(),
            assets: [("data".to_owned(), asset.into())].into(),
            limits: Limits {
                init_time: Duration::from_micros(1_000_000),
                ..Limits::default()
            },
            ..FunctionSpec::default()
        };
        self.runtime.register(&spec, &self.artifacts).unwrap()
    }

    fn load(&self, registered: &Registered) -> Function {
        load(&self.runtime, registered, &self.artifacts).unwrap()
    }

    /// Returns the files of compiled code for this machine.
    fn compiled(&self) -> Vec<PathBuf> {
        let compiled = self.folder.path().canonicalize().unwrap().join("compiled");
        let machines = std::fs::read_dir(compiled).unwrap().flatten();
        let files = machines.flat_map(|machine| std::fs::read_dir(machine.path()).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    }
}

fn load(
    runtime: &Runtime,
    registered: &Registered,
    artifacts: &ArtifactFolder,
) -> Result<Function, String> {
    let loaded = runtime.load("f", registered, &Limits::default(), artifacts);
    loaded.map_err(|e| e.to_string())
}

/// An asset that ends with the number that is added to each row.
fn asset(length: usize, number: u8) -> Vec<u8> {
    let mut asset = vec![b'x'; length];
    *asset.last_mut().unwrap() = number;
    asset
}

fn rows() -> [ArrayRef; 1] {
    [Arc::new(Int64Array::from(vec![10, 20, -30]))]
}

fn numbers(output: &Output) -> Vec<i64> {
    output.columns[0]
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

fn called(function: &Function) -> Vec<i64> {
    numbers(&function.invoke(&rows(), Deadline::Batch).unwrap())
}

/// Returns how often this process has mapped a file into its memory.
fn mappings(file: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let file = file.display().to_string();
    maps.lines().filter(|line| line.ends_with(&file)).count()
}

#[test]
fn functions_of_an_interpreter_share_its_compiled_code_on_disk_and_in_memory() {
    let sandbox = Sandbox::new();
    let component = component(&module());
    let first = sandbox.register(&component, asset(3, 1));
    let second = sandbox.register(&component, asset(3, 2));
    assert_ne!(first.digest, second.digest);
    assert!(first.delta.is_some() && second.delta.is_some());
    let compiled = sandbox.compiled();
    let [code] = &compiled[..] else {
        panic!("{compiled:?}")
    };

    let function = sandbox.load(&first);
    let mapped = mappings(code);
    assert!(mapped > 0, "{}", code.display());
    let other = sandbox.load(&second);
    assert_eq!(mappings(code), mapped);
    assert_eq!(called(&function), [11, 21, -29]);
    assert_eq!(called(&other), [12, 22, -28]);

    // The machines of Lambda need their code as well, once for both.
    let runtime = &sandbox.runtime;
    let compile = |function: &Registered| {
        let compiled = runtime.compile_for(Target::Aarch64, "f", function, &sandbox.artifacts);
        compiled.unwrap()
    };
    assert!(compile(&first));
    assert!(!compile(&second));

    // Another process uses the code without a compiler, and needs one if it is gone.
    let without = Runtime::new(RuntimeConfig {
        compiler: Compiler::Absent,
        ..RuntimeConfig::default()
    });
    let without = without.unwrap();
    let function = load(&without, &first, &sandbox.artifacts).unwrap();
    assert_eq!(called(&function), [11, 21, -29]);
    drop(function);
    std::fs::remove_file(code).unwrap();
    let said = load(&without, &first, &sandbox.artifacts).unwrap_err();
    assert!(said.contains("there is no compiled code of it"), "{said}");
    let again = Runtime::new(RuntimeConfig::default()).unwrap();
    let function = load(&again, &second, &sandbox.artifacts).unwrap();
    assert_eq!(called(&function), [12, 22, -28]);
    assert!(code.is_file());
}

#[test]
fn each_call_has_the_initialised_memory_with_what_it_grew_by_and_nothing_of_other_calls() {
    let sandbox = Sandbox::new();
    let registered = sandbox.register(&component(&module()), asset(300_000, 9));
    assert!(registered.delta.is_some());
    let function = sandbox.load(&registered);
    for _ in 0..3 {
        assert_eq!(called(&function), [19, 29, -21]);
    }
    // In one instance, it does count its calls.
    let mut warm = function.warm().unwrap();
    assert_eq!(numbers(&warm.call(&rows()).unwrap()), [19, 29, -21]);
    assert_eq!(numbers(&warm.call(&rows()).unwrap()), [1_019, 1_029, 979]);

    let limits = Limits {
        memory: 512 << 10,
        ..Limits::default()
    };
    let (runtime, artifacts) = (&sandbox.runtime, &sandbox.artifacts);
    let function = runtime.load("f", &registered, &limits, artifacts).unwrap();
    let said = function.invoke(&rows(), Deadline::Batch).unwrap_err();
    assert!(
        said.to_string()
            .contains("needs more memory than 512 KiB (setting `memory`)"),
        "{said}"
    );
    what_is_said_is_logged_although_no_memory_is_left(&limits);
}

fn what_is_said_is_logged_although_no_memory_is_left(limits: &Limits) {
    let log = r#"(import "wafer:function/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    let grow = "(call $grow (local.get $pages))";
    let text = module();
    assert!(text.contains("(module\n") && text.contains(grow));
    let says = format!("(call $log (i32.const 2) (i32.const 400) (i32.const 5)) {grow}");
    let text = text
        .replacen("(module\n", &format!("(module {log}\n"), 1)
        .replace(grow, &says)
        .replace(
            "  ;; ---- Memory ----",
            "  (data (i32.const 400) \"hello\")",
        );
    let sandbox = Sandbox::new();
    let registered = sandbox.register(&component(&text), asset(300_000, 9));
    assert!(registered.delta.is_some());
    let (runtime, artifacts) = (&sandbox.runtime, &sandbox.artifacts);
    let function = runtime.load("f", &registered, limits, artifacts).unwrap();
    let said = Arc::new(SaidByFunctions::default());
    tracing::subscriber::with_default(Arc::clone(&said), || {
        assert!(function.invoke(&rows(), Deadline::Batch).is_err());
    });
    assert_eq!(*said.0.lock().unwrap(), ["hello"]);
}

/// The messages that functions log while it is the default subscriber.
#[derive(Default)]
struct SaidByFunctions(Mutex<Vec<String>>);

impl Subscriber for SaidByFunctions {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "function"
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut said = self.0.lock().unwrap();
        event.record(&mut |field: &Field, value: &dyn Debug| {
            if field.name() == "message" {
                said.push(format!("{value:?}"));
            }
        });
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[test]
fn a_function_with_large_assets_is_compiled_by_itself_with_the_same_results() {
    let sandbox = Sandbox::new();
    let component = component(&module());
    let small = sandbox.register(&component, asset(1 << 20, 4));
    assert!(small.delta.is_some());
    assert_eq!(sandbox.compiled().len(), 1);
    let large = sandbox.register(&component, asset(5 << 20, 4));
    assert_eq!(large.delta, None);
    assert_eq!(sandbox.compiled().len(), 2);
    for registered in [small, large] {
        let function = sandbox.load(&registered);
        for _ in 0..2 {
            assert_eq!(called(&function), [14, 24, -26]);
        }
    }
}

/// What an interpreter promises is tried out: a function of one that breaks a promise does not
/// share its code, and gives the same results.
#[test]
fn a_function_of_an_interpreter_that_breaks_its_promises_gets_a_snapshot() {
    for (promise, broken) in [
        // It puts what it is given somewhere else.
        (
            "(local.set $at (i32.load (i32.load (global.get $next))))",
            "(local.set $at (i32.const 0x20000))",
        ),
        // It leaves something of what it was given where it put it.
        (
            "(memory.fill (global.get $expects) (i32.const 0) (global.get $kept))",
            "(i32.store (global.get $expects) (i32.const 0))",
        ),
        // It returns a part of its memory.
        (
            "(i32.shl (memory.size) (i32.const 16))",
            "(i32.const 0x20000)",
        ),
        ("(call $grow (local.get $pages))", "unreachable"),
        (
            "(i32.store offset=4 (global.get $memory)",
            "(loop $on (br $on)) (i32.store offset=4 (global.get $memory)",
        ),
    ] {
        let module = module();
        assert!(module.contains(promise), "{promise}");
        let sandbox = Sandbox::new();
        let faulty = component(&module.replace(promise, broken));
        let registered = sandbox.register(&faulty, asset(3, 1));
        assert_eq!(registered.delta, None, "{broken}");
        assert_eq!(
            called(&sandbox.load(&registered)),
            [11, 21, -29],
            "{broken}"
        );
    }
}

#[test]
fn recursion_without_end_ends_at_the_call_stack_and_others_go_on() {
    let call = "(func (export \"wafer:function/transform@0.1.0#call\")";
    let deep = "(func $deep (param $depth i32) (result i32)
        (i32.add (call $deep (i32.add (local.get $depth) (i32.const 1))) (local.get $depth)))";
    let first = "(local.set $at (i32.load (global.get $asset)))";
    let text = module();
    assert!(text.contains(call) && text.contains(first));
    let recursive = text
        .replace(call, &format!("{deep} {call}"))
        .replace(first, &format!("(drop (call $deep (i32.const 0))) {first}"));
    let sandbox = Sandbox::new();
    let registered = sandbox.register(&component(&recursive), asset(3, 1));
    let function = sandbox.load(&registered);
    let said = function.invoke(&rows(), Deadline::Batch).unwrap_err();
    let said = said.to_string();
    let wanted = "recursed past the call stack of 1 MiB (not a setting)";
    assert!(said.contains(wanted), "{said}");
    let other = sandbox.register(&component(&text), asset(3, 1));
    assert_eq!(called(&sandbox.load(&other)), [11, 21, -29]);
}

#[test]
fn damaged_memory_is_refused_with_its_artifact() {
    let sandbox = Sandbox::new();
    let registered = sandbox.register(&component(&module()), asset(1_000, 1));
    let delta = registered.delta.unwrap();
    let file = sandbox.artifacts.path(&blob_name(delta)).unwrap();
    let written = std::fs::read(&file).unwrap();
    let refused = |registered: &Registered, wanted: &str, of: Digest| {
        let said = load(&sandbox.runtime, registered, &sandbox.artifacts).unwrap_err();
        assert!(said.contains(wanted), "{wanted}: {said}");
        assert!(said.contains(&of.hex()), "{said}");
    };
    for place in [0, written.len() / 2, written.len() - 1] {
        let mut changed = written.clone();
        changed[place] ^= 1;
        std::fs::write(&file, changed).unwrap();
        refused(&registered, "it is not what its name says", delta);
    }
    // More than a delta can have is not read.
    let large = std::fs::File::create(&file).unwrap();
    large.set_len(1 << 30).unwrap();
    refused(&registered, "has 1073741824 bytes, and may have", delta);
    std::fs::remove_file(&file).unwrap();
    refused(&registered, "has no artifact", delta);

    // An artifact that is something else.
    let other = Registered {
        delta: Some(registered.component),
        ..registered.clone()
    };
    let wanted = "the memory of function `f`, artifact";
    refused(&other, wanted, registered.component);
    std::fs::write(&file, written).unwrap();
    assert_eq!(called(&sandbox.load(&registered)), [11, 21, -29]);
}

#[test]
fn a_project_compiles_its_interpreter_once() {
    if !are_embedded() {
        return;
    }
    let function = |name: &str| {
        format!(
            "[functions.{name}]\ncomponent = \"interpreter.wasm\"\nassets = {{ data = \"{name}.txt\" }}\n\
             [views.{name}]\nrequest = {{ x = \"int64\" }}\nfunctions = [\"{name}\"]\n"
        )
    };
    let project = Project::new(&format!(
        "[project]\nname = \"interpreted\"\n{}{}",
        function("one"),
        function("two")
    ));
    project.write("interpreter.wasm", component(&module()));
    project.write("one.txt", asset(10, 1));
    project.write("two.txt", asset(10, 2));
    let answers = |wanted: [(&str, i64); 2]| {
        let server = project.serve(&[]);
        for (view, wanted) in wanted {
            for _ in 0..2 {
                let rows = server.features(view, &json!([{"x": 10}]));
                assert_eq!(rows[0]["features"]["y"], wanted, "{view}");
            }
        }
    };
    project.ok(&["apply"]);
    let compiled = project.compiled_code();
    assert_eq!(compiled.len(), 1, "{compiled:?}");
    answers([("one", 11), ("two", 12)]);
    // An edit compiles nothing.
    project.write("two.txt", asset(20, 7));
    project.ok(&["apply"]);
    assert_eq!(project.compiled_code(), compiled);
    answers([("one", 11), ("two", 17)]);
}
