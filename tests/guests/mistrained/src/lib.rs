//! A trainer that does whatever its parameter `mode` says a trainer must not.
//!
//! It is written against the contract itself: the SDK would not let it.

#![cfg(target_arch = "wasm32")]

use std::cell::Cell;
use std::hint::black_box;

use wafer::bindings::trainer::training::{Artifact, Guest, Metric, Role, Trained};
use wafer::bindings::types::{Batch, DataType, Field, Parameter};

thread_local! {
    static MODE: Cell<&'static str> = const { Cell::new("") };
}

/// A model of the stock function `linear`.
const MODEL: &[u8] =
    br#"{"intercept": 1, "coefficients": {"last_small": 0}, "missing": {"last_small": 0}}"#;

struct Mistrained;

/// Traps, spins or asks for memory without end, if the mode says so of this place.
fn pass(place: &str) -> Result<(), String> {
    let Some(what) = MODE.get().strip_suffix(place) else {
        return Ok(());
    };
    match what {
        "panic-in-" => panic!("as asked"),
        "refuse-in-" => return Err("as asked".to_owned()),
        "spin-in-" => {
            let mut turns = 0u64;
            loop {
                turns = black_box(turns + 1);
            }
        }
        "grow-in-" => {
            let mut all = Vec::new();
            loop {
                all.push(black_box(vec![1u8; 1 << 20]));
            }
        }
        _ => {}
    }
    Ok(())
}

fn artifact(name: &str, size: u64) -> Artifact {
    Artifact {
        name: name.to_owned(),
        size,
    }
}

fn metric(name: &str, value: f64) -> Metric {
    Metric {
        name: name.to_owned(),
        value,
    }
}

impl Guest for Mistrained {
    fn load(_: String, _: Vec<u8>, _: bool) {}

    fn begin(
        parameters: Vec<Parameter>,
        _: Vec<Field>,
        label: String,
    ) -> Result<Vec<Field>, String> {
        let mode = parameters.into_iter().find(|p| p.name == "mode");
        MODE.set(mode.map_or("", |p| p.value.leak()));
        pass("begin")?;
        let field = |name: &str, data_type| Field {
            name: name.to_owned(),
            data_type,
            nullable: false,
            doc: String::new(),
        };
        Ok(match MODE.get() {
            "no-columns" => Vec::new(),
            "unknown-column" => vec![field("last_smal", DataType::Int64)],
            "other-type" => vec![field("last_small", DataType::Utf8)],
            _ => vec![field(&label, DataType::Float64)],
        })
    }

    fn feed(_: Role, _: Batch) -> Result<(), String> {
        pass("feed")
    }

    fn next_pass() -> Result<bool, String> {
        pass("next-pass")?;
        Ok(MODE.get() == "endless-passes")
    }

    fn finish() -> Result<Trained, String> {
        pass("finish")?;
        let length = MODEL.len() as u64;
        let (mut artifacts, mut metrics) = (vec![artifact("model", length)], Vec::new());
        match MODE.get() {
            "no-artifact" => artifacts.clear(),
            "artifact-name" => artifacts = vec![artifact("../model", length)],
            "artifact-twice" => artifacts.push(artifact("model", length)),
            "many-artifacts" => {
                artifacts = (0..100).map(|n| artifact(&n.to_string(), 1)).collect();
            }
            "huge-artifact" => artifacts = vec![artifact("model", u64::MAX)],
            "huge-artifacts" => artifacts = vec![artifact("a", 2 << 30), artifact("b", 2 << 30)],
            "metric-name" => metrics.push(metric(&"x".repeat(1 << 20), 1.0)),
            "metric-twice" => metrics.extend([metric("a", 1.0), metric("a", 2.0)]),
            "endless-metrics" => {
                metrics = [f64::NAN, f64::INFINITY, 0.5]
                    .into_iter()
                    .zip(["a", "b", "c"])
                    .map(|(value, name)| metric(name, value))
                    .collect();
            }
            _ => {}
        }
        Ok(Trained { artifacts, metrics })
    }

    fn read(_: String, offset: u64) -> Vec<u8> {
        let _ = pass("read");
        match MODE.get() {
            "reads-nothing" => Vec::new(),
            "reads-little" => MODEL[offset as usize..][..1].to_vec(),
            "reads-much" => vec![b' '; 2 << 20],
            _ => MODEL[offset as usize..].to_vec(),
        }
    }
}

wafer::bindings::trainer::export!(Mistrained with_types_in wafer::bindings::trainer);
