//! Components that import WASI: what they are answered, and what they are refused.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use serde_json::json;
use wafer_runtime::{
    Compiler, Deadline, Function, FunctionSpec, Limits, Registered, Runtime, RuntimeConfig,
};
use wafer_store::ArtifactFolder;

use crate::harness::wasi::{Guest, c_function};
use crate::harness::{Project, text};

/// The sandbox of these tests.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new(RuntimeConfig::default()).unwrap());

/// A function that is registered, with the artifacts that it is loaded from.
struct Kept {
    registered: Registered,
    artifacts: ArtifactFolder,
    _folder: tempfile::TempDir,
}

impl Kept {
    fn new(component: Vec<u8>) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = ArtifactFolder::open(folder.path()).unwrap();
        let spec = FunctionSpec {
            name: "f".to_owned(),
            component: component.into(),
            ..FunctionSpec::default()
        };
        let registered = RUNTIME.register(&spec, &artifacts);
        Ok(Self {
            registered: registered.map_err(|e| e.to_string())?,
            artifacts,
            _folder: folder,
        })
    }

    fn load(&self, runtime: &Runtime) -> Function {
        let limits = Limits::default();
        let loaded = runtime.load("f", &self.registered, &limits, &self.artifacts);
        loaded.unwrap()
    }
}

/// Registers and loads a function.
fn function(guest: Guest<'_>) -> Function {
    Kept::new(guest.component()).unwrap().load(&RUNTIME)
}

/// Calls a function on some rows.
fn called(function: &Function, rows: &[i64]) -> Result<Vec<i64>, String> {
    let rows: [ArrayRef; 1] = [Arc::new(Int64Array::from(rows.to_vec()))];
    let output = function.invoke(&rows, Deadline::Batch);
    let output = output.map_err(|e| e.to_string())?;
    let values = output.columns[0].as_primitive::<Int64Type>().values();
    Ok(values.to_vec())
}

const NOW: &str = r#"(import "wasi:clocks/wall-clock@0.2.3" "now" (func $now (param i32)))"#;
const RANDOM: &str =
    r#"(import "wasi:random/random@0.2.3" "get-random-u64" (func $random (result i64)))"#;
/// Opening the three streams, and writing to one.
const STREAMS: &str = r#"
    (import "wasi:cli/stdin@0.2.3" "get-stdin" (func $stdin (result i32)))
    (import "wasi:cli/stdout@0.2.3" "get-stdout" (func $stdout (result i32)))
    (import "wasi:cli/stderr@0.2.3" "get-stderr" (func $stderr (result i32)))
    (import "wasi:io/streams@0.2.3" "[method]output-stream.write"
        (func $write (param i32 i32 i32 i32)))
    (import "wasi:io/streams@0.2.3" "[method]input-stream.blocking-read"
        (func $read (param i32 i64 i32)))
