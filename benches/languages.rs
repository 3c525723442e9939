//! What does a call cost in each language? In a fresh sandbox and a warm instance, for one row, 100
//! and 8,192, of the same function in Rust, Python and JavaScript, row by row and by whole columns.
//!
//! What one row costs in a warm instance is also what each row costs where a function is called row
//! by row, as engines do that call a component for each row of a query. `languages.py` measures the
//! same functions in CPython on this machine.
#![allow(missing_docs, reason = "a bench")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wafer_benches::{Bench, arrays, bench, interpreted};
use wafer_build::ToolchainKind::{JavaScript, Python};
use wafer_runtime::Deadline;

/// The columns of the functions.
const COLUMNS: usize = 4;

fn languages(criterion: &mut Criterion) {
    let functions: [(&str, Bench); 7] = [
        ("Rust, rows", bench("narrow")),
        ("Python, rows", interpreted(Python, "rows.py")),
        ("Python, columns", interpreted(Python, "columns.py")),
        ("JavaScript, rows", interpreted(JavaScript, "rows.js")),
        ("JavaScript, columns", interpreted(JavaScript, "columns.js")),
        (
            "Python, rows, simple",
            interpreted(Python, "simple_rows.py"),
        ),
        (
            "Python, columns, simple",
            interpreted(Python, "simple_columns.py"),
        ),
    ];
    for rows in [1, 100, 8_192] {
        let columns = arrays(COLUMNS, rows);
        let mut group = criterion.benchmark_group(format!("{rows} rows"));
        group.throughput(Throughput::Elements(rows as u64));
        group.measurement_time(Duration::from_secs(2));
        for (name, Bench { function, .. }) in &functions {
            group.bench_function(format!("{name}, fresh sandbox"), |b| {
                b.iter(|| {
                    function
                        .invoke(black_box(&columns), Deadline::Batch)
                        .expect("it works")
                });
            });
            let mut warm = function.warm().expect("it starts");
            group.bench_function(format!("{name}, warm instance"), |b| {
                b.iter(|| warm.call(black_box(&columns)).expect("it works"));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, languages);
criterion_main!(benches);
