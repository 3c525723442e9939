//! What does the first call of a deployed function cost? From the artifact on
//! disk to the first answer.
#![allow(missing_docs, reason = "a bench")]

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array};
use criterion::{Criterion, criterion_group, criterion_main};
use wafer_benches::Bench;
use wafer_runtime::{Deadline, Limits, Runtime, RuntimeConfig};

fn cold_start(criterion: &mut Criterion) {
    let Bench {
        artifacts,
        registered,
        ..
    } = &wafer_benches::bench("narrow");
    let row: Vec<ArrayRef> = (0..4)
        .map(|n| Arc::new(Float64Array::from(vec![f64::from(n)])) as ArrayRef)
        .collect();
    let runtime = Runtime::new(RuntimeConfig::default()).expect("a sandbox");
    criterion.bench_function("first call of a deployed function", |b| {
        b.iter(|| {
            let function = runtime
                .load("narrow", registered, &Limits::default(), artifacts)
                .expect("it loads");
            function.invoke(&row, Deadline::Request).expect("it works")
        });
    });
}

criterion_group!(benches, cold_start);
criterion_main!(benches);