"#;
/// Waiting for time to pass.
const WAITING: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.2.3" "subscribe-duration"
        (func $after (param i64) (result i32)))
    (import "wasi:clocks/monotonic-clock@0.2.3" "subscribe-instant"
        (func $at (param i64) (result i32)))
    (import "wasi:io/poll@0.2.3" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:io/poll@0.2.3" "[method]pollable.ready" (func $ready (param i32) (result i32)))
    (import "wasi:io/poll@0.2.3" "[resource-drop]pollable" (func $close (param i32)))
    (import "wasi:io/poll@0.2.3" "poll" (func $poll (param i32 i32 i32)))
"#;

#[test]
fn the_clocks_stand_still_at_the_declared_instants() {
    let wall = function(Guest {
        imports: NOW,
        value: "(call $now (i32.const 1024))
            (i64.add (i64.load (i32.const 1024)) (i64.load32_u (i32.const 1032)))",
        ..Guest::default()
    });
    // 2000-01-01T00:00:00Z
    assert_eq!(called(&wall, &[1, 2]).unwrap(), [946_684_800; 2]);
    let monotonic = function(Guest {
        imports: r#"(import "wasi:clocks/monotonic-clock@0.2.3" "now" (func $now (result i64)))"#,
        value: "(call $now)",
        ..Guest::default()
    });
    assert_eq!(called(&monotonic, &[1, 2]).unwrap(), [1_000_000_000; 2]);
    // What lies in the past has happened.
    let ready = function(Guest {
        imports: WAITING,
        value: "(local $handle i32)
            (local.set $handle (call $at (local.get $x)))
            (i64.extend_i32_u (call $ready (local.get $handle)))
            (call $close (local.get $handle))",
        ..Guest::default()
    });
    let instants = [0, 1_000_000_000, 1_000_000_001, -1];
    assert_eq!(called(&ready, &instants).unwrap(), [1, 1, 0, 0]);
}

#[test]
fn random_numbers_depend_on_the_component_alone() {
    let guest = Guest {
        imports: RANDOM,
        value: "(call $random)",
        ..Guest::default()
    };
    let kept = Kept::new(guest.component()).unwrap();
    let function = kept.load(&RUNTIME);
    let numbers = called(&function, &[0, 0, 0]).unwrap();
    assert!(
        numbers[0] != numbers[1] && numbers[1] != numbers[2],
        "{numbers:?}"
    );
    assert_eq!(called(&function, &[5, 5]).unwrap(), numbers[..2]);

    // Another process, which has no compiler.
    let without = RuntimeConfig {
        compiler: Compiler::Absent,
        ..RuntimeConfig::default()
    };
    let other = kept.load(&Runtime::new(without).unwrap());
    assert_eq!(called(&other, &[0, 0, 0]).unwrap(), numbers);

    let other = Guest {
        value: "(i64.add (call $random) (i64.const 0))",
        ..guest
    };
    assert_ne!(called(&self::function(other), &[0, 0, 0]).unwrap(), numbers);
}

#[test]
fn bytes_and_seeds_are_as_deterministic_as_numbers() {
    for (imports, value) in [
        (
            r#"(import "wasi:random/random@0.2.3" "get-random-bytes" (func $bytes (param i64 i32)))"#,
            "(call $bytes (i64.const 16) (i32.const 1024)) (i64.load (i32.load (i32.const 1024)))",
        ),
        (
            r#"(import "wasi:random/insecure@0.2.3" "get-insecure-random-bytes"
                (func $bytes (param i64 i32)))"#,
            "(call $bytes (i64.const 16) (i32.const 1024)) (i64.load (i32.load (i32.const 1024)))",
        ),
        (
            r#"(import "wasi:random/insecure@0.2.3" "get-insecure-random-u64"
                (func $random (result i64)))"#,
            "(call $random)",
        ),
        (
            r#"(import "wasi:random/insecure-seed@0.2.3" "insecure-seed" (func $seed (param i32)))"#,
            "(call $seed (i32.const 1024))
                (i64.sub (i64.load (i32.const 1024)) (i64.load (i32.const 1032)))",
        ),
    ] {
        let guest = Guest {
            imports,
            value,
            ..Guest::default()
        };
        let found = called(&function(guest), &[0, 0]).unwrap();
        assert_ne!(found[0], 0, "{imports}");
        assert_eq!(called(&function(guest), &[0, 0]).unwrap(), found);
    }
}

