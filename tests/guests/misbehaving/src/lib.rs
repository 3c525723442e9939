//! A component that breaks a rule for components, which its parameter `mode` names.
//!
//! It uses the contract directly, because the SDK does not allow this. `behaviours.rs` has a row
//! for each mode; in any other mode the component behaves well.

#![cfg(target_arch = "wasm32")]

mod behaviours;

use std::cell::Cell;

use wafer::bindings::transform::{Guest, Parameter};
use wafer::bindings::types::{
    Batch, CallError, Column, Data, DataType, Field, Mapping, Output, Signature, Varying,
};

use self::behaviours::{Behaviour, Rows};

thread_local! {
    static MODE: Cell<&'static str> = const { Cell::new("") };
}

struct Misbehaving;

/// Returns the behaviours of the mode in the parameter.
fn present() -> impl Iterator<Item = Behaviour> {
    behaviours::of(MODE.get())
}

fn field(name: &str, data_type: DataType) -> Field {
    Field {
        name: name.to_owned(),
        data_type,
        nullable: false,
        doc: String::new(),
    }
}

/// Returns a column without nulls.
fn plain(data: Data) -> Column {
    Column {
        data,
        validity: None,
    }
}

/// Returns a column of texts, which need not be UTF-8.
fn texts(texts: &[Vec<u8>]) -> Column {
    let mut offsets = vec![0];
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend_from_slice(text);
        offsets.push(bytes.len() as i32);
    }
    plain(Data::Utf8(Varying { offsets, bytes }))
}

impl Guest for Misbehaving {
    fn load(_asset: String, _chunk: Vec<u8>, _last: bool) {
        for behaviour in present() {
            if let Behaviour::Load(act) = behaviour {
                act();
            }
        }
    }

    fn init(parameters: Vec<Parameter>) -> Result<(), String> {
        let given = parameters
            .into_iter()
            .find(|p| p.name == "mode")
            .map(|p| p.value);
        MODE.set(given.unwrap_or_default().leak());
        for behaviour in present() {
            if let Behaviour::Init(act) = behaviour {
                act()?;
            }
        }
        Ok(())
    }

    fn describe() -> Signature {
        let mut signature = Signature {
            inputs: vec![
                field("id", DataType::Int64),
                field("at", DataType::Timestamp),
                field("x", DataType::Float64),
            ],
            outputs: vec![
                field("id", DataType::Int64),
                field("at", DataType::Timestamp),
                field("text", DataType::Utf8),
                field("y", DataType::Float64),
            ],
            mapping: Mapping::OneToOne,
            doc: "Misbehaves.".to_owned(),
        };
        for behaviour in present() {
            if let Behaviour::Describe(act) = behaviour {
                act(&mut signature);
            }
        }
        signature
    }

    fn call(input: Batch) -> Result<Output, CallError> {
        let [id, at, x]: [Column; 3] = input
            .columns
            .try_into()
            .map_err(|_| CallError::InvalidInput("columns".into()))?;
        let Data::Float64(x) = x.data else {
            return Err(CallError::InvalidInput("x".into()));
        };
        let mut rows = Rows {
            id,
            y: x.clone(),
            x,
            texts: vec![b"ok".to_vec(); input.rows as usize],
        };
        for behaviour in present() {
            if let Behaviour::Call(act) = behaviour {
                act(&mut rows)?;
            }
        }
        let mut output = Output {
            batch: Batch {
                rows: input.rows,
                columns: vec![
                    rows.id,
                    at,
                    texts(&rows.texts),
                    plain(Data::Float64(rows.y)),
                ],
            },
            source_rows: None,
            row_errors: Vec::new(),
        };
        for behaviour in present() {
            if let Behaviour::Return(act) = behaviour {
                act(&mut output);
            }
        }
        Ok(output)
    }
}

wafer::bindings::function::export!(Misbehaving with_types_in wafer::bindings::function);
