//! What does a call cost? In a fresh sandbox and a warm instance, for one row and 8,192, for few
//! columns and many, beside the same Rust code compiled natively.
#![allow(missing_docs, reason = "a bench")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use wafer::bindings::types::{Batch, Column, Data};
use wafer_benches::{arrays, values};
use wafer_runtime::Deadline;

const ROWS: usize = 8_192;

fn wire(columns: usize, rows: usize) -> Batch {
    let columns = values(columns, rows).into_iter().map(|v| Column {
        data: Data::Float64(v),
        validity: None,
    });
    Batch {
        rows: rows as u32,
        columns: columns.collect(),
    }
}

fn invoke(criterion: &mut Criterion) {
    for (name, columns) in [("narrow", 4), ("wide", 20)] {
        let function = wafer_benches::bench(name).function;
        let (one, many) = (arrays(columns, 1), arrays(columns, ROWS));

        let mut group = criterion.benchmark_group(format!("{columns} columns, 1 row"));
        group.bench_function("fresh sandbox", |b| {
            b.iter(|| {
                function
                    .invoke(black_box(&one), Deadline::Request)
                    .expect("it works")
            });
        });
        let mut warm = function.warm().expect("it starts");
        group.bench_function("warm instance", |b| {
            b.iter(|| warm.call(black_box(&one)).expect("it works"))
        });
        group.finish();

        let mut group = criterion.benchmark_group(format!("{columns} columns, {ROWS} rows"));
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function("fresh sandbox", |b| {
            b.iter(|| {
                function
                    .invoke(black_box(&many), Deadline::Batch)
                    .expect("it works")
            });
        });
        let batch = wire(columns, ROWS);
        group.bench_function("native", |b| {
            b.iter_batched(
                || batch.clone(),
                |batch| native(name, batch),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

/// Runs the code of the component natively, including the conversion between rows and columns.
fn native(name: &str, batch: Batch) {
    match name {
        "narrow" => drop(black_box(wafer::export::call_rows(
            batch,
            bench_narrow::narrow,
        ))),
        _ => drop(black_box(wafer::export::call_rows(batch, bench_wide::wide))),
    }
}

criterion_group!(benches, invoke);
criterion_main!(benches);