#[test]
fn there_is_no_input_environment_argument_terminal_or_folder() {
    // The error of a stream that is closed: the second case of the error of a result.
    let input = function(Guest {
        imports: STREAMS,
        value: "(call $read (call $stdin) (i64.const 100) (i32.const 1024))
            (i64.extend_i32_u (i32.add
                (i32.mul (i32.load8_u (i32.const 1024)) (i32.const 10))
                (i32.load8_u (i32.const 1028))))",
        ..Guest::default()
    });
    assert_eq!(called(&input, &[0]).unwrap(), [11]);
    for (interface, name) in [
        ("cli/environment", "get-environment"),
        ("cli/environment", "get-arguments"),
        ("cli/environment", "initial-cwd"),
        ("cli/terminal-stdout", "get-terminal-stdout"),
        ("filesystem/preopens", "get-directories"),
    ] {
        let import =
            format!(r#"(import "wasi:{interface}@0.2.3" "{name}" (func $ask (param i32)))"#);
        // The first byte of an option, or the length of a list.
        let guest = Guest {
            imports: &import,
            value: "(i64.store (i32.const 1024) (i64.const -1))
                (call $ask (i32.const 1024))
                (if (result i64) (i64.eqz (local.get $x))
                    (then (i64.load8_u (i32.const 1024)))
                    (else (i64.load32_u (i32.const 1028))))",
            ..Guest::default()
        };
        let is_list = name.starts_with("get-") && !name.contains("terminal");
        let found = called(&function(guest), &[i64::from(is_list)]).unwrap();
        assert_eq!(found, [0], "{name}");
    }
}

#[test]
fn what_waits_exits_or_asks_for_more_traps_with_the_reason() {
    let exit = r#"(import "wasi:cli/exit@0.2.3" "exit" (func $exit (param i32)))"#;
    let code = r#"(import "wasi:cli/exit@0.2.3" "exit-with-code" (func $exit (param i32)))"#;
    let bytes = r#"(import "wasi:random/random@0.2.3" "get-random-bytes"
        (func $bytes (param i64 i32)))"#;
    let network = r#"(import "wasi:sockets/instance-network@0.2.3" "instance-network"
        (func $network (result i32)))"#;
    let later = r#"(import "wasi:filesystem/types@0.2.3" "later" (func $later (result i64)))"#;
    let zeroes = r#"
        (import "wasi:cli/stdout@0.2.3" "get-stdout" (func $stdout (result i32)))
        (import "wasi:io/streams@0.2.3" "[method]output-stream.write-zeroes"
            (func $zeroes (param i32 i64 i32)))"#;
    for (imports, value, wanted) in [
        (
            exit,
            "(call $exit (i32.const 1)) (local.get $x)",
            "it called `exit` with status failure",
        ),
        (
            exit,
            "(call $exit (i32.const 0)) (local.get $x)",
            "it called `exit` with status success",
        ),
        (
            code,
            "(call $exit (i32.const 77)) (local.get $x)",
            "it called `exit` with status 77",
        ),
        (
            WAITING,
            "(call $block (call $after (i64.const 1))) (local.get $x)",
            "it waits for time to pass, and the clocks of a function stand still",
        ),
        (
            WAITING,
            "(i32.store (i32.const 1100) (call $after (i64.const -1)))
                (call $poll (i32.const 1100) (i32.const 1) (i32.const 1024)) (local.get $x)",
            "it waits for time to pass",
        ),
        (
            WAITING,
            "(loop $on (drop (call $after (i64.const 0))) (br $on)) unreachable",
            "handle limit exceeded",
        ),
        (
            bytes,
            "(call $bytes (i64.const 1048577) (i32.const 1024)) (local.get $x)",
            "it asked for 1048577 random bytes; there are 1048576 at once",
        ),
        (
            bytes,
            "(call $bytes (i64.const -1) (i32.const 1024)) (local.get $x)",
            "random bytes; there are 1048576 at once",
        ),
        (
            STREAMS,
            "(call $write (call $stdout) (i32.const 0) (i32.const 65537) (i32.const 1024))
                (local.get $x)",
            "it wrote 65537 bytes at once; `check-write` permits 65536",
        ),
        (
            network,
            "(drop (call $network)) (local.get $x)",
            "it called `instance-network` of `wasi:sockets/instance-network@0.2.3`; a function has no \
             network",
        ),
        (
            later,
            "(call $later)",
            "it called `later` of `wasi:filesystem/types@0.2.3`; a function has no files",
        ),
        (
            zeroes,
            "(call $zeroes (call $stdout) (i64.const 8) (i32.const 1024)) (local.get $x)",
            "it called `[method]output-stream.write-zeroes` of `wasi:io/streams@0.2.3`; a function is \
             granted nothing",
        ),
    ] {
        let guest = Guest {
            imports,
            value,
            ..Guest::default()
        };
        let function = function(guest);
        for _ in 0..2 {
            let said = called(&function, &[0]).unwrap_err();
            assert!(said.starts_with("function `f` trapped: "), "{said}");
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
    }
}

#[test]
fn a_poll_returns_what_is_ready() {
    let poll = function(Guest {
        imports: WAITING,
        value: "(i32.store (i32.const 1100) (call $after (i64.const 1)))
            (i32.store (i32.const 1104) (call $after (i64.const 0)))
            (call $poll (i32.const 1100) (i32.const 2) (i32.const 1024))
            (i64.extend_i32_u (i32.add
                (i32.mul (i32.load (i32.const 1028)) (i32.const 10))
                (i32.load (i32.load (i32.const 1024)))))",
        ..Guest::default()
    });
    // One of them, which is the second.
    assert_eq!(called(&poll, &[0]).unwrap(), [11]);
}

