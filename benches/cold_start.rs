//! What does the first call of a deployed function cost, from the artifact on disk to the first
//! answer? And that of a function with a model of 50 MB, with and without its snapshot?
#![allow(missing_docs, reason = "a bench")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array};
use criterion::{Criterion, criterion_group, criterion_main};
use wafer_benches::Bench;
use wafer_core::Digest;
use wafer_runtime::{Asset, Deadline, FunctionSpec, Limits, Runtime, RuntimeConfig};

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

/// Before native code is mapped, its digest is compared with the one that was kept: once in each
/// process. The larger size is about that of an interpreter's code.
fn digest(criterion: &mut Criterion) {
    for mebibytes in [1, 32] {
        let code = vec![0u8; mebibytes << 20];
        criterion.bench_function(&format!("digest of {mebibytes} MiB of native code"), |b| {
            b.iter(|| Digest::of(black_box(&code)));
        });
    }
}

/// A model file of LightGBM with at least `bytes` bytes: trees of 256 leaves over four columns.
fn forest(bytes: usize) -> String {
    use std::fmt::Write as _;
    const SPLITS: usize = 255;
    let mut state = 2013u64;
    let mut random = || {
        // Knuth's linear congruential generator for MMIX.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let child = |child: usize| match child.checked_sub(SPLITS) {
        Some(leaf) => -(leaf as i64) - 1,
        None => child as i64,
    };
    let list = |values: &mut dyn Iterator<Item = String>| values.collect::<Vec<_>>().join(" ");
    let mut text = String::from(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=3\n\
         objective=regression\nfeature_names=a b c d\nfeature_infos=[0:1] [0:1] [0:1] [0:1]\n\n",
    );
    for tree in 0.. {
        if text.len() >= bytes {
            break;
        }
        let splits = || 0..SPLITS;
        let lines = [
            ("num_leaves", (SPLITS + 1).to_string()),
            ("num_cat", "0".to_owned()),
            (
                "split_feature",
                list(&mut splits().map(|n| (n % 4).to_string())),
            ),
            (
                "threshold",
                list(&mut splits().map(|_| random().to_string())),
            ),
            ("decision_type", list(&mut splits().map(|_| "2".to_owned()))),
            (
                "left_child",
                list(&mut splits().map(|n| child(2 * n + 1).to_string())),
            ),
            (
                "right_child",
                list(&mut splits().map(|n| child(2 * n + 2).to_string())),
            ),
            (
                "leaf_value",
                list(&mut (0..=SPLITS).map(|_| random().to_string())),
            ),
            ("is_linear", "0".to_owned()),
            ("shrinkage", "1".to_owned()),
        ];
        let _ = writeln!(text, "Tree={tree}");
        for (name, value) in lines {
            let _ = writeln!(text, "{name}={value}");
        }
        text.push_str("\n\n");
    }
    text.push_str("end of trees\n");
    text
}

fn model(criterion: &mut Criterion) {
    let spec = FunctionSpec {
        name: "trees".to_owned(),
        component: wafer_benches::component("functions/stock/lightgbm").into(),
        assets: BTreeMap::from([("model".to_owned(), Asset::of(forest(50_000_000)))]),
        limits: Limits {
            memory: 1 << 30,
            init_time: wafer_core::Duration::from_mins(1),
            ..Limits::default()
        },
        ..FunctionSpec::default()
    };
    let Bench {
        artifacts,
        registered,
        ..
    } = &wafer_benches::registered(spec.clone());
    let runtime = Runtime::new(RuntimeConfig::default()).expect("a sandbox");
    let row: Vec<ArrayRef> = (0..4)
        .map(|n| Arc::new(Float64Array::from(vec![f64::from(n) / 4.0])) as ArrayRef)
        .collect();
    let load = || runtime.load("trees", registered, &spec.limits, artifacts);
    let mut group = criterion.benchmark_group("a model of 50 MB");
    group.sample_size(10);
    group.bench_function("loaded by its snapshot, and called once", |b| {
        b.iter(|| {
            let function = load().expect("it loads");
            function.invoke(&row, Deadline::Request).expect("it works")
        });
    });
    let function = load().expect("it loads");
    group.bench_function("each further one, in a fresh sandbox", |b| {
        b.iter(|| function.invoke(&row, Deadline::Request).expect("it works"));
    });
    group.bench_function("loaded and initialised without a snapshot", |b| {
        b.iter(|| runtime.initialise_once(&spec, artifacts).expect("it works"));
    });
    group.finish();
}

criterion_group!(benches, cold_start, digest, model);
criterion_main!(benches);
