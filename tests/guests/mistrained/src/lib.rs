//! A trainer that breaks a rule for trainers, which its parameter `mode` names.
//!
//! It uses the contract directly, because the SDK does not allow this. `behaviours.rs` has a row
//! for each mode; in any other mode the trainer behaves well.

#![cfg(target_arch = "wasm32")]

mod behaviours;

use std::cell::Cell;

use wafer::bindings::training::{Artifact, Guest, Metric, Role, Trained};
use wafer::bindings::types::{Batch, DataType, Field, Parameter};

use self::behaviours::Behaviour;

thread_local! {
    static MODE: Cell<&'static str> = const { Cell::new("") };
}

/// A model of the stock function `linear`.
const MODEL: &[u8] =
    br#"{"intercept": 1, "coefficients": {"last_small": 0}, "missing": {"last_small": 0}}"#;

struct Mistrained;

/// Returns the behaviours of the mode in the parameter.
fn present() -> impl Iterator<Item = Behaviour> {
    behaviours::of(MODE.get())
}

/// Traps, refuses, loops for ever or allocates without end, if the mode says so for this place.
fn pass(place: &str) -> Result<(), String> {
    behaviours::in_place(MODE.get(), place).map_or(Ok(()), |act| act())
}

fn field(name: &str, data_type: DataType) -> Field {
    Field {
        name: name.to_owned(),
        data_type,
        nullable: false,
        doc: String::new(),
    }
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
        let mut columns = vec![field(&label, DataType::Float64)];
        for behaviour in present() {
            if let Behaviour::Begin(act) = behaviour {
                act(&mut columns);
            }
        }
        Ok(columns)
    }

    fn feed(_: Role, _: Batch) -> Result<(), String> {
        pass("feed")
    }

    fn next_pass() -> Result<bool, String> {
        pass("next-pass")?;
        let mut wishes = false;
        for behaviour in present() {
            if let Behaviour::NextPass(act) = behaviour {
                act(&mut wishes);
            }
        }
        Ok(wishes)
    }

    fn finish() -> Result<Trained, String> {
        pass("finish")?;
        let mut trained = Trained {
            artifacts: vec![artifact("model", MODEL.len() as u64)],
            metrics: Vec::new(),
        };
        for behaviour in present() {
            if let Behaviour::Finish(act) = behaviour {
                act(&mut trained);
            }
        }
        Ok(trained)
    }

    fn read(_: String, offset: u64) -> Vec<u8> {
        let _ = pass("read");
        for behaviour in present() {
            if let Behaviour::Read(act) = behaviour {
                return act(offset);
            }
        }
        MODEL[offset as usize..].to_vec()
    }
}

wafer::bindings::trainer::export!(Mistrained with_types_in wafer::bindings::trainer);