#[test]
fn what_a_function_wrote_to_standard_error_is_in_the_message_of_its_trap() {
    let value = "(call $write (call $stderr) (i32.const 2048) (i32.const 6) (i32.const 1024))
        (call $write (call $stderr) (i32.const 2048) (i32.const 4) (i32.const 1024))
        unreachable";
    let guest = Guest {
        imports: STREAMS,
        value,
        ..Guest::default()
    };
    let said = called(&function(guest), &[0]).unwrap_err();
    assert_eq!(said, "function `f` trapped: hello\nhell");
}

/// The handles of a function are not in its snapshot, and their indices are.
#[test]
fn streams_that_were_opened_when_a_function_was_initialised_are_open_in_every_call() {
    let guest = Guest {
        imports: STREAMS,
        init: "(i32.store offset=0 (i32.const 64) (call $stdin))
            (i32.store offset=4 (i32.const 64) (call $stdout))
            (i32.store offset=8 (i32.const 64) (call $stderr))",
        value: "(call $write (i32.load offset=8 (i32.const 64))
                (i32.const 2048) (i32.const 6) (i32.const 1024))
            (if (i64.eqz (local.get $x)) (then unreachable))
            (call $write (i32.load offset=4 (i32.const 64))
                (i32.const 2048) (i32.const 6) (i32.const 1024))
            (call $read (i32.load offset=0 (i32.const 64)) (i64.const 1) (i32.const 1024))
            (i64.load8_u (i32.const 1024))",
    };
    let function = function(guest);
    for _ in 0..3 {
        assert_eq!(called(&function, &[7, 8]).unwrap(), [1, 1]);
    }
    // The last one is standard error.
    let said = called(&function, &[0]).unwrap_err();
    assert_eq!(said, "function `f` trapped: hello");
}

#[test]
fn handles_that_a_snapshot_cannot_keep_are_refused_when_a_function_is_registered() {
    let imports = format!("{STREAMS}{WAITING}");
    for (init, is_refused) in [
        ("(drop (call $after (i64.const 0)))", true),
        (
            "(call $close (call $after (i64.const 0))) (drop (call $stderr))",
            true,
        ),
        (
            "(drop (call $stderr)) (call $close (call $after (i64.const 0)))",
            false,
        ),
    ] {
        let guest = Guest {
            imports: &imports,
            init,
            value: "(local.get $x)",
        };
        match (Kept::new(guest.component()), is_refused) {
            (Err(said), true) => assert!(
                said.contains(
                    "function `f` could not be initialised: after `init` and `describe` it holds"
                ),
                "{said}"
            ),
            (Ok(kept), false) => {
                assert_eq!(called(&kept.load(&RUNTIME), &[3]).unwrap(), [3]);
            }
            (Err(said), false) => panic!("{init}: {said}"),
            (Ok(_), true) => panic!("{init} is not refused"),
        }
    }
}

#[test]
fn imports_beyond_the_log_and_wasi_are_refused_by_name() {
    for import in [
        "wasi:clocks/wall-clock@0.3.0",
        "wasi:clocks/wall-clock@0.2.0-rc-2023-11-10",
        "wasi:keyvalue/store@0.2.0",
        "other:clocks/wall-clock@0.2.0",
    ] {
        let text = format!(
            "(component (import \"{import}\" (instance (export \"now\" (func (result u64))))))"
        );
        let said = Kept::new(wat::parse_str(text).unwrap()).err().unwrap();
        let wanted = format!(
            "it imports `{import}`; a function may import `wafer:function/log@0.1.0` and WASI 0.2 only"
        );
        assert!(said.contains(&wanted), "{said}");
    }
}

/// A project whose only function is a file.
fn project(component: &[u8]) -> Project {
    let project = Project::new(
        "[project]\nname = \"wasi\"\n\
         [functions.f]\ncomponent = \"f.wasm\"\nassets = { data = \"data.txt\" }\n\
         [views.v]\nrequest = { x = \"int64\" }\nfunctions = [\"f\"]\n",
    );
    project.write("f.wasm", component);
    project.write("data.txt", "40");
    project
}

/// Runs a command that must succeed, and returns its log.
fn log_of(project: &Project, arguments: &[&str]) -> String {
    let output = project
        .command(arguments)
        .env("RUST_LOG", "info")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn standard_output_and_standard_error_are_the_log() {
    let guest = Guest {
        imports: STREAMS,
        init: "(call $write (call $stdout) (i32.const 2048) (i32.const 3) (i32.const 1024))
            (call $write (call $stdout) (i32.const 2051) (i32.const 3) (i32.const 1024))",
        value: "(call $write (call $stdout) (i32.const 2048) (i32.const 4) (i32.const 1024))
            (call $write (call $stderr) (i32.const 2048) (i32.const 6) (i32.const 1024))
            (local.get $x)",
    };
    let project = project(&guest.component());
    let said = |log: &str, level: &str, message: &str| {
        let lines = log.lines().filter(|line| line.contains("function=\"f\""));
        let mut lines = lines.filter(|line| line.contains(level));
        let found = lines.any(|line| line.contains(message));
        assert!(found, "{level} {message}: {log}");
    };
    said(&log_of(&project, &["apply"]), "INFO", "hello");
    let log = log_of(&project, &["get", "v", "x=1"]);
    // A line without an end ends with the call.
    said(&log, "INFO", "hell");
    said(&log, "WARN", "hello");
}

#[test]
fn a_function_that_draws_random_numbers_for_rows_fails_its_check() {
    let guest = Guest {
        imports: RANDOM,
        value: "(call $random)",
        ..Guest::default()
    };
    let said = project(&guest.component()).fails(&["check"]);
    let wanted = "gives another result for row 1 cut into other batches";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn a_core_module_that_imports_the_first_preview_is_adapted() {
    let guest = Guest {
        imports: r#"
            (import "wasi_snapshot_preview1" "clock_time_get"
                (func $time (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get"
                (func $random (param i32 i32) (result i32)))"#,
        value: "(drop (call $random (i32.const 1032) (i32.const 8)))
            (drop (call $time (i32.const 0) (i64.const 1) (i32.const 1024)))
            (i64.add (i64.div_u (i64.load (i32.const 1024)) (i64.const 1000000000))
                (i64.extend_i32_u (i64.eqz (i64.load (i32.const 1032)))))",
        ..Guest::default()
    };
    let project = project(&guest.core_module()).applied();
    let rows = project
        .serve(&[])
        .features("v", &json!([{"x": 1}, {"x": 2}]));
    for row in rows {
        assert_eq!(row["features"]["y"], 946_684_800);
    }
}

#[test]
fn a_function_in_c_is_served_with_its_standard_library() {
    let folder = tempfile::tempdir().unwrap();
    let Some(module) = c_function(folder.path()) else {
        return;
    };
    let project = project(&module);
    // Its three streams are open from then on.
    let log = log_of(&project, &["apply"]);
    assert!(log.contains("initialised with 40"), "{log}");
    let server = project.serve(&[]);
    let asked = |x: i64| server.features("v", &json!([{ "x": x }]))[0]["features"]["y"].clone();
    assert_eq!(asked(2), 42);
    // The time, a file, the environment, and the end of standard input.
    assert_eq!(asked(-1), 946_684_800);
    for question in [-3, -4, -5] {
        assert_eq!(asked(question), 1, "{question}");
    }
    let random = asked(-2);
    assert!(random.as_i64().unwrap() > 0, "{random}");
    assert_eq!(asked(-2), random);
    let fails = |x: i64, wanted: &str| {
        let rows = json!({ "rows": [{ "x": x }] }).to_string();
        let (status, answer) = server.post("/v1/views/v/features", "application/json", rows);
        let said = answer.to_string();
        assert_eq!(status, 500, "{said}");
        assert!(said.contains(wanted), "{said}");
    };
    fails(-6, "it waits for time to pass");
    fails(
        -7,
        "it called `exit` with status failure; it said: no row is like this",
    );
    assert_eq!(asked(2), 42);
    let log = log_of(&project, &["get", "v", "x=2"]);
    assert!(log.contains("row 0 is 42"), "{log}");
}
